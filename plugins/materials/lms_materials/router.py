"""The URLs of materials, their history and their search."""

from typing import Annotated
from uuid import UUID

from fastapi import Query, Response

from lms_core.sdk import (
    DeletionRead,
    IfMatch,
    Page,
    PageParams,
    RestoreRequest,
    Router,
    Uow,
    reads,
    requires,
    restore,
)
from lms_core.sdk import delete as delete_row
from lms_materials import prerequisites, revisions, search, service
from lms_materials.models import Material
from lms_materials.schemas import (
    Difference,
    Hit,
    Kind,
    MaterialCreate,
    MaterialRead,
    MaterialUpdate,
    MoveMaterial,
    RevisionRead,
)

router = Router()
MAY_EDIT = requires("materials.edit", on="material", path="material_id")
MAY_SEE_DRAFTS = requires("materials.read_drafts", on="material", path="material_id")
MOST = 2**31 - 1


@router.post(
    "",
    status_code=201,
    response_model=MaterialRead,
    dependencies=[requires("materials.create", on="course", body="course_id")],
)
async def create(uow: Uow, data: MaterialCreate) -> Response:
    """Add a page, a document, a link, an assignment, or what a plugin adds, to a course."""
    return await service.create(uow, data)


@router.get("", name="list", response_model=Page[MaterialRead], dependencies=[reads("materials.read")])
async def list_materials(
    uow: Uow,
    params: PageParams,
    course_id: UUID | None = None,
    module_id: UUID | None = None,
    kind: Kind | None = None,
) -> Response:
    """The materials that you may read, in the order of their positions."""
    return await service.MATERIALS.page(uow, params, course_id=course_id, module_id=module_id, kind=kind)


@router.get("/search", name="search", response_model=Page[Hit], dependencies=[reads("materials.read")])
async def search_materials(
    uow: Uow,
    params: PageParams,
    q: Annotated[str, Query(min_length=1, max_length=300, description='Words, "phrases", -without, or')],
    course_id: UUID | None = None,
) -> Response:
    """Search titles, bodies and the text of documents; best hits first."""
    return await search.search(uow, params, q, course_id)


@router.get("/{material_id}", response_model=MaterialRead, dependencies=[reads("materials.read")])
async def get(uow: Uow, material_id: UUID) -> Response:
    """One material."""
    return await service.MATERIAL_POINT.get(uow, material_id)


@router.patch("/{material_id}", response_model=MaterialRead, dependencies=[MAY_EDIT])
async def update(uow: Uow, material_id: UUID, data: MaterialUpdate, if_match: IfMatch = None) -> Response:
    """Change or publish a material."""
    return await service.update(uow, material_id, data, if_match)


@router.post("/{material_id}/move", name="move", response_model=MaterialRead, dependencies=[MAY_EDIT])
async def move(uow: Uow, material_id: UUID, data: MoveMaterial) -> Response:
    """Put a material behind another one, or first, perhaps in another module."""
    return await service.move(uow, material_id, data)


@router.get(
    "/{material_id}/revisions", name="list_revisions", response_model=Page[RevisionRead], dependencies=[MAY_SEE_DRAFTS]
)
async def list_revisions(uow: Uow, material_id: UUID, params: PageParams) -> Response:
    """What a material held when, and who changed it; the last first."""
    return await revisions.REVISIONS.page(uow, params, material_id=material_id)


@router.get(
    "/{material_id}/revisions/{revision_id}/diff",
    name="compare_revisions",
    response_model=Difference,
    dependencies=[MAY_SEE_DRAFTS],
)
async def compare(
    uow: Uow,
    material_id: UUID,
    revision_id: UUID,
    since: Annotated[int | None, Query(ge=1, le=MOST, description="Its number; by default the one before")] = None,
) -> Response:
    """How a revision differs from an earlier one."""
    return await revisions.difference(uow, material_id, revision_id, since)


@router.post(
    "/{material_id}/revisions/{revision_id}/revert", name="revert", response_model=MaterialRead, dependencies=[MAY_EDIT]
)
async def revert(uow: Uow, material_id: UUID, revision_id: UUID, if_match: IfMatch = None) -> Response:
    """Let a material hold again what it held then."""
    return await service.revert(uow, material_id, revision_id, if_match)


@router.put(
    "/{material_id}/completion",
    name="complete",
    status_code=204,
    dependencies=[requires("materials.complete", on="material", path="material_id")],
)
async def complete(uow: Uow, material_id: UUID) -> Response:
    """Say that you are done with a material, which opens what requires it."""
    return await prerequisites.complete(uow, material_id)


@router.delete(
    "/{material_id}/completion",
    name="take_back_completion",
    status_code=204,
    dependencies=[requires("materials.complete", on="material", path="material_id")],
)
async def take_back_completion(uow: Uow, material_id: UUID) -> Response:
    """Say that you are not done with it."""
    return await prerequisites.take_back(uow, material_id)


@router.delete(
    "/{material_id}",
    status_code=202,
    response_model=DeletionRead,
    dependencies=[requires("materials.delete", on="material", path="material_id")],
)
async def delete(uow: Uow, material_id: UUID, if_match: IfMatch = None) -> Response:
    """Delete a material; it can be restored."""
    return await delete_row(uow, Material, material_id, if_match)


@router.post(
    "/{material_id}/restore",
    name="restore",
    status_code=202,
    response_model=DeletionRead,
    dependencies=[reads("materials.delete", on="material", path="material_id")],
)
async def restore_material(uow: Uow, material_id: UUID, request: RestoreRequest | None = None) -> Response:
    """Bring back exactly what one delete took."""
    return await restore(uow, Material, material_id, request)
