"""Walking a deletion in the background: the cascade down, and the restore back up, in committed chunks.

Both go on where they stopped: what is done shows in the rows themselves. A restore in the middle of a cascade wins,
since every chunk first holds the deletion in its state.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import structlog
from prometheus_client import Histogram
from sqlalchemy import func, inspect, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import col

from lms_core.audit import RESTORED
from lms_core.conditions import among
from lms_core.deletion import (
    Deleted,
    Deletion,
    Restored,
    RestoreRequested,
    count_taken,
    decides_roles,
    react_before_delete,
    react_to_delete,
    reacts_before_delete,
    read_conflict,
    retention,
    stamp,
)
from lms_core.errors import Unavailable
from lms_core.kinds import Kind
from lms_core.restoring import (
    PARENTS,
    RENAME,
    conflicts_above,
    dead_above,
    find_conflicts,
    hold_above,
    rename_taken,
)
from lms_core.subtree import Walk, kinds_below
from lms_core.types import Cascade, Conflict
from lms_core.uow import Context, UnitOfWork

log = structlog.get_logger("lms.cascade")

CHUNK = 1_000
TOOK = Histogram(
    "lms_deletion_seconds",
    "From the request to the end of a cascade or a restore",
    ["what"],
    buckets=(0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600),
)
ROWS = Histogram(
    "lms_deletion_rows",
    "Rows of a cascade or a restore",
    ["what"],
    buckets=(1, 10, 100, 1_000, 10_000, 100_000, 1_000_000),
)
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


async def hold_in_state(uow: UnitOfWork, deletion_id: UUID, state: str, for_change: bool = False) -> Deletion | None:
    """The deletion, which keeps its state until this transaction ends; None when it is in another one by now."""
    held = select(Deletion).where(col(Deletion.id) == deletion_id, col(Deletion.state) == state)
    return (await uow.session.execute(held.with_for_update(read=not for_change))).scalar_one_or_none()


async def stamp_chunk(uow: UnitOfWork, event: Deleted, edge: Cascade, kind: Kind) -> int | None:
    """Take up to a chunk of live rows whose parent was taken; None when the cascade was called off."""
    if await hold_in_state(uow, event.deletion_id, "cascading") is None:
        return None
    child = inspect(kind.model).local_table
    parent = inspect(uow.context.platform.kinds.by_name[edge.parent].model).local_table
    # What was deleted before keeps its own deletion: that alone makes a restore exact.
    takes = ~child.c.is_deleted
    chosen = (
        select(child.c.id)
        .join(parent, parent.c.id == child.c[edge.column])
        .where(parent.c.deletion_id == event.deletion_id, takes)
        .limit(CHUNK)
    )
    found: list[UUID] = []
    if reacts_before_delete(kind):
        found = list((await uow.session.execute(chosen)).scalars())
        await react_before_delete(uow, kind, found)
        chosen = chosen.where(among(child.c.id, found))
    ids = list((await uow.session.execute(chosen.with_for_update(of=child))).scalars())
    if ids:
        taken = await uow.session.execute(
            stamp(kind.model, event.deletion_id).where(child.c.id.in_(ids), takes).returning(child.c.id)
        )
        await react_to_delete(uow, kind, list(taken.scalars()))
        if decides_roles(uow, kind):
            # Whoever asked since the root went was told what these rows gave.
            uow.announce("all")
    # Another cascade may have taken these meanwhile, and there are more.
    return max(len(found), len(ids))


async def finish_cascade(uow: UnitOfWork, event: Deleted) -> None:
    """All is taken: final counts, and until when it can be restored."""
    deletion = await hold_in_state(uow, event.deletion_id, "cascading", for_change=True)
    if deletion is None:
        return
    root = uow.context.platform.kinds.by_name[event.kind]
    deletion.state, deletion.counts = "deleted", await count_taken(uow, root, event.deletion_id)
    # What was taken may have to be kept for longer than what was named.
    kept = await retention(uow, root, deletion.root_ids, list(deletion.counts), deletion.id)
    deletion.purge_after = max(deletion.purge_after, deletion.created_at + kept)
    TOOK.labels("cascade").observe((datetime.now(UTC) - deletion.created_at).total_seconds())
    ROWS.labels("cascade").observe(sum(deletion.counts.values()))


async def run_restore(context: Context, event: RestoreRequested) -> None:
    """Bring everything back, children first, the root last, so that the tree appears at once."""
    root = context.platform.kinds.by_name[event.kind]
    below = [kind for kind in kinds_below(context.platform.kinds, root) if kind is not root]
    for edge, kind in context.platform.kinds.below(root.name):
        if not await in_chunks(context, lambda uow, edge=edge, kind=kind: claim_chunk(uow, event, edge, kind)):  # type: ignore[misc]
            return
    reason: str | None = None
    try:
        finished = False
        # Again when another restore has left rows to this one, since they hang under what it brings back.
        while not finished:
            for kind in reversed(below):
                if not await in_chunks(context, lambda uow, kind=kind: revive_chunk(uow, event, kind)):  # type: ignore[misc]
                    return
            finished = await context.retry(lambda uow: finish_restore(uow, event, root))
        return
    except InTheWay as found:
        conflict = found.conflict
    except IntegrityError as error:
        reason = str(error.orig)
        detail = "Something that came back has met another thing of the same kind and key; ask for a preview."
        conflict = Conflict(event.kind, event.id, "natural_key_taken", detail)
    log.warning("restore is taken back", deletion=str(event.deletion_id), conflict=conflict.code, reason=reason)
    # Whoever sees the deletion need not know each row of it; a preview tells which one it is.
    told = replace(conflict, kind=event.kind, id=event.id)
    await context.retry(lambda uow: take_back(uow, event, told))


class InTheWay(Exception):
    """The end of a restore meets a conflict: nothing of that transaction may stay."""

    def __init__(self, conflict: Conflict) -> None:
        super().__init__(conflict.detail)
        self.conflict = conflict


async def claim_chunk(uow: UnitOfWork, event: RestoreRequested, edge: Cascade, kind: Kind) -> int | None:
    """What hangs under a part of a larger deletion becomes part of the deletion that is now the part's own."""
    deletion = await hold_in_state(uow, event.deletion_id, "restoring")
    if deletion is None:
        return None
    if deletion.taken_from is None:
        return 0
    child = inspect(kind.model).local_table
    parent = inspect(uow.context.platform.kinds.by_name[edge.parent].model).local_table
    chosen = (
        select(child.c.id)
        .join(parent, parent.c.id == child.c[edge.column])
        .where(parent.c.deletion_id == event.deletion_id, child.c.deletion_id == deletion.taken_from)
        .limit(CHUNK)
        .with_for_update(of=child)
    )
    ids = list((await uow.session.execute(chosen)).scalars())
    await uow.session.execute(stamp(kind.model, event.deletion_id).where(among(child.c.id, ids)))
    return len(ids)


async def revive_chunk(uow: UnitOfWork, event: RestoreRequested, kind: Kind) -> int | None:
    """Bring back up to a chunk of rows; they stay hidden under the dead root."""
    uow.caused_by = event.actor_id
    deletion = await hold_in_state(uow, event.deletion_id, "restoring")
    if deletion is None:
        return None
    table = inspect(kind.model).local_table
    chosen = select(table.c.id).where(table.c.deletion_id == event.deletion_id).limit(CHUNK).with_for_update()
    ids = list((await uow.session.execute(chosen)).scalars())
    if ids:
        elsewhere = await leave_to_other_deletions(uow, deletion, kind, ids)
        await revive(uow, kind, [id for id in ids if id not in elsewhere], deletion.choices)
    return len(ids)


async def revive(uow: UnitOfWork, kind: Kind, ids: Sequence[UUID], choices: Sequence[str]) -> None:
    """Bring rows back, under another key where that was chosen, and what the plugins want to be so then."""
    if RENAME in choices:
        await rename_taken(uow, kind, ids)
    await uow.session.execute(stamp(kind.model, None).where(among(col(kind.model.id), ids)))
    for reaction in kind.reactions:
        if reaction.restored is not None and ids:
            await reaction.restored(uow, ids, choices)


async def leave_to_other_deletions(uow: UnitOfWork, deletion: Deletion, kind: Kind, ids: list[UUID]) -> set[UUID]:
    """Rows that hang under something else that is dead (an enrollment's user) stay dead, and come back with that."""
    child = inspect(kind.model).local_table
    moved: dict[UUID, UUID] = {}
    for edge in kind.parents:
        if edge.parent == kind.name or not edge.takes:
            continue
        parent = inspect(uow.context.platform.kinds.by_name[edge.parent].model).local_table
        held = (
            select(child.c.id, parent.c.deletion_id)
            .join(parent, parent.c.id == child.c[edge.column])
            .where(among(child.c.id, ids), parent.c.deletion_id.is_distinct_from(deletion.id))
            .order_by(parent.c.id)
            .with_for_update(of=parent, read=not reacts_to_restore(kind))
        )
        rows = (await uow.session.execute(held)).all()
        moved |= {id: deletion_id for id, deletion_id in rows if deletion_id is not None}
    await leave_to(uow, kind, moved)
    return set(moved)


async def leave_to(uow: UnitOfWork, kind: Kind, moved: dict[UUID, UUID]) -> None:
    """Give rows to the deletions that hold what they hang under. Raises Unavailable when that has just been restored."""
    for deletion_id in sorted(set(moved.values())):
        staying = [id for id, other in moved.items() if other == deletion_id]
        await uow.session.execute(stamp(kind.model, deletion_id).where(among(col(kind.model.id), staying)))
        held = select(Deletion).where(col(Deletion.id) == deletion_id).with_for_update()
        other = (await uow.session.execute(held)).scalar_one()
        if other.state not in ("cascading", "deleted", "restoring"):
            raise Unavailable("What this hangs under has just come back; it is looked at again.", "busy")
        other.counts = {**other.counts, kind.name: other.counts.get(kind.name, 0) + len(staying)}
        if other.state != "restoring":
            # What hangs under these rows came back before them, and has to go with them again.
            other.state = "cascading"
            uow.emit(Deleted(deletion_id=other.id, kind=other.root_kind, id=other.root_id))


def reacts_to_restore(kind: Kind) -> bool:
    """Whether something else happens when rows of this kind come back, which may change what they hang under."""
    return any(reaction.restored is not None for reaction in kind.reactions)


async def finish_restore(uow: UnitOfWork, event: RestoreRequested, root: Kind) -> bool:
    """The roots come back; False when rows under them still have to. InTheWay when something has come in between."""
    uow.caused_by = event.actor_id
    deletion = await hold_in_state(uow, event.deletion_id, "restoring", for_change=True)
    if deletion is None:
        return True
    left = await count_taken(uow, root, deletion.id)
    if set(left) - {root.name}:
        return False
    walk = Walk(uow.context.platform.kinds, root, None, deletion.id)
    if PARENTS in deletion.choices:
        await revive_parents(uow, deletion, root, walk)
    if not await hold_above(uow, root, deletion.root_ids, deletion.id, for_change=reacts_to_restore(root)):
        detail = "What it belongs to was deleted meanwhile."
        raise InTheWay(Conflict(root.name, deletion.root_id, "parent_deleted", detail))
    if conflicts := await find_conflicts(uow, root, deletion.root_ids, walk, deletion.choices):
        raise InTheWay(conflicts[0])
    await leave_branches(uow, deletion, root)
    back = await uow.session.execute(select(walk.ids[root.name].c.id))
    await revive(uow, root, list(back.scalars()), deletion.choices)
    TOOK.labels("restore").observe((datetime.now(UTC) - deletion.updated_at).total_seconds())
    ROWS.labels("restore").observe(sum(deletion.counts.values()))
    deletion.state = "restored"
    for id in deletion.root_ids:
        uow.emit(Restored(deletion_id=event.deletion_id, kind=event.kind, id=id))
    if deletion.taken_from is not None:
        await settle(uow, deletion.taken_from)
    uow.announce("all")
    return True


async def revive_parents(uow: UnitOfWork, deletion: Deletion, root: Kind, walk: Walk) -> None:
    """Bring back what the roots hang under, from the top, and nothing else of that."""
    above = await dead_above(uow, root, deletion.root_ids, walk)
    if conflicts := await conflicts_above(uow, above, deletion.choices):
        raise InTheWay(conflicts[0])
    larger: set[UUID] = set()
    for name, ids in above.items():
        kind = uow.context.platform.kinds.by_name[name]
        holders = select(col(kind.model.id), col(kind.model.deletion_id)).where(among(col(kind.model.id), ids))
        held = {id: holder for id, holder in (await uow.session.execute(holders)).all() if holder is not None}
        # What was deleted since the restore was asked for, whoever asked may not be allowed to bring back.
        states = select(col(Deletion.id)).where(
            among(col(Deletion.id), held.values()),
            col(Deletion.state) == "deleted",
            col(Deletion.created_at) < deletion.updated_at,
        )
        still = set((await uow.session.execute(states.order_by(col(Deletion.id)).with_for_update())).scalars())
        for id, holder in held.items():
            if holder not in still or not await hold_above(uow, kind, [id], holder):
                detail = "What it belongs to was deleted or restored meanwhile."
                raise InTheWay(Conflict(name, id, "parent_deleted", detail))
            await revive(uow, kind, [id], deletion.choices)
            uow.record(RESTORED, name, id)
            uow.emit(Restored(deletion_id=holder, kind=name, id=id))
        larger |= set(held.values())
    for holder in sorted(larger):
        await settle(uow, holder)


async def leave_branches(uow: UnitOfWork, deletion: Deletion, root: Kind) -> None:
    """In a tree whose root came back before: what hangs under a branch that is dead in another deletion stays with that."""
    if not root.is_tree:
        return
    table = inspect(root.model).local_table
    parent = table.alias("parent")
    while True:
        under = (
            select(table.c.id, parent.c.deletion_id)
            .join(parent, parent.c.id == table.c[root.tree_column().key])
            .where(table.c.deletion_id == deletion.id, parent.c.is_deleted, parent.c.deletion_id != deletion.id)
        )
        moved = {row.id: row.deletion_id for row in (await uow.session.execute(under)).all()}
        if not moved:
            return
        await leave_to(uow, root, moved)


async def settle(uow: UnitOfWork, deletion_id: UUID) -> None:
    """Count again what a deletion holds of which a part has come back; when that is nothing, it is restored."""
    found = select(Deletion).where(col(Deletion.id) == deletion_id).with_for_update()
    deletion = (await uow.session.execute(found)).scalar_one()
    kind = uow.context.platform.kinds.by_name.get(deletion.root_kind)
    if kind is not None and deletion.state == "deleted":
        deletion.counts = await count_taken(uow, kind, deletion.id)
        if not deletion.counts:
            deletion.state = "restored"


async def take_back(uow: UnitOfWork, event: RestoreRequested, conflict: Conflict) -> None:
    """The restore cannot end, so the deletion takes again what had come back, and says why."""
    changed = await uow.session.execute(
        update(Deletion)
        .where(Deletion.id == event.deletion_id, Deletion.state == "restoring")  # type: ignore[arg-type]
        .values(state="cascading", conflict=read_conflict(conflict).model_dump(mode="json"), updated_at=func.now())
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


async def take_what_was_left(uow: UnitOfWork) -> None:
    """Go on with cascades that are over, under which rows live: their plugin was off at the time; runs on a schedule."""
    kinds = uow.context.platform.kinds
    left: set[UUID] = set()
    for kind in kinds.by_name.values():
        parent = inspect(kind.model).local_table.alias("parent")
        for edge in kind.children:
            child = inspect(edge.child).local_table
            under = select(parent.c.deletion_id).join(child, child.c[edge.column] == parent.c.id)
            under = under.where(parent.c.deletion_id.is_not(None), ~child.c.is_deleted).distinct()
            left |= set((await uow.session.execute(under)).scalars())
    over = select(Deletion).where(among(col(Deletion.id), left), col(Deletion.state) == "deleted")
    for deletion in (await uow.session.execute(over.order_by(col(Deletion.id)).with_for_update())).scalars():
        deletion.state = "cascading"
        uow.emit(Deleted(deletion_id=deletion.id, kind=deletion.root_kind, id=deletion.root_id))
        log.info("a cascade goes on, since rows were left", deletion=str(deletion.id))
