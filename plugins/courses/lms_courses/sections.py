"""The rules for sections."""

from uuid import UUID

from fastapi import Response
from sqlalchemy import bindparam
from sqlmodel import col, select

from lms_core.sdk import Listing, NotFound, Paging, Point, UnitOfWork, alive, delete
from lms_courses.contracts import COURSE, SECTION, CourseParticipation, SectionChanged, SectionCreated
from lms_courses.models import Course, Section
from lms_courses.schemas import SectionCreate, SectionRead, SectionUpdate

OF_COURSE = col(Section.course_id) == bindparam("course_id")
SECTIONS = Listing(Section, SectionRead, filters={"course_id": OF_COURSE})
SECTION_POINT = Point(Section, SectionRead, where=OF_COURSE)


async def list_of_course(uow: UnitOfWork, course_id: UUID, paging: Paging) -> Response:
    """A page of those of a course that the caller may know; a draft is not known to everybody who may see courses."""
    if not await uow.knows(Course, course_id):
        raise NotFound(COURSE, course_id)
    return await SECTIONS.page(uow, paging, course_id=course_id)


async def create(uow: UnitOfWork, course_id: UUID, data: SectionCreate) -> Response:
    """Add a section to a course."""
    await uow.hold(COURSE, course_id)
    section = Section(course_id=course_id, **data.model_dump())
    await uow.add(section)
    uow.emit(SectionCreated(section_id=section.id, course_id=course_id))
    return await SECTION_POINT.after_write(uow, section.id, 201)


async def update(uow: UnitOfWork, course_id: UUID, id: UUID, data: SectionUpdate, if_match: str | None) -> Response:
    """Change what is given."""
    await refuse_unless_of_course(uow, course_id, id)
    given = data.model_dump(exclude_unset=True)
    if "capacity" in given:
        # Whoever takes a place in a section holds the course.
        await uow.lock(Course, course_id)
    section = await uow.lock(Section, id, if_match)
    changes = {name: value for name, value in given.items() if value is not None or name == "capacity"}
    if uow.change(section, changes):
        uow.emit(SectionChanged(section_id=id, course_id=course_id))
    await uow.flush()
    participation = uow.use_if_enabled(CourseParticipation)
    if "capacity" in given and participation is not None:
        await participation.section_changed(uow, id, section.capacity)
    return await SECTION_POINT.after_write(uow, id)


async def remove(uow: UnitOfWork, course_id: UUID, id: UUID, if_match: str | None) -> Response:
    """Delete a section; its enrollments stay, and show none until it is restored."""
    await refuse_unless_of_course(uow, course_id, id)
    return await delete(uow, Section, id, if_match)


async def refuse_unless_of_course(uow: UnitOfWork, course_id: UUID, id: UUID, living: bool = True) -> None:
    """404 for a section of another course."""
    statement = select(Section.id).where(Section.id == id, Section.course_id == course_id)
    if living:
        statement = statement.where(alive(Section))
    if (await uow.session.execute(statement)).first() is None:
        raise NotFound(SECTION, id)
