"""Courses with who teaches them and how many take part: more columns in the same statement."""

from functools import cache
from uuid import UUID

from fastapi import Response
from sqlmodel import col

from lms_core.sdk import Listing, Paging, Point, StateConflict, UnitOfWork
from lms_courses.contracts import CourseParticipation
from lms_courses.models import Course
from lms_courses.schemas import CourseWithPeople
from lms_courses.service import COLUMNS, FILTERS


@cache
def reads_with(participation: CourseParticipation) -> tuple[Listing, Point]:
    """The list and the point read of the running system, compiled once."""
    columns = {**COLUMNS, "people": participation.people(col(Course.id))}
    return Listing(Course, CourseWithPeople, FILTERS, columns), Point(Course, CourseWithPeople, columns)


def participation_of(uow: UnitOfWork) -> CourseParticipation:
    """Whoever keeps who takes part; 409 where nobody does."""
    found = uow.use_if_enabled(CourseParticipation)
    if found is None:
        raise StateConflict("people_unknown", "No plugin keeps who takes part in courses; leave `include` out.")
    return found


async def page(uow: UnitOfWork, paging: Paging, **filters: object) -> Response:
    """As the list of courses."""
    listing, _ = reads_with(participation_of(uow))
    return await listing.page(uow, paging, **filters)


async def get(uow: UnitOfWork, id: UUID) -> Response:
    """As one course."""
    _, point = reads_with(participation_of(uow))
    return await point.get(uow, id)
