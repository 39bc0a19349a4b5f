"""How people come into a course: with a seat, a place in the line, or not at all. It runs under the course's lock."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from lms_courses.contracts import CourseSummary
from sqlalchemy import (
    ARRAY,
    BigInteger,
    Date,
    String,
    TableValuedAlias,
    Uuid,
    bindparam,
    func,
    insert,
    literal_column,
    select,
    true,
    update,
)
from sqlalchemy.types import TypeEngine
from sqlmodel import col

from lms_core.sdk import Read, StateConflict, UnitOfWork, Write, given_ids, looked_up_for_each, new_id
from lms_enrollments import history, places, seats
from lms_enrollments.contracts import (
    ENROLLMENT,
    EnrollmentActivated,
    EnrollmentMoved,
    EnrollmentRescheduled,
    EnrollmentWaitlisted,
)
from lms_enrollments.models import Enrollment, Period
from lms_enrollments.parts import REFUSALS, Part, Placed, text


def standing() -> Read:
    """Which users take part in a course, wait or ask already: each is looked for, however many others are in it.

    PostgreSQL is kept from seeing which course: one that came after its statistics it takes for empty, and would then read
    all of it for each user.
    """
    given = given_ids("user_ids")
    course_id = select(bindparam("course_id", type_=Uuid())).scalar_subquery()
    shown = ("user_id", "id", "state", "section_id", "starts_on", "ends_on", "created_at")
    columns = [col(getattr(Enrollment, name)) for name in shown]
    own = select(*columns).where(
        col(Enrollment.course_id) == course_id,
        col(Enrollment.user_id) == given.c.id,
        col(Enrollment.role) == bindparam("role", type_=String()),
        col(Enrollment.state).in_(seats.STANDING_STATES),
        ~col(Enrollment.is_deleted),
    )
    found = looked_up_for_each(own.correlate(given))
    return Read(select(*found.c).select_from(given).join(found, true()))


STANDING = standing()


def given_rows(**columns: TypeEngine[Any]) -> TableValuedAlias:
    """Rows that are sent as an array for each column, named like it: the same statement for one as for ten thousand."""
    arrays = [bindparam(f"all_{name}", type_=ARRAY(kind)) for name, kind in columns.items()]
    return func.unnest(*arrays).table_valued(*columns, name="given").render_derived()


def arrays_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The same rows for such a statement."""
    return {f"all_{name}": [row[name] for row in rows] for name in rows[0]}


def placing() -> Write:
    """Enrollments of one course, each with its first period."""
    given = given_rows(id=Uuid(), period_id=Uuid(), user_id=Uuid(), state=String(), waiting_number=BigInteger())
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
    """Enrollments that are what is given from now on."""
    given = given_rows(
        id=Uuid(), state=String(), waiting_number=BigInteger(), section_id=Uuid(), starts_on=Date(), ends_on=Date()
    )
    changes = {column.key: column for column in given.c if column.key != "id"}
    # What else it may become is a place in the line, which a promotion ends.
    now = func.statement_timestamp()
    return Write(
        update(Enrollment)
        .where(col(Enrollment.id) == given.c.id)
        .values(version=Enrollment.version + 1, active_since=now, updated_at=now, **changes)
    )


GRANT = granting()


async def place(uow: UnitOfWork, course: CourseSummary, role: str, parts: Mapping[UUID, Part]) -> dict[UUID, Placed]:
    """Enroll users who are not enrolled yet: as many as there are seats, the others wait or are refused.

    They come in the order of `parts`, which says where and when each takes part. Who asked to join came before, in the
    order in which they asked: they are let in first. Nobody waits for a section: who finds no place in it is refused.
    """
    standing = await standing_enrollments(uow, course.id, list(parts), role)
    asked = [user_id for user_id in parts if user_id in standing and standing[user_id]["state"] == "requested"]
    asked.sort(key=lambda user_id: (standing[user_id]["created_at"], standing[user_id]["id"]))
    joining = asked + [user_id for user_id in parts if user_id not in standing]
    without_place = await refused_by_section(uow, role, {user_id: parts[user_id] for user_id in joining}, standing)
    joining = [user_id for user_id in joining if user_id not in without_place]
    seated = set(joining[: await seats.free_seats(uow, course, role, len(joining))])
    waiting = [] if not course.waitlist else [user_id for user_id in joining if user_id not in seated]
    numbers = dict(zip(waiting, await seats.waiting_numbers(uow, course.id, len(waiting)), strict=True))
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
    created: dict[Part, list[dict[str, Any]]] = {}
    for user_id, row in rows.items():
        if user_id not in standing:
            created.setdefault(parts[user_id], []).append(row)
    for part, coming in created.items():
        await store(uow, course.id, role, part, coming)
    if granted := [row for user_id, row in rows.items() if user_id in standing]:
        await grant(uow, course.id, parts, granted, standing)
    for user_id, row in rows.items():
        kind = EnrollmentActivated if user_id in seated else EnrollmentWaitlisted
        uow.emit(kind(enrollment_id=row["id"], course_id=course.id, user_id=user_id, role=role))
    uow.announce_users(list(rows))
    refused = dict.fromkeys(joining, "course_full") | dict.fromkeys(without_place, "section_full")
    return {user_id: outcome(user_id, standing, rows, refused) for user_id in parts}


async def place_one(uow: UnitOfWork, course: CourseSummary, user_id: UUID, role: str, part: Part) -> tuple[UUID, bool]:
    """The same for one user: the enrollment, and whether it is new. Raises StateConflict `course_full`, `section_full`."""
    placed = (await place(uow, course, role, {user_id: part}))[user_id]
    if placed.enrollment_id is None:
        code = placed.code or "course_full"
        raise StateConflict(code, REFUSALS[code])
    return placed.enrollment_id, placed.status != "exists"


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
    uow: UnitOfWork, role: str, joining: Mapping[UUID, Part], standing: dict[UUID, Mapping[str, Any]]
) -> set[UUID]:
    """Who finds no place in the section where they are to be; who asked and is in it has one."""
    coming = {
        user_id: part.section_id
        for user_id, part in joining.items()
        if part.section_id is not None
        and (user_id not in standing or standing[user_id]["section_id"] != part.section_id)
    }
    if role != seats.STUDENT or not coming:
        return set()
    left, refused = await places.free_in(uow, set(coming.values())), set()
    for user_id, section_id in coming.items():
        left[section_id] -= 1
        if left[section_id] < 0:
            refused.add(user_id)
    return refused


async def store(uow: UnitOfWork, course_id: UUID, role: str, part: Part, rows: Sequence[dict[str, Any]]) -> None:
    """New enrollments with their first periods, in one statement however many there are; and what the audit trail keeps."""
    shared = {
        "course_id": course_id,
        "role": role,
        "section_id": part.section_id,
        "starts_on": part.starts_on,
        "ends_on": part.ends_on,
    }
    await PLACE.run(
        uow.session,
        **shared,
        reason=part.reason,
        actor_id=uow.access.actor_id or uow.caused_by,
        **arrays_of([{**row, "period_id": new_id()} for row in rows]),
    )
    for row in rows:
        uow.record_created(Enrollment, row["id"], {**shared, "user_id": row["user_id"], "state": row["state"]})


async def grant(
    uow: UnitOfWork,
    course_id: UUID,
    parts: Mapping[UUID, Part],
    rows: Sequence[dict[str, Any]],
    before: Mapping[UUID, Mapping[str, Any]],
) -> None:
    """Requests are what their rows say from now on, in their history and in the audit trail, too.

    A section, or days, that nobody says stay; of the days both are said, since one of each could be in the wrong order.
    """
    granted = []
    for row in rows:
        old, part = before[row["user_id"]], parts[row["user_id"]]
        says_days = part.starts_on is not None or part.ends_on is not None
        granted.append(
            {
                "id": row["id"],
                "state": row["state"],
                "waiting_number": row["waiting_number"],
                "section_id": part.section_id or old["section_id"],
                "starts_on": part.starts_on if says_days else old["starts_on"],
                "ends_on": part.ends_on if says_days else old["ends_on"],
            }
        )
    await GRANT.run(uow.session, **arrays_of(granted))
    reasons: dict[str | None, list[UUID]] = {}
    for row in rows:
        reasons.setdefault(parts[row["user_id"]].reason, []).append(row["id"])
    for reason, ids in reasons.items():
        await history.note(uow, ids, "changed", reason)
    for row, new in zip(rows, granted, strict=True):
        old = before[row["user_id"]]
        changes = {
            name: {"before": text(old[name]), "after": text(new[name])}
            for name in ("state", "section_id", "starts_on", "ends_on")
            if new[name] != old[name]
        }
        uow.record("changed", ENROLLMENT, row["id"], changes)
        about = {"enrollment_id": row["id"], "course_id": course_id, "user_id": row["user_id"]}
        if "section_id" in changes:
            uow.emit(EnrollmentMoved(section_id=new["section_id"], **about))
        if {"starts_on", "ends_on"} & set(changes):
            uow.emit(EnrollmentRescheduled(starts_on=new["starts_on"], ends_on=new["ends_on"], **about))


async def standing_enrollments(
    uow: UnitOfWork, course_id: UUID, user_ids: Sequence[UUID], role: str
) -> dict[UUID, Mapping[str, Any]]:
    """Users who take part, wait or ask already, with what STANDING says of their enrollments."""
    rows = await STANDING.all(uow.session, course_id=course_id, user_ids=list(user_ids), role=role)
    return {row["user_id"]: row for row in rows}
