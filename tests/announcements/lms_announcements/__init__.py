"""Announcements on a course: a whole plugin in one file, in a package of its own."""

from collections.abc import Sequence
from uuid import UUID

from fastapi import Response
from lms_courses.contracts import COURSE
from pydantic import BaseModel
from sqlalchemy import bindparam
from sqlmodel import col

from lms_core.sdk import (
    Cascade,
    DeletionRead,
    Field,
    Input,
    Listing,
    Page,
    PageParams,
    Permission,
    PluginInfo,
    Point,
    Router,
    Table,
    Uow,
    delete,
    hookimpl,
    reads,
    requires,
)

plugin = PluginInfo("announcements", "Announcements on a course", requires=("courses",))
router = Router()


class Announcement(Table, table=True):
    """Something that everybody in a course should read."""

    __tablename__ = "announcements_announcement"

    course_id: UUID = Field(foreign_key="courses_course.id")
    text: str = Field(max_length=10_000)


class AnnouncementCreate(Input):
    """A new announcement."""

    course_id: UUID
    text: str = Field(max_length=10_000)


class AnnouncementRead(BaseModel):
    """An announcement."""

    id: UUID
    course_id: UUID
    text: str


LIST = Listing(
    Announcement, AnnouncementRead, filters={"course_id": col(Announcement.course_id) == bindparam("course_id")}
)
POINT = Point(Announcement, AnnouncementRead)


@router.post(
    "",
    status_code=201,
    response_model=AnnouncementRead,
    dependencies=[requires("announcements.post", on="course", body="course_id")],
)
async def create(uow: Uow, data: AnnouncementCreate) -> Response:
    """Post an announcement."""
    await uow.hold(COURSE, data.course_id)
    announcement = Announcement(**data.model_dump())
    await uow.add(announcement)
    return await POINT.after_write(uow, announcement.id, 201)


@router.get("", response_model=Page[AnnouncementRead], dependencies=[reads("announcements.read")])
async def list_for_course(uow: Uow, params: PageParams, course_id: UUID) -> Response:
    """The announcements of a course."""
    return await LIST.page(uow, params, course_id=course_id)


@router.delete(
    "/{announcement_id}",
    status_code=202,
    response_model=DeletionRead,
    dependencies=[requires("announcements.post", on="announcement", path="announcement_id")],
)
async def remove(uow: Uow, announcement_id: UUID) -> Response:
    """Delete an announcement."""
    return await delete(uow, Announcement, announcement_id)


@hookimpl
def lms_routes() -> list[Router]:
    """`/announcements`."""
    return [router]


@hookimpl
def lms_models() -> Sequence[type[Table]]:
    """One table."""
    return [Announcement]


@hookimpl
def lms_permissions() -> list[Permission]:
    """Teachers post, students read."""
    return [
        Permission("announcements.post", "Post an announcement", roles=("teacher", "principal")),
        Permission("announcements.read", "Read announcements", roles=("student", "teacher", "principal")),
    ]


@hookimpl
def lms_cascades() -> list[Cascade]:
    """They go with their course, and come back with it."""
    return [Cascade(child=Announcement, column="course_id", parent=COURSE)]
