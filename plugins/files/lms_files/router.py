"""The URLs of files."""

from typing import Annotated
from uuid import UUID

from fastapi import Depends, Query, Request, Response

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
    signed_in,
)
from lms_files import limits, service, uploads
from lms_files.lifecycle import State
from lms_files.models import File
from lms_files.schemas import (
    CompleteRequest,
    DownloadRead,
    FileRead,
    FileRequest,
    FileUpdate,
    InstitutionLimitsRead,
    InstitutionLimitsUpdate,
    LimitsRead,
    MyLimitsRead,
    RequestedFile,
    UploadRead,
    UploadRequest,
    UserLimitsUpdate,
    VersionRead,
    VersionRequest,
)

router = Router()
READS = reads("files.read")


async def taking_part(request: Request, uow: Uow) -> None:
    """Who names a course must take part in it; asked before the rest of the body is looked at."""
    body = await request.json() if await request.body() else None
    given = body.get("course_id") if isinstance(body, dict) else None
    try:
        course_id = UUID(given) if isinstance(given, str) else None
    except ValueError:
        return
    if course_id is not None:
        await uploads.refuse_unless_taking_part(uow, course_id)


async def known(uow: Uow, file_id: UUID) -> None:
    """404 for a file that the caller may not know, before the body is looked at."""
    await uploads.refuse_unless_known(uow, file_id)


@router.post(
    "",
    name="create",
    status_code=201,
    response_model=RequestedFile,
    dependencies=[signed_in("without a course it is the caller's own file"), Depends(taking_part)],
)
async def request_upload(uow: Uow, data: FileRequest) -> Response:
    """Ask for an upload: to a course that you take part in, or for yourself."""
    return await uploads.request(uow, data)


@router.get(
    "/limits/institutions/{institution_id}",
    response_model=InstitutionLimitsRead,
    dependencies=[requires("files.read_limits", on="institution", path="institution_id")],
)
async def get_institution_limits(uow: Uow, institution_id: UUID) -> Response:
    """The room that an institution has for files, and the types that it takes."""
    return await limits.of_institution(uow, institution_id)


@router.patch(
    "/limits/institutions/{institution_id}",
    response_model=InstitutionLimitsRead,
    dependencies=[requires("files.set_limits", on="institution", path="institution_id")],
)
async def update_institution_limits(uow: Uow, institution_id: UUID, data: InstitutionLimitsUpdate) -> Response:
    """Change how much room an institution has, and which types it takes."""
    return await limits.change_institution(uow, institution_id, data)


@router.get("/limits/me", response_model=MyLimitsRead, dependencies=[signed_in("everybody has room of their own")])
async def get_my_limits(
    uow: Uow, course_id: Annotated[UUID | None, Query(description="Whose types are to be said")] = None
) -> Response:
    """The room that you have for files without a course, and the types that are taken: yours, or those of a course."""
    return await limits.of_me(uow, course_id)


@router.patch(
    "/limits/users/{user_id}",
    response_model=LimitsRead,
    dependencies=[requires("files.set_limits", on="user", path="user_id")],
)
async def update_user_limits(uow: Uow, user_id: UUID, data: UserLimitsUpdate) -> Response:
    """Change how much room a user has for files without a course."""
    return await limits.change_user(uow, user_id, data)


@router.post("/{file_id}/upload", response_model=UploadRead, dependencies=[READS, Depends(known)])
async def continue_upload(uow: Uow, file_id: UUID, data: UploadRequest | None = None) -> Response:
    """Sign an upload again: after a lost connection, before its addresses expire, or for parts further on."""
    return await uploads.go_on(uow, file_id, data)


@router.post("/{file_id}/versions", status_code=201, response_model=RequestedFile, dependencies=[READS, Depends(known)])
async def create_version(uow: Uow, file_id: UUID, data: VersionRequest) -> Response:
    """Ask for an upload that is to replace what a file holds; once it is ready, the old content is a version."""
    return await uploads.request_version(uow, file_id, data)


@router.get("/{file_id}/versions", response_model=Page[VersionRead], dependencies=[READS])
async def list_versions(uow: Uow, file_id: UUID, params: PageParams) -> Response:
    """What a file held before; each can be downloaded by its own id."""
    return await service.list_versions(uow, params, file_id)


@router.post(
    "/{file_id}/versions/{version_id}/make-current",
    name="make_version_current",
    response_model=FileRead,
    dependencies=[READS],
)
async def make_current(uow: Uow, file_id: UUID, version_id: UUID, if_match: IfMatch = None) -> Response:
    """Let a file hold again what it held before; what it holds now becomes a version."""
    return await service.make_current(uow, file_id, version_id, if_match)


@router.post("/{file_id}/complete", status_code=202, response_model=FileRead, dependencies=[READS, Depends(known)])
async def complete(uow: Uow, file_id: UUID, data: CompleteRequest | None = None) -> Response:
    """Say that the bytes are in the store; they are verified next. Again: the file as it is by then."""
    return await uploads.complete(uow, file_id, data)


@router.post("/{file_id}/cancel", response_model=FileRead, dependencies=[READS])
async def cancel(uow: Uow, file_id: UUID) -> Response:
    """Give up an upload that you did not complete."""
    return await uploads.cancel(uow, file_id)


@router.get("", name="list", response_model=Page[FileRead], dependencies=[READS])
async def list_files(
    uow: Uow, params: PageParams, course_id: UUID | None = None, state: State | None = None
) -> Response:
    """The files that you may read, newest first."""
    return await service.FILES.page(uow, params, course_id=course_id, state=state)


@router.get("/{file_id}", response_model=FileRead, dependencies=[READS])
async def get(uow: Uow, file_id: UUID) -> Response:
    """One file, and how far it has come."""
    return await service.FILE_POINT.get(uow, file_id)


@router.get(
    "/{file_id}/download",
    response_model=DownloadRead,
    responses={307: {"description": "To the store, with `redirect=true`"}},
    dependencies=[READS],
)
async def download(
    uow: Uow,
    file_id: UUID,
    redirect: Annotated[bool, Query(description="Answer with 307 instead")] = False,
    variant: Annotated[
        str | None, Query(pattern="^[a-z_]{1,40}$", description="A picture made of it: thumbnail, preview")
    ] = None,
) -> Response:
    """Where to get the bytes, for five minutes."""
    return await service.download(uow, file_id, redirect, variant)


@router.patch("/{file_id}", response_model=FileRead, dependencies=[READS, Depends(known)])
async def update(uow: Uow, file_id: UUID, data: FileUpdate, if_match: IfMatch = None) -> Response:
    """Give a file another name."""
    return await service.update(uow, file_id, data, if_match)


@router.delete("/{file_id}", status_code=202, response_model=DeletionRead, dependencies=[READS])
async def delete(uow: Uow, file_id: UUID, if_match: IfMatch = None) -> Response:
    """Delete a file; it can be restored."""
    return await service.remove(uow, file_id, if_match)


@router.post(
    "/{file_id}/restore",
    name="restore",
    status_code=202,
    response_model=DeletionRead,
    dependencies=[reads("files.read", on="file", path="file_id")],
)
async def restore_file(uow: Uow, file_id: UUID, request: RestoreRequest | None = None) -> Response:
    """Bring a file back."""
    return await restore(uow, File, file_id, request)
