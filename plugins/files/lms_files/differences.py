"""Where the database and the store say different things of files, and how each is put right: `lms files verify`."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import delete, func, text
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import col, select

from lms_core.sdk import Context, UnitOfWork, among_texts
from lms_files import derivatives
from lms_files.contracts import FileReady
from lms_files.models import File, FileContent
from lms_files.storage import ListedObject, Store, store_of
from lms_files.storage_clients import ObjectMissing
from lms_files.workplaces import workplace

CHUNK = 200
# What is younger may belong to work that is going on.
LEFT_ALONE_FOR = timedelta(hours=1)
MISSING = "is missing"
CONTENT_OF_KEY = re.compile("(?:clean/[0-9a-f]{2}|derived)/([0-9a-f]{64})(?:/.*)?")
QUOTAS = text(
    """
    SELECT id, coalesce(quota.used_bytes, 0) AS used_bytes, coalesce(quota.reserved_bytes, 0) AS reserved_bytes,
        coalesce(file.used, 0) AS used, coalesce(file.reserved, 0) AS reserved
    FROM files_quota AS quota FULL JOIN (
        SELECT coalesce(institution_id, owner_id) AS id,
            coalesce(sum(size) FILTER (WHERE state = 'ready'), 0) AS used,
            coalesce(sum(size) FILTER (WHERE state IN ('requested', 'uploaded', 'verifying')), 0) AS reserved
        FROM files_file GROUP BY 1
    ) AS file USING (id)
    WHERE (coalesce(quota.used_bytes, 0), coalesce(quota.reserved_bytes, 0))
        IS DISTINCT FROM (coalesce(file.used, 0), coalesce(file.reserved, 0))
    """
)
SET_QUOTA = text(
    """
    INSERT INTO files_quota (id, used_bytes, reserved_bytes) VALUES (:id, :used, :reserved)
    ON CONFLICT (id) DO UPDATE SET used_bytes = :used, reserved_bytes = :reserved, updated_at = now()
    """
)


async def not_repairable(context: Context) -> bool:
    """Nothing here has the bytes."""
    return False


@dataclass(frozen=True)
class Difference:
    """One thing that is not as it should be, in a sentence; `repair` says whether it could be put right."""

    text: str
    repair: Callable[[Context], Awaitable[bool]] = not_repairable


async def differences(context: Context, read: bool) -> AsyncIterator[Difference]:
    """All of them. With `read` every object is read, which finds those that have changed in the store."""
    for walk in (partial(lost_contents, read=read), lost_pictures, unknown_objects, wrong_quotas):
        async for difference in walk(context):
            yield difference


async def lost_contents(context: Context, read: bool) -> AsyncIterator[Difference]:
    """Contents, of deleted files and old versions too, whose object is missing or is another one."""
    store = store_of(context)
    async for contents in in_chunks(context, FileContent, col(FileContent.sha256), ""):
        wrong = await asyncio.gather(*(what_is_wrong(store, content, read=False) for content in contents))
        for content, what in zip(contents, wrong, strict=True):
            if what is None and not read:
                continue
            difference = await lost_content(context, content, read)
            if difference is not None:
                yield difference


async def lost_content(context: Context, content: FileContent, read: bool) -> Difference | None:
    """What is wrong with one, as its files say now: what none of them is ready with may not be copied yet."""
    files = await files_of(context, content)
    if not any(file.state == "ready" for file in files):
        if files or content.created_at > datetime.now(UTC) - LEFT_ALONE_FOR:
            return None
        if await what_is_wrong(store_of(context), content, read=False) == MISSING:
            return Difference(
                f"No file has the content {content.sha256}, and its object {content.key} is missing.",
                partial(forget, content.sha256),
            )
    what = await what_is_wrong(store_of(context), content, read)
    if what is None:
        return None
    ids = ", ".join(str(file.id) for file in files) or "none"
    return Difference(f"The object {content.key} {what}; restore it from a backup of the store. Files: {ids}.")


async def what_is_wrong(store: Store, content: FileContent, read: bool) -> str | None:
    """With `read`, also the bytes themselves."""
    try:
        size = (await store.find(store.clean, content.key)).size
        if size != content.size:
            return f"has {size} bytes, not {content.size}"
        return await what_was_read(store, content) if read else None
    except ObjectMissing:
        return MISSING


async def what_was_read(store: Store, content: FileContent) -> str | None:
    """The bytes themselves."""
    with workplace() as folder:
        _, sha256 = await store.download(store.clean, content.key, Path(folder) / "content", content.size)
    return None if sha256 == content.sha256 else f"has the SHA-256 {sha256}"


async def files_of(context: Context, content: FileContent) -> Sequence[File]:
    """Some of those that have it, those that are ready first."""
    mine = select(File).where(File.content_id == content.sha256).order_by(col(File.state) != "ready").limit(20)
    async with context.unit_of_work() as uow:
        return (await uow.session.execute(mine)).scalars().all()


async def forget(sha256: str, context: Context) -> bool:
    """The row goes, unless a file has come to have it."""
    row = select(FileContent).where(FileContent.sha256 == sha256).with_for_update()
    used = select(File.id).where(File.content_id == sha256).limit(1)
    async with context.unit_of_work() as uow:
        content = (await uow.session.execute(row)).scalar_one_or_none()
        if content is not None and (await uow.session.execute(used)).first() is None:
            await uow.session.delete(content)
    return True


async def lost_pictures(context: Context) -> AsyncIterator[Difference]:
    """Thumbnails and previews that a row says are there; they are made anew."""
    store = store_of(context)
    async for files in in_chunks(context, File, col(File.id), UUID(int=0)):
        for file in files:
            for name, made in file.derivatives.items():
                if file.state != "ready" or made["state"] != "ready" or "width" not in made:
                    continue
                try:
                    await store.find(store.clean, derivatives.picture_key(str(file.sha256), name))
                except ObjectMissing:
                    yield Difference(f"The {name} of file {file.id} is missing.", partial(make_anew, file.id, name))


async def make_anew(id: UUID, name: str, context: Context) -> bool:
    """Let a worker make it, which it can only of what is there."""
    store = store_of(context)
    async with context.unit_of_work() as uow:
        clean_key = (await uow.session.execute(select(File.clean_key).where(File.id == id))).scalar_one_or_none()
    try:
        await store.find(store.clean, str(clean_key))
    except ObjectMissing:
        return False
    async with context.unit_of_work() as uow:
        file = (await uow.session.execute(select(File).where(File.id == id).with_for_update())).scalar_one_or_none()
        if file is None or file.state != "ready":
            return True
        file.derivatives = {**file.derivatives, name: {"state": "pending"}}
        uow.emit(FileReady(file_id=id))
    return True


async def unknown_objects(context: Context) -> AsyncIterator[Difference]:
    """Objects in the clean bucket that no row knows."""
    store = store_of(context)
    chunk: list[ListedObject] = []
    async for found in store.clean_objects():
        if found.since < datetime.now(UTC) - LEFT_ALONE_FOR:
            chunk.append(found)
        if len(chunk) == CHUNK:
            for difference in await unknown_among(context, chunk):
                yield difference
            chunk = []
    for difference in await unknown_among(context, chunk):
        yield difference


async def unknown_among(context: Context, found: Sequence[ListedObject]) -> list[Difference]:
    """Those among these."""
    made_of = {one.key: one.key.split("/")[1] for one in found if one.key.startswith("derived/")}
    async with context.unit_of_work() as uow:
        keys = select(FileContent.key).where(among_texts(col(FileContent.key), [one.key for one in found]))
        hashes = select(FileContent.sha256).where(among_texts(col(FileContent.sha256), list(made_of.values())))
        known = set((await uow.session.execute(keys)).scalars())
        known |= set((await uow.session.execute(hashes)).scalars())
    return [
        Difference(f"No file has the object {one.key} ({one.size} bytes).", partial(remove, one.key))
        for one in found
        if made_of.get(one.key, one.key) not in known
    ]


async def remove(key: str, context: Context) -> bool:
    """It goes, unless a file has come to have it."""
    return await context.retry(partial(remove_unclaimed, store_of(context), key))


async def remove_unclaimed(store: Store, key: str, uow: UnitOfWork) -> bool:
    """Nobody can ask for it, and who uploads the same bytes meanwhile waits, and then makes it anew."""
    found = CONTENT_OF_KEY.fullmatch(key)
    if found is not None:
        # A row that nobody sees: `lifecycle.claim` waits for it.
        placed = insert(FileContent).values(sha256=found[1], size=0, key=key).on_conflict_do_nothing()
        if (await uow.session.execute(placed.returning(col(FileContent.sha256)))).first() is None:
            return True
    await store.delete_clean(key)
    if found is not None:
        await uow.session.execute(delete(FileContent).where(col(FileContent.sha256) == found[1]))
    return True


async def wrong_quotas(context: Context) -> AsyncIterator[Difference]:
    """Sums that are not those of the files."""
    async with context.unit_of_work() as uow:
        rows = (await uow.session.execute(QUOTAS)).mappings().all()
    for row in rows:
        yield Difference(
            f"The quota {row['id']} says {row['used_bytes']} bytes used and {row['reserved_bytes']} reserved; "
            f"its files have {row['used']} and {row['reserved']}.",
            partial(set_quota, row["id"]),
        )


async def set_quota(id: UUID, context: Context) -> bool:
    """What the files say at this moment, while none of them changes."""
    async with context.unit_of_work() as uow:
        await uow.session.execute(text("LOCK TABLE files_file IN SHARE MODE"))
        size = func.coalesce(func.sum(File.size), 0)
        mine = select(size).where(func.coalesce(col(File.institution_id), col(File.owner_id)) == id)
        used = (await uow.session.execute(mine.where(File.state == "ready"))).scalar_one()
        unfinished = mine.where(col(File.state).in_(("requested", "uploaded", "verifying")))
        reserved = (await uow.session.execute(unfinished)).scalar_one()
        await uow.session.execute(SET_QUOTA, {"id": id, "used": int(used), "reserved": int(reserved)})
    return True


async def in_chunks(context: Context, model: Any, key: Any, first: Any) -> AsyncIterator[Sequence[Any]]:
    """All rows, in the order of their keys."""
    last = first
    while True:
        async with context.unit_of_work() as uow:
            rows = await page(uow, model, key, last)
        if not rows:
            return
        yield rows
        last = getattr(rows[-1], key.key)


async def page(uow: UnitOfWork, model: Any, key: Any, last: Any) -> Sequence[Any]:
    """Up to a chunk."""
    rows: Sequence[Any] = (
        (await uow.session.execute(select(model).where(key > last).order_by(key).limit(CHUNK))).scalars().all()
    )
    return rows
