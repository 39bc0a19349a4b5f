"""What other plugins may ask of enrollments, and what enrollments tells them."""

from abc import ABC, abstractmethod
from uuid import UUID

from lms_core.sdk import Event, UnitOfWork

ENROLLMENT = "enrollments.enrollment"
"""The kind, for cascades."""


class Roster(ABC):
    """Questions about who takes part in a course."""

    @abstractmethod
    async def is_active(self, uow: UnitOfWork, course_id: UUID, user_id: UUID, role: str) -> bool:
        """Whether a user takes part in a course in a role now."""


class EnrollmentActivated(Event, name="enrollments.enrollment_activated.v1"):
    """A user takes part in a course."""

    enrollment_id: UUID
    course_id: UUID
    user_id: UUID
    role: str


class EnrollmentWaitlisted(Event, name="enrollments.enrollment_waitlisted.v1"):
    """A user waits for a seat."""

    enrollment_id: UUID
    course_id: UUID
    user_id: UUID
    role: str


class EnrollmentRequested(Event, name="enrollments.enrollment_requested.v1"):
    """A student asks to join a course; who teaches it decides."""

    enrollment_id: UUID
    course_id: UUID
    user_id: UUID
    role: str


class EnrollmentEnded(Event, name="enrollments.enrollment_ended.v1"):
    """A user completed or dropped a course."""

    enrollment_id: UUID
    course_id: UUID
    user_id: UUID
    role: str
    state: str
