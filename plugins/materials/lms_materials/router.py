"""The URLs of materials and their search."""

from typing import Annotated
from uuid import UUID

from fastapi import Query, Response

from lms_core.sdk import (
    RESTORE_ANSWERS,
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
from lms_materials import search, service
from lms_materials.models import Material
from lms_materials.schemas import Hit, Kind, MaterialCreate, MaterialRead, MaterialUpdate

router = Router()
MAY_EDIT = requires("materials.edit", on="material", path="material_id")


@router.post(
    "",
    status_code=201,
    response_model=MaterialRead,
    dependencies=[requires("materials.create", on="course", body="course_id")],
)
async def create(uow: Uow, data: MaterialCreate) -> Response:
    """Add a page, a document or a link to a course."""
    return await service.create(uow, data)


@router.get("", name="list", response_model=Page[MaterialRead], dependencies=[reads("materials.read")])
async def list_materials(
    uow: Uow, params: PageParams, course_id: UUID | None = None, kind: Kind | None = None
) -> Response:
    """The materials that you may read, in the order of their positions."""
    return await service.MATERIALS.page(uow, params, course_id=course_id, kind=kind)


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
    responses=RESTORE_ANSWERS,
    dependencies=[reads("materials.delete", on="material", path="material_id")],
)
async def restore_material(
    uow: Uow, material_id: UUID, request: RestoreRequest | None = None, dry_run: bool = False
) -> Response:
    """Bring back exactly what one delete took."""
    return await restore(uow, Material, material_id, request, dry_run)
