"""What other plugins may ask of institutions, and what institutions tell them."""

from abc import ABC, abstractmethod
from uuid import UUID

from sqlalchemy import Select

from lms_core.sdk import Event, UnitOfWork

INSTITUTION = "institutions.institution"
"""The kind, for cascades and role sources."""


class InstitutionTree(ABC):
    """Questions about the tree."""

    @abstractmethod
    async def may_know(self, uow: UnitOfWork, institution_id: UUID) -> bool:
        """Whether the actor may know a live institution."""

    @abstractmethod
    async def require(self, uow: UnitOfWork, permission: str, institution_id: UUID) -> None:
        """Raise NotFound or Forbidden unless the actor has the permission at the institution."""

    @abstractmethod
    def and_above(self, institution_id: UUID) -> Select[tuple[UUID]]:
        """A select of the ids of a live institution and all that it hangs under."""


class InstitutionCreated(Event, name="institutions.institution_created.v1"):
    """An institution came to be."""

    institution_id: UUID
    parent_id: UUID | None
