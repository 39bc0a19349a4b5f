"""Verifying an upload: what nobody has looked at is never handed out."""

import logging
from contextlib import suppress
from pathlib import Path

from lms_core.sdk import Context, Unavailable
from lms_files import lifecycle, processors
from lms_files.contracts import FileDiscarded, FileUploaded
from lms_files.extraction_jobs import Failure, InspectJob
from lms_files.limited import run_limited
from lms_files.models import File, FileContent
from lms_files.service import is_still_own
from lms_files.settings import FilesSettings
from lms_files.storage import Store, StoredObject, store_of
from lms_files.storage_clients import ObjectChanged, ObjectMissing
from lms_files.virus_scan import FileTooLargeToScan, ScannerAway, scan
from lms_files.workplaces import workplace

logger = logging.getLogger(__name__)


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
        sha256 = await inspect(context, store, file)
        content = await context.retry(lambda uow: lifecycle.claim(uow, file.id, sha256))
        if content is None:
            return
        await keep_in_store(store, file, content)
        await refuse_what_may_not_be_replaced(context, file)
    except (Rejected, ObjectMissing, ObjectChanged) as error:
        reason = reason_of(error)
        await context.retry(lambda uow: lifecycle.reject(uow, file.id, reason))
    else:
        await context.retry(lambda uow: lifecycle.publish(uow, file.id, content))


async def keep_in_store(store: Store, file: File, content: FileContent) -> None:
    """Copy the upload to the clean bucket, unless the same bytes are there. Raises ObjectMissing and ObjectChanged.

    What was uploaded in parts has another ETag than its copy and is copied once more, which does no harm.
    """
    with suppress(ObjectMissing):
        if await store.find(store.clean, content.key) == StoredObject(content.size, str(file.etag)):
            return
    await store.publish(lifecycle.incoming_key(file.id), str(file.etag), content.key, file.content_type)


async def inspect(context: Context, store: Store, file: File) -> str:
    """The SHA-256 of an upload that is what it was declared to be. Raises Rejected, ObjectMissing, ObjectChanged.

    Raises Unavailable while the virus scanner is away: the file waits, it never becomes ready without its answer.
    """
    with workplace() as folder:
        path = Path(folder) / "upload"
        key = lifecycle.incoming_key(file.id)
        size, sha256 = await store.download(store.incoming, key, path, file.size, file.etag)
        if size != file.size:
            raise Rejected("size_mismatch")
        if file.sha256 not in (None, sha256):
            raise Rejected("sha256_mismatch")
        check = processors.check_of(context, file.content_type)
        outcome = await run_limited(InspectJob(path, file.content_type, check))
        if isinstance(outcome, Failure) or not outcome.ok:
            raise Rejected(outcome.reason)
        await refuse_infected(context, file, path)
    return sha256


async def refuse_infected(context: Context, file: File, path: Path) -> None:
    """Ask the scanner, where there is one. Raises Rejected, and Unavailable when it gives no answer."""
    scanner = context.platform.plugin_settings(FilesSettings).scanner
    if scanner is None:
        return
    try:
        signature = await scan(scanner, path)
    except FileTooLargeToScan:
        raise Rejected("too_large_to_scan") from None
    except ScannerAway as error:
        await context.retry(lambda uow: lifecycle.wait(uow, file.id, "waiting_for_scanner"))
        raise Unavailable("The virus scanner does not answer at the moment.", "scanner_away") from error
    if signature is not None:
        logger.warning("file %s of user %s is infected: %s", file.id, file.uploader_id, signature)
        raise Rejected("infected")


async def refuse_what_may_not_be_replaced(context: Context, file: File) -> None:
    """While a new version waited, the class may have come to read the file, or its uploader left. Raises Rejected."""
    if file.replaces_id is None:
        return
    async with context.unit_of_work() as uow:
        replaced = await lifecycle.held(uow, file.replaces_id, ("ready",))
    if replaced is None:
        return
    access, _ = await context.platform.rules.load(context, file.uploader_id)
    async with context.unit_of_work(access) as uow:
        if not await is_still_own(uow, replaced) and not await uow.can("files.edit", File, replaced.id):
            raise Rejected("not_allowed")


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
