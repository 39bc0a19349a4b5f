"""What other plugins may ask of institutions, and what institutions tell them."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Boolean, ColumnElement, Select, Text, Uuid, column, exists, func, literal, select, table

from lms_core.sdk import Event, UnitOfWork

INSTITUTION = "institutions.institution"
"""The kind, for cascades and role sources."""

DEFAULT_TIMEZONE = "UTC"
INSTITUTIONS = table(
    "institutions_institution",
    column("id", Uuid()),
    column("parent_id", Uuid()),
    column("timezone", Text()),
    column("is_deleted", Boolean()),
)


def timezone_at(institution_id: Any) -> ColumnElement[str]:
    """The timezone at the institution that a column names: its own, or that of the nearest one above that has one.

    For statements of other plugins, which have to know what day it is there.
    """
    node, above = INSTITUTIONS.alias(), INSTITUTIONS.alias()
    path = (
        select(node.c.parent_id, node.c.timezone, literal(0).label("distance"))
        .where(node.c.id == institution_id)
        .correlate(institution_id.table)
        .cte("institutions_timezones", recursive=True, nesting=True)
    )
    path = path.union_all(
        select(above.c.parent_id, above.c.timezone, path.c.distance + 1).join_from(
            path, above, above.c.id == path.c.parent_id
        )
    )
    nearest = select(path.c.timezone).where(path.c.timezone.is_not(None)).order_by(path.c.distance).limit(1)
    found: ColumnElement[str] = func.coalesce(nearest.scalar_subquery(), DEFAULT_TIMEZONE)
    return found


def is_at_or_below(institution_id: Any, other_id: Any) -> ColumnElement[bool]:
    """A condition: the institution that a column names is the one that another column names, or hangs under it."""
    node, above = INSTITUTIONS.alias(), INSTITUTIONS.alias()
    path = (
        select(node.c.id, node.c.parent_id)
        .where(node.c.id == institution_id)
        .correlate(institution_id.table)
        .cte("institutions_path", recursive=True, nesting=True)
    )
    path = path.union_all(select(above.c.id, above.c.parent_id).join_from(path, above, above.c.id == path.c.parent_id))
    return exists().where(path.c.id == other_id).correlate_except(path)


class InstitutionTree(ABC):
    """Questions about the tree."""

    @abstractmethod
    def and_above(self, institution_id: UUID) -> Select[UUID]:
        """A select of the ids of an institution, dead or alive, and of all that it hangs under."""

    @abstractmethod
    def and_below(self, institution_id: UUID) -> Select[UUID]:
        """A select of the ids of an institution and of all that lives below it."""


@dataclass(frozen=True)
class EffectiveSettings:
    """What holds at an institution: its own, or that of the nearest one above, or the default."""

    timezone: str
    locale: str
    password_min_length: int | None
    """None: nothing beyond what the auth plugin asks for."""
    retention_days: int
    retention_days_of: dict[str, int]


class InstitutionSettings(ABC):
    """Questions about the settings of institutions."""

    @abstractmethod
    async def of(self, uow: UnitOfWork, institution_id: UUID) -> EffectiveSettings:
        """What holds at an institution, dead or alive; NotFound when there never was one."""

    @abstractmethod
    async def strictest_password_length(self, uow: UnitOfWork, institution_ids: Sequence[UUID]) -> int | None:
        """The longest of the minimum lengths that hold at these institutions; None when none of them has one."""


class InstitutionCreated(Event, name="institutions.institution_created.v1"):
    """An institution came to be."""

    institution_id: UUID
    parent_id: UUID | None


class InstitutionMoved(Event, name="institutions.institution_moved.v1"):
    """An institution, with all below it, hangs under another one now (None: it is the top of a tree)."""

    institution_id: UUID
    from_parent_id: UUID | None
    to_parent_id: UUID | None


DEMO_SCHOOL = UUID("00000000-0000-7000-8000-000000000001")
"""The institution that `lms up --demo` makes."""
