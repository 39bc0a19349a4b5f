"""Walking a deletion in the background: the cascade down, and the restore back up, in committed chunks.

Both go on where they stopped: what is done shows in the rows themselves. A restore in the middle of a cascade wins,
since every chunk first holds the deletion in its state.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from uuid import UUID

import structlog
from sqlalchemy import func, inspect, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import col

from lms_core.deletion import (
    Deleted,
    Deletion,
    Restored,
    RestoreRequested,
    count_taken,
    decides_roles,
    find_conflicts,
    hold_parents_of_dead,
    kinds_taken,
    react_to_delete,
    stamp,
)
from lms_core.errors import StateConflict
from lms_core.kinds import Kind
from lms_core.types import Cascade
from lms_core.uow import Context, UnitOfWork

log = structlog.get_logger("lms.cascade")

CHUNK = 1_000
STUCK_MINUTES = 5
STUCK = text(
    """
    SELECT id, state, root_kind, root_id FROM core_deletion
    WHERE state IN ('cascading', 'restoring') AND updated_at < now() - make_interval(mins => :minutes)
    AND NOT EXISTS (
        SELECT FROM core_event e JOIN core_delivery d ON d.event_id = e.id
        WHERE e.name IN ('core.deleted.v1', 'core.restore_requested.v1')
        AND e.payload->>'deletion_id' = core_deletion.id::text
        AND d.handler IN ('core.cascade', 'core.restore') AND d.done_at IS NULL AND d.dead_at IS NULL
    )
    """
)


async def run_cascade(context: Context, event: Deleted) -> None:
    """Stamp everything below the root, parents before children, then count."""
    kinds = context.platform.kinds
    for edge, kind in kinds.below(event.kind):
        if not await in_chunks(context, lambda uow, edge=edge, kind=kind: stamp_chunk(uow, event, edge, kind)):  # type: ignore[misc]
            return
    await context.retry(lambda uow: finish_cascade(uow, event))


async def in_chunks(context: Context, chunk: Callable[[UnitOfWork], Awaitable[int | None]]) -> bool:
    """Repeat a chunk until it finds nothing more; False when the deletion is in another state by now."""
    while True:
        done = await context.retry(chunk)
        if done is None:
            return False
        if done < CHUNK:
            return True


async def holds_state(uow: UnitOfWork, deletion_id: UUID, state: str) -> bool:
    """Keep the deletion in its state until this transaction ends."""
    found = await uow.session.execute(
        select(Deletion.state).where(Deletion.id == deletion_id).with_for_update(read=True)  # type: ignore[call-overload]
    )
    return bool(found.scalar_one_or_none() == state)


async def stamp_chunk(uow: UnitOfWork, event: Deleted, edge: Cascade, kind: Kind) -> int | None:
    """Take up to a chunk of live rows whose parent was taken; None when the cascade was called off."""
    if not await holds_state(uow, event.deletion_id, "cascading"):
        return None
    child = inspect(kind.model).local_table
    parent = inspect(uow.context.platform.kinds.by_name[edge.parent].model).local_table
    chosen = (
        select(child.c.id)
        .join(parent, parent.c.id == child.c[edge.column])
        .where(parent.c.deletion_id == event.deletion_id, ~child.c.is_deleted)
        .limit(CHUNK)
        .with_for_update(of=child)
    )
    ids = list((await uow.session.execute(chosen)).scalars())
    if ids:
        taken = await uow.session.execute(
            stamp(kind.model, event.deletion_id).where(child.c.id.in_(ids), ~child.c.is_deleted).returning(child.c.id)
        )
        await react_to_delete(uow, kind, list(taken.scalars()))
        if decides_roles(uow, kind):
            # Whoever asked since the root went was told what these rows gave.
            uow.announce("all")
    return len(ids)


async def finish_cascade(uow: UnitOfWork, event: Deleted) -> None:
    """All is taken: final counts."""
    counts = await count_taken(uow, uow.context.platform.kinds.by_name[event.kind], event.deletion_id)
    await uow.session.execute(
        update(Deletion)
        .where(Deletion.id == event.deletion_id, Deletion.state == "cascading")  # type: ignore[arg-type]
        .values(state="deleted", counts=counts, updated_at=func.now())
    )


async def run_restore(context: Context, event: RestoreRequested) -> None:
    """Bring everything back, children first, the root last, so that the tree appears at once."""
    root = context.platform.kinds.by_name[event.kind]
    async with context.unit_of_work() as uow:
        below = [kind for kind in kinds_taken(uow, root) if kind is not root]
    try:
        for kind in reversed(below):
            if not await in_chunks(context, lambda uow, kind=kind: revive_chunk(uow, event, kind)):  # type: ignore[misc]
                return
        finished = await context.retry(lambda uow: finish_restore(uow, event, root))
    except IntegrityError as error:
        log.warning(
            "restore meets a conflict and is taken back", deletion=str(event.deletion_id), reason=str(error.orig)
        )
        finished = False
    if not finished:
        await context.retry(lambda uow: take_back(uow, event))


async def revive_chunk(uow: UnitOfWork, event: RestoreRequested, kind: Kind) -> int | None:
    """Bring back up to a chunk of rows; they stay hidden under the dead root."""
    uow.caused_by = event.actor_id
    if not await holds_state(uow, event.deletion_id, "restoring"):
        return None
    table = inspect(kind.model).local_table
    chosen = select(table.c.id).where(table.c.deletion_id == event.deletion_id).limit(CHUNK).with_for_update()
    ids = list((await uow.session.execute(chosen)).scalars())
    if ids:
        elsewhere = await leave_to_other_deletions(uow, event, kind, ids)
        back = [id for id in ids if id not in elsewhere]
        await uow.session.execute(stamp(kind.model, None).where(table.c.id.in_(back)))
        await react_to_restore(uow, event, kind, back)
    return len(ids)


async def leave_to_other_deletions(uow: UnitOfWork, event: RestoreRequested, kind: Kind, ids: list[UUID]) -> set[UUID]:
    """Rows that hang under something else that is dead (an enrollment's user) stay dead, and come back with that."""
    child = inspect(kind.model).local_table
    moved: dict[UUID, UUID] = {}
    for edge in kind.parents:
        if edge.parent == event.kind or edge.parent == kind.name or not edge.takes:
            continue
        parent = inspect(uow.context.platform.kinds.by_name[edge.parent].model).local_table
        held = (
            select(child.c.id, parent.c.deletion_id)
            .join(parent, parent.c.id == child.c[edge.column])
            .where(child.c.id.in_(ids))
            .order_by(parent.c.id)
            .with_for_update(of=parent, read=not reacts_to_restore(kind))
        )
        rows = (await uow.session.execute(held)).all()
        moved |= {id: deletion_id for id, deletion_id in rows if deletion_id not in (None, event.deletion_id)}
    for deletion_id in sorted(set(moved.values())):
        staying = [id for id, other in moved.items() if other == deletion_id]
        await uow.session.execute(stamp(kind.model, deletion_id).where(child.c.id.in_(staying)))
        other = (await uow.session.execute(select(Deletion).where(col(Deletion.id) == deletion_id))).scalar_one()
        other.counts = {**other.counts, kind.name: other.counts.get(kind.name, 0) + len(staying)}
    return set(moved)


def reacts_to_restore(kind: Kind) -> bool:
    """Whether something else happens when rows of this kind come back, which may change what they hang under."""
    return any(reaction.restored is not None for reaction in kind.reactions)


async def react_to_restore(uow: UnitOfWork, event: RestoreRequested, kind: Kind, ids: list[UUID]) -> None:
    """What else the plugins want to be so when rows of this kind come back."""
    for reaction in kind.reactions:
        if reaction.restored is not None:
            choice = await uow.session.execute(select(Deletion.on_conflict).where(Deletion.id == event.deletion_id))  # type: ignore[call-overload]
            await reaction.restored(uow, ids, choice.scalar_one())


async def finish_restore(uow: UnitOfWork, event: RestoreRequested, root: Kind) -> bool:
    """The root comes back, unless something has come in its way meanwhile."""
    uow.caused_by = event.actor_id
    found = await uow.session.execute(
        select(Deletion).where(Deletion.id == event.deletion_id, Deletion.state == "restoring").with_for_update()  # type: ignore[arg-type]
    )
    deletion = found.scalar_one_or_none()
    if deletion is None:
        return True
    try:
        await hold_parents_of_dead(uow, root, event.id, for_change=reacts_to_restore(root))
    except StateConflict:
        return False
    if await find_conflicts(uow, root, deletion, deletion.on_conflict):
        return False
    table = inspect(root.model).local_table
    back = await uow.session.execute(
        stamp(root.model, None).where(table.c.deletion_id == event.deletion_id).returning(table.c.id)
    )
    await react_to_restore(uow, event, root, list(back.scalars()))
    deletion.state = "restored"
    uow.emit(Restored(deletion_id=event.deletion_id, kind=event.kind, id=event.id))
    uow.announce("all")
    return True


async def take_back(uow: UnitOfWork, event: RestoreRequested) -> None:
    """The restore cannot end, so the deletion takes again what had come back; nothing else lives under its root."""
    changed = await uow.session.execute(
        update(Deletion)
        .where(Deletion.id == event.deletion_id, Deletion.state == "restoring")  # type: ignore[arg-type]
        .values(state="cascading", updated_at=func.now())
        .returning(Deletion.id)  # type: ignore[call-overload]
    )
    if changed.first() is not None:
        uow.emit(Deleted(deletion_id=event.deletion_id, kind=event.kind, id=event.id))


async def resume_stuck(uow: UnitOfWork) -> None:
    """State again what deletions are waiting for, when nobody is at it any more; runs on a schedule.

    A delivery that is dead would otherwise leave a deletion in a passing state for ever.
    """
    stuck = await uow.session.execute(STUCK, {"minutes": STUCK_MINUTES})
    for deletion in stuck.mappings():
        kind = Deleted if deletion["state"] == "cascading" else RestoreRequested
        uow.emit(kind(deletion_id=deletion["id"], kind=deletion["root_kind"], id=deletion["root_id"]))
        log.warning("deletion was stuck", deletion=str(deletion["id"]), state=deletion["state"])
