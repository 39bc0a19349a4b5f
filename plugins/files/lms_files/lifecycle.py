"""The states of a file and the ways from one to the next; each is taken under the row's lock, by one of many who try."""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Literal
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import col

from lms_core.sdk import NotFound, UnitOfWork, among
from lms_files import processors, quotas, versions
from lms_files.contracts import FileDiscarded, FileReady, FileReplaced, FileUploaded
from lms_files.models import File, FileContent
from lms_files.storage import StoredObject

State = Literal["requested", "uploaded", "verifying", "ready", "rejected", "expired", "cancelled"]
AT_WORK = ("uploaded", "verifying")
REMOVED = "removed"
UNFINISHED = ("requested", *AT_WORK)


def incoming_key(file_id: UUID) -> str:
    """Where a client puts it."""
    return f"incoming/{file_id}"


def content_key(sha256: str) -> str:
    """Where readers get these bytes, however many files have them."""
    return f"clean/{sha256[:2]}/{sha256}"


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
        file.state, file.reason = "verifying", None
    return file


async def claim(uow: UnitOfWork, id: UUID, sha256: str) -> FileContent | None:
    """Keep the place of a verified content from being cleared away, before anything is copied there.

    Who clears it away holds its row while the object goes, so whoever comes here then waits, and makes a new row.
    """
    file = await held(uow, id, ("verifying",))
    if file is None:
        return None
    claimed = insert(FileContent).values(sha256=sha256, size=file.size, key=content_key(sha256))
    returning = claimed.on_conflict_do_update(index_elements=["sha256"], set_={"size": claimed.excluded.size})
    content = (await uow.session.execute(returning.returning(FileContent))).scalar_one()
    file.content_id = sha256
    return content


async def publish(uow: UnitOfWork, id: UUID, content: FileContent) -> None:
    """VERIFYING → READY, once the clean object is there. A new version takes its place in the file that it replaces."""
    file = await held(uow, id, ("verifying",))
    if file is None or file.content_id != content.sha256:
        return
    replaced = None if file.replaces_id is None else await held(uow, file.replaces_id, ("ready",))
    if file.replaces_id is not None and replaced is None:
        # Deleted: it goes on when the file comes back.
        return
    if replaced is not None and replaced.kept:
        await discard(uow, file, "rejected", "handed_in")
        return
    file.state, file.reason, file.sha256 = "ready", None, content.sha256
    file.clean_key, file.ready_at = content.key, datetime.now(UTC)
    await quotas.settle(uow, file, is_used=True)
    if replaced is not None:
        await versions.exchange(uow, replaced, file)
    uow.emit(FileReady(file_id=id if replaced is None else replaced.id))


async def wait(uow: UnitOfWork, id: UUID, reason: str) -> None:
    """Still VERIFYING; clients see for what."""
    file = await held(uow, id, ("verifying",))
    if file is not None:
        file.reason = reason


async def reject(uow: UnitOfWork, id: UUID, reason: str) -> None:
    """VERIFYING → REJECTED."""
    file = await held(uow, id, ("verifying",))
    if file is not None:
        await discard(uow, file, "rejected", reason)


async def purge(uow: UnitOfWork, ids: Sequence[UUID], needed: Collection[UUID]) -> None:
    """Files are removed for good: their room is free, and contents that no other file has are swept. A file that
    something still points at stays as one that was cancelled, without a name."""
    files = (await uow.session.execute(select(File).where(among(col(File.id), ids)))).scalars()
    for file in files:
        if file.state == "ready":
            await quotas.free(uow, file)
        elif file.state in UNFINISHED:
            await quotas.settle(uow, file, is_used=False)
        if file.id in needed:
            file.state, file.reason, file.filename, file.sha256 = "cancelled", None, REMOVED, None
            file.clean_key, file.content_id, file.derivatives = None, None, processors.nothing(uow.context)
            # Whoever copied its text has to forget it.
            uow.emit(FileReplaced(file_id=file.id))
    await uow.flush()


async def discard(uow: UnitOfWork, file: File, state: State, reason: str | None = None) -> None:
    """An unfinished upload comes to nothing: its room is given back, and the store is tidied by a handler."""
    file.state, file.reason, file.content_id = state, reason, None
    file.derivatives = processors.nothing(uow.context)
    await quotas.settle(uow, file, is_used=False)
    uow.emit(FileDiscarded(file_id=file.id))
