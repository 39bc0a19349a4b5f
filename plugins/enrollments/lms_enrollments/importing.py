"""The importer of enrollments: one row of a CSV file, one person's part in one course of an institution."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any
from uuid import UUID

from lms_courses.contracts import CodedCourse, CourseCatalog, CourseSummary
from lms_institutions.contracts import INSTITUTION
from lms_users.contracts import Person, UserDirectory
from sqlalchemy import column, func, table
from sqlmodel import col, select

from lms_core.sdk import (
    CellError,
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
from lms_enrollments import history, seats
from lms_enrollments.contracts import EnrollmentActivated
from lms_enrollments.models import Enrollment
from lms_enrollments.steps import move

COURSES = table("courses_course", column("id"), column("institution_id"))
ROLES = ("student", "teacher", "assistant", "observer")
STANDING = ("active", "waitlisted")
ENDED = ("completed", "dropped")


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
        free = {one.course.id: await room(uow, one.course) for one in coded}
        planned = []
        for row in rows:
            plan = plan_row(row, coded, people, members, sections, known, may_appoint)
            if plan.action == "create" and plan.memo["role"] == seats.STUDENT:
                course_id = UUID(plan.memo["course_id"])
                free[course_id] -= 1
                if free[course_id] < 0:
                    detail = "Every seat of this course is taken, and it has no waitlist."
                    plan = Planned("error", errors=[CellError("course_code", "course_full", detail)])
            planned.append(plan)
        return planned

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
        coming: dict[tuple[UUID, str, UUID | None], list[Planned]] = {}
        for plan in planned:
            if plan.action == "create":
                section = plan.memo["section_id"]
                key = UUID(plan.memo["course_id"]), plan.memo["role"], None if section is None else UUID(section)
                coming.setdefault(key, []).append(plan)
        for plan in planned:
            if plan.action in ("update", "disable"):
                await change(uow, plan.object_id, {name: one["after"] for name, one in plan.changes.items()})
        for (course_id, role, section_id), plans in coming.items():
            course = await uow.use(CourseCatalog).lock(uow, course_id)
            user_ids = [UUID(plan.memo["user_id"]) for plan in plans]
            placed = await seats.place(uow, course, user_ids, role, section_id, "import")
            for plan, one in zip(plans, placed, strict=True):
                if one.enrollment_id is None:
                    raise StateConflict("course_full", f"The course {course.title!r} is full.")
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


def plan_row(
    row: Row,
    coded: Sequence[CodedCourse],
    people: dict[str, Person],
    members: set[UUID],
    sections: dict[tuple[UUID, str], UUID],
    known: dict[tuple[UUID, UUID, str], list[Enrollment]],
    may_appoint: bool,
) -> Planned:
    """What is to become of one person's part in one course."""
    errors: list[CellError] = []
    cells = row.cells
    role, state = cells.get("role") or seats.STUDENT, cells.get("state") or "active"
    if role not in ROLES:
        errors.append(CellError("role", "unknown_role", f"Write one of {', '.join(ROLES)}."))
    if role == "teacher" and not may_appoint:
        errors.append(CellError("role", "forbidden", "Teachers are appointed by those who run the institution."))
    if state not in ("active", *ENDED):
        errors.append(CellError("state", "unknown_state", "Write active, completed or dropped."))
    term = cells.get("term")
    fitting = [one for one in coded if one.code == cells["course_code"] and (not term or one.term == term)]
    if len(fitting) != 1:
        many = CellError("term", "ambiguous_course", "Several terms have a course with this code; say which.")
        none = CellError("course_code", "course_not_found", "The institution has no such course in this term.")
        errors.append(many if fitting else none)
    person = people.get(cells["email"])
    if person is None or person.id not in members:
        errors.append(CellError("email", "user_not_found", "Nobody of the institution has this address."))
    if errors or person is None:
        return Planned("error", errors=errors)
    course = fitting[0].course
    section_id = sections.get((course.id, cells["section"])) if cells.get("section") else None
    if cells.get("section") and section_id is None:
        return Planned("error", errors=[CellError("section", "section_not_found", "The course has no such section.")])
    there = known.get((course.id, person.id, role), [])
    if any(one.state == "requested" for one in there):
        return Planned("error", errors=[CellError("email", "requested", "They ask to join; decide that first.")])
    standing = next((one for one in there if one.state in STANDING), None)
    if standing is None:
        return plan_without_standing(course, person, role, state, section_id, there)
    plan = Planned("unchanged", standing.id)
    if section_id is not None and section_id != standing.section_id:
        plan.changes["section_id"] = {"before": text(standing.section_id), "after": text(section_id)}
        plan.action = "update"
    if state in ENDED:
        if standing.state == "waitlisted" and state == "completed":
            return Planned("error", errors=[CellError("state", "invalid_transition", "Who waits cannot complete.")])
        plan.changes["state"] = {"before": standing.state, "after": state}
        plan.action = "disable"
    return plan


def plan_without_standing(
    course: CourseSummary, person: Person, role: str, state: str, section_id: UUID | None, there: Sequence[Enrollment]
) -> Planned:
    """Somebody who does not take part now: they come, or it is as the file says already."""
    if state in ENDED:
        ended = next((one for one in there if one.state == state), None)
        if ended is not None:
            return Planned("unchanged", ended.id)
        return Planned(
            "error", errors=[CellError("state", "not_enrolled", f"They do not take part, so nothing is {state}.")]
        )
    if course.state == "archived":
        return Planned("error", errors=[CellError("course_code", "course_not_open", "This course is archived.")])
    memo = {"course_id": str(course.id), "user_id": str(person.id), "role": role, "section_id": text(section_id)}
    changes: dict[str, dict[str, Any]] = {"state": {"before": None, "after": "active"}}
    return Planned("create", changes=changes, memo=memo)


def text(id: UUID | None) -> str | None:
    """An id as JSON has it."""
    return None if id is None else str(id)


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


async def room(uow: UnitOfWork, course: CourseSummary) -> float:
    """How many students may come, to a seat or to wait."""
    if course.capacity is None or course.waitlist:
        return float("inf")
    return await seats.free_seats(uow, course, seats.STUDENT, course.capacity)


async def change(uow: UnitOfWork, id: UUID | None, after: dict[str, Any]) -> None:
    """Another section, or the end."""
    enrollment = await uow.session.get_one(Enrollment, id)
    course = await uow.use(CourseCatalog).lock(uow, enrollment.course_id)
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
    if section is not None and text(enrollment.section_id) == section["after"]:
        enrollment.section_id = None if section["before"] is None else UUID(section["before"])
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
