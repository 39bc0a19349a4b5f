"""The steps that an enrollment may take after it began."""

from lms_courses.contracts import CourseSummary

from lms_core.sdk import StateConflict, UnitOfWork
from lms_enrollments import history, seats
from lms_enrollments.contracts import EnrollmentActivated, EnrollmentEnded, EnrollmentWaitlisted
from lms_enrollments.models import Enrollment


async def move(uow: UnitOfWork, course: CourseSummary, enrollment: Enrollment, state: str, reason: str | None) -> None:
    """One step of `REQUESTED → WAITLISTED → ACTIVE → COMPLETED / DROPPED`; a seat that gets free is given away at once."""
    if enrollment.state == "requested" and state == "active":
        await let_in(uow, course, enrollment, reason)
        return
    allowed = {"requested": ("dropped",), "waitlisted": ("dropped",), "active": ("completed", "dropped")}.get(
        enrollment.state, ()
    )
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


async def let_in(uow: UnitOfWork, course: CourseSummary, enrollment: Enrollment, reason: str | None) -> None:
    """A request is granted: a seat, or a place in the line; 409 when there is neither."""
    if course.state == "archived":
        raise StateConflict("course_not_open", "This course is archived; nobody joins it any more.")
    seated = await seats.free_seats(uow, course, enrollment.role, 1) > 0
    if not seated and not course.waitlist:
        raise StateConflict("course_full", "Every seat of this course is taken, and it has no waitlist.")
    if seated:
        enrollment.state = "active"
    else:
        [enrollment.waiting_number] = await seats.waiting_numbers(uow, course.id, 1)
        enrollment.state = "waitlisted"
    await history.note(uow, [enrollment.id], "changed", reason)
    kind = EnrollmentActivated if seated else EnrollmentWaitlisted
    about = {"course_id": course.id, "user_id": enrollment.user_id, "role": enrollment.role}
    uow.emit(kind(enrollment_id=enrollment.id, **about))
    uow.announce(f"user:{enrollment.user_id}")
