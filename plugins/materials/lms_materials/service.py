"""The rules for materials."""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from fastapi import Response
from lms_courses.contracts import COURSE, CourseCatalog
from lms_files.contracts import FILE, FileLibrary
from sqlalchemy import bindparam, func, null
from sqlmodel import col, select

from lms_core.sdk import (
    ACTOR_ID,
    Guarded,
    Invalid,
    Listing,
    NotFound,
    Point,
    Restored,
    StateConflict,
    UnitOfWork,
    alive,
    among,
)
from lms_materials import (
    assignments,
    audience,
    bodies,
    deadlines,
    kinds,
    ordering,
    prerequisites,
    revisions,
    visibility,
)
from lms_materials.contracts import MODULE, MaterialChanged, MaterialPublished
from lms_materials.models import Material, Module, SubmittedFile
from lms_materials.schemas import MaterialCreate, MaterialRead, MaterialUpdate, MoveMaterial
from lms_materials.sql_json import NONE_OF_THEM

# Left out while a material is locked for the caller, and what stands in its place.
CONTENT: dict[str, Any] = {"body": "", "content": None, "file_id": None, "url": None}
OWN = ("id", "course_id", "module_id", "kind", "title", "body_format", "position", "publish_at", "unlock_at")
COLUMNS: dict[str, Any] = {
    **{name: col(getattr(Material, name)) for name in (*OWN, *CONTENT, "created_at", "updated_at")},
    "assignment": deadlines.in_answers(Material, ACTOR_ID),
    "published": visibility.is_published(Material),
    # Students see what is left of it, in `locked`: a draft among these is none of theirs.
    "requires": Guarded("materials.read_drafts", prerequisites.SHOWN, NONE_OF_THEM),
    "locked": Guarded("materials.read_drafts", null(), visibility.why_locked(Material)),
    "completed": visibility.is_completed(Material, ACTOR_ID),
    "audience": audience.SHOWN,
}


def made(row: dict[str, Any]) -> dict[str, Any]:
    """A material as clients see it: nothing of what is in it while it is locked for them."""
    if visibility.is_open(row["locked"]):
        row["locked"] = None
    else:
        row |= CONTENT
    return {name: row[name] for name in MaterialRead.model_fields}


MATERIALS = Listing(
    Material,
    MaterialRead,
    columns=COLUMNS,
    filters={
        "course_id": col(Material.course_id) == bindparam("course_id"),
        "module_id": col(Material.module_id) == bindparam("module_id"),
        "kind": col(Material.kind) == bindparam("kind"),
    },
    order=(col(Material.position), col(Material.id)),
    descending=False,
    made=made,
)
MATERIAL_POINT = Point(Material, MaterialRead, columns=COLUMNS, made=made)
# What PATCH sets to nothing; null leaves everything else as it is.
NULLABLE = frozenset({"publish_at", "unlock_at", "module_id"})
ELSEWHERE = frozenset({"audience", "assignment", "requires"})


async def create(uow: UnitOfWork, data: MaterialCreate) -> Response:
    """Add a material to a course."""
    kind = kinds.find(uow.context, data.kind)
    content = kinds.checked(kind, data.content)
    body = bodies.cleaned(data.body, data.body_format)
    if data.requires:
        # Whoever adds what others wait for takes turns, so that no circle closes.
        await uow.use(CourseCatalog).lock(uow, data.course_id)
    else:
        await uow.hold(COURSE, data.course_id)
    if data.module_id is not None:
        await hold_module(uow, data.course_id, data.module_id)
    if data.file_id is not None:
        await require_file(uow, data.course_id, data.file_id)
    given = data.model_dump(exclude={*ELSEWHERE, "position"}) | {"body": body, "content": content}
    position = data.position
    if position is None:
        position = await ordering.last(uow, Material, place(data.course_id, data.module_id))
    material = Material(**given, position=position)
    await uow.add(material)
    if data.assignment is not None:
        await assignments.begin(uow, material.id, data.assignment)
    if data.requires:
        await prerequisites.put(uow, material, data.requires)
    if data.audience is not None:
        await audience.put(uow, material, data.audience)
    await revisions.keep(uow, material)
    await uow.flush()
    await share_files_of(uow, [material.id])
    tell(uow, material, was_published=False)
    return await MATERIAL_POINT.after_write(uow, material.id, 201)


async def update(uow: UnitOfWork, id: UUID, data: MaterialUpdate, if_match: str | None) -> Response:
    """Change what is given."""
    given = data.model_dump(exclude_unset=True, exclude=set(ELSEWHERE))
    changes = {name: value for name, value in given.items() if value is not None or name in NULLABLE}
    if data.requires is not None:
        # Two who require each other's material at the same time take turns.
        await uow.use(CourseCatalog).lock(uow, await course_of(uow, id))
    material = await uow.lock(Material, id, if_match)
    was_published, before = is_published(material), material.file_id
    refuse_other_kinds(material, data)
    if "body" in changes or "body_format" in changes:
        body_format = changes.get("body_format", material.body_format)
        changes["body"] = bodies.cleaned(changes.get("body", material.body), body_format)
    if "content" in changes:
        changes["content"] = kinds.checked(kinds.find(uow.context, material.kind), changes["content"])
    if changes.get("module_id") is not None:
        await hold_module(uow, material.course_id, changes["module_id"])
    if "file_id" in changes:
        await require_file(uow, material.course_id, changes["file_id"])
    if changes.get("published") is False and was_published:
        # Else the moment at which it published itself would do so again.
        changes.setdefault("publish_at", None)
    material.sqlmodel_update(changes)
    if data.assignment is not None:
        await assignments.change(uow, material, data.assignment)
    if data.requires is not None:
        await prerequisites.put(uow, material, data.requires)
    if "audience" in data.model_fields_set:
        await audience.put(uow, material, data.audience)
    await revisions.keep(uow, material)
    await uow.flush()
    await share_files(uow, [id for id in {material.file_id, before} if id is not None])
    tell(uow, material, was_published)
    return await MATERIAL_POINT.after_write(uow, id)


async def move(uow: UnitOfWork, id: UUID, data: MoveMaterial) -> Response:
    """Put a material behind another one, or first, perhaps in another module; nothing else is renumbered."""
    await uow.use(CourseCatalog).lock(uow, await course_of(uow, id))
    material = await uow.lock(Material, id)
    if "module_id" in data.model_fields_set:
        if data.module_id is not None:
            await hold_module(uow, material.course_id, data.module_id)
        material.module_id = data.module_id
    await ordering.move(uow, Material, material, place(material.course_id, material.module_id), data.after_id)
    await uow.flush()
    await share_files_of(uow, [id])
    return await MATERIAL_POINT.after_write(uow, id)


async def revert(uow: UnitOfWork, id: UUID, revision_id: UUID, if_match: str | None) -> Response:
    """Let a material hold again what it held then; that is a revision of its own."""
    material = await uow.lock(Material, id, if_match)
    revision, before = await revisions.find(uow, id, revision_id), material.file_id
    if revision.file_id is not None and revision.file_id != before:
        await require_file(uow, material.course_id, revision.file_id)
    for name in revisions.KEPT:
        setattr(material, name, getattr(revision, name))
    await revisions.keep(uow, material)
    await uow.flush()
    await share_files(uow, [id for id in {material.file_id, before} if id is not None])
    uow.emit(MaterialChanged(material_id=id))
    return await MATERIAL_POINT.after_write(uow, id)


def refuse_other_kinds(material: Material, data: MaterialUpdate) -> None:
    """422 for what belongs to another kind of material."""
    for name, kind in (("file_id", "document"), ("url", "link"), ("assignment", "assignment")):
        if getattr(data, name) is not None and material.kind != kind:
            raise Invalid("not_of_this_kind", f"Only a {kind} has {name}; leave it out.", ("body", name))


def is_published(material: Material) -> bool:
    """Whether it was published, or has published itself."""
    return material.published or (material.publish_at is not None and material.publish_at <= datetime.now(UTC))


def tell(uow: UnitOfWork, material: Material, was_published: bool) -> None:
    """The events of a change."""
    uow.emit(MaterialChanged(material_id=material.id))
    if material.published and not was_published:
        uow.emit(MaterialPublished(material_id=material.id, course_id=material.course_id))


def place(course_id: UUID, module_id: UUID | None) -> Any:
    """A condition: a material is in the module, or in the course and none of its modules."""
    return (col(Material.course_id) == course_id) & col(Material.module_id).is_not_distinct_from(module_id)


async def course_of(uow: UnitOfWork, id: UUID) -> UUID:
    """Whose course has to be held before the material is."""
    found = (await uow.session.execute(select(Material.course_id).where(Material.id == id))).scalar_one_or_none()
    if found is None:
        raise NotFound("materials.material", id)
    return found


async def hold_module(uow: UnitOfWork, course_id: UUID, module_id: UUID) -> None:
    """404 unless it is a live module of the course, which then stays."""
    await uow.hold(MODULE, module_id)
    found = select(Module.id).where(Module.id == module_id, Module.course_id == course_id)
    if (await uow.session.execute(found)).first() is None:
        raise NotFound(MODULE, module_id)


async def publish_due(uow: UnitOfWork) -> None:
    """Students see them by the clock already; from now on their files are shared and others hear of it."""
    due = (
        select(Material)
        .where(~col(Material.published), col(Material.publish_at) <= func.now(), alive(Material))
        .limit(200)
        .with_for_update(of=Material, skip_locked=True)
    )
    found = (await uow.session.execute(due)).scalars().all()
    for material in found:
        material.published = True
        tell(uow, material, was_published=False)
    await uow.flush()
    await share_files_of(uow, [material.id for material in found])


async def share_files(uow: UnitOfWork, file_ids: Collection[UUID]) -> None:
    """Everybody in the course reads a document's file while a material that is open to everybody shows it.

    What is shown to some alone, or from some time on, they read through it (`visibility.shown_through_material`).
    """
    if not file_ids:
        return
    library = uow.use(FileLibrary)
    await library.lock(uow, file_ids)
    showing = select(Material.file_id).where(
        col(Material.file_id).in_(file_ids), visibility.is_open_to_all(Material), alive(Material)
    )
    shown = {id for id in (await uow.session.execute(showing)).scalars() if id is not None}
    await library.share(uow, shown, True)
    await library.share(uow, set(file_ids) - shown, False)


async def share_files_of(uow: UnitOfWork, ids: Sequence[UUID]) -> None:
    """After materials went or came back."""
    files = select(Material.file_id).where(among(col(Material.id), ids), col(Material.file_id).is_not(None)).distinct()
    await share_files(uow, [id for id in (await uow.session.execute(files)).scalars() if id is not None])


async def share_files_of_restored(uow: UnitOfWork, ids: Sequence[UUID], choices: Collection[str]) -> None:
    """There is nothing to choose."""
    await share_files_of(uow, ids)


async def share_restored_file(uow: UnitOfWork, event: Restored) -> None:
    """What shows a file may have changed while it was deleted; one that nothing shows is left as it was."""
    showing = select(Material.id).where(Material.file_id == event.id, alive(Material))
    if event.kind == FILE and (await uow.session.execute(showing.limit(1))).first() is not None:
        await share_files(uow, [event.id])


async def require_file(uow: UnitOfWork, course_id: UUID, file_id: UUID) -> None:
    """404 unless the file is one of this course that the caller may know; 409 for what a student hands in."""
    file = (await uow.use(FileLibrary).known_among(uow, [file_id])).get(file_id)
    if file is None or file.course_id != course_id:
        raise NotFound(FILE, file_id)
    used = select(SubmittedFile.submission_id).where(SubmittedFile.file_id == file_id).limit(1)
    if (await uow.session.execute(used)).first() is not None:
        raise StateConflict(
            "file_of_a_student", "A student hands this file in, or is about to; upload it for the class."
        )
