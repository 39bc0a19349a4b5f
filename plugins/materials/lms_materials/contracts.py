"""What other plugins may add to materials and ask of them, and what materials tells them."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from lms_core.sdk import Event, Extension, UnitOfWork

MATERIAL = "materials.material"
MODULE = "materials.module"
SUBMISSION = "materials.submission"
"""The kinds, for cascades."""


@dataclass(frozen=True)
class MaterialKind(Extension):
    """A kind of material that a plugin adds: a quiz, a video, a link into another tool.

    `content` is the model of what clients send and get as the material's `content`. `text` says what of it search
    finds.
    """

    name: str
    summary: str
    content: type[BaseModel]
    text: Callable[[dict[str, Any]], str] = lambda content: ""

    def claims(self) -> frozenset[str]:
        """The name."""
        return frozenset({self.name})


@dataclass(frozen=True)
class CountedGrade:
    """The grade that counts of a student in an assignment: that of the last attempt that has one.

    `points` are those given, `final_points` those left after what being late takes.
    """

    user_id: UUID
    material_id: UUID
    submission_id: UUID
    possible: Decimal
    points: Decimal
    final_points: Decimal
    late: bool
    graded_at: datetime


class Gradebook(ABC):
    """What a plugin that weighs grades builds on."""

    @abstractmethod
    async def of_course(self, uow: UnitOfWork, course_id: UUID) -> list[CountedGrade]:
        """All grades of a course's live assignments, whoever may read them, in one statement."""


class MaterialChanged(Event, name="materials.material_changed.v1"):
    """A material was added, or what it holds was changed."""

    material_id: UUID


class MaterialPublished(Event, name="materials.material_published.v1"):
    """Students see a material from now on."""

    material_id: UUID
    course_id: UUID


class SubmissionMade(Event, name="materials.submission_made.v1"):
    """A student handed something in."""

    submission_id: UUID
    material_id: UUID
    user_id: UUID
    attempt: int


class SubmissionGraded(Event, name="materials.submission_graded.v1"):
    """A submission has a grade, another one, or (by `is_graded` false) none any more; students may not see it yet."""

    submission_id: UUID
    material_id: UUID
    user_id: UUID
    graded_by: UUID
    is_graded: bool
