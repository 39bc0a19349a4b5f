"""What is made of a file once it is ready: text, pictures, and what plugins add. Without them it is as good as before."""

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import delete, insert
from sqlmodel import col

from lms_core.sdk import Context, UnitOfWork
from lms_files import lifecycle, processors
from lms_files.contracts import FileReady, TextExtracted
from lms_files.extraction_jobs import Derived, Failure, ProcessJob
from lms_files.limited import run_limited
from lms_files.models import File, FilePage
from lms_files.storage import store_of
from lms_files.workplaces import workplace

PICTURE_TYPE = "image/webp"


def picture_key(sha256: str, name: str) -> str:
    """Where the picture is that a processor made of these bytes."""
    return f"derived/{sha256}/{name}.webp"


async def derive(context: Context, event: FileReady) -> None:
    """Whatever is still pending, one after the other; may begin again at any point, and run twice at a time."""
    async with context.unit_of_work() as uow:
        file = await lifecycle.held(uow, event.file_id, ("ready",))
    if file is None:
        return
    ours = processors.processors_of(context, file.content_type)
    names = [name for name, made in file.derivatives.items() if made["state"] == "pending"]
    if not names:
        return
    store = store_of(context)
    with workplace() as folder:
        path = Path(folder) / "file"
        await store.download(store.clean, str(file.clean_key), path, file.size)
        for name in names:
            if name not in ours:
                # Of a plugin that was switched off meanwhile.
                await context.retry(partial(keep, derived_from=file, name=name, made={"state": "none"}))
                continue
            job = ProcessJob(path, file.content_type, ours[name].function, Path(folder))
            await keep_outcome(context, file, name, await run_limited(job))


async def keep_outcome(context: Context, file: File, name: str, outcome: Derived | Failure) -> None:
    """What came of it: the picture goes to the store before the row says that it is there."""
    if isinstance(outcome, Failure):
        await context.retry(lambda uow: keep(uow, file, name, {"state": "failed", "reason": outcome.reason}))
        return
    if outcome.picture is not None:
        picture = outcome.picture.read_bytes()
        await store_of(context).put_clean(picture_key(str(file.sha256), name), picture, PICTURE_TYPE)
    await context.retry(lambda uow: keep(uow, file, name, {"state": "ready", **outcome.facts}, outcome))


async def keep(
    uow: UnitOfWork, derived_from: File, name: str, made: dict[str, Any], outcome: Derived | None = None
) -> None:
    """All of it or nothing; nothing when others were first, or the file has another content by now."""
    file = await lifecycle.held(uow, derived_from.id, ("ready",))
    if file is None or file.content_id != derived_from.content_id or file.derivatives[name]["state"] != "pending":
        return
    if outcome is not None and outcome.pages is not None:
        pages = [str(page) for page in outcome.pages]
        made |= {"pages": len(pages), "characters": sum(len(page) for page in pages)}
        if outcome.truncated:
            made["reason"] = "truncated"
        await store_pages(uow, file.id, pages)
        uow.emit(TextExtracted(file_id=file.id))
    file.derivatives = {**file.derivatives, name: made}


async def store_pages(uow: UnitOfWork, id: UUID, pages: Iterable[str]) -> None:
    """Those with text, in place of what was there."""
    await uow.session.execute(delete(FilePage).where(col(FilePage.file_id) == id))
    rows = [{"file_id": id, "number": number, "text": page} for number, page in enumerate(pages, 1) if page]
    if rows:
        await uow.session.execute(insert(FilePage), rows)
