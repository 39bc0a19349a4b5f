"""The importer of enrollments: one row of a CSV file, one person's part in one course of an institution."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from lms_courses.contracts import COURSES, CodedCourse, CourseCatalog, CourseSummary
from lms_institutions.contracts import INSTITUTION
from lms_users.contracts import UserDirectory
from sqlalchemy import func
from sqlmodel import col, select

from lms_core.sdk import (
    Column,
    Import,
    Importer,
    ImportRow,
    NotFound,
    Planned,
    Row,
    StateConflict,
    Unavailable,
    UnitOfWork,
    alive,
    among,
    delete,
    keep_deleted,
)
from lms_enrollments import history, joining, places, seats
from lms_enrollments.contracts import EnrollmentActivated, EnrollmentRequested, EnrollmentWaitlisted
from lms_enrollments.import_rows import IN_OR_WAITING, Room, day, part_of, plan_row, section_of, wrong_order
from lms_enrollments.models import Enrollment
from lms_enrollments.parts import REFUSALS, text
from lms_enrollments.steps import about, move, put_in_section, refuse_unless_may_join, set_days

OTHER_DAYS = "Its days are left as they are, since others were set since."


class EnrollmentImporter(Importer):
    """Enrolls, ends and moves between sections; who is in the file already takes part as it says."""

    name = "enrollments.enrollments"
    permission = "enrollments.import"
    scope = INSTITUTION
    columns = (
        Column("course_code", "The code of a course of the institution", required=True),
        Column("email", "The address of the user", required=True),
        Column(
            "term",
            "The name of the course's term; when it is empty, the course without one, or the only one with the code",
        ),
        Column("role", "`student` (when empty), `teacher`, `assistant` or `observer`"),
        Column("section", "The name of a section of the course"),
        Column("state", "`active` (when empty), `completed` or `dropped`"),
        Column("starts_on", "The first day, such as 2026-09-01, where there is one"),
        Column("ends_on", "The last day"),
        Column("course_id", "The id of the course, where code and term do not say which"),
    )

    def identities(self, row: Row) -> dict[str, Hashable]:
        """One row for each person, course and role."""
        cells = row.cells
        names = ("course_code", "term", "course_id")
        role = cells.get("role") or seats.STUDENT
        return {"email": (cells.get("email", "").casefold(), role, *(cells.get(name, "") for name in names))}

    async def plan(self, uow: UnitOfWork, job: Import, rows: Sequence[Row], hold: bool) -> list[Planned]:
        """Row by row; with `hold` under the locks of their courses, in the order of their ids."""
        assert job.scope_id is not None
        catalog, directory = uow.use(CourseCatalog), uow.use(UserDirectory)
        coded = await catalog.find_by_codes(uow, job.scope_id, {row.cells["course_code"] for row in rows})
        if hold:
            coded = await locked(uow, job.scope_id, coded)
        people = await directory.find_by_emails(uow, {row.cells["email"] for row in rows})
        ids = [person.id for person in people.values()]
        members = await directory.members_among(uow, ids, job.scope_id)
        course_ids = {one.course.id for one in coded}
        sections = await catalog.sections_of(uow, course_ids)
        known = await enrollments_of(uow, course_ids, ids)
        may_appoint = await uow.can("enrollments.appoint", INSTITUTION, job.scope_id)
        return [plan_row(row, coded, people, members, sections, known, may_appoint) for row in rows]

    async def settle(self, uow: UnitOfWork, job: Import, planned: Sequence[Planned]) -> list[Planned]:
        """Whether there are seats and places for all who come, once those who end have left theirs."""
        changing = [plan for plan in planned if plan.action in ("create", "update", "disable")]
        course_ids = {UUID(plan.memo["course_id"]) for plan in changing}
        section_ids = {UUID(id) for plan in changing if (id := section_of(plan)) is not None}
        courses = (await uow.use(CourseCatalog).living(uow, course_ids)).values()
        room, settled = await Room.of(uow, courses, section_ids), list(planned)
        for number in sorted(range(len(settled)), key=lambda number: self.turn(settled[number])):
            settled[number] = room.refuse_excess(settled[number])
        return settled

    def turn(self, plan: Planned) -> tuple[int | str, ...]:
        """Who ends makes room for others; who asked to join came before them, in the order in which they asked."""
        if plan.action == "disable":
            return (0,)
        if plan.changes.get("state", {}).get("before") == "requested":
            return (1, plan.memo["asked_at"], str(plan.object_id))
        return (2,)

    async def missing(self, uow: UnitOfWork, job: Import, present: set[UUID]) -> list[UUID]:
        """A file says what it says; who is not in it stays."""
        return []

    async def plan_missing(self, uow: UnitOfWork, job: Import, ids: Sequence[UUID], hold: bool) -> list[Planned]:
        """Nobody."""
        return []

    async def population(self, uow: UnitOfWork, job: Import) -> int:
        """Who takes part in any course of the institution."""
        statement = (
            select(func.count(col(Enrollment.id)))
            .join(COURSES, COURSES.c.id == col(Enrollment.course_id))
            .where(
                COURSES.c.institution_id == job.scope_id, col(Enrollment.state).in_(IN_OR_WAITING), alive(Enrollment)
            )
        )
        return int((await uow.session.execute(statement)).scalar_one())

    async def apply(self, uow: UnitOfWork, job: Import, planned: Sequence[Planned]) -> None:
        """Those who change, one by one, requests among them; then those who come, by course and role."""
        coming: dict[tuple[UUID, str], list[Planned]] = {}
        for plan in planned:
            if plan.action == "create":
                coming.setdefault((UUID(plan.memo["course_id"]), plan.memo["role"]), []).append(plan)
            elif plan.action in ("update", "disable"):
                changed = await change(uow, plan.object_id, {name: one["after"] for name, one in plan.changes.items()})
                if "state" in plan.changes:
                    plan.changes["state"]["after"] = changed.state
        for (course_id, role), plans in coming.items():
            course = await uow.use(CourseCatalog).lock(uow, course_id)
            parts = {UUID(plan.memo["user_id"]): part_of(plan.memo) for plan in plans}
            placed = (await joining.place(uow, course, role, parts)).values()
            for plan, one in zip(plans, placed, strict=True):
                if one.enrollment_id is None:
                    code = one.code or "course_full"
                    raise StateConflict(code, f"{course.title}: {REFUSALS[code]}")
                plan.object_id = one.enrollment_id
                plan.changes["state"]["after"] = "waitlisted" if one.status == "waitlisted" else "active"

    async def undo(self, uow: UnitOfWork, job: Import, rows: Sequence[ImportRow]) -> None:
        """Who came goes to the recycle bin; who was dropped, moved or let in is as they were, while there is a seat."""
        for row in rows:
            if row.changes and row.object_id is not None:
                row.note = await undo_row(uow, job, row, row.object_id)


async def locked(uow: UnitOfWork, institution_id: UUID, coded: Sequence[CodedCourse]) -> list[CodedCourse]:
    """The courses under their locks, as they are then: some may be archived, moved or deleted since they were found."""
    found = []
    for one in sorted(coded, key=lambda one: one.course.id):
        try:
            course = await uow.use(CourseCatalog).lock(uow, one.course.id)
        except NotFound:
            continue
        if course.institution_id == institution_id:
            found.append(replace(one, course=course))
    return found


async def undo_row(uow: UnitOfWork, job: Import, row: ImportRow, id: UUID) -> str | None:
    """Take back one row; a sentence when it is left as it is."""
    enrollment = (
        await uow.session.execute(
            select(Enrollment).where(Enrollment.id == id).execution_options(populate_existing=True)
        )
    ).scalar_one()
    assert job.scope_id is not None
    if enrollment.role == "teacher" and not await uow.can("enrollments.appoint", INSTITUTION, job.scope_id):
        return "Left as it is, since you may not appoint teachers there."
    if enrollment.is_deleted and row.action == "create":
        # What went with its course or its user would come back with them.
        await keep_deleted(uow, Enrollment, id)
        return None
    if enrollment.is_deleted:
        return "This enrollment was deleted since."
    try:
        course = await uow.use(CourseCatalog).lock(uow, enrollment.course_id)
    except NotFound:
        # Deleted, and the cascade has not come so far yet.
        raise Unavailable("The course is being deleted; this goes on when it is.", "busy") from None
    await uow.session.refresh(enrollment)
    if row.action == "create":
        uow.announce(f"user:{enrollment.user_id}")
        await delete(uow, Enrollment, id)
        return None
    return await change_back(uow, course, enrollment, row)


async def enrollments_of(
    uow: UnitOfWork, course_ids: set[UUID], user_ids: Sequence[UUID]
) -> dict[tuple[UUID, UUID, str], list[Enrollment]]:
    """The live enrollments of users in courses, the newest first."""
    statement = (
        select(Enrollment)
        .where(
            among(col(Enrollment.course_id), course_ids), among(col(Enrollment.user_id), user_ids), alive(Enrollment)
        )
        .order_by(col(Enrollment.id).desc())
        .execution_options(populate_existing=True)
    )
    found: dict[tuple[UUID, UUID, str], list[Enrollment]] = {}
    for one in (await uow.session.execute(statement)).scalars():
        found.setdefault((one.course_id, one.user_id, one.role), []).append(one)
    return found


async def change(uow: UnitOfWork, id: UUID | None, after: dict[str, Any]) -> Enrollment:
    """Other days, another section, a request granted, or the end."""
    enrollment = await uow.session.get_one(Enrollment, id)
    course = await uow.use(CourseCatalog).lock(uow, enrollment.course_id)
    new_days = {name: day(value) for name, value in after.items() if name in ("starts_on", "ends_on")}
    await set_days(uow, course, enrollment, new_days, "import")
    if "section_id" in after:
        await put_in_section(uow, enrollment, UUID(after["section_id"]), "import")
    if "state" in after:
        await move(uow, course, enrollment, after["state"], "import")
    return enrollment


async def change_back(uow: UnitOfWork, course: CourseSummary, enrollment: Enrollment, row: ImportRow) -> str | None:
    """As it was before the import; a sentence when somebody has changed it since, or took the seat or the place."""
    notes = [
        await days_back(uow, course, enrollment, row.changes),
        await section_back(uow, enrollment, row.changes.get("section_id")),
        await state_back(uow, course, enrollment, row),
    ]
    return " ".join(note for note in notes if note is not None) or None


async def days_back(
    uow: UnitOfWork, course: CourseSummary, enrollment: Enrollment, changes: dict[str, Any]
) -> str | None:
    """The first and the last day, unless they do not fit what somebody has set since."""
    back: dict[str, Any] = {
        name: day(changes[name]["before"])
        for name in ("starts_on", "ends_on")
        if name in changes and text(getattr(enrollment, name)) == changes[name]["after"]
    }
    if wrong_order(back.get("starts_on", enrollment.starts_on), back.get("ends_on", enrollment.ends_on)):
        return OTHER_DAYS
    await set_days(uow, course, enrollment, back, "import undone")
    return None if len(back) == len({"starts_on", "ends_on"} & set(changes)) else OTHER_DAYS


async def section_back(uow: UnitOfWork, enrollment: Enrollment, change: dict[str, Any] | None) -> str | None:
    """The section, while it has a place; who ended takes none."""
    if change is None:
        return None
    if text(enrollment.section_id) != change["after"]:
        return "Left in the section where they are, since somebody has moved them since."
    before = None if change["before"] is None else UUID(change["before"])
    takes_place = enrollment.role == seats.STUDENT and enrollment.state in seats.STANDING_STATES
    if before is not None and takes_place and not await places.free(uow, before, 1):
        return "Left in the section where they are, since the one before is full."
    await put_in_section(uow, enrollment, before, "import undone")
    return None


async def place_in_line(uow: UnitOfWork, course_id: UUID, number: int | None) -> int:
    """The number that somebody had who waited; the next one when it was given to somebody else since."""
    taken = select(Enrollment.id).where(Enrollment.course_id == course_id, Enrollment.waiting_number == number)
    if number is not None and (await uow.session.execute(taken.limit(1))).first() is None:
        return number
    return (await seats.waiting_numbers(uow, course_id, 1))[0]


async def state_back(uow: UnitOfWork, course: CourseSummary, enrollment: Enrollment, row: ImportRow) -> str | None:
    """Who was dropped takes part again, or waits where they waited; who was let in asks again."""
    state = row.changes.get("state")
    if state is None:
        return None
    # Who was let in to wait may have moved up by themselves.
    moved_up = (state["before"], state["after"], enrollment.state) == ("requested", "waitlisted", "active")
    if enrollment.state != state["after"] and not moved_up:
        return "Left as it is, since its state was changed since."
    if state["before"] == "requested":
        enrollment.state, enrollment.waiting_number = "requested", None
        await history.note(uow, [enrollment.id], "changed", "import undone")
        uow.emit(EnrollmentRequested(**about(enrollment), role=enrollment.role))
        uow.announce(f"user:{enrollment.user_id}")
        await seats.promote(uow, course)
        return None
    again = await joining.standing_enrollments(uow, enrollment.course_id, [enrollment.user_id], enrollment.role)
    if again:
        return "Left as it is, since they were enrolled anew."
    if course.state == "archived":
        return "Left as it is, since the course is archived."
    try:
        await refuse_unless_may_join(uow, course, enrollment.user_id)
    except (NotFound, StateConflict) as error:
        return f"Left as it is: {error.detail}"
    section_id = enrollment.section_id
    if enrollment.role == seats.STUDENT and section_id is not None and not await places.free(uow, section_id, 1):
        return "Left as it is, since their section is full."
    waited = state["before"] == "waitlisted"
    if not waited and not await seats.free_seats(uow, course, enrollment.role, 1):
        return "Left as it is, since somebody else has the seat."
    number = await place_in_line(uow, course.id, row.memo.get("waiting_number")) if waited else None
    enrollment.state, enrollment.waiting_number = state["before"], number
    enrollment.active_since = func.statement_timestamp()  # type: ignore[assignment]
    await history.note(uow, [enrollment.id], "changed", "import undone")
    kind = EnrollmentWaitlisted if waited else EnrollmentActivated
    uow.emit(kind(**about(enrollment), role=enrollment.role))
    uow.announce(f"user:{enrollment.user_id}")
    # A seat may have got free while they did not wait.
    await seats.promote(uow, course)
    return None
