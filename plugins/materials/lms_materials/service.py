"""The rules for materials."""

from uuid import UUID

from fastapi import Response
from lms_courses.contracts import COURSE
from lms_files.contracts import FILE, FileLibrary
from sqlalchemy import bindparam
from sqlmodel import col

from lms_core.sdk import Invalid, Listing, NotFound, Point, UnitOfWork
from lms_materials.contracts import MaterialChanged
from lms_materials.models import Material
from lms_materials.schemas import MaterialCreate, MaterialRead, MaterialUpdate

MATERIALS = Listing(
    Material,
    MaterialRead,
    filters={
        "course_id": col(Material.course_id) == bindparam("course_id"),
        "kind": col(Material.kind) == bindparam("kind"),
    },
    order=(col(Material.position), col(Material.id)),
    descending=False,
)
MATERIAL_POINT = Point(Material, MaterialRead)


async def create(uow: UnitOfWork, data: MaterialCreate) -> Response:
    """Add a material to a course."""
    await uow.hold(COURSE, data.course_id)
    if data.file_id is not None:
        await require_file(uow, data.course_id, data.file_id)
    material = Material(**data.model_dump())
    await uow.add(material)
    uow.emit(MaterialChanged(material_id=material.id))
    return await MATERIAL_POINT.after_write(uow, material.id, 201)


async def update(uow: UnitOfWork, id: UUID, data: MaterialUpdate, if_match: str | None) -> Response:
    """Change what is given."""
    material = await uow.lock(Material, id, if_match)
    changes = data.model_dump(exclude_unset=True, exclude_none=True)
    for name, kind in (("file_id", "document"), ("url", "link")):
        if name in changes and material.kind != kind:
            raise Invalid("not_of_this_kind", f"Only a {kind} has {name}; leave it out.", ("body", name))
    if "file_id" in changes:
        await require_file(uow, material.course_id, changes["file_id"])
    material.sqlmodel_update(changes)
    await uow.flush()
    uow.emit(MaterialChanged(material_id=id))
    return await MATERIAL_POINT.after_write(uow, id)


async def require_file(uow: UnitOfWork, course_id: UUID, file_id: UUID) -> None:
    """404 unless the file is one of this course that the caller may know."""
    file = await uow.use(FileLibrary).find(uow, file_id)  # type: ignore[type-abstract]
    if file is None or file.course_id != course_id:
        raise NotFound(FILE, file_id)
