"""What is looked after on time: requests that expired, work that got stuck, and what is left over in the store."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import func, text
from sqlmodel import and_, col, or_, select

from lms_core.sdk import Context, Event, UnitOfWork, alive
from lms_files import lifecycle
from lms_files.contracts import FileReady, FileUploaded
from lms_files.models import File
from lms_files.storage import LeftOver, store_of

CHUNK = 500
STUCK_MINUTES = 15
LEFT_OVER_FOR = timedelta(hours=1)


class StoreSweepDue(Event, name="files.store_sweep_due.v1"):
    """It is time to look for what is left over in the store."""


async def expire_requests(uow: UnitOfWork) -> None:
    """REQUESTED → EXPIRED, and its room is given back."""
    chosen = (
        select(File)
        .where(File.state == "requested", col(File.expires_at) < func.now(), alive(File))
        .order_by(col(File.institution_id), col(File.owner_id))
        .limit(CHUNK)
        .with_for_update(of=File, skip_locked=True)
    )
    for file in (await uow.session.execute(chosen)).scalars().all():
        await lifecycle.discard(uow, file, "expired")


async def resume_stuck(uow: UnitOfWork) -> None:
    """Do again what has not moved for a while: its delivery was given up, or it was deleted meanwhile."""
    underived = and_(File.state == "ready", or_(File.text_state == "pending", File.thumbnail_state == "pending"))
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
            else:
                await store.abort_multipart(found.key, found.upload_id)


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
