"""What happens when the last day of an enrollment has passed where its institution is."""

from collections.abc import Sequence
from uuid import UUID

from lms_courses.contracts import CourseCatalog
from sqlalchemy import Date, case, cast, func, select, update
from sqlmodel import col

from lms_core.sdk import NotFound, UnitOfWork, alive, among
from lms_enrollments import history, seats
from lms_enrollments.contracts import ENROLLMENT, EnrollmentEnded
from lms_enrollments.days import NOT_OVER
from lms_enrollments.models import Enrollment

ENDED_IN_ONE_RUN = 2_000
STANDS = col(Enrollment.state).in_(seats.STANDING_STATES)


async def end_what_is_over(uow: UnitOfWork) -> None:
    """The schedule: whose last day has passed completes, and leaves the seat to those who wait."""
    # It is over somewhere on earth at the earliest; exact is what the institution's timezone says.
    earliest = cast(func.timezone("Etc/GMT-14", func.now()), Date)
    over = (
        select(col(Enrollment.course_id), col(Enrollment.id))
        .where(
            ~col(Enrollment.is_deleted),
            col(Enrollment.ends_on) < earliest,
            STANDS,
            ~NOT_OVER,
            alive(Enrollment),
        )
        .order_by(col(Enrollment.ends_on))
        .limit(ENDED_IN_ONE_RUN)
    )
    by_course: dict[UUID, list[UUID]] = {}
    for course_id, id in (await uow.session.execute(over)).all():
        by_course.setdefault(course_id, []).append(id)
    for course_id in sorted(by_course):
        await end_in_course(uow, course_id, by_course[course_id])


async def end_in_course(uow: UnitOfWork, course_id: UUID, ids: Sequence[UUID]) -> None:
    """Under the course's lock, where nobody else changes what takes part in it."""
    try:
        course = await uow.use(CourseCatalog).lock(uow, course_id)
    except NotFound:
        return
    still = among(col(Enrollment.id), ids), ~col(Enrollment.is_deleted), STANDS, ~NOT_OVER
    ending = select(*(col(getattr(Enrollment, name)) for name in ("id", "user_id", "role", "state"))).where(*still)
    rows = (await uow.session.execute(ending)).all()
    over = [row.id for row in rows]
    after = case((col(Enrollment.state) == "active", "completed"), else_="dropped")
    await uow.session.execute(
        update(Enrollment)
        .where(among(col(Enrollment.id), over))
        .values(state=after, waiting_number=None, version=Enrollment.version + 1, updated_at=func.statement_timestamp())
    )
    await history.note(uow, over, "ended")
    for id, user_id, role, before in rows:
        state = "completed" if before == "active" else "dropped"
        uow.record("changed", ENROLLMENT, id, {"state": {"before": before, "after": state}})
        uow.emit(EnrollmentEnded(enrollment_id=id, course_id=course_id, user_id=user_id, role=role, state=state))
    uow.announce_users([row.user_id for row in rows])
    await seats.promote(uow, course)
