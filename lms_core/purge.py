"""Removing for good what was deleted long enough ago: in committed chunks, and only as long as the switch lets it.

Until an operator says otherwise only the command `lms purge run` removes anything. From its first chunk on a deletion
cannot be restored any more.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Collection, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Literal, get_args
from uuid import UUID

import structlog
from prometheus_client import Counter
from sqlalchemy import DateTime, delete, exists, func, inspect, select, text, update
from sqlalchemy import column as foreign_column
from sqlalchemy import table as foreign_table
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.schema import Table as SqlTable
from sqlmodel import Field, SQLModel, col

from lms_core.conditions import among
from lms_core.db import Record, Table
from lms_core.deletion import Deletion, retention
from lms_core.held import is_held, mark_of_holds
from lms_core.imports import ImportRow
from lms_core.kinds import Kind, kind_name
from lms_core.subtree import kinds_below
from lms_core.types import Event
from lms_core.uow import Context, UnitOfWork

log = structlog.get_logger("lms.purge")

CHUNK = 500
CHUNK_SECONDS = 600
# Less than a task may take; what is left waits for the next time.
SCHEDULED_SECONDS = 600.0
SWITCH = "purge"
POINTING_FROM_OUTSIDE = text(
    """
    SELECT other.relname AS name, a.attname AS "column", mine.relname AS points_at
    FROM pg_constraint c
    JOIN pg_class other ON other.oid = c.conrelid JOIN pg_class mine ON mine.oid = c.confrelid
    JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1]
    WHERE c.contype = 'f' AND mine.relname = ANY(:tables) AND NOT other.relname = ANY(:known)
    """
)
PURGED = Counter("lms_purged_rows_total", "Rows removed for good", ["kind"])

Mode = Literal["manual", "scheduled", "stopped"]
Outcome = Literal["purged", "kept longer", "held", "waits", "not deleted", "stopped"]


class Switch(SQLModel, table=True):
    """What an operator has switched, by name; without a row it stands as it comes."""

    __tablename__ = "core_switch"

    name: str = Field(primary_key=True)
    position: str
    changed_at: datetime = Field(
        default=None,
        sa_type=DateTime(timezone=True),
        sa_column_kwargs={"server_default": func.now(), "nullable": False},
    )


class PurgeDue(Event, name="core.purge_due.v1"):
    """It is time to look for what can be removed for good."""


class Purged(Event, name="core.purged.v1"):
    """A deletion, with all that it held, was removed for good."""

    deletion_id: UUID
    kind: str
    id: UUID


async def mode(uow: UnitOfWork) -> Mode:
    """How the switch stands."""
    position = select(col(Switch.position)).where(col(Switch.name) == SWITCH)
    found = (await uow.session.execute(position)).scalar_one_or_none()
    return next((known for known in get_args(Mode) if known == found), "manual")


async def switch(uow: UnitOfWork, position: Mode) -> None:
    """Set it: `manual` lets only the command run, `scheduled` the schedule too, `stopped` ends both at their next chunk."""
    values = {"name": SWITCH, "position": position, "changed_at": func.now()}
    stated = insert(Switch).values(values)
    await uow.session.execute(stated.on_conflict_do_update(index_elements=["name"], set_=values))


async def call_for_purge(uow: UnitOfWork) -> None:
    """The schedule: a worker purges, when the switch says so."""
    if await mode(uow) == "scheduled":
        uow.emit(PurgeDue())


async def purge_on_schedule(context: Context, event: PurgeDue) -> None:
    """The handler: as much as there is time for."""
    until = time.monotonic() + SCHEDULED_SECONDS
    failed = []
    for id in await due(context):
        if time.monotonic() > until:
            break
        try:
            if await purge(context, id) == "stopped":
                break
        except Exception:
            # The others' time is over, too; this one is told of at the end.
            log.exception("a deletion cannot be purged", deletion=str(id))
            failed.append(str(id))
    if failed:
        raise RuntimeError(f"These deletions cannot be purged: {', '.join(failed)}")


async def due(context: Context) -> list[UUID]:
    """Deletions whose time is over, the oldest first, after those whose removal has begun."""
    begun = select(col(Deletion.id)).where(col(Deletion.state) == "purged", col(Deletion.purged_at).is_(None))
    over = (
        select(col(Deletion.id))
        .where(col(Deletion.state) == "deleted", col(Deletion.purge_after) <= func.now())
        .order_by(col(Deletion.purge_after), col(Deletion.id))
    )
    async with context.unit_of_work() as uow:
        return [id for statement in (begun, over) for id in (await uow.session.execute(statement)).scalars()]


async def purge(context: Context, deletion_id: UUID) -> Outcome:
    """Remove all that a deletion holds, if nothing stands against it; goes on where an earlier try ended."""
    outcome = await context.retry(lambda uow: begin(uow, deletion_id))
    if outcome != "purged":
        return outcome
    async with context.unit_of_work() as uow:
        name = select(col(Deletion.root_kind)).where(col(Deletion.id) == deletion_id)
        root = context.platform.kinds.by_name[(await uow.session.execute(name)).scalar_one()]
    holds: Any = None
    for kind in in_order(kinds_below(context.platform.kinds, root)):
        after: UUID | None = None
        while True:
            step = await context.retry(
                partial(remove_chunk, deletion_id=deletion_id, root=root, kind=kind, after=after, holds=holds)
            )
            if not isinstance(step, Step):
                return step
            holds = step.holds
            if not step.seen:
                break
            # In a tree the leaves go first, and what they hung under is a leaf then.
            after = None if kind.is_tree and step.removed else step.seen[-1]
    await context.retry(lambda uow: finish(uow, deletion_id))
    return "purged"


def in_order(kinds: Sequence[Kind]) -> list[Kind]:
    """Those whose rows point at others first: a material before the file that it shows."""
    tables = {inspect(kind.model).local_table: kind for kind in kinds}
    every = next(iter(tables)).metadata.sorted_tables
    return [tables[table] for table in reversed(every) if table in tables]


async def begin(uow: UnitOfWork, deletion_id: UUID) -> Outcome:
    """Decide, and make it final: `purged` when rows may be removed from here on."""
    deletion = (
        await uow.session.execute(select(Deletion).where(col(Deletion.id) == deletion_id).with_for_update())
    ).scalar_one_or_none()
    if await mode(uow) == "stopped":
        return "stopped"
    if deletion is not None and deletion.state == "purged" and deletion.purged_at is None:
        return "purged"
    kind = None if deletion is None else uow.context.platform.kinds.by_name.get(deletion.root_kind)
    if deletion is None or deletion.state != "deleted" or kind is None:
        return "not deleted"
    now = (await uow.session.execute(select(func.now()))).scalar_one()
    # What was promised holds; what an institution has lengthened since, too.
    kept = await retention(uow, kind, deletion.root_ids, [kind.name, *deletion.counts], deletion.id)
    deletion.purge_after = max(deletion.purge_after, deletion.created_at + kept)
    if deletion.purge_after > now:
        return "kept longer"
    if await is_held(uow, kind, deletion_id):
        return "held"
    part = select(col(Deletion.id)).where(col(Deletion.taken_from) == deletion_id, col(Deletion.state) == "restoring")
    if (await uow.session.execute(part.limit(1))).first() is not None:
        return "waits"
    if await has_others_below(uow, kind, deletion_id) or await is_named_by_plugins_off(uow, kind, deletion_id):
        return "waits"
    # What it was called may be somebody's name.
    deletion.state, deletion.label, deletion.reason, deletion.conflict = "purged", "", None, None
    return "purged"


async def has_others_below(uow: UnitOfWork, root: Kind, deletion_id: UUID) -> bool:
    """Whether something that this deletion did not take hangs under what it took: that has to go first."""
    kinds = uow.context.platform.kinds
    for kind in kinds_below(kinds, root):
        for edge in kind.children:
            child, parent = inspect(edge.child).local_table, inspect(kind.model).local_table.alias("parent")
            other = select(child.c.id).join(parent, parent.c.id == child.c[edge.column])
            other = other.where(parent.c.deletion_id == deletion_id, child.c.deletion_id.is_distinct_from(deletion_id))
            if (await uow.session.execute(other.where(~is_emptied(child)).limit(1))).first() is not None:
                return True
        for part in (part for part in kinds.parts if part.of is kind.model and issubclass(part.model, Table)):
            child, parent = inspect(part.model).local_table.alias("part"), inspect(kind.model).local_table
            other = select(child.c.id).join(parent, parent.c.id == child.c[part.column])
            # A part that was deleted by itself was promised to be kept for itself.
            other = other.where(parent.c.deletion_id == deletion_id, child.c.deletion_id != deletion_id)
            if (await uow.session.execute(other.where(~is_emptied(child)).limit(1))).first() is not None:
                return True
    return False


async def is_named_by_plugins_off(uow: UnitOfWork, root: Kind, deletion_id: UUID) -> bool:
    """Whether rows of a table that no enabled plugin has point at what this deletion took, or at parts of that.

    Only their plugin could have them let go.
    """
    going: list[tuple[SqlTable, Any]] = []
    for kind in kinds_below(uow.context.platform.kinds, root):
        table = inspect(kind.model).local_table
        going += with_parts(uow, kind.model, select(table.c.id).where(table.c.deletion_id == deletion_id))
    values = {"tables": [table.name for table, _ in going], "known": list(going[0][0].metadata.tables)}
    for row in (await uow.session.execute(POINTING_FROM_OUTSIDE, values)).all():
        outside = foreign_table(row.name, foreign_column(row.column))
        for ids in (ids for table, ids in going if table.name == row.points_at):
            found = select(outside.c[row.column]).where(outside.c[row.column].in_(ids)).limit(1)
            if (await uow.session.execute(found)).first() is not None:
                return True
    return False


def with_parts(uow: UnitOfWork, model: type[Any], ids: Any) -> list[tuple[SqlTable, Any]]:
    """Tables and selects of ids: of some rows, of their parts, and of the parts of those."""
    found = [(inspect(model).local_table, ids)]
    for part in uow.context.platform.kinds.parts:
        table = inspect(part.model).local_table
        if part.of is model and "id" in table.c:
            inner = select(table.c.id).where(table.c[part.column].in_(ids))
            found += [(table, inner)] if part.model is model else with_parts(uow, part.model, inner)
    return found


def is_emptied(table: Any) -> Any:
    """A row that is only there since something needs it: what took it was removed for good."""
    done = exists().where(col(Deletion.id) == table.c.deletion_id, col(Deletion.purged_at).is_not(None))
    return done.correlate(table)


class Step:
    """One chunk: the rows that were looked at, how many of them were removed, and for which holds that was asked."""

    def __init__(self, seen: Sequence[UUID], removed: int, holds: Any) -> None:
        self.seen, self.removed, self.holds = seen, removed, holds


async def remove_chunk(
    uow: UnitOfWork, deletion_id: UUID, root: Kind, kind: Kind, after: UUID | None, holds: Any
) -> Step | Literal["stopped", "held"]:
    """Remove up to a chunk of rows of a kind, unless the switch was turned, or a hold was set, meanwhile."""
    if await mode(uow) == "stopped":
        return "stopped"
    standing = await mark_of_holds(uow)
    if standing != holds and await is_held(uow, root, deletion_id):
        return "held"
    # Each row that goes is looked for in every table that could mention it.
    await uow.session.execute(text(f"SET LOCAL statement_timeout = '{CHUNK_SECONDS}s'"))
    held = select(col(Deletion.id)).where(
        col(Deletion.id) == deletion_id, col(Deletion.state) == "purged", col(Deletion.purged_at).is_(None)
    )
    if (await uow.session.execute(held.with_for_update())).first() is None:
        return Step([], 0, standing)
    table = inspect(kind.model).local_table
    chosen = select(table.c.id).where(table.c.deletion_id == deletion_id).order_by(table.c.id).limit(CHUNK)
    if after is not None:
        chosen = chosen.where(table.c.id > after)
    if kind.is_tree:
        child = table.alias("child")
        chosen = chosen.where(~exists().where(child.c[kind.tree_column().key] == table.c.id))
    ids = list((await uow.session.execute(chosen.with_for_update())).scalars())
    return Step(ids, await remove(uow, kind.model, ids) if ids else 0, standing)


async def remove(uow: UnitOfWork, model: type[Any], ids: Sequence[UUID]) -> int:
    """Remove rows with their parts; those that others still need stay, emptied. How many are gone."""
    platform, table = uow.context.platform, inspect(model).local_table
    for part in platform.kinds.parts:
        if part.of is model:
            await remove_part(uow, part.model, part.column, ids)
    needed = await let_go(uow, table, ids)
    kind = platform.kinds.by_name.get(kind_name(model))
    for reaction in kind.reactions if kind is not None else ():
        if reaction.purged is not None:
            await reaction.purged(uow, ids, needed)
    going = [id for id in ids if id not in needed]
    await uow.session.execute(delete(table).where(among(table.c.id, going)))
    if kind is not None:
        # Where else words of theirs are kept: imports, and earlier deletions.
        told = update(ImportRow).where(among(col(ImportRow.object_id), ids))
        await uow.session.execute(told.values(cells={}, changes={}, kept=[], note=None))
        earlier = update(Deletion).where(
            among(col(Deletion.root_id), ids), col(Deletion.state).in_(("restored", "purged"))
        )
        await uow.session.execute(earlier.values(label="", reason=None, conflict=None))
        PURGED.labels(kind.name).inc(len(going))
        for id in ids:
            uow.record("purged", kind.name, id)
    return len(going)


async def remove_part(uow: UnitOfWork, model: type[Any], column: str, ids: Sequence[UUID]) -> None:
    """The parts of rows go with them, and the parts of those parts."""
    table = inspect(model).local_table
    if issubclass(model, Record):
        inner = list((await uow.session.execute(select(table.c.id).where(among(table.c[column], ids)))).scalars())
        if inner:
            await remove(uow, model, inner)
    else:
        await uow.session.execute(delete(table).where(among(table.c[column], ids)))


async def let_go(uow: UnitOfWork, table: SqlTable, ids: Sequence[UUID]) -> set[UUID]:
    """Have everything that mentions these rows forget them; those that something cannot do without are the answer."""
    needed: set[UUID] = set()
    for other in table.metadata.sorted_tables:
        for column in other.columns:
            if not any(key.column is table.c.id for key in column.foreign_keys):
                continue
            left = [id for id in ids if id not in needed]
            found = select(column).where(among(column, left)).distinct()
            mentioned = list((await uow.session.execute(found)).scalars())
            if mentioned and not (column.nullable and await forget(uow, other, column, mentioned)):
                needed.update(mentioned)
    return needed


async def forget(uow: UnitOfWork, table: SqlTable, column: Any, ids: Collection[UUID]) -> bool:
    """Empty a column that mentions rows; False when a rule of the table does not allow that."""
    values: dict[Any, Any] = {column: None}
    if "version" in table.c:
        values |= {table.c.version: table.c.version + 1, table.c.updated_at: func.now()}
    try:
        async with uow.session.begin_nested():
            await uow.session.execute(update(table).where(among(column, ids)).values(values))
    except IntegrityError:
        return False
    return True


async def finish(uow: UnitOfWork, deletion_id: UUID) -> None:
    """All that it held is gone."""
    gone = (
        update(Deletion)
        .where(col(Deletion.id) == deletion_id, col(Deletion.state) == "purged", col(Deletion.purged_at).is_(None))
        .values(purged_at=func.now(), updated_at=func.now())
        .returning(col(Deletion.root_kind), col(Deletion.root_id))
    )
    row = (await uow.session.execute(gone)).first()
    if row is not None:
        uow.emit(Purged(deletion_id=deletion_id, kind=row.root_kind, id=row.root_id))
        log.info("purged", deletion=str(deletion_id), kind=row.root_kind)


OVERVIEW = text(
    """
    SELECT root_kind, count(*) FILTER (WHERE state = 'deleted' AND purge_after > now()) AS kept,
        count(*) FILTER (WHERE state = 'deleted' AND purge_after <= now()) AS over,
        count(*) FILTER (WHERE state = 'purged') AS begun
    FROM core_deletion WHERE state = 'deleted' OR (state = 'purged' AND purged_at IS NULL) GROUP BY 1 ORDER BY 1
    """
)


async def overview(context: Context) -> list[str]:
    """Lines for operators: the switch, and the deletions by kind."""
    async with context.unit_of_work() as uow:
        lines = [f"The switch stands at {await mode(uow)}."]
        for row in (await uow.session.execute(OVERVIEW)).mappings():
            begun = f", {row['begun']} begun" if row["begun"] else ""
            lines.append(f"{row['root_kind']}: {row['kept']} kept, {row['over']} whose time is over{begun}")
    return lines


async def run(context: Context, dry_run: bool, limit: int | None) -> AsyncIterator[str]:
    """What the command does, line by line; it stops when the switch is turned."""
    begun = 0
    for id in await due(context):
        if begun == limit:
            return
        async with context.unit_of_work() as uow:
            deletion = (await uow.session.execute(select(Deletion).where(col(Deletion.id) == id))).scalar_one()
        outcome = await context.retry(lambda uow, id=id: foresee(uow, id)) if dry_run else await purge(context, id)  # type: ignore[misc]
        numbers = ", ".join(f"{number} {kind}" for kind, number in deletion.counts.items())
        yield f"{id} of {deletion.created_at:%F}, {numbers}: {'would be ' if dry_run else ''}{outcome}"
        begun += outcome == "purged"
        if outcome == "stopped":
            return


async def foresee(uow: UnitOfWork, deletion_id: UUID) -> Outcome:
    """The decision, which is then taken back."""
    outcome = await begin(uow, deletion_id)
    await uow.take_back()
    return outcome
