"""More time for a student, a section or a group."""

from uuid import UUID

from fastapi import Response
from lms_enrollments.contracts import Roster
from lms_users.contracts import USER
from sqlalchemy import bindparam
from sqlmodel import col

from lms_core.sdk import Invalid, Listing, NotFound, Point, UnitOfWork
from lms_materials import audience
from lms_materials.assignment_schemas import ExtensionCreate, ExtensionRead, ExtensionUpdate
from lms_materials.models import DueExtension, Material

EXTENSIONS = Listing(
    DueExtension,
    ExtensionRead,
    filters={"material_id": col(DueExtension.material_id) == bindparam("material_id")},
)
EXTENSION_POINT = Point(DueExtension, ExtensionRead)
NULLABLE = frozenset({"due_at", "closes_at", "days"})


async def give(uow: UnitOfWork, material_id: UUID, data: ExtensionCreate) -> Response:
    """Give somebody more time; 409 `natural_key_taken` when they have more already."""
    material = await uow.lock(Material, material_id)
    if material.kind != "assignment":
        raise Invalid("not_of_this_kind", "Only an assignment has extensions.", ("path", "material_id"))
    if data.user_id is not None:
        among = await uow.use(Roster).enrolled_among(uow, material.course_id, [data.user_id])
        if data.user_id not in among:
            raise NotFound(USER, data.user_id)
    sections = [] if data.section_id is None else [data.section_id]
    groups = [] if data.group_id is None else [data.group_id]
    await audience.require(uow, material.course_id, sections, groups)
    extension = DueExtension(material_id=material_id, **data.model_dump())
    await uow.add(extension)
    return await EXTENSION_POINT.after_write(uow, extension.id, 201)


async def change(uow: UnitOfWork, id: UUID, data: ExtensionUpdate, if_match: str | None) -> Response:
    """Change what is given; null takes a date away."""
    extension = await uow.lock(DueExtension, id, if_match)
    given = data.model_dump(exclude_unset=True)
    changes = {name: value for name, value in given.items() if value is not None or name in NULLABLE}
    extension.sqlmodel_update(changes)
    if (
        extension.due_at is None
        and extension.closes_at is None
        and extension.days is None
        and not extension.more_attempts
    ):
        raise Invalid("invalid_input", "That would give nothing more; delete the extension instead.")
    return await EXTENSION_POINT.after_write(uow, id)
