"""The steps that an enrollment may take after it began."""

from lms_courses.contracts import CourseSummary

from lms_core.sdk import StateConflict, UnitOfWork
from lms_enrollments import history, seats
from lms_enrollments.contracts import EnrollmentEnded
from lms_enrollments.models import Enrollment


async def move(uow: UnitOfWork, course: CourseSummary, enrollment: Enrollment, state: str, reason: str | None) -> None:
    """One step of `WAITLISTED → ACTIVE → COMPLETED / DROPPED`; a seat that gets free is given away at once."""
    allowed = {"waitlisted": ("dropped",), "active": ("completed", "dropped")}.get(enrollment.state, ())
    if state not in allowed:
        raise StateConflict(
            "invalid_transition",
            f"An enrollment that is {enrollment.state} cannot become {state}"
            + ("; waiting students move up by themselves." if enrollment.state == "waitlisted" else "; enroll again."),
        )
    enrollment.state, enrollment.waiting_number = state, None
    await history.note(uow, [enrollment.id], "changed", reason)
    uow.emit(
        EnrollmentEnded(
            enrollment_id=enrollment.id,
            course_id=enrollment.course_id,
            user_id=enrollment.user_id,
            role=enrollment.role,
            state=state,
        )
    )
    uow.announce(f"user:{enrollment.user_id}")
    await seats.promote(uow, course)
