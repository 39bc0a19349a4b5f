"""The URLs of modules."""

from uuid import UUID

from fastapi import Response

from lms_core.sdk import (
    DeletionRead,
    IfMatch,
    Page,
    PageParams,
    RestoreRequest,
    Router,
    Uow,
    delete,
    reads,
    requires,
    restore,
)
from lms_materials import modules
from lms_materials.models import Module
from lms_materials.schemas import ModuleCreate, ModuleRead, ModuleUpdate, Move

router = Router(prefix="/modules")
MAY_EDIT = requires("materials.edit", on="module", path="module_id")


@router.post(
    "",
    name="create_module",
    status_code=201,
    response_model=ModuleRead,
    dependencies=[requires("materials.create", on="course", body="course_id")],
)
async def create(uow: Uow, data: ModuleCreate) -> Response:
    """Add a module to a course."""
    return await modules.create(uow, data)


@router.get("", name="list_modules", response_model=Page[ModuleRead], dependencies=[reads("materials.read")])
async def list_modules(uow: Uow, params: PageParams, course_id: UUID | None = None) -> Response:
    """The modules that you may read, in the order of their positions."""
    return await modules.MODULES.page(uow, params, course_id=course_id)


@router.get("/{module_id}", name="get_module", response_model=ModuleRead, dependencies=[reads("materials.read")])
async def get(uow: Uow, module_id: UUID) -> Response:
    """One module."""
    return await modules.MODULE_POINT.get(uow, module_id)


@router.patch("/{module_id}", name="update_module", response_model=ModuleRead, dependencies=[MAY_EDIT])
async def update(uow: Uow, module_id: UUID, data: ModuleUpdate, if_match: IfMatch = None) -> Response:
    """Change a module; null as `unlock_at` opens it at once."""
    return await modules.update(uow, module_id, data, if_match)


@router.post("/{module_id}/move", name="move_module", response_model=ModuleRead, dependencies=[MAY_EDIT])
async def move(uow: Uow, module_id: UUID, data: Move) -> Response:
    """Put a module behind another one, or first."""
    return await modules.move(uow, module_id, data)


@router.delete(
    "/{module_id}",
    name="delete_module",
    status_code=202,
    response_model=DeletionRead,
    dependencies=[requires("materials.delete", on="module", path="module_id")],
)
async def delete_module(uow: Uow, module_id: UUID, if_match: IfMatch = None) -> Response:
    """Delete a module and what is in it; all of it can be restored."""
    return await delete(uow, Module, module_id, if_match)


@router.post(
    "/{module_id}/restore",
    name="restore_module",
    status_code=202,
    response_model=DeletionRead,
    dependencies=[reads("materials.delete", on="module", path="module_id")],
)
async def restore_module(uow: Uow, module_id: UUID, request: RestoreRequest | None = None) -> Response:
    """Bring back exactly what one delete took."""
    return await restore(uow, Module, module_id, request)
