"""Verifying an upload: what nobody has looked at is never handed out."""

from pathlib import Path
from tempfile import TemporaryDirectory

from lms_core.sdk import Context
from lms_files import lifecycle
from lms_files.contracts import FileDiscarded, FileUploaded
from lms_files.extraction_jobs import Failure, InspectJob
from lms_files.limited import run_limited
from lms_files.models import File
from lms_files.storage import Store, store_of
from lms_files.storage_clients import ObjectChanged, ObjectMissing


class Rejected(Exception):
    """The upload must not be handed out; the message is the reason that clients see."""


async def verify(context: Context, event: FileUploaded) -> None:
    """UPLOADED → VERIFYING → READY or REJECTED; may begin again at any point, and run twice at a time.

    The clean object is there before the state says so, and the incoming one goes only afterwards.
    """
    file = await context.retry(lambda uow: lifecycle.begin_verifying(uow, event.file_id))
    if file is not None:
        await verify_and_publish(context, file)
    await tidy(context, event)


async def verify_and_publish(context: Context, file: File) -> None:
    """To READY or REJECTED."""
    store = store_of(context)
    try:
        sha256 = await inspect(store, file)
        clean_key = f"{lifecycle.clean_folder(file)}/{sha256}"
        await store.publish(lifecycle.incoming_key(file.id), str(file.etag), clean_key, file.content_type)
    except (Rejected, ObjectMissing, ObjectChanged) as error:
        reason = reason_of(error)
        await context.retry(lambda uow: lifecycle.reject(uow, file.id, reason))
    else:
        await context.retry(lambda uow: lifecycle.publish(uow, file.id, sha256, clean_key))


async def inspect(store: Store, file: File) -> str:
    """The SHA-256 of an upload that is what it was declared to be. Raises Rejected, ObjectMissing, ObjectChanged."""
    with TemporaryDirectory(prefix="lms-files-") as folder:
        path = Path(folder) / "upload"
        key = lifecycle.incoming_key(file.id)
        size, sha256 = await store.download(store.incoming, key, path, file.size, file.etag)
        if size != file.size:
            raise Rejected("size_mismatch")
        if file.sha256 not in (None, sha256):
            raise Rejected("sha256_mismatch")
        outcome = await run_limited(InspectJob(path, file.content_type))
    if isinstance(outcome, Failure) or not outcome.ok:
        raise Rejected(outcome.reason)
    return sha256


def reason_of(error: Exception) -> str:
    """What clients see."""
    if isinstance(error, Rejected):
        return str(error)
    return "upload_missing" if isinstance(error, ObjectMissing) else "upload_changed"


async def tidy(context: Context, event: FileUploaded | FileDiscarded) -> None:
    """Remove what a client uploaded, once it was copied or came to nothing."""
    async with context.unit_of_work() as uow:
        file = await uow.session.get(File, event.file_id)
    if file is None or file.state in lifecycle.UNFINISHED:
        return
    store = store_of(context)
    if file.upload_id is not None:
        await store.abort_multipart(lifecycle.incoming_key(file.id), file.upload_id)
    await store.delete_incoming(lifecycle.incoming_key(file.id))
