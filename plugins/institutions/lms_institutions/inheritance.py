"""Settings that an institution takes from the nearest one above that sets them."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, Integer, String, case, cast, func, literal, null, select
from sqlalchemy.dialects.postgresql import JSONB, aggregate_order_by, array
from sqlalchemy.orm import aliased
from sqlmodel import col

from lms_core.sdk import NotFound, Retention, UnitOfWork, among
from lms_institutions.contracts import DEFAULT_TIMEZONE, INSTITUTION, EffectiveSettings, InstitutionSettings
from lms_institutions.models import Institution

SETTINGS = ("timezone", "locale", "password_min_length", "retention_days", "retention_days_of")
DEFAULTS: dict[str, Any] = {
    "timezone": DEFAULT_TIMEZONE,
    "locale": "en",
    "retention_days": 30,
    "retention_days_of": cast({}, JSONB()),
}
"""What holds where no institution up to the top says anything; passwords then follow the auth plugin alone."""


def inherited_settings() -> Any:
    """Beside each institution of a statement: the settings that hold there, found by one walk up."""
    node, above = aliased(Institution), aliased(Institution)
    names = ("parent_id", *SETTINGS)
    path = (
        select(*(getattr(node, name) for name in names), literal(0, Integer()).label("distance"))
        .where(col(node.id) == col(Institution.id))
        .correlate(Institution)
        .cte("institutions_path", recursive=True, nesting=True)
    )
    path = path.union_all(
        select(*(getattr(above, name) for name in names), path.c.distance + 1).join_from(
            path, above, col(above.id) == path.c.parent_id
        )
    )
    nearest = []
    for name in SETTINGS:
        setting = path.c[name]
        by_distance = func.array_agg(aggregate_order_by(setting, path.c.distance), type_=ARRAY(setting.type))
        found: Any = by_distance.filter(setting.is_not(None))
        nearest.append(func.coalesce(found[1], DEFAULTS.get(name, null())).label(name))
    return select(*nearest).correlate(Institution).lateral("effective")


def names_of_inherited() -> Any:
    """Which settings the institution does not set itself."""
    names = [case((getattr(Institution, name).is_(None), name)) for name in SETTINGS]
    return func.array_remove(array(names), null(), type_=ARRAY(String()))


EFFECTIVE = inherited_settings()
COLUMNS: dict[str, Any] = {**{name: EFFECTIVE.c[name] for name in SETTINGS}, "inherited": names_of_inherited()}
"""For lists and points."""


class InstitutionRetention(Retention):
    """Tells the core how long deleted things can be restored."""

    async def days(self, uow: UnitOfWork, kinds: Collection[str], places: Mapping[str, Collection[UUID]]) -> int | None:
        """In one statement; None for what is at no institution."""
        ids = places.get(INSTITUTION)
        if not ids:
            return None
        statement = select(EFFECTIVE.c.retention_days, EFFECTIVE.c.retention_days_of)
        statement = statement.select_from(Institution, EFFECTIVE).where(among(Institution.id, ids))
        rows = (await uow.session.execute(statement)).all()
        return max((own.get(kind, usual) for usual, own in rows for kind in kinds), default=None)


class Settings(InstitutionSettings):
    """Answers other plugins' questions."""

    async def of(self, uow: UnitOfWork, institution_id: UUID) -> EffectiveSettings:
        """In one statement."""
        statement = select(*(EFFECTIVE.c[name] for name in SETTINGS)).select_from(Institution, EFFECTIVE)
        row = (await uow.session.execute(statement.where(col(Institution.id) == institution_id))).mappings().first()
        if row is None:
            raise NotFound(INSTITUTION, institution_id)
        return EffectiveSettings(**row)

    async def strictest_password_length(self, uow: UnitOfWork, institution_ids: Sequence[UUID]) -> int | None:
        """In one statement."""
        if not institution_ids:
            return None
        statement = select(func.max(EFFECTIVE.c.password_min_length)).select_from(Institution, EFFECTIVE)
        found = await uow.session.execute(statement.where(among(Institution.id, institution_ids)))
        strictest: int | None = found.scalar_one()
        return strictest
