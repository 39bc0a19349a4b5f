"""The states of a file and the ways from one to the next; each is taken under the row's lock, by one of many who try."""

from typing import Literal
from uuid import UUID

from sqlalchemy import func

from lms_core.sdk import NotFound, UnitOfWork
from lms_files import quotas
from lms_files.contracts import FileDiscarded, FileReady, FileUploaded
from lms_files.models import File
from lms_files.storage import StoredObject

State = Literal["requested", "uploaded", "verifying", "ready", "rejected", "expired", "cancelled"]
AT_WORK = ("uploaded", "verifying")
UNFINISHED = ("requested", *AT_WORK)


def incoming_key(file_id: UUID) -> str:
    """Where a client puts it."""
    return f"incoming/{file_id}"


def clean_folder(file: File) -> str:
    """Where readers get it, and what was made of it."""
    return f"clean/{file.institution_id or 'none'}/{file.id}"


async def held(uow: UnitOfWork, id: UUID, states: tuple[str, ...]) -> File | None:
    """The file for change when it lives and is in one of the states; None when others were first."""
    try:
        file = await uow.lock(File, id)
    except NotFound:
        return None
    return file if file.state in states else None


def arrive(uow: UnitOfWork, file: File, found: StoredObject) -> None:
    """REQUESTED → UPLOADED."""
    file.state, file.etag = "uploaded", found.etag
    uow.emit(FileUploaded(file_id=file.id))


async def begin_verifying(uow: UnitOfWork, id: UUID) -> File | None:
    """UPLOADED → VERIFYING; or go on, when whoever verified it before did not come to an end."""
    file = await held(uow, id, AT_WORK)
    if file is not None:
        file.state = "verifying"
    return file


async def publish(uow: UnitOfWork, id: UUID, sha256: str, clean_key: str) -> None:
    """VERIFYING → READY, once the clean object is there."""
    file = await held(uow, id, ("verifying",))
    if file is None:
        return
    file.state, file.sha256, file.clean_key, file.ready_at = "ready", sha256, clean_key, func.now()  # type: ignore[assignment]
    await quotas.settle(uow, file, is_used=True)
    uow.emit(FileReady(file_id=id))


async def reject(uow: UnitOfWork, id: UUID, reason: str) -> None:
    """VERIFYING → REJECTED."""
    file = await held(uow, id, ("verifying",))
    if file is not None:
        await discard(uow, file, "rejected", reason)


async def discard(uow: UnitOfWork, file: File, state: State, reason: str | None = None) -> None:
    """An unfinished upload comes to nothing: its room is given back, and the store is tidied by a handler."""
    file.state, file.reason = state, reason
    file.text_state, file.thumbnail_state = "none", "none"
    await quotas.settle(uow, file, is_used=False)
    uow.emit(FileDiscarded(file_id=file.id))
