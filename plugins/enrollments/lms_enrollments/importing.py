"""The importer of enrollments: one row of a CSV file, one person's part in one course of an institution."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any
from uuid import UUID

from lms_courses.contracts import COURSES, CourseCatalog, CourseSummary
from lms_institutions.contracts import INSTITUTION
from lms_users.contracts import UserDirectory
from sqlalchemy import func
from sqlmodel import col, select

from lms_core.sdk import (
    Column,
    Import,
    Importer,
    ImportRow,
    Planned,
    Row,
    StateConflict,
    UnitOfWork,
    alive,
    among,
    delete,
)
from lms_enrollments import history, places, seats
from lms_enrollments.contracts import EnrollmentActivated
from lms_enrollments.import_rows import STANDING, Room, day, part_of, plan_row, text
from lms_enrollments.models import Enrollment
from lms_enrollments.parts import Part
from lms_enrollments.steps import move


class EnrollmentImporter(Importer):
    """Enrolls, ends and moves between sections; who is in the file already takes part as it says."""

    name = "enrollments.enrollments"
    permission = "enrollments.import"
    scope = INSTITUTION
    columns = (
        Column("course_code", "The code of a course of the institution", required=True),
        Column("email", "The address of the user", required=True),
        Column("term", "The name of the course's term, where the code alone does not say which"),
        Column("role", "`student` (when empty), `teacher`, `assistant` or `observer`"),
        Column("section", "The name of a section of the course"),
        Column("state", "`active` (when empty), `completed` or `dropped`"),
        Column("starts_on", "The first day, such as 2026-09-01, where it is not the course's"),
        Column("ends_on", "The last day"),
    )

    def identities(self, row: Row) -> dict[str, Hashable]:
        """One row for each person, course and role."""
        cells = row.cells
        names = ("course_code", "term", "role")
        return {"email": (cells.get("email", "").casefold(), *(cells.get(name, "") for name in names))}

    async def plan(self, uow: UnitOfWork, job: Import, rows: Sequence[Row], hold: bool) -> list[Planned]:
        """Row by row; with `hold` under the locks of their courses, in the order of their ids."""
        assert job.scope_id is not None
        catalog = uow.use(CourseCatalog)
        coded = await catalog.find_by_codes(uow, job.scope_id, {row.cells["course_code"] for row in rows})
        people = await uow.use(UserDirectory).find_by_emails(uow, {row.cells["email"] for row in rows})
        ids = [person.id for person in people.values()]
        members = await uow.use(UserDirectory).members_among(uow, ids, job.scope_id)
        if hold:
            locked = {one.course.id: one for one in coded}
            for course_id in sorted(locked):
                await catalog.lock(uow, course_id)
        course_ids = {one.course.id for one in coded}
        sections = await catalog.sections_of(uow, course_ids)
        known = await enrollments_of(uow, course_ids, ids)
        may_appoint = await uow.can("enrollments.appoint", INSTITUTION, job.scope_id)
        room = await Room.of(uow, [one.course for one in coded], set(sections.values()))
        return [room.refuse_excess(plan_row(row, coded, people, members, sections, known, may_appoint)) for row in rows]

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
            .where(COURSES.c.institution_id == job.scope_id, col(Enrollment.state).in_(STANDING), alive(Enrollment))
        )
        return int((await uow.session.execute(statement)).scalar_one())

    async def apply(self, uow: UnitOfWork, job: Import, planned: Sequence[Planned]) -> None:
        """Those who come by course, role and section; then those who change, one by one."""
        coming: dict[tuple[UUID, Part], list[Planned]] = {}
        for plan in planned:
            if plan.action == "create":
                coming.setdefault((UUID(plan.memo["course_id"]), part_of(plan.memo)), []).append(plan)
        for plan in planned:
            if plan.action in ("update", "disable"):
                await change(uow, plan.object_id, {name: one["after"] for name, one in plan.changes.items()})
        for (course_id, part), plans in coming.items():
            course = await uow.use(CourseCatalog).lock(uow, course_id)
            user_ids = [UUID(plan.memo["user_id"]) for plan in plans]
            placed = await seats.place(uow, course, user_ids, part)
            for plan, one in zip(plans, placed, strict=True):
                if one.enrollment_id is None:
                    raise StateConflict(one.code or "course_full", f"The course {course.title!r} is full.")
                plan.object_id = one.enrollment_id
                plan.changes["state"]["after"] = "waitlisted" if one.status == "waitlisted" else "active"

    async def undo(self, uow: UnitOfWork, job: Import, rows: Sequence[ImportRow]) -> None:
        """Who came goes to the recycle bin; who was dropped or moved is where they were, while there is a seat."""
        for row in rows:
            if not row.changes or row.object_id is None:
                continue
            enrollment = await uow.session.get(Enrollment, row.object_id)
            if enrollment is None or enrollment.is_deleted:
                row.note = None if row.action == "create" else "This enrollment was deleted since."
                continue
            course = await uow.use(CourseCatalog).lock(uow, enrollment.course_id)
            await uow.session.refresh(enrollment)
            if row.action == "create":
                uow.announce(f"user:{enrollment.user_id}")
                await delete(uow, Enrollment, enrollment.id)
            else:
                row.note = await change_back(uow, course, enrollment, row.changes)


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


async def change(uow: UnitOfWork, id: UUID | None, after: dict[str, Any]) -> None:
    """Other days, another section, or the end."""
    enrollment = await uow.session.get_one(Enrollment, id)
    course = await uow.use(CourseCatalog).lock(uow, enrollment.course_id)
    for name in ("starts_on", "ends_on"):
        if name in after:
            setattr(enrollment, name, day(after[name]))
            uow.announce(f"user:{enrollment.user_id}")
    if "section_id" in after:
        enrollment.section_id = UUID(after["section_id"])
        await history.note(uow, [enrollment.id], "section", "import")
    if "state" in after:
        await move(uow, course, enrollment, after["state"], "import")


async def change_back(
    uow: UnitOfWork, course: CourseSummary, enrollment: Enrollment, changes: dict[str, Any]
) -> str | None:
    """As it was before the import; a sentence when somebody has changed it since, or took the seat."""
    section, state = changes.get("section_id"), changes.get("state")
    for name in ("starts_on", "ends_on"):
        if name in changes and text(getattr(enrollment, name)) == changes[name]["after"]:
            setattr(enrollment, name, day(changes[name]["before"]))
            uow.announce(f"user:{enrollment.user_id}")
    if section is not None and text(enrollment.section_id) == section["after"]:
        before = None if section["before"] is None else UUID(section["before"])
        if before is not None and enrollment.role == seats.STUDENT and not await places.free(uow, before, 1):
            return "Left in the section where they are, since the one before is full."
        enrollment.section_id = before
        await history.note(uow, [enrollment.id], "section", "import undone")
    if state is None:
        return None
    if enrollment.state != state["after"]:
        return "Left as it is, since its state was changed since."
    again = await seats.standing_enrollments(uow, enrollment.course_id, [enrollment.user_id], enrollment.role)
    if again:
        return "Left as it is, since they were enrolled anew."
    if enrollment.role == seats.STUDENT and not await seats.free_seats(uow, course, seats.STUDENT, 1):
        return "Left as it is, since somebody else has the seat."
    enrollment.state = "active"
    await history.note(uow, [enrollment.id], "changed", "import undone")
    uow.emit(
        EnrollmentActivated(
            enrollment_id=enrollment.id, course_id=course.id, user_id=enrollment.user_id, role=enrollment.role
        )
    )
    uow.announce(f"user:{enrollment.user_id}")
    return None
