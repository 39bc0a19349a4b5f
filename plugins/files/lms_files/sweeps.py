"""What is looked after on time: requests that expired, work that got stuck, and what is left over in the store."""

import logging
import secrets
from datetime import UTC, datetime, timedelta
from uuid import UUID

from prometheus_client import Counter
from sqlalchemy import func, text
from sqlmodel import and_, col, exists, or_, select

from lms_core.sdk import Context, Event, UnitOfWork, alive, may_remove_objects
from lms_files import lifecycle
from lms_files.contracts import FileReady, FileUploaded
from lms_files.models import File, FileContent
from lms_files.storage import LeftOver, Store, store_of
from lms_files.storage_clients import ObjectMissing

SWEPT = Counter("lms_files_swept_total", "What the sweeps of files found, by what it was", ["what"])
CHUNK = 500
LOOKED_AT = 200
logger = logging.getLogger(__name__)
IS_UNDERIVED = """derivatives @? '$.*.state ? (@ == "pending")'"""
STUCK_MINUTES = 15
LEFT_OVER_FOR = timedelta(hours=1)
DELETED_WAITS = timedelta(days=7)


class StoreSweepDue(Event, name="files.store_sweep_due.v1"):
    """It is time to look for what is left over in the store."""


async def expire_requests(uow: UnitOfWork) -> None:
    """REQUESTED → EXPIRED, and its room is given back; of what is deleted, only when it had time to come back."""
    chosen = (
        select(File)
        .where(
            File.state == "requested",
            col(File.expires_at) < func.now(),
            or_(alive(File), col(File.expires_at) < func.now() - DELETED_WAITS),
        )
        .order_by(col(File.institution_id), col(File.owner_id))
        .limit(CHUNK)
        .with_for_update(of=File, skip_locked=True)
    )
    for file in (await uow.session.execute(chosen)).scalars().all():
        await lifecycle.discard(uow, file, "expired")
        SWEPT.labels("expired").inc()


async def resume_stuck(uow: UnitOfWork) -> None:
    """Do again what has not moved for a while: its delivery was given up, or it was deleted meanwhile."""
    underived = and_(File.state == "ready", text(IS_UNDERIVED))
    chosen = (
        select(File)
        .where(
            or_(col(File.state).in_(lifecycle.AT_WORK), underived),
            col(File.updated_at) < func.now() - text(f"interval '{STUCK_MINUTES} minutes'"),
            alive(File),
        )
        .limit(CHUNK)
        .with_for_update(of=File, skip_locked=True)
    )
    for file in (await uow.session.execute(chosen)).scalars().all():
        # So that the next look does not find it again.
        file.updated_at = func.now()  # type: ignore[assignment]
        SWEPT.labels("resumed").inc()
        uow.emit(FileReady(file_id=file.id) if file.state == "ready" else FileUploaded(file_id=file.id))


async def call_for_store_sweep(uow: UnitOfWork) -> None:
    """The store is asked in a handler, outside of any transaction."""
    uow.emit(StoreSweepDue())


async def sweep_store(context: Context, event: StoreSweepDue) -> None:
    """Remove incoming objects and unfinished multipart uploads that no file waits for."""
    store = store_of(context)
    oldest_kept = datetime.now(UTC) - LEFT_OVER_FOR
    old = [found async for found in store.left_over() if found.since < oldest_kept]
    for start in range(0, len(old), CHUNK):
        chunk = old[start : start + CHUNK]
        awaited = await awaited_keys(context, chunk)
        for found in chunk:
            if found.key in awaited:
                continue
            if found.upload_id is None:
                await store.delete_incoming(found.key)
                SWEPT.labels("incoming_object").inc()
            else:
                await store.abort_multipart(found.key, found.upload_id)
                SWEPT.labels("unfinished_upload").inc()


async def look_for_objects(context: Context, event: StoreSweepDue) -> None:
    """Look whether the objects of some contents are there, others each time; `lms files verify` looks at all."""
    store, start = store_of(context), secrets.token_hex(32)
    used = exists().where(col(File.content_id) == col(FileContent.sha256), col(File.state) == "ready")
    some = select(FileContent).where(used, col(FileContent.created_at) < func.now() - LEFT_OVER_FOR).limit(LOOKED_AT)
    async with context.unit_of_work() as uow:
        behind = some.where(col(FileContent.sha256) >= start).order_by(col(FileContent.sha256))
        contents = list((await uow.session.execute(behind)).scalars())
        if len(contents) < LOOKED_AT:
            before = some.where(col(FileContent.sha256) < start).order_by(col(FileContent.sha256))
            contents += (await uow.session.execute(before)).scalars()
    for content in contents[:LOOKED_AT]:
        try:
            await store.find(store.clean, content.key)
        except ObjectMissing:
            SWEPT.labels("missing_object").inc()
            logger.error("the object %s is missing in the store; run `lms files verify`", content.key)


async def sweep_contents(context: Context, event: StoreSweepDue) -> None:
    """Remove contents that no file refers to any more, deleted files included, and what was made of them."""
    store = store_of(context)
    while (was_dropped := await context.retry(lambda uow: drop_content(uow, store))) is not None:
        if was_dropped:
            SWEPT.labels("content").inc()


async def drop_content(uow: UnitOfWork, store: Store) -> bool | None:
    """Remove one such content; False when a file came to refer to it meanwhile, None when there is none.

    Its row is held while the objects go: who wants the same bytes meanwhile waits, and then keeps, and makes, them anew.
    """
    if not await may_remove_objects(uow):
        return None
    used = exists().where(col(File.content_id) == col(FileContent.sha256))
    unused = (
        select(FileContent)
        .where(~used, col(FileContent.created_at) < func.now() - LEFT_OVER_FOR)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    content = (await uow.session.execute(unused)).scalar_one_or_none()
    if content is None:
        return None
    # Once more under the lock: a file may have come to refer to it between the two.
    still = select(File.id).where(File.content_id == content.sha256).limit(1)
    if (await uow.session.execute(still)).first() is not None:
        return False
    async for made in store.clean_objects(f"derived/{content.sha256}/"):
        await store.delete_clean(made.key)
    await store.delete_clean(content.key)
    await uow.session.delete(content)
    return True


async def awaited_keys(context: Context, found: list[LeftOver]) -> set[str]:
    """The keys among these whose file is not finished, deleted or not: it may be restored."""
    ids = [id for one in found if (id := file_id(one.key)) is not None]
    async with context.unit_of_work() as uow:
        statement = select(File.id).where(col(File.id).in_(ids), col(File.state).in_(lifecycle.UNFINISHED))
        return {lifecycle.incoming_key(id) for id in (await uow.session.execute(statement)).scalars()}


def file_id(key: str) -> UUID | None:
    """The file that a key belongs to."""
    try:
        return UUID(key.rpartition("/")[2])
    except ValueError:
        return None
