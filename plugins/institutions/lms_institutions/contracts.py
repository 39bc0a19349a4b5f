"""What other plugins may ask of institutions, and what institutions tell them."""

from abc import ABC, abstractmethod
from uuid import UUID

from sqlalchemy import Select

from lms_core.sdk import Event

INSTITUTION = "institutions.institution"
"""The kind, for cascades and role sources."""


class InstitutionTree(ABC):
    """Questions about the tree."""

    @abstractmethod
    def and_above(self, institution_id: UUID) -> Select[UUID]:
        """A select of the ids of an institution, dead or alive, and of all that it hangs under."""


class InstitutionCreated(Event, name="institutions.institution_created.v1"):
    """An institution came to be."""

    institution_id: UUID
    parent_id: UUID | None


DEMO_SCHOOL = UUID("00000000-0000-7000-8000-000000000001")
"""The institution that `lms up --demo` makes."""
