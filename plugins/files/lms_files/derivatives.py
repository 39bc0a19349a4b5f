"""What is made of a file once it is ready: its text and a thumbnail. Without them the file is as good as before."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal
from uuid import UUID

from sqlalchemy import insert

from lms_core.sdk import Context, UnitOfWork
from lms_files import content_types, lifecycle
from lms_files.contracts import FileReady, TextExtracted
from lms_files.extraction_jobs import ExtractedText, Failure, TextJob, Thumbnail, ThumbnailJob
from lms_files.limited import run_limited
from lms_files.models import File, FilePage
from lms_files.storage import store_of

THUMBNAIL_TYPE = "image/webp"
Derivative = Literal["text", "thumbnail"]


def has_text(content_type: str) -> bool:
    """Whether there can be text to find."""
    return content_type in (
        content_types.PDF_TYPES
        | content_types.TEXT_TYPES
        | content_types.OPEN_XML_TYPES
        | content_types.OPEN_DOCUMENT_TYPES
    )


def has_thumbnail(content_type: str) -> bool:
    """Whether there can be a picture."""
    return content_type in content_types.PDF_TYPES | content_types.IMAGE_TYPES


def thumbnail_key(file: File) -> str:
    """Where the thumbnail is."""
    return f"{lifecycle.clean_folder(file)}/thumbnail.webp"


async def pending(context: Context, id: UUID, derivative: Derivative) -> File | None:
    """The file, while it lives and waits for this."""
    async with context.unit_of_work() as uow:
        return await held_pending(uow, id, derivative)


async def held_pending(uow: UnitOfWork, id: UUID, derivative: Derivative) -> File | None:
    """The same, for change."""
    file = await lifecycle.held(uow, id, ("ready",))
    return file if file is not None and getattr(file, f"{derivative}_state") == "pending" else None


async def derive_text(context: Context, event: FileReady) -> None:
    """Find the text and keep it page by page; a file in which that fails stays ready."""
    file = await pending(context, event.file_id, "text")
    if file is None:
        return
    store = store_of(context)
    with TemporaryDirectory(prefix="lms-files-") as folder:
        path = Path(folder) / "file"
        await store.download(store.clean, str(file.clean_key), path, file.size)
        outcome = await run_limited(TextJob(path, file.content_type))
    await context.retry(lambda uow: keep_text(uow, event.file_id, outcome))


async def keep_text(uow: UnitOfWork, id: UUID, outcome: ExtractedText | Failure) -> None:
    """All pages or none."""
    file = await held_pending(uow, id, "text")
    if file is None:
        return
    if isinstance(outcome, Failure):
        file.text_state, file.text_reason = "failed", outcome.reason
        return
    await store_pages(uow, id, outcome.pages)
    file.text_state, file.text_pages = "ready", len(outcome.pages)
    file.text_characters = sum(len(page) for page in outcome.pages)
    file.text_reason = "truncated" if outcome.truncated else None
    uow.emit(TextExtracted(file_id=id))


async def store_pages(uow: UnitOfWork, id: UUID, pages: Sequence[str]) -> None:
    """Those with text."""
    rows = [{"file_id": id, "number": number, "text": page} for number, page in enumerate(pages, 1) if page]
    if rows:
        await uow.session.execute(insert(FilePage), rows)


async def derive_thumbnail(context: Context, event: FileReady) -> None:
    """Make a small picture and store it beside the file."""
    file = await pending(context, event.file_id, "thumbnail")
    if file is None:
        return
    store = store_of(context)
    with TemporaryDirectory(prefix="lms-files-") as folder:
        path = Path(folder) / "file"
        await store.download(store.clean, str(file.clean_key), path, file.size)
        outcome = await run_limited(ThumbnailJob(path, file.content_type, Path(folder) / "thumbnail"))
        if isinstance(outcome, Thumbnail):
            await store.put_clean(thumbnail_key(file), outcome.path.read_bytes(), THUMBNAIL_TYPE)
    await context.retry(lambda uow: keep_thumbnail(uow, event.file_id, outcome))


async def keep_thumbnail(uow: UnitOfWork, id: UUID, outcome: Thumbnail | Failure) -> None:
    """Its size, or why there is none."""
    file = await held_pending(uow, id, "thumbnail")
    if file is None:
        return
    if isinstance(outcome, Failure):
        file.thumbnail_state, file.thumbnail_reason = "failed", outcome.reason
        return
    file.thumbnail_state = "ready"
    file.thumbnail_width, file.thumbnail_height = outcome.width, outcome.height
