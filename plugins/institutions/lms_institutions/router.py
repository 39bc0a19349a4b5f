"""The URLs of institutions."""

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
from lms_institutions import service
from lms_institutions.models import Institution
from lms_institutions.schemas import InstitutionCreate, InstitutionRead, InstitutionUpdate

router = Router()
MAY_EDIT = requires("institutions.edit", on="institution", path="institution_id")


@router.post(
    "",
    status_code=201,
    response_model=InstitutionRead,
    dependencies=[requires("institutions.create", on="institution", body="parent_id")],
)
async def create(uow: Uow, data: InstitutionCreate) -> Response:
    """Add an institution below another, or (super admins) the top of a new tree."""
    return await service.create(uow, data)


@router.get("", name="list", response_model=Page[InstitutionRead], dependencies=[reads("institutions.read")])
async def list_institutions(
    uow: Uow,
    params: PageParams,
    parent_id: Annotated[UUID | None, Query(description="Only those right below it")] = None,
) -> Response:
    """The institutions that you belong to, newest first."""
    return await service.INSTITUTIONS.page(uow, params, parent_id=parent_id)


@router.get("/{institution_id}", response_model=InstitutionRead, dependencies=[reads("institutions.read")])
async def get(uow: Uow, institution_id: UUID) -> Response:
    """One institution."""
    return await service.INSTITUTION_POINT.get(uow, institution_id)


@router.patch("/{institution_id}", response_model=InstitutionRead, dependencies=[MAY_EDIT])
async def update(uow: Uow, institution_id: UUID, data: InstitutionUpdate, if_match: IfMatch = None) -> Response:
    """Change an institution below your own."""
    return await service.update(uow, institution_id, data, if_match)


@router.delete("/{institution_id}", status_code=202, response_model=DeletionRead, dependencies=[MAY_EDIT])
async def delete(uow: Uow, institution_id: UUID, if_match: IfMatch = None) -> Response:
    """Delete an institution and everything below it; it can be restored."""
    return await service.remove(uow, institution_id, if_match)


@router.post(
    "/{institution_id}/restore",
    name="restore",
    status_code=202,
    response_model=DeletionRead,
    dependencies=[reads("institutions.edit", on="institution", path="institution_id")],
)
async def restore_institution(uow: Uow, institution_id: UUID, request: RestoreRequest | None = None) -> Response:
    """Bring back exactly what one delete took."""
    return await restore(uow, Institution, institution_id, request)
