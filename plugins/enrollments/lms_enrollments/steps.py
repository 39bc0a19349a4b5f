"""The steps that an enrollment may take after it began."""

from typing import Any
from uuid import UUID

from lms_courses.contracts import CourseSummary
from lms_users.contracts import USER, UserDirectory
from sqlalchemy import func, select
from sqlmodel import col

from lms_core.sdk import NotFound, StateConflict, UnitOfWork
from lms_enrollments import days as days_of_own
from lms_enrollments import history, joining, seats
from lms_enrollments.contracts import EnrollmentEnded, EnrollmentMoved, EnrollmentRescheduled
from lms_enrollments.models import Enrollment
from lms_enrollments.parts import REFUSALS, Part


def about(enrollment: Enrollment) -> dict[str, Any]:
    """What each event says of an enrollment."""
    return {"enrollment_id": enrollment.id, "course_id": enrollment.course_id, "user_id": enrollment.user_id}


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
    uow.emit(EnrollmentEnded(**about(enrollment), role=enrollment.role, state=state))
    uow.announce(f"user:{enrollment.user_id}")
    await seats.promote(uow, course)


async def set_days(
    uow: UnitOfWork, course: CourseSummary, enrollment: Enrollment, days: dict[str, Any], reason: str | None
) -> None:
    """Other days, of which some may be given; nothing happens where they are so already."""
    if all(getattr(enrollment, name) == day for name, day in days.items()):
        return
    is_on = select(days_of_own.IS_ON).where(col(Enrollment.id) == enrollment.id)
    if not (await uow.session.execute(is_on)).scalar_one():
        enrollment.active_since = func.statement_timestamp()  # type: ignore[assignment]
    enrollment.sqlmodel_update(days)
    await history.note(uow, [enrollment.id], "days", reason)
    uow.emit(EnrollmentRescheduled(**about(enrollment), starts_on=enrollment.starts_on, ends_on=enrollment.ends_on))
    uow.announce(f"user:{enrollment.user_id}")
    # Who was passed over since the last day had passed may move up again.
    await seats.promote(uow, course)


async def put_in_section(uow: UnitOfWork, enrollment: Enrollment, section_id: UUID | None, reason: str | None) -> None:
    """Into a section that is known to have a place, or out of all."""
    enrollment.section_id = section_id
    await history.note(uow, [enrollment.id], "section", reason)
    uow.emit(EnrollmentMoved(**about(enrollment), section_id=section_id))


async def refuse_unless_may_join(uow: UnitOfWork, course: CourseSummary, user_id: UUID) -> None:
    """404 for who does not belong to the course's institution, 409 for who may not sign in."""
    members = await uow.use(UserDirectory).members_among(uow, [user_id], course.institution_id)
    if user_id not in members:
        raise NotFound(USER, user_id)
    if not members[user_id]:
        raise StateConflict("user_disabled", "This user is disabled; enable them first.")


async def let_in(uow: UnitOfWork, course: CourseSummary, enrollment: Enrollment, reason: str | None) -> None:
    """A request is granted: a seat, or a place in the line; 409 when there is neither."""
    if course.state == "archived":
        raise StateConflict("course_not_open", REFUSALS["course_not_open"])
    await refuse_unless_may_join(uow, course, enrollment.user_id)
    await joining.place_one(uow, course, enrollment.user_id, enrollment.role, Part(reason=reason))
    await uow.session.refresh(enrollment)
