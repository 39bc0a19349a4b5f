"""The rules for courses."""

import hmac
from collections.abc import Collection
from dataclasses import fields
from typing import Any
from uuid import UUID

from fastapi import Response
from lms_institutions.contracts import INSTITUTION
from sqlalchemy import ARRAY, String, Uuid, and_, any_, bindparam, func, literal, or_
from sqlmodel import col, select

from lms_core.sdk import Invalid, Listing, Point, StateConflict, UnitOfWork, alive, among, among_texts, exists_for_each
from lms_courses import terms
from lms_courses.contracts import (
    COURSE,
    CodedCourse,
    CourseArchived,
    CourseCatalog,
    CourseChanged,
    CourseCreated,
    CourseParticipation,
    CoursePublished,
    CourseSummary,
    CourseUnpublished,
)
from lms_courses.models import Course, Section, Term
from lms_courses.schemas import CourseCreate, CourseRead, CourseUpdate

COLUMNS = {"term": terms.TERM_OF_COURSE}
PART = literal("%").concat(bindparam("q", type_=String())).concat("%")
FILTERS = {
    "institution_id": col(Course.institution_id) == bindparam("institution_id"),
    # Of a deleted term there are none, as there are none of other things that are deleted.
    "term_id": and_(
        col(Course.term_id) == bindparam("term_id"),
        exists_for_each(col(Term.id) == col(Course.term_id), ~col(Term.is_deleted)),
    ),
    "state": col(Course.state) == bindparam("state"),
    "q": or_(col(Course.title).ilike(PART), col(Course.code).ilike(PART)),
    "mine": col(Course.id) == any_(bindparam("mine", type_=ARRAY(Uuid()))),
}
# An institution may have one course in three, or one in a million.
COURSES = Listing(Course, CourseRead, FILTERS, COLUMNS, plan_once=False)
COURSE_POINT = Point(Course, CourseRead, columns=COLUMNS)
SUMMARY = tuple(one.name for one in fields(CourseSummary))
BECAME = {"draft": CourseUnpublished, "published": CoursePublished, "archived": CourseArchived}
NULLABLE = ("capacity", "starts_on", "ends_on", "term_id", "enrollment_key")


def own_courses(uow: UnitOfWork) -> list[UUID]:
    """The courses at which the caller holds a role."""
    return [held.object_id for held in uow.access.roles if held.kind == COURSE and held.object_id is not None]


async def create(uow: UnitOfWork, data: CourseCreate) -> Response:
    """Add a draft; a teacher who creates a course teaches it."""
    await uow.hold(INSTITUTION, data.institution_id)
    if data.term_id is not None:
        await terms.hold_term(uow, data.term_id, data.institution_id)
    refuse_without_key(data.self_enrollment, data.enrollment_key)
    values = data.model_dump() | {"enrollment_key": digest_of(uow, data.enrollment_key)}
    course = Course(**values)
    await uow.add(course)
    participation = uow.use_if_enabled(CourseParticipation)
    runs_institution = await uow.can("courses.edit", Course, course.id)
    if participation is not None and not runs_institution:
        await participation.appoint_teacher(uow, course.id, uow.actor_id)
    uow.emit(CourseCreated(course_id=course.id, institution_id=course.institution_id))
    return await COURSE_POINT.after_write(uow, course.id, 201)


async def update(uow: UnitOfWork, id: UUID, data: CourseUpdate, if_match: str | None) -> Response:
    """Change what is given: null clears what may be empty, and means nothing elsewhere."""
    given = data.model_dump(exclude_unset=True)
    changes = {name: value for name, value in given.items() if value is not None or name in NULLABLE}
    if "institution_id" in changes:
        await check_move(uow, id, changes["institution_id"])
    course = await uow.lock(Course, id, if_match)
    before = course.state
    if "enrollment_key" in changes:
        changes["enrollment_key"] = digest_of(uow, changes["enrollment_key"])
    changed = uow.change(course, changes)
    if "institution_id" in changed:
        course.moved_at = func.statement_timestamp()  # type: ignore[assignment]
        # Roles of groups end here.
        uow.announce("all")
    refuse_without_key(course.self_enrollment, course.enrollment_key)
    with uow.session.no_autoflush:
        if course.term_id is not None and "term_id" in changed:
            await terms.hold_term(uow, course.term_id, course.institution_id)
        elif course.term_id is not None and "institution_id" in changed:
            await refuse_term_elsewhere(uow, course.term_id, course.institution_id)
    if course.starts_on is not None and course.ends_on is not None and course.ends_on < course.starts_on:
        raise Invalid("ends_before_start", "ends_on is before starts_on; correct one of them.", ("body", "ends_on"))
    await uow.flush()
    if "state" in changed:
        uow.emit(BECAME[course.state](course_id=id))
    if changed - {"state"}:
        uow.emit(CourseChanged(course_id=id, institution_id=course.institution_id))
    reopened = before == "archived" != course.state
    if reopened or {"capacity", "waitlist"} & changed:
        participation = uow.use_if_enabled(CourseParticipation)
        if participation is not None:
            await participation.seats_changed(uow, id)
    return await COURSE_POINT.after_write(uow, id)


async def refuse_term_elsewhere(uow: UnitOfWork, term_id: UUID, institution_id: UUID) -> None:
    """409 when a course would take its term to where that is not known; it may be a deleted one, which may come back."""
    if not await terms.may_be_of(uow, term_id, institution_id):
        raise StateConflict("term_elsewhere", "Its term is not one of there; send term_id too: another one, or null.")


def digest_of(uow: UnitOfWork, key: str | None) -> str | None:
    """What is stored of a key: enough to know it again, with a secret that is not in the database."""
    if key is None:
        return None
    return hmac.digest(uow.context.platform.derived_key("courses.enrollment_key"), key.encode(), "sha256").hex()


def refuse_without_key(self_enrollment: str, key: str | None) -> None:
    """422 when students are to join with a key that nobody has set."""
    if self_enrollment == "key" and key is None:
        raise Invalid("key_required", "Set the enrollment_key with which students join.", ("body", "enrollment_key"))


async def check_move(uow: UnitOfWork, id: UUID, institution_id: UUID) -> None:
    """Moving a course needs the permission where it is and where it goes."""
    await uow.require("courses.move", Course, id)
    await uow.require("courses.move", INSTITUTION, institution_id)
    await uow.hold(INSTITUTION, institution_id)


class Catalog(CourseCatalog):
    """Answers other plugins' questions."""

    async def living(self, uow: UnitOfWork, course_ids: Collection[UUID]) -> dict[UUID, CourseSummary]:
        """By their ids."""
        columns = [getattr(Course, name) for name in SUMMARY]
        statement: Any = select(*columns).where(among(col(Course.id), course_ids), alive(Course))
        return {row.id: CourseSummary(**row._mapping) for row in (await uow.session.execute(statement)).all()}

    async def find_by_codes(self, uow: UnitOfWork, institution_id: UUID, codes: Collection[str]) -> list[CodedCourse]:
        """With their terms."""
        statement = (
            select(Course, col(Term.name))
            .outerjoin(Term, and_(col(Term.id) == col(Course.term_id), ~col(Term.is_deleted)))
            .where(Course.institution_id == institution_id, among_texts(col(Course.code), codes), alive(Course))
        )
        rows = (await uow.session.execute(statement)).all()
        return [CodedCourse(course.code, term, summary(course)) for course, term in rows]

    async def sections_of(self, uow: UnitOfWork, course_ids: Collection[UUID]) -> dict[tuple[UUID, str], UUID]:
        """By course and name."""
        statement = select(Section).where(among(col(Section.course_id), course_ids), ~col(Section.is_deleted))
        found = (await uow.session.execute(statement)).scalars()
        return {(section.course_id, section.name): section.id for section in found}

    async def institution_of(self, uow: UnitOfWork, course_id: UUID) -> UUID | None:
        """Where a live course belongs."""
        statement: Any = select(Course.institution_id).where(Course.id == course_id, alive(Course))
        found: UUID | None = (await uow.session.execute(statement)).scalar_one_or_none()
        return found

    async def lock(self, uow: UnitOfWork, course_id: UUID) -> CourseSummary:
        """The course, for whoever changes its seats."""
        return CourseSummary(**await uow.lock_columns(Course, course_id, SUMMARY))

    async def opens_with(self, uow: UnitOfWork, course_id: UUID, key: str) -> bool:
        """In the same time, however much of it is right."""
        statement = select(col(Course.enrollment_key)).where(Course.id == course_id, alive(Course))
        stored = (await uow.session.execute(statement)).scalar_one_or_none()
        return stored is not None and hmac.compare_digest(stored, digest_of(uow, key) or "")

    async def sections_among(self, uow: UnitOfWork, course_id: UUID, section_ids: Collection[UUID]) -> set[UUID]:
        """Locked in the order of their ids."""
        statement = (
            select(Section.id)
            .where(among(col(Section.id), section_ids), Section.course_id == course_id, ~col(Section.is_deleted))
            .order_by(col(Section.id))
            .with_for_update(read=True)
        )
        return set((await uow.session.execute(statement)).scalars())


def summary(course: Course) -> CourseSummary:
    """What other plugins see."""
    return CourseSummary(
        course.id, course.institution_id, course.title, course.state, course.capacity, course.waitlist,
        course.self_enrollment,
    )  # fmt: skip
