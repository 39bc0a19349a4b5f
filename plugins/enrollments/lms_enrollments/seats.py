"""Seats: who gets one, who waits, who moves up. Everything here runs under the course's lock.

Only students take seats. Seats taken are the active rows; nobody waits while one is free; first come, first served.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any
from uuid import UUID

from lms_courses.contracts import COURSE, COURSES, SECTIONS, CourseCatalog, CourseParticipation, CourseSummary
from lms_institutions.contracts import INSTITUTION
from lms_users.contracts import UserEnabled
from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Date,
    String,
    Uuid,
    and_,
    bindparam,
    case,
    column,
    exists,
    func,
    insert,
    literal_column,
    or_,
    select,
    table,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlmodel import col

from lms_core.sdk import (
    Conflict,
    NotFound,
    Read,
    Restored,
    StateConflict,
    UnitOfWork,
    Write,
    alive,
    among,
    given_ids,
    looked_up_for_each,
    new_id,
)
from lms_enrollments import history, places
from lms_enrollments.contracts import ENROLLMENT, EnrollmentActivated, EnrollmentMoved, EnrollmentWaitlisted
from lms_enrollments.days import NOT_OVER
from lms_enrollments.models import Enrollment, Period
from lms_enrollments.parts import Part, Placed, text

STUDENT = "student"
APPOINTED_BY = {"teacher": "enrollments.appoint", "assistant": "enrollments.edit"}
WAITLIST = "waitlist"
"""The choice of those who restore into a full course or section."""
STANDING_STATES = ("requested", "active", "waitlisted")
USERS = table("users_user", column("id"), column("full_name"), column("is_active"), column("is_deleted"))
MAY_MOVE_UP = NOT_OVER & exists().where(USERS.c.id == col(Enrollment.user_id), USERS.c.is_active).correlate_except(
    USERS
)
"""A condition on who waits: they are passed over while they may not sign in, and once their last day has passed."""
TAKES_SEAT = (col(Enrollment.state) == "active") & (col(Enrollment.role) == STUDENT)
_active = func.count().filter(col(Enrollment.state) == "active")
_waiting = func.count().filter(col(Enrollment.state) == "waitlisted")
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


def standing() -> Read:
    """Which users take part in a course, wait or ask already: each is looked for, however many others are in it."""
    given = given_ids("user_ids")
    shown = ("user_id", "id", "state", "section_id", "starts_on", "ends_on")
    columns = [col(getattr(Enrollment, name)) for name in shown]
    own = select(*columns).where(
        col(Enrollment.course_id) == bindparam("course_id", type_=Uuid()),
        col(Enrollment.user_id) == given.c.id,
        col(Enrollment.role) == bindparam("role", type_=String()),
        col(Enrollment.state).in_(STANDING_STATES),
        ~col(Enrollment.is_deleted),
    )
    found = looked_up_for_each(own.correlate(given))
    return Read(select(*found.c).select_from(given).join(found, true()))


STANDING = standing()


def placing() -> Write:
    """Enrollments of one course, each with its first period."""
    given = (
        func.unnest(
            bindparam("ids", type_=ARRAY(Uuid())),
            bindparam("period_ids", type_=ARRAY(Uuid())),
            bindparam("user_ids", type_=ARRAY(Uuid())),
            bindparam("states", type_=ARRAY(String())),
            bindparam("numbers", type_=ARRAY(BigInteger())),
        )
        .table_valued("id", "period_id", "user_id", "state", "waiting_number", name="given")
        .render_derived()
    )
    own: dict[str, Any] = {
        "course_id": bindparam("course_id", type_=Uuid()),
        "user_id": given.c.user_id,
        "role": bindparam("role", type_=String()),
        "state": given.c.state,
        "section_id": bindparam("section_id", type_=Uuid()),
        "starts_on": bindparam("starts_on", type_=Date()),
        "ends_on": bindparam("ends_on", type_=Date()),
    }
    # Begun under the course's lock, so its time is later than all that was noted of the course before.
    now = func.statement_timestamp()
    enrollment = {
        "id": given.c.id,
        "created_at": now,
        "updated_at": now,
        **own,
        "waiting_number": given.c.waiting_number,
    }
    period = {
        "id": given.c.period_id,
        "enrollment_id": given.c.id,
        **own,
        "since": now,
        "cause": literal_column("'enrolled'"),
        "reason": bindparam("reason", type_=String()),
        "actor_id": bindparam("actor_id", type_=Uuid()),
    }
    placed = insert(Enrollment).from_select(
        list(enrollment), select(*(value.label(name) for name, value in enrollment.items())), include_defaults=False
    )
    begun = insert(Period).from_select(
        list(period), select(*(value.label(name) for name, value in period.items())), include_defaults=False
    )
    return Write(begun.add_cte(placed.cte("placed")))


PLACE = placing()


def granting() -> Write:
    """Requests that become a seat, or a place in the line."""
    given = (
        func.unnest(
            bindparam("ids", type_=ARRAY(Uuid())),
            bindparam("states", type_=ARRAY(String())),
            bindparam("numbers", type_=ARRAY(BigInteger())),
        )
        .table_valued("id", "state", "waiting_number", name="given")
        .render_derived()
    )
    section_id, starts_on = bindparam("section_id", type_=Uuid()), bindparam("starts_on", type_=Date())
    ends_on = bindparam("ends_on", type_=Date())
    says_days = or_(starts_on.is_not(None), ends_on.is_not(None))
    changes = {
        "state": given.c.state,
        "waiting_number": given.c.waiting_number,
        "section_id": func.coalesce(section_id, col(Enrollment.section_id)),
        # Both or none: one of each could be in the wrong order.
        "starts_on": case((says_days, starts_on), else_=col(Enrollment.starts_on)),
        "ends_on": case((says_days, ends_on), else_=col(Enrollment.ends_on)),
        "updated_at": func.statement_timestamp(),
    }
    return Write(
        update(Enrollment).where(col(Enrollment.id) == given.c.id).values(version=Enrollment.version + 1, **changes)
    )


GRANT = granting()


async def count(uow: UnitOfWork, course_id: UUID, state: str) -> int:
    """Live students of a course in a state."""
    statement = (
        select(func.count())
        .select_from(Enrollment)
        .where(
            col(Enrollment.course_id) == course_id,
            col(Enrollment.state) == state,
            col(Enrollment.role) == STUDENT,
            ~col(Enrollment.is_deleted),
        )
    )
    return int((await uow.session.execute(statement)).scalar_one())


def waits_in(course_id: UUID) -> tuple[ColumnElement[bool], ...]:
    """A condition: the students who wait for a seat in a course."""
    return (
        col(Enrollment.course_id) == course_id,
        col(Enrollment.state) == "waitlisted",
        col(Enrollment.role) == STUDENT,
        ~col(Enrollment.is_deleted),
    )


async def free_seats(uow: UnitOfWork, course: CourseSummary, role: str, wanted: int) -> int:
    """How many of those who come now get a seat; none while others wait."""
    if role != STUDENT or course.capacity is None:
        return wanted
    ahead = select(col(Enrollment.id)).where(*waits_in(course.id), MAY_MOVE_UP).limit(1)
    if (await uow.session.execute(ahead)).first() is not None:
        return 0
    return max(0, course.capacity - await count(uow, course.id, "active"))


async def place(uow: UnitOfWork, course: CourseSummary, user_ids: Sequence[UUID], part: Part) -> list[Placed]:
    """Enroll users who are not enrolled yet: as many as there are seats, the others wait or are refused.

    Who asked to join came before, in the order in which they asked: they are let in first. Nobody waits for a section:
    who finds no place in it is refused.
    """
    standing = await standing_enrollments(uow, course.id, user_ids, part.role)
    asked = [user_id for user_id in user_ids if user_id in standing and standing[user_id]["state"] == "requested"]
    asked.sort(key=lambda user_id: str(standing[user_id]["id"]))
    joining = asked + [user_id for user_id in user_ids if user_id not in standing]
    without_place = await refused_by_section(uow, part, joining, standing)
    joining = [user_id for user_id in joining if user_id not in without_place]
    seated = set(joining[: await free_seats(uow, course, part.role, len(joining))])
    waiting = [] if not course.waitlist else [user_id for user_id in joining if user_id not in seated]
    numbers = dict(zip(waiting, await waiting_numbers(uow, course.id, len(waiting)), strict=True))
    rows: dict[UUID, dict[str, Any]] = {
        user_id: {
            "id": standing[user_id]["id"] if user_id in standing else new_id(),
            "user_id": user_id,
            "state": "active" if user_id in seated else "waitlisted",
            "waiting_number": numbers.get(user_id),
        }
        for user_id in joining
        if user_id in seated or user_id in numbers
    }
    if created := [row for user_id, row in rows.items() if user_id not in standing]:
        await store(uow, course.id, part, created)
    if granted := [row for user_id, row in rows.items() if user_id in standing]:
        await grant(uow, course.id, part, granted, standing)
    for user_id, row in rows.items():
        kind = EnrollmentActivated if user_id in seated else EnrollmentWaitlisted
        uow.emit(kind(enrollment_id=row["id"], course_id=course.id, user_id=user_id, role=part.role))
    uow.announce_users(list(rows))
    refused = dict.fromkeys(joining, "course_full") | dict.fromkeys(without_place, "section_full")
    return [outcome(user_id, standing, rows, refused) for user_id in user_ids]


def outcome(
    user_id: UUID, standing: dict[UUID, Mapping[str, Any]], rows: dict[UUID, dict[str, Any]], refused: dict[UUID, str]
) -> Placed:
    """What became of one user; who was there before, in whatever state, `exists`."""
    row = rows.get(user_id)
    if row is None and user_id in refused:
        return Placed(user_id, "error", code=refused[user_id])
    if row is None or user_id in standing:
        return Placed(user_id, "exists", standing[user_id]["id"])
    return Placed(user_id, "created" if row["state"] == "active" else "waitlisted", row["id"])


async def refused_by_section(
    uow: UnitOfWork, part: Part, joining: Sequence[UUID], standing: dict[UUID, Mapping[str, Any]]
) -> set[UUID]:
    """Who finds no place in the section; who asked and is in it has one."""
    if part.role != STUDENT or part.section_id is None:
        return set()
    inside = {user_id for user_id, row in standing.items() if row["section_id"] == part.section_id}
    coming = [user_id for user_id in joining if user_id not in inside]
    return set(coming[await places.free(uow, part.section_id, len(coming)) :])


async def store(uow: UnitOfWork, course_id: UUID, part: Part, rows: Sequence[dict[str, Any]]) -> None:
    """New enrollments with their first periods, in one statement however many there are; and what the audit trail keeps."""
    shared = {
        "course_id": course_id,
        "role": part.role,
        "section_id": part.section_id,
        "starts_on": part.starts_on,
        "ends_on": part.ends_on,
    }
    await PLACE.run(
        uow.session,
        **shared,
        reason=part.reason,
        actor_id=uow.access.actor_id or uow.caused_by,
        ids=[row["id"] for row in rows],
        period_ids=[new_id() for _ in rows],
        user_ids=[row["user_id"] for row in rows],
        states=[row["state"] for row in rows],
        numbers=[row["waiting_number"] for row in rows],
    )
    for row in rows:
        uow.record_created(Enrollment, row["id"], {**shared, "user_id": row["user_id"], "state": row["state"]})


async def grant(
    uow: UnitOfWork,
    course_id: UUID,
    part: Part,
    rows: Sequence[dict[str, Any]],
    before: Mapping[UUID, Mapping[str, Any]],
) -> None:
    """Requests are what their rows say from now on, in their history and in the audit trail, too."""
    given = {"section_id": part.section_id, "starts_on": part.starts_on, "ends_on": part.ends_on}
    await GRANT.run(
        uow.session,
        **given,
        ids=[row["id"] for row in rows],
        states=[row["state"] for row in rows],
        numbers=[row["waiting_number"] for row in rows],
    )
    await history.note(uow, [row["id"] for row in rows], "changed", part.reason)
    said: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if part.starts_on or part.ends_on:
        said |= {"starts_on": part.starts_on, "ends_on": part.ends_on}
    for row in rows:
        old, new = before[row["user_id"]], {"state": row["state"], **said}
        changes = {
            name: {"before": text(old[name]), "after": text(new[name])} for name in new if new[name] != old[name]
        }
        uow.record("changed", ENROLLMENT, row["id"], changes)
        if "section_id" in changes:
            about = {"enrollment_id": row["id"], "course_id": course_id, "user_id": row["user_id"]}
            uow.emit(EnrollmentMoved(section_id=part.section_id, **about))


async def standing_enrollments(
    uow: UnitOfWork, course_id: UUID, user_ids: Sequence[UUID], role: str
) -> dict[UUID, Mapping[str, Any]]:
    """Users who take part, wait or ask already, with the `id`, state, section and days of their enrollments."""
    rows = await STANDING.all(uow.session, course_id=course_id, user_ids=list(user_ids), role=role)
    return {row["user_id"]: row for row in rows}


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
        .where(*waits_in(course.id), MAY_MOVE_UP)
        .order_by(col(Enrollment.waiting_number))
        .limit(free)
    )
    promoted = await uow.session.execute(
        update(Enrollment)
        .where(col(Enrollment.id).in_(chosen))
        .values(
            state="active", waiting_number=None, version=Enrollment.version + 1, updated_at=func.statement_timestamp()
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
    """Seats that got free go to those who wait."""
    for course in await courses_of(uow, ids):
        await promote(uow, course)


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
        if course is None or course.capacity is None or (WAITLIST in choices and course.waitlist):
            continue
        free = await free_seats(uow, course, STUDENT, len(students))
        solved_by = (WAITLIST,) if course.waitlist else ()
        hint = "; send on_conflict: waitlist to let them wait" if course.waitlist else ""
        found += [
            Conflict(ENROLLMENT, id, "course_full", f"The course is full{hint}.", solved_by) for id in students[free:]
        ]
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
        .where(
            col(Enrollment.course_id) == course.id,
            col(Enrollment.state) == "active",
            col(Enrollment.role) == STUDENT,
            ~col(Enrollment.is_deleted),
        )
        .order_by(col(Enrollment.id).desc())
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
    """The handler for who may sign in again: a seat may have stayed free while they were passed over."""
    waiting = select(col(Enrollment.course_id)).where(
        col(Enrollment.user_id) == event.user_id, col(Enrollment.state) == "waitlisted", alive(Enrollment)
    )
    for course_id in sorted((await uow.session.execute(waiting)).scalars()):
        try:
            await promote(uow, await uow.use(CourseCatalog).lock(uow, course_id))
        except NotFound:
            # Deleted meanwhile: it is balanced when it comes back.
            continue


async def balance_restored(uow: UnitOfWork, event: Restored) -> None:
    """The handler for what came back whole: people may have gone, and come back, while their course was dead."""
    if event.kind not in (COURSE, INSTITUTION):
        return
    unbalanced = [UNBALANCED, places.UNBALANCED]
    if event.kind == COURSE:
        in_sections = places.UNBALANCED.where(SECTIONS.c.course_id == event.id)
        unbalanced = [UNBALANCED.where(COURSES.c.id == event.id), in_sections]
    course_ids = {id for one in unbalanced for id in (await uow.session.execute(one)).scalars()}
    for course_id in sorted(course_ids):
        try:
            course = await uow.use(CourseCatalog).lock(uow, course_id)
        except NotFound:
            continue
        await places.balance(uow, course_id)
        await balance(uow, course)


class Participation(CourseParticipation):
    """What courses asks for when a course is made, or its seats change."""

    def people(self, course_id: Any) -> Any:
        """By sub-selects, each over a partial index."""
        there = (col(Enrollment.course_id) == course_id) & ~col(Enrollment.is_deleted)
        teachers = (
            select(
                func.json_agg(
                    aggregate_order_by(
                        func.json_build_object("id", USERS.c.id, "full_name", USERS.c.full_name),
                        USERS.c.full_name,
                        USERS.c.id,
                    )
                )
            )
            .join_from(Enrollment, USERS, (USERS.c.id == col(Enrollment.user_id)) & ~USERS.c.is_deleted)
            .where(there, col(Enrollment.role) == "teacher", col(Enrollment.state) == "active")
        )
        students = select(func.count()).select_from(Enrollment).where(there, col(Enrollment.role) == STUDENT)
        active = students.where(col(Enrollment.state) == "active")
        waiting = students.where(col(Enrollment.state) == "waitlisted")
        return func.json_build_object(
            "teachers", func.coalesce(teachers.scalar_subquery(), func.json_build_array()),
            "students", active.scalar_subquery(),
            "waiting", waiting.scalar_subquery(),
        )  # fmt: skip

    async def appoint_teacher(self, uow: UnitOfWork, course_id: UUID, user_id: UUID) -> None:
        """The one who made it."""
        course = await uow.use(CourseCatalog).lock(uow, course_id)
        await place(uow, course, [user_id], Part("teacher"))

    async def seats_changed(self, uow: UnitOfWork, course_id: UUID) -> None:
        """Fewer seats than are taken are refused; more are given to those who wait."""
        course = await uow.use(CourseCatalog).lock(uow, course_id)
        taken = await count(uow, course_id, "active")
        if course.capacity is not None and course.capacity < taken:
            raise StateConflict("capacity_below_taken", f"{taken} seats are taken; drop students first, or allow more.")
        await promote(uow, course)

    async def section_changed(self, uow: UnitOfWork, section_id: UUID, capacity: int | None) -> None:
        """Fewer places than are taken are refused."""
        if capacity is None:
            return
        taken = await places.taken(uow, section_id)
        if capacity < taken:
            raise StateConflict("capacity_below_taken", f"{taken} students are in it; move some, or allow more.")
