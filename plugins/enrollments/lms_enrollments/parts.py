"""What is asked for somebody who is to take part in a course, and what became of it."""

from dataclasses import dataclass
from datetime import date
from typing import Literal
from uuid import UUID


@dataclass(frozen=True)
class Part:
    """As what, where and when somebody is to take part in a course."""

    role: str
    section_id: UUID | None = None
    starts_on: date | None = None
    ends_on: date | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Placed:
    """What became of one user."""

    user_id: UUID
    status: Literal["created", "exists", "waitlisted", "error"]
    enrollment_id: UUID | None = None
    code: str | None = None


def text(value: UUID | date | str | None) -> str | None:
    """An id, a day or a word as JSON has it."""
    return None if value is None else str(value)
