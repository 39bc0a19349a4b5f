"""The rules for materials."""

from collections.abc import Collection, Sequence
from uuid import UUID

from fastapi import Response
from lms_courses.contracts import COURSE
from lms_files.contracts import FILE, FileLibrary
from sqlalchemy import bindparam
from sqlmodel import col, select

from lms_core.sdk import Invalid, Listing, NotFound, Point, Restored, UnitOfWork, alive, among
from lms_materials import audience
from lms_materials.contracts import MaterialChanged
from lms_materials.models import Material
from lms_materials.schemas import MaterialCreate, MaterialRead, MaterialUpdate

COLUMNS = {"audience": audience.SHOWN}
MATERIALS = Listing(
    Material,
    MaterialRead,
    columns=COLUMNS,
    filters={
        "course_id": col(Material.course_id) == bindparam("course_id"),
        "kind": col(Material.kind) == bindparam("kind"),
    },
    order=(col(Material.position), col(Material.id)),
    descending=False,
)
MATERIAL_POINT = Point(Material, MaterialRead, columns=COLUMNS)


async def create(uow: UnitOfWork, data: MaterialCreate) -> Response:
    """Add a material to a course."""
    await uow.hold(COURSE, data.course_id)
    if data.file_id is not None:
        await require_file(uow, data.course_id, data.file_id)
    material = Material(**data.model_dump(exclude={"audience"}))
    await uow.add(material)
    if data.audience is not None:
        await audience.put(uow, material, data.audience)
        await uow.flush()
    await share_files_of(uow, [material.id])
    uow.emit(MaterialChanged(material_id=material.id))
    return await MATERIAL_POINT.after_write(uow, material.id, 201)


async def update(uow: UnitOfWork, id: UUID, data: MaterialUpdate, if_match: str | None) -> Response:
    """Change what is given."""
    material = await uow.lock(Material, id, if_match)
    changes = data.model_dump(exclude_unset=True, exclude_none=True, exclude={"audience"})
    for name, kind in (("file_id", "document"), ("url", "link")):
        if name in changes and material.kind != kind:
            raise Invalid("not_of_this_kind", f"Only a {kind} has {name}; leave it out.", ("body", name))
    before = material.file_id
    if "file_id" in changes:
        await require_file(uow, material.course_id, changes["file_id"])
    material.sqlmodel_update(changes)
    if "audience" in data.model_fields_set:
        await audience.put(uow, material, data.audience)
    await uow.flush()
    if {"file_id", "published"} & set(changes) or "audience" in data.model_fields_set:
        await share_files(uow, [id for id in {material.file_id, before} if id is not None])
    uow.emit(MaterialChanged(material_id=id))
    return await MATERIAL_POINT.after_write(uow, id)


async def share_files(uow: UnitOfWork, file_ids: Collection[UUID]) -> None:
    """Everybody in the course reads a document's file while a published material for everybody shows it.

    What is shown to some alone they read through the material (`audience.shown_through_material`).
    """
    library = uow.use(FileLibrary)
    await library.lock(uow, file_ids)
    showing = select(Material.file_id).where(
        col(Material.file_id).in_(file_ids),
        col(Material.published).is_(True),
        ~col(Material.restricted),
        alive(Material),
    )
    shown = {id for id in (await uow.session.execute(showing)).scalars() if id is not None}
    await library.share(uow, shown, True)
    await library.share(uow, set(file_ids) - shown, False)


async def share_files_of(uow: UnitOfWork, ids: Sequence[UUID]) -> None:
    """After materials went or came back."""
    files = select(Material.file_id).where(among(col(Material.id), ids), col(Material.file_id).is_not(None)).distinct()
    await share_files(uow, [id for id in (await uow.session.execute(files)).scalars() if id is not None])


async def share_files_of_restored(uow: UnitOfWork, ids: Sequence[UUID], on_conflict: str | None) -> None:
    """There is nothing to choose."""
    await share_files_of(uow, ids)


async def share_restored_file(uow: UnitOfWork, event: Restored) -> None:
    """What shows a file may have changed while it was deleted; one that nothing shows is left as it was."""
    showing = select(Material.id).where(Material.file_id == event.id, alive(Material))
    if event.kind == FILE and (await uow.session.execute(showing.limit(1))).first() is not None:
        await share_files(uow, [event.id])


async def require_file(uow: UnitOfWork, course_id: UUID, file_id: UUID) -> None:
    """404 unless the file is one of this course that the caller may know."""
    file = await uow.use(FileLibrary).find(uow, file_id)
    if file is None or file.course_id != course_id:
        raise NotFound(FILE, file_id)
