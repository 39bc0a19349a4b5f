"""Places in sections: a section with a capacity takes no more students than that, whether they have a seat or wait.

Who changes them holds the course's lock.
"""

from collections.abc import Collection, Sequence
from uuid import UUID

from lms_courses.contracts import COURSES, SECTIONS
from sqlalchemy import Select, func, select, update
from sqlmodel import col

from lms_core.sdk import UnitOfWork, among
from lms_enrollments import history
from lms_enrollments.contracts import ENROLLMENT, EnrollmentMoved
from lms_enrollments.models import Enrollment

# Who asks or waits has a place already, so that moving up never breaks a section.
HAS_PLACE = (
    ~col(Enrollment.is_deleted)
    & (col(Enrollment.role) == "student")
    & col(Enrollment.state).in_(("requested", "active", "waitlisted"))
)
UNBALANCED = (
    select(SECTIONS.c.course_id)
    .join(Enrollment, col(Enrollment.section_id) == SECTIONS.c.id)
    .where(SECTIONS.c.capacity.is_not(None), HAS_PLACE)
    .group_by(SECTIONS.c.id, SECTIONS.c.course_id, SECTIONS.c.capacity)
    .having(func.count() > SECTIONS.c.capacity)
)
"""The courses with a section in which there are more students than places, dead sections too: they come back."""


async def taken(uow: UnitOfWork, section_id: UUID) -> int:
    """How many students have a place."""
    statement = select(func.count()).select_from(Enrollment).where(col(Enrollment.section_id) == section_id, HAS_PLACE)
    return int((await uow.session.execute(statement)).scalar_one())


async def free_in(uow: UnitOfWork, section_ids: Collection[UUID]) -> dict[UUID, float]:
    """How many places each section has left; infinitely many where it does not count them."""
    has_place = (col(Enrollment.section_id) == SECTIONS.c.id) & HAS_PLACE
    taken_there = select(func.count()).select_from(Enrollment).where(has_place).scalar_subquery()
    statement = select(SECTIONS.c.id, SECTIONS.c.capacity - taken_there).where(among(SECTIONS.c.id, section_ids))
    rows = (await uow.session.execute(statement)).all()
    return {id: float("inf") if left is None else max(0, left) for id, left in rows}


async def free(uow: UnitOfWork, section_id: UUID, wanted: int) -> int:
    """How many of those who come now get a place."""
    return int(min(wanted, (await free_in(uow, [section_id]))[section_id]))


async def without_one(uow: UnitOfWork, ids: Sequence[UUID]) -> list[UUID]:
    """Of dead enrollments that are to come back to living courses those whose section has no place for them any more.

    What comes back with its course is balanced when all of it is there.
    """
    returning = (
        select(col(Enrollment.id), SECTIONS.c.id)
        .join(SECTIONS, SECTIONS.c.id == col(Enrollment.section_id))
        .join(COURSES, COURSES.c.id == SECTIONS.c.course_id)
        .where(
            among(col(Enrollment.id), ids),
            ~COURSES.c.is_deleted,
            SECTIONS.c.capacity.is_not(None),
            col(Enrollment.role) == "student",
            col(Enrollment.state).in_(("requested", "active", "waitlisted")),
        )
        .order_by(col(Enrollment.id))
    )
    by_section: dict[UUID, list[UUID]] = {}
    for id, section_id in (await uow.session.execute(returning)).all():
        by_section.setdefault(section_id, []).append(id)
    found: list[UUID] = []
    for section_id, students in by_section.items():
        found += students[await free(uow, section_id, len(students)) :]
    return found


def excess(course_id: UUID, returned: Sequence[UUID]) -> Select[UUID]:
    """The students of a course for whom their section has no place: those who came back, then those who came last."""
    came_back = among(col(Enrollment.id), returned)
    ranked = (
        select(
            col(Enrollment.id).label("id"),
            SECTIONS.c.capacity.label("capacity"),
            func.row_number()
            .over(partition_by=SECTIONS.c.id, order_by=(came_back, col(Enrollment.created_at), col(Enrollment.id)))
            .label("number"),
        )
        .join(SECTIONS, SECTIONS.c.id == col(Enrollment.section_id))
        .where(col(Enrollment.course_id) == course_id, SECTIONS.c.capacity.is_not(None), HAS_PLACE)
        .subquery()
    )
    return select(ranked.c.id).where(ranked.c.number > ranked.c.capacity)


async def balance(uow: UnitOfWork, course_id: UUID, returned: Sequence[UUID] = ()) -> None:
    """No more students in a section than places: the others stay in the course without one."""
    ids = list((await uow.session.execute(excess(course_id, returned))).scalars())
    if not ids:
        return
    leaving = (
        update(Enrollment)
        .where(among(col(Enrollment.id), ids))
        .values(section_id=None, version=Enrollment.version + 1, updated_at=func.statement_timestamp())
    )
    was = select(col(Enrollment.id), col(Enrollment.section_id), col(Enrollment.user_id)).where(
        among(col(Enrollment.id), ids)
    )
    for id, section_id, user_id in (await uow.session.execute(was)).all():
        uow.record("changed", ENROLLMENT, id, {"section_id": {"before": section_id, "after": None}})
        uow.emit(EnrollmentMoved(enrollment_id=id, course_id=course_id, user_id=user_id, section_id=None))
    await uow.session.execute(leaving)
    await history.note(uow, ids, "section_taken")
