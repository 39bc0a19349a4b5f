"""Seats: who gets one, who waits, who moves up. Everything here runs under the course's lock.

Only students take seats. Seats taken are the active rows; nobody waits while one is free; first come, first served.
"""

from collections.abc import Collection, Sequence
from uuid import UUID

from lms_courses.contracts import COURSE, COURSES, SECTIONS, CourseCatalog, CourseSummary
from lms_institutions.contracts import INSTITUTION, InstitutionTree
from lms_users.contracts import USER, USERS, UserEnabled
from sqlalchemy import (
    ColumnElement,
    and_,
    exists,
    func,
    or_,
    select,
    update,
)
from sqlmodel import col

from lms_core.sdk import (
    Conflict,
    NotFound,
    Restored,
    UnitOfWork,
    alive,
    among,
)
from lms_enrollments import history, places
from lms_enrollments.contracts import ENROLLMENT, EnrollmentActivated, EnrollmentWaitlisted
from lms_enrollments.days import NOT_OVER
from lms_enrollments.models import Enrollment

STUDENT = "student"
APPOINTED_BY = {"teacher": "enrollments.appoint", "assistant": "enrollments.edit"}
WAITLIST = "waitlist"
"""The choice of those who restore into a full course or section."""
STANDING_STATES = ("requested", "active", "waitlisted")
ENDED_STATES = ("completed", "dropped")
MAY_MOVE_UP = NOT_OVER & exists().where(
    USERS.c.id == col(Enrollment.user_id), USERS.c.is_active, ~USERS.c.is_deleted
).correlate_except(USERS)
"""A condition on who waits: they are passed over while they may not sign in, and once their last day has passed.

Also from the moment their user is deleted: the cascade comes to the enrollment later.
"""
TAKES_SEAT = (col(Enrollment.state) == "active") & (col(Enrollment.role) == STUDENT)
_active = func.count().filter(col(Enrollment.state) == "active")
_waiting = func.count().filter(col(Enrollment.state) == "waitlisted", MAY_MOVE_UP)
UNBALANCED = (
    select(COURSES.c.id)
    .join(Enrollment, col(Enrollment.course_id) == COURSES.c.id)
    .where(
        ~COURSES.c.is_deleted,
        COURSES.c.capacity.is_not(None),
        ~col(Enrollment.is_deleted),
        col(Enrollment.role) == STUDENT,
    )
    .group_by(COURSES.c.id, COURSES.c.capacity)
    .having(or_(_active > COURSES.c.capacity, and_(_active < COURSES.c.capacity, _waiting > 0)))
)


def students_in(course_id: UUID, state: str) -> tuple[ColumnElement[bool], ...]:
    """A condition: the live students of a course in a state."""
    return (
        col(Enrollment.course_id) == course_id,
        col(Enrollment.state) == state,
        col(Enrollment.role) == STUDENT,
        ~col(Enrollment.is_deleted),
    )


async def count(uow: UnitOfWork, course_id: UUID, state: str) -> int:
    """How many these are."""
    statement = select(func.count()).select_from(Enrollment).where(*students_in(course_id, state))
    return int((await uow.session.execute(statement)).scalar_one())


async def claimed(uow: UnitOfWork, course_ids: Collection[UUID]) -> dict[UUID, int]:
    """Of each course how many students have a seat, or wait for one and may move up; in one statement."""
    if not course_ids:
        return {}
    waits = (col(Enrollment.state) == "waitlisted") & MAY_MOVE_UP
    statement = (
        select(col(Enrollment.course_id), func.count())
        .where(
            among(col(Enrollment.course_id), course_ids),
            col(Enrollment.role) == STUDENT,
            ~col(Enrollment.is_deleted),
            or_(col(Enrollment.state) == "active", waits),
        )
        .group_by(col(Enrollment.course_id))
    )
    return {course_id: int(number) for course_id, number in (await uow.session.execute(statement)).all()}


async def free_seats(uow: UnitOfWork, course: CourseSummary, role: str, wanted: int) -> int:
    """How many of those who come now, or come back, get a seat; none while others wait who may move up."""
    if role != STUDENT or course.capacity is None:
        return wanted
    ahead = select(col(Enrollment.id)).where(*students_in(course.id, "waitlisted"), MAY_MOVE_UP).limit(1)
    if course.state != "archived" and (await uow.session.execute(ahead)).first() is not None:
        return 0
    return max(0, course.capacity - await count(uow, course.id, "active"))


async def waiting_numbers(uow: UnitOfWork, course_id: UUID, wanted: int) -> range:
    """The next numbers in a course's line; dead rows keep theirs, so that a restored one has its old place."""
    if wanted == 0:
        return range(0)
    statement = select(func.coalesce(func.max(Enrollment.waiting_number), 0)).where(
        col(Enrollment.course_id) == course_id, col(Enrollment.waiting_number).is_not(None)
    )
    last = (await uow.session.execute(statement)).scalar_one() or 0
    return range(last + 1, last + 1 + wanted)


async def promote(uow: UnitOfWork, course: CourseSummary) -> None:
    """Give free seats to those who wait, in their order; nobody joins a course that is over."""
    if course.state == "archived":
        return
    free = None if course.capacity is None else course.capacity - await count(uow, course.id, "active")
    if free is not None and free <= 0:
        return
    chosen = (
        select(col(Enrollment.id))
        .where(*students_in(course.id, "waitlisted"), MAY_MOVE_UP)
        .order_by(col(Enrollment.waiting_number))
        .limit(free)
    )
    promoted = await uow.session.execute(
        update(Enrollment)
        .where(col(Enrollment.id).in_(chosen))
        .values(
            state="active",
            waiting_number=None,
            active_since=func.statement_timestamp(),
            version=Enrollment.version + 1,
            updated_at=func.statement_timestamp(),
        )
        .returning(col(Enrollment.id), col(Enrollment.user_id))
    )
    rows = promoted.all()
    await history.note(uow, [id for id, _ in rows], "promoted")
    for id, user_id in rows:
        uow.record("changed", ENROLLMENT, id, {"state": {"before": "waitlisted", "after": "active"}})
        uow.emit(EnrollmentActivated(enrollment_id=id, course_id=course.id, user_id=user_id, role=STUDENT))
    uow.announce_users([user_id for _, user_id in rows])


# Reactions of a delete and a restore


async def courses_of(uow: UnitOfWork, ids: Sequence[UUID]) -> list[CourseSummary]:
    """The live courses that these enrollments belong to, locked one after the other in the order of their ids."""
    statement = (
        select(COURSES.c.id)
        .join(Enrollment, col(Enrollment.course_id) == COURSES.c.id)
        .where(among(col(Enrollment.id), ids), ~COURSES.c.is_deleted)
        .distinct()
    )
    found = []
    for course_id in sorted((await uow.session.execute(statement)).scalars()):
        try:
            found.append(await uow.use(CourseCatalog).lock(uow, course_id))
        except NotFound:
            # What it hangs under goes too, or is not back yet: nobody moves up in it.
            continue
    return found


async def after_delete(uow: UnitOfWork, ids: Sequence[UUID]) -> None:
    """Seats that got free go to those who wait. Whoever deletes enrollments has locked their courses before."""
    theirs = select(col(Enrollment.course_id)).where(among(col(Enrollment.id), ids)).distinct()
    courses = await uow.use(CourseCatalog).living(uow, set((await uow.session.execute(theirs)).scalars()))
    for course_id in sorted(courses):
        await promote(uow, courses[course_id])


async def conflicts_of_restored(uow: UnitOfWork, ids: Sequence[UUID], choices: Collection[str]) -> list[Conflict]:
    """Active students need a seat in a course that lived on without them, and a place in their section; or they wait.

    By choice (`waitlist`): who finds no place in the section comes back without one. Teachers and assistants come back
    only through those who may appoint them.
    """
    to_living = col(Enrollment.course_id).in_(select(COURSES.c.id).where(~COURSES.c.is_deleted))
    returning = (
        select(col(Enrollment.course_id), col(Enrollment.role), col(Enrollment.id))
        .where(among(col(Enrollment.id), ids), to_living, TAKES_SEAT | col(Enrollment.role).in_(APPOINTED_BY))
        .order_by(col(Enrollment.id))
    )
    rows = (await uow.session.execute(returning)).all()
    courses = await uow.use(CourseCatalog).living(uow, {row.course_id for row in rows})
    by_course: dict[UUID, list[UUID]] = {}
    found: list[Conflict] = []
    for course_id, role, id in rows:
        if role == STUDENT:
            by_course.setdefault(course_id, []).append(id)
        elif course_id in courses and not await uow.can(APPOINTED_BY[role], COURSE, course_id):
            detail = f"You may not appoint a {role} there, so you cannot bring one back."
            found.append(Conflict(ENROLLMENT, id, "grant_not_allowed", detail))
    for course_id, students in by_course.items():
        course = courses.get(course_id)
        if course is None or WAITLIST in choices:
            continue
        free = await free_seats(uow, course, STUDENT, len(students))
        detail = "The course is full; send on_conflict: waitlist to let them wait."
        found += [Conflict(ENROLLMENT, id, "course_full", detail, (WAITLIST,)) for id in students[free:]]
    if WAITLIST not in choices:
        found += [
            Conflict(
                ENROLLMENT,
                id,
                "section_full",
                "Their section is full; send on_conflict: waitlist to leave them without.",
                (WAITLIST,),
            )
            for id in await places.without_one(uow, ids)
        ]
    return found


async def after_restore(uow: UnitOfWork, ids: Sequence[UUID], choices: Collection[str]) -> None:
    """Who finds no seat waits; free seats are given away."""
    for course in await courses_of(uow, ids):
        await places.balance(uow, course.id, ids)
        await balance(uow, course, ids)
    users = select(col(Enrollment.user_id)).where(among(col(Enrollment.id), ids)).distinct()
    uow.announce_users(list((await uow.session.execute(users)).scalars()))


async def balance(uow: UnitOfWork, course: CourseSummary, ids: Sequence[UUID] | None = None) -> None:
    """As many active students as seats: those who came back last (among `ids`) wait, or those who wait move up.

    They wait even where newcomers cannot: the seat may have been taken since the restore was asked for, and what is
    restored is not lost.
    """
    if course.capacity is not None:
        excess = await count(uow, course.id, "active") - course.capacity
        if excess > 0:
            await let_wait(uow, course, ids, excess)
    await promote(uow, course)


async def let_wait(uow: UnitOfWork, course: CourseSummary, ids: Sequence[UUID] | None, excess: int) -> None:
    """The last of the students go to the end of the line."""
    chosen = (
        select(col(Enrollment.id))
        .where(*students_in(course.id, "active"))
        .order_by(col(Enrollment.created_at).desc(), col(Enrollment.id).desc())
        .limit(excess)
    )
    if ids is not None:
        chosen = chosen.where(among(col(Enrollment.id), ids))
    moving = sorted((await uow.session.execute(chosen)).scalars())
    for id, number in zip(moving, await waiting_numbers(uow, course.id, len(moving)), strict=True):
        await uow.session.execute(
            update(Enrollment)
            .where(col(Enrollment.id) == id)
            .values(
                state="waitlisted",
                waiting_number=number,
                version=Enrollment.version + 1,
                updated_at=func.statement_timestamp(),
            )
        )
        uow.record("changed", ENROLLMENT, id, {"state": {"before": "active", "after": "waitlisted"}})
    await history.note(uow, moving, "seat_taken")
    students = select(col(Enrollment.id), col(Enrollment.user_id)).where(among(col(Enrollment.id), moving))
    for id, user_id in (await uow.session.execute(students)).all():
        uow.emit(EnrollmentWaitlisted(enrollment_id=id, course_id=course.id, user_id=user_id, role=STUDENT))
        uow.announce(f"user:{user_id}")


async def promote_enabled(uow: UnitOfWork, event: UserEnabled) -> None:
    """The handler for who may sign in again."""
    await promote_where_waiting(uow, event.user_id)


async def promote_where_waiting(uow: UnitOfWork, user_id: UUID) -> None:
    """Somebody is passed over no more: a seat may have stayed free meanwhile."""
    waiting = select(col(Enrollment.course_id)).where(
        col(Enrollment.user_id) == user_id, col(Enrollment.state) == "waitlisted", alive(Enrollment)
    )
    for course_id in sorted((await uow.session.execute(waiting)).scalars()):
        try:
            await promote(uow, await uow.use(CourseCatalog).lock(uow, course_id))
        except NotFound:
            # Deleted meanwhile: it is balanced when it comes back.
            continue


async def balance_restored(uow: UnitOfWork, event: Restored) -> None:
    """The handler for what came back whole: people may have gone, and come back, while their course was dead.

    Who waits comes back while their user is still dead, and is passed over until that is back, too.
    """
    if event.kind == USER:
        await promote_where_waiting(uow, event.id)
    elif event.kind == COURSE:
        await balance_whole(uow, [event.id])
    elif event.kind == INSTITUTION:
        below, course = uow.use(InstitutionTree).and_below(event.id), COURSES.alias()
        there = select(course.c.id).where(course.c.institution_id.in_(below))
        unbalanced = (
            UNBALANCED.where(COURSES.c.institution_id.in_(below)),
            places.UNBALANCED.where(SECTIONS.c.course_id.in_(there)),
        )
        await balance_whole(uow, {id for one in unbalanced for id in (await uow.session.execute(one)).scalars()})


async def balance_whole(uow: UnitOfWork, course_ids: Collection[UUID]) -> None:
    """Seats and places of courses are right again; what was deleted meanwhile is so when it comes back."""
    for course_id in sorted(course_ids):
        try:
            course = await uow.use(CourseCatalog).lock(uow, course_id)
        except NotFound:
            continue
        await places.balance(uow, course_id)
        await balance(uow, course)
