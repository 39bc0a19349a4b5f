"""The URLs of files."""

from typing import Annotated, Literal
from uuid import UUID

from fastapi import Depends, Query, Request, Response

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
    restore,
    signed_in,
)
from lms_files import service, uploads
from lms_files.lifecycle import State
from lms_files.models import File
from lms_files.schemas import CompleteRequest, DownloadRead, FileRead, FileRequest, FileUpdate, RequestedFile

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
    variant: Annotated[Literal["thumbnail"] | None, Query(description="Something made of the file")] = None,
) -> Response:
    """Where to get the bytes, for five minutes."""
    return await service.download(uow, file_id, redirect, variant == "thumbnail")


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
    responses=RESTORE_ANSWERS,
    dependencies=[reads("files.read", on="file", path="file_id")],
)
async def restore_file(
    uow: Uow, file_id: UUID, request: RestoreRequest | None = None, dry_run: bool = False
) -> Response:
    """Bring a file back."""
    return await restore(uow, File, file_id, request, dry_run)
