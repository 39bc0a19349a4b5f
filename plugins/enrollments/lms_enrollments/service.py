"""The rules for enrollments."""

from collections import Counter
from collections.abc import Collection
from typing import Any
from uuid import UUID

from fastapi import Response
from lms_courses.contracts import COURSE, SECTION, CourseCatalog, CourseSummary, living_section
from lms_institutions.contracts import INSTITUTION
from lms_users.contracts import UserDirectory
from sqlalchemy import bindparam, case, func, null
from sqlalchemy.orm import aliased
from sqlmodel import col, select

from lms_core.sdk import (
    Forbidden,
    Invalid,
    JsonBytes,
    Listing,
    NotFound,
    Paging,
    Point,
    StateConflict,
    UnitOfWork,
    alive,
    among,
    answer_import,
    delete,
    new_import,
)
from lms_enrollments import days, history, joining, places, seats
from lms_enrollments.contracts import ENROLLMENT, Roster
from lms_enrollments.importing import EnrollmentImporter
from lms_enrollments.models import Enrollment
from lms_enrollments.parts import REFUSALS, Placed
from lms_enrollments.schemas import BulkCreate, EnrollmentCreate, EnrollmentImport, EnrollmentRead, EnrollmentUpdate
from lms_enrollments.steps import move, put_in_section, refuse_unless_may_join, set_days

AHEAD = aliased(Enrollment)
POSITION = case(
    (
        col(Enrollment.state) == "waitlisted",
        select(func.count())
        .select_from(AHEAD)
        .where(
            col(AHEAD.course_id) == col(Enrollment.course_id),
            col(AHEAD.state) == "waitlisted",
            col(AHEAD.role) == seats.STUDENT,
            ~col(AHEAD.is_deleted),
            col(AHEAD.waiting_number) <= col(Enrollment.waiting_number),
        )
        .scalar_subquery(),
    ),
    else_=null(),
)


COLUMNS = {"position": POSITION, "section_id": living_section(col(Enrollment.section_id))}
"""What an answer has beyond the row."""
ENROLLMENTS = Listing(
    Enrollment,
    EnrollmentRead,
    filters={name: getattr(Enrollment, name) == bindparam(name) for name in ("course_id", "user_id", "state", "role")},
    columns=COLUMNS,
)
ENROLLMENT_POINT = Point(Enrollment, EnrollmentRead, columns=COLUMNS)


async def locked_open_course(uow: UnitOfWork, course_id: UUID, role: str) -> CourseSummary:
    """The course under its lock; 403 for a role that only those above may give, 409 when it is over."""
    if role == "teacher" and not await uow.can("enrollments.appoint", COURSE, course_id):
        raise Forbidden("Teachers are appointed by those who run the institution.")
    course = await uow.use(CourseCatalog).lock(uow, course_id)
    if course.state == "archived":
        raise StateConflict("course_not_open", REFUSALS["course_not_open"])
    return course


async def enroll(uow: UnitOfWork, data: EnrollmentCreate) -> Response:
    """Enroll one user: 201, or 200 with the enrollment that is there already, a request granted; 409 `course_full`."""
    course = await locked_open_course(uow, data.course_id, data.role)
    if data.section_id is not None:
        await require_section(uow, data.course_id, data.section_id)
    await refuse_unless_may_join(uow, course, data.user_id)
    id, is_new = await joining.place_one(uow, course, data.user_id, data.role, data.part())
    return await ENROLLMENT_POINT.after_write(uow, id, 201 if is_new else 200)


async def enroll_many(uow: UnitOfWork, data: BulkCreate) -> Response:
    """Enroll up to 10,000 users in one transaction, answered row by row; who asked to join is let in."""
    course = await locked_open_course(uow, data.course_id, data.role)
    directory = uow.use(UserDirectory)
    members = await directory.members_among(uow, data.user_ids, course.institution_id)
    if data.section_id is not None:
        await require_section(uow, data.course_id, data.section_id)
    wanted = [user_id for user_id in data.user_ids if members.get(user_id)]
    placed = await joining.place(uow, course, data.role, dict.fromkeys(wanted, data.part()))
    for user_id in data.user_ids:
        if user_id not in placed:
            code = "user_disabled" if user_id in members else "user_not_found"
            placed[user_id] = Placed(user_id, "error", code=code)
    results = [placed[user_id] for user_id in data.user_ids]
    return JsonBytes({"results": results, "counts": Counter(result.status for result in results)})


async def import_enrollments(uow: UnitOfWork, data: EnrollmentImport, dry_run: bool) -> Response:
    """Plan what a file says or, without `dry_run`, have it done."""
    importer = EnrollmentImporter()
    await uow.require(importer.permission, INSTITUTION, data.institution_id)
    job = new_import(importer, uow.actor_id, data.file_id, data.institution_id, max_disabled=data.max_disabled)
    return await answer_import(uow, importer, job, dry_run)


async def update(uow: UnitOfWork, id: UUID, data: EnrollmentUpdate, if_match: str | None) -> Response:
    """Change the state, the section or the days; students may drop their own."""
    enrollment = await known(uow, id)
    changes = data.model_dump(exclude_unset=True)
    await refuse_unless_allowed(
        uow, enrollment, only_drop=set(changes) <= {"state", "reason"} and data.state == "dropped"
    )
    course = await uow.use(CourseCatalog).lock(uow, enrollment.course_id)
    enrollment = await uow.lock(Enrollment, id, if_match)
    given_days = {name: value for name, value in changes.items() if name in ("starts_on", "ends_on")}
    refuse_end_before_start(enrollment, given_days)
    await set_days(uow, course, enrollment, given_days, data.reason)
    if data.state in seats.ENDED_STATES and data.state != enrollment.state:
        # Before the section: who ends takes no place in it.
        await move(uow, course, enrollment, data.state, data.reason)
    if "section_id" in changes and enrollment.section_id != data.section_id:
        await change_section(uow, enrollment, data.section_id, data.reason)
    if data.state == "active" != enrollment.state:
        await move(uow, course, enrollment, data.state, data.reason)
    await uow.flush()
    return await ENROLLMENT_POINT.after_write(uow, id)


async def change_section(uow: UnitOfWork, enrollment: Enrollment, section_id: UUID | None, reason: str | None) -> None:
    """Into a section that has a place, or out of all; 404, 409 `section_full`."""
    if section_id is not None:
        await require_section(uow, enrollment.course_id, section_id)
        takes_place = enrollment.role == seats.STUDENT and enrollment.state in seats.STANDING_STATES
        if takes_place and not await places.free(uow, section_id, 1):
            raise StateConflict("section_full", REFUSALS["section_full"])
    await put_in_section(uow, enrollment, section_id, reason)


def refuse_end_before_start(enrollment: Enrollment, given: dict[str, Any]) -> None:
    """422 for days that would be in the wrong order."""
    starts_on, ends_on = given.get("starts_on", enrollment.starts_on), given.get("ends_on", enrollment.ends_on)
    if starts_on is not None and ends_on is not None and ends_on < starts_on:
        raise Invalid("ends_before_start", "ends_on is before starts_on; correct one of them.", ("body", "ends_on"))


async def history_of(uow: UnitOfWork, id: UUID, paging: Paging) -> Response:
    """The periods of an enrollment that the caller may know."""
    await known(uow, id)
    return await history.PERIODS.page(uow, paging, enrollment_id=id)


async def remove(uow: UnitOfWork, id: UUID, if_match: str | None = None) -> Response:
    """Delete an enrollment; its seat goes to the next who waits."""
    enrollment = await known(uow, id)
    await refuse_unless_allowed(uow, enrollment, only_drop=False)
    await uow.use(CourseCatalog).lock(uow, enrollment.course_id)
    uow.announce(f"user:{enrollment.user_id}")
    return await delete(uow, Enrollment, id, if_match)


async def known(uow: UnitOfWork, id: UUID) -> Enrollment:
    """A live enrollment that the caller may know; 404 otherwise."""
    readable = uow.readable(Enrollment)
    statement = select(Enrollment).where(Enrollment.id == id, alive(Enrollment), readable.write(Enrollment))
    found = (await uow.session.execute(statement, readable.parameters)).scalar_one_or_none()
    if found is None:
        raise NotFound(ENROLLMENT, id)
    return found


async def refuse_unless_allowed(uow: UnitOfWork, enrollment: Enrollment, only_drop: bool) -> None:
    """Staff change students and assistants; only those above change teachers; anybody may drop themselves."""
    if only_drop and enrollment.user_id == uow.access.actor_id and enrollment.role == seats.STUDENT:
        return
    permission = "enrollments.appoint" if enrollment.role == "teacher" else "enrollments.edit"
    await uow.require(permission, Enrollment, enrollment.id)


async def require_section(uow: UnitOfWork, course_id: UUID, section_id: UUID) -> None:
    """404 unless the course has this section."""
    if not await uow.use(CourseCatalog).sections_among(uow, course_id, [section_id]):
        raise NotFound(SECTION, section_id)


class ActiveRoster(Roster):
    """Answers other plugins' questions."""

    async def is_active(self, uow: UnitOfWork, course_id: UUID, user_id: UUID, role: str) -> bool:
        """Whether a live, active enrollment says so."""
        statement = select(Enrollment.id).where(
            Enrollment.course_id == course_id,
            Enrollment.user_id == user_id,
            Enrollment.role == role,
            Enrollment.state == "active",
            days.IS_ON,
            alive(Enrollment),
        )
        return (await uow.session.execute(statement.limit(1))).first() is not None

    async def enrolled_among(self, uow: UnitOfWork, course_id: UUID, user_ids: Collection[UUID]) -> set[UUID]:
        """In one statement."""
        statement = select(Enrollment.user_id).where(
            Enrollment.course_id == course_id,
            among(col(Enrollment.user_id), user_ids),
            Enrollment.state == "active",
            alive(Enrollment),
        )
        return set((await uow.session.execute(statement)).scalars())
