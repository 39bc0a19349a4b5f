"""What is asked for somebody who is to take part in a course, and what became of it."""

from dataclasses import dataclass
from datetime import date
from typing import Literal
from uuid import UUID


@dataclass(frozen=True)
class Part:
    """Where and when somebody is to take part in a course, and what the history is to say of it."""

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


REFUSALS = {
    "course_not_open": "This course is archived; nobody joins it any more.",
    "course_full": "Every seat of this course is taken, and it has no waitlist.",
    "section_full": "Every place in this section is taken; take another one, or none.",
}
"""Why nobody, or somebody, was not placed, for people."""


def text(value: UUID | date | str | None) -> str | None:
    """An id, a day or a word as JSON has it."""
    return None if value is None else str(value)
