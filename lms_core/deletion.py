"""Soft delete: one deletion for each delete, stamped on every row that it takes.

A delete stamps its roots in the request; a worker stamps what hangs below (cascade.py), and brings it back (restoring.py).
Only rows that live are stamped, so what was deleted earlier keeps its older deletion: that alone makes restore exact.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from fastapi import Response
from pydantic import BaseModel
from sqlalchemy import ARRAY, DateTime, Index, Select, String, Uuid, cast, func, inspect, null, select, text, update
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, col

from lms_core.audit import DELETED
from lms_core.conditions import among
from lms_core.db import Record, Table
from lms_core.errors import Unavailable
from lms_core.kinds import Kind, scope_columns
from lms_core.pagination import JsonBytes
from lms_core.subtree import Affected, Walk, affected, kinds_below
from lms_core.types import Conflict, Event, Retention
from lms_core.uow import UnitOfWork

RETENTION_DAYS = 30

RemoveOne = Callable[[UUID], Awaitable[None]]
State = Literal["cascading", "deleted", "restoring", "restored", "purged"]


class Deletion(Record, table=True):
    """One delete: what, by whom, why, and how far it has come.

    `root_ids` are the rows that were named; there are several when they were deleted together. A part that is brought
    back alone is `taken_from` the deletion it belonged to. `conflict` says why the last restore was taken back.
    """

    __tablename__ = "core_deletion"
    __table_args__ = (
        # For the recycle bin's filters.
        Index("ix_core_deletion_root_kind", "root_kind", "id"),
        Index("ix_core_deletion_actor_id", "actor_id", "id"),
        Index("ix_core_deletion_state", "state", "id"),
        Index("ix_core_deletion_kept", "id", postgresql_where=text("purged_at IS NULL")),
        Index("ix_core_deletion_label", "label", postgresql_using="gin", postgresql_ops={"label": "gin_trgm_ops"}),
        Index("ix_core_deletion_taken_from", "taken_from", postgresql_where=text("taken_from IS NOT NULL")),
        Index("ix_core_deletion_passing", "updated_at", postgresql_where=text("state IN ('cascading', 'restoring')")),
        Index("ix_core_deletion_due", "purge_after", postgresql_where=text("state = 'deleted'")),
        Index("ix_core_deletion_purging", "id", postgresql_where=text("state = 'purged' AND purged_at IS NULL")),
    )

    root_kind: str
    root_id: UUID = Field(index=True)
    root_ids: list[UUID] = Field(sa_type=ARRAY(Uuid()))
    label: str
    state: str = Field(default="cascading")
    actor_id: UUID | None = None
    reason: str | None = None
    counts: dict[str, int] = Field(default_factory=dict, sa_type=JSONB)
    choices: list[str] = Field(default_factory=list, sa_type=JSONB, sa_column_kwargs={"server_default": "[]"})
    taken_from: UUID | None = None
    conflict: dict[str, Any] | None = Field(default=None, sa_type=JSONB(none_as_null=True), nullable=True)
    purge_after: datetime = Field(
        sa_type=DateTime(timezone=True),
        sa_column_kwargs={"server_default": func.now() + text(f"interval '{RETENTION_DAYS} days'"), "nullable": False},
        default=None,
    )
    purged_at: datetime | None = Field(default=None, sa_type=DateTime(timezone=True))


class RootRead(BaseModel):
    """What was deleted: the first, where several were."""

    kind: str
    id: UUID
    label: str


class ActorRead(BaseModel):
    """Who deleted it; without a name, they are gone themselves."""

    id: UUID
    label: str | None


class ConflictRead(BaseModel):
    """Why a row cannot come back as things stand; `choices` are what may be sent as `on_conflict` to solve it."""

    kind: str
    id: UUID
    code: str
    detail: str
    choices: list[str] = []


class DeletionRead(BaseModel):
    """A deletion as clients see it."""

    id: UUID
    root: RootRead
    root_ids: list[UUID]
    state: State
    actor_id: UUID | None
    actor: ActorRead | None
    reason: str | None
    created_at: datetime
    counts: dict[str, int]
    conflict: ConflictRead | None
    purge_after: datetime


class DeletionPreview(BaseModel):
    """What a delete would take, or a restore bring back, what stands in its way, and whom it is about."""

    root: RootRead
    counts: dict[str, int]
    conflicts: list[ConflictRead]
    affected: Affected


PREVIEW_ANSWERS: dict[int | str, dict[str, Any]] = {200: {"model": DeletionPreview, "description": "A preview"}}
"""What a delete or a restore answers to `dry_run` besides 202, for the documentation of its route."""


class RestoreRequested(Event, name="core.restore_requested.v1"):
    """A deletion is to be undone, in somebody's name (None: it was stuck, and is asked for again)."""

    deletion_id: UUID
    kind: str
    id: UUID
    actor_id: UUID | None = None


class Restored(Event, name="core.restored.v1"):
    """A row that was deleted lives again, with all that went with it. Of several that were deleted together one for each."""

    deletion_id: UUID
    kind: str
    id: UUID


class Deleted(Event, name="core.deleted.v1"):
    """A row was deleted; what hangs under it follows. Of several that were deleted together, the first is named."""

    deletion_id: UUID
    kind: str
    id: UUID


async def delete(uow: UnitOfWork, model: type[Table], id: UUID, if_match: str | None = None) -> Response:
    """Delete a row and, in the background, all that hangs under it: 202 with the deletion.

    From this answer on nothing of it is readable or writable. NotFound when it is deleted already. In a dry run 200 and
    a preview; nothing is written.
    """
    row = await uow.lock(model, id, if_match)
    kind, label = uow.context.platform.kinds.of(model), str(getattr(row, model.label_column))
    if uow.together is not None:
        await stamp_roots(uow, kind, [id], uow.together)
        uow.record(DELETED, kind.name, id)
        return Response(status_code=204)
    if uow.dry_run:
        walk = Walk(uow.context.platform.kinds, kind, [id])
        return await preview_answer(uow, RootRead(kind=kind.name, id=id, label=label), walk, [])
    deletion = await begin(uow, kind, [id], label)
    taken = await stamp_roots(uow, kind, [id], deletion.id)
    uow.record(DELETED, kind.name, id)
    return await finish(uow, kind, deletion, taken)


async def begin(uow: UnitOfWork, kind: Kind, ids: Sequence[UUID], label: str) -> Deletion:
    """A new deletion, which has taken nothing yet."""
    deletion = Deletion(
        root_kind=kind.name,
        root_id=ids[0],
        root_ids=list(ids),
        label=label,
        actor_id=uow.access.actor_id,
        reason=uow.reason,
        purge_after=func.now() + await retention(uow, kind, ids, [kind.name]),  # type: ignore[arg-type]
    )
    uow.session.add(deletion)
    await uow.session.flush()
    return deletion


async def finish(uow: UnitOfWork, kind: Kind, deletion: Deletion, taken: Sequence[UUID]) -> Response:
    """The roots are taken: the plugins react to all of them at once, and a worker takes what hangs under them."""
    deletion.counts = {kind.name: len(taken)}
    await react_to_delete(uow, kind, taken)
    uow.emit(Deleted(deletion_id=deletion.id, kind=kind.name, id=deletion.root_id))
    if feeds_roles(uow, kind):
        uow.announce("all")
    return await deletion_answer(uow, deletion)


async def delete_together(uow: UnitOfWork, kind: Kind, ids: Sequence[UUID], one: RemoveOne) -> Response:
    """Delete rows as one deletion. `one` asks what has to be asked for each, with those before it gone, and ends in `delete`.

    In a dry run a preview: what the rules refuse is refused, and the transaction is then not committed.
    """
    table = inspect(kind.model).local_table
    walk = Walk(uow.context.platform.kinds, kind, ids)
    counts, people = (await walk.count(uow), await affected(uow, walk)) if uow.dry_run else ({}, Affected.nobody())
    await react_before_delete(uow, kind, ids)
    deletion = await begin(uow, kind, ids, "")
    uow.together = deletion.id
    for id in ids:
        # In a tree it may have gone with one before it.
        gone = select(table.c.id).where(table.c.id == id, table.c.deletion_id == deletion.id)
        if (await uow.session.execute(gone)).first() is None:
            await one(id)
    uow.together = None
    deletion.root_ids = await topmost(uow, kind, ids)
    deletion.root_id = deletion.root_ids[0]
    deletion.label = await label_of(uow, kind, deletion.root_ids)
    if uow.dry_run:
        root = RootRead(kind=kind.name, id=deletion.root_id, label=deletion.label)
        return JsonBytes(DeletionPreview(root=root, counts=counts, conflicts=[], affected=people).model_dump())
    taken = select(table.c.id).where(table.c.deletion_id == deletion.id).order_by(table.c.id)
    return await finish(uow, kind, deletion, list((await uow.session.execute(taken)).scalars()))


async def topmost(uow: UnitOfWork, kind: Kind, ids: Sequence[UUID]) -> list[UUID]:
    """Of rows of a tree that were deleted together, those whose parent was not: the others go, and come back, with them."""
    if not kind.is_tree:
        return list(ids)
    table = inspect(kind.model).local_table
    parent = table.alias("parent")
    column = table.c[kind.tree_column().key]
    below = select(table.c.id).join(parent, parent.c.id == column)
    below = below.where(among(table.c.id, ids), parent.c.deletion_id == table.c.deletion_id)
    hanging = set((await uow.session.execute(below)).scalars())
    return [id for id in ids if id not in hanging]


async def label_of(uow: UnitOfWork, kind: Kind, ids: Sequence[UUID]) -> str:
    """What the recycle bin calls rows, dead or alive: the first of them, and how many more."""
    table = inspect(kind.model).local_table
    named = select(cast(table.c[kind.model.label_column], String)).where(table.c.id == ids[0])
    first: str = (await uow.session.execute(named)).scalar_one()
    return first if len(ids) == 1 else f"{first} and {len(ids) - 1} more"


async def keep_deleted(uow: UnitOfWork, model: type[Table], id: UUID) -> None:
    """Give a row that something larger took a deletion of its own: it does not come back with the larger thing.

    Raises Unavailable while it is on its way back.
    """
    kind = uow.context.platform.kinds.of(model)
    table = inspect(model).local_table
    found = select(Deletion).where(Deletion.id == select(table.c.deletion_id).where(table.c.id == id).scalar_subquery())  # type: ignore[arg-type]
    larger = (await uow.session.execute(found.with_for_update())).scalar_one_or_none()
    # None, or restored by now: it came back while the lock was waited for.
    if larger is None or larger.state in ("restoring", "restored"):
        raise Unavailable("What took this is being restored; try again shortly.", "busy")
    if larger.root_ids == [id] and larger.root_kind == kind.name:
        return
    label = await label_of(uow, kind, [id])
    own = Deletion(
        root_kind=kind.name, root_id=id, root_ids=[id], label=label, state="deleted", actor_id=uow.access.actor_id,
        counts={kind.name: 1},
    )  # fmt: skip
    uow.session.add(own)
    await uow.session.flush()
    await uow.session.execute(stamp(model, own.id).where(table.c.id == id, table.c.deletion_id == larger.id))
    larger.counts = {**larger.counts, kind.name: larger.counts.get(kind.name, 1) - 1}
    await leave_out(uow, larger, kind, id)
    uow.record(DELETED, kind.name, id)


async def leave_out(uow: UnitOfWork, larger: Deletion, kind: Kind, id: UUID) -> None:
    """One of the roots of a deletion has a deletion of its own now; it is called by the others."""
    if larger.root_kind != kind.name or id not in larger.root_ids or len(larger.root_ids) == 1:
        return
    larger.root_ids = [root for root in larger.root_ids if root != id]
    larger.root_id = larger.root_ids[0]
    larger.label = await label_of(uow, kind, larger.root_ids)


async def places_of(uow: UnitOfWork, kind: Kind, ids: Sequence[UUID]) -> dict[str, set[UUID]]:
    """What rows hang under, themselves included, whether it lives or not: ids by kind; for people, where they hold roles."""
    kinds = uow.context.platform.kinds
    above = list(scope_columns(kinds, kind.model))
    found: dict[str, set[UUID]] = {}
    statement = select(*(column for _, column in above)).where(among(col(kind.model.id), ids))
    for row in (await uow.session.execute(statement)).all():
        for (name, _), id in zip(above, row, strict=True):
            if id is not None:
                found.setdefault(name, set()).add(id)
    for source in uow.context.platform.rules.sources if kind.is_person else ():
        # Those that the same delete took count too.
        statements: tuple[Select[Any] | None, ...] = (source.statement, source.taken)
        for asked in statements:
            if asked is not None:
                held = asked.subquery()
                objects = select(held.c.object_id).where(among(held.c.actor_id, ids), held.c.object_id.is_not(None))
                found.setdefault(source.kind, set()).update((await uow.session.execute(objects)).scalars())
    return found


async def retention(
    uow: UnitOfWork, root: Kind, ids: Sequence[UUID], kinds: Collection[str], deletion_id: UUID | None = None
) -> timedelta:
    """How long rows of these kinds, deleted with these roots, can be restored: the longest that holds for any.

    In a tree that was deleted, also what holds at each of its nodes.
    """
    policy = uow.use_if_enabled(Retention)
    if root.is_tree and deletion_id is not None:
        table = inspect(root.model).local_table
        nodes = select(table.c.id).where(table.c.deletion_id == deletion_id)
        ids = [*ids, *(await uow.session.execute(nodes)).scalars()]
    days = None if policy is None else await policy.days(uow, kinds, await places_of(uow, root, ids))
    return timedelta(days=RETENTION_DAYS if days is None else days)


def feeds_roles(uow: UnitOfWork, kind: Kind) -> bool:
    """Whether roles go when a row of this kind goes with all that hangs under it; who deletes a role itself says whose."""
    below = [below for _, below in uow.context.platform.kinds.below(kind.name)]
    return kind.is_tree or any(decides_roles(uow, one) for one in below)


def decides_roles(uow: UnitOfWork, kind: Kind) -> bool:
    """Whether rows of this kind are among those from which a plugin reads roles."""
    return inspect(kind.model).local_table in uow.context.platform.rules.role_tables


def stamp(model: type[Table], deletion_id: UUID | None) -> Any:
    """`UPDATE … SET` that takes rows (or, with None, brings them back)."""
    table = inspect(model).local_table
    return update(table).values(
        is_deleted=deletion_id is not None,
        deletion_id=deletion_id,
        version=table.c.version + 1,
        updated_at=func.now(),
    )


async def stamp_roots(uow: UnitOfWork, kind: Kind, ids: Sequence[UUID], deletion_id: UUID) -> list[UUID]:
    """Stamp the roots and, where their kind is a tree, everything of the kind below them.

    Level by level, until nothing is left: once a node is stamped nobody can hang a new one under it.
    """
    table = inspect(kind.model).local_table
    taken: list[UUID] = []
    level = list(ids)
    while level:
        stamped = await uow.session.execute(
            stamp(kind.model, deletion_id).where(among(table.c.id, level), ~table.c.is_deleted).returning(table.c.id)
        )
        taken += list(stamped.scalars())
        if not kind.is_tree:
            break
        column = table.c[kind.tree_column().key]
        below = await uow.session.execute(select(table.c.id).where(among(column, level), ~table.c.is_deleted))
        level = list(below.scalars())
    return taken


def reacts_before_delete(kind: Kind) -> bool:
    """Whether something has to be locked before rows of this kind are."""
    return any(reaction.deleting is not None for reaction in kind.reactions)


async def react_before_delete(uow: UnitOfWork, kind: Kind, ids: Sequence[UUID]) -> None:
    """Lock what the plugins change when rows of this kind go, before these are locked."""
    for reaction in kind.reactions:
        if reaction.deleting is not None and ids:
            await reaction.deleting(uow, ids)


async def react_to_delete(uow: UnitOfWork, kind: Kind, ids: Sequence[UUID]) -> None:
    """What else the plugins want to be so when rows of this kind go."""
    for reaction in kind.reactions:
        if reaction.deleted is not None and ids:
            await reaction.deleted(uow, ids)


async def count_taken(uow: UnitOfWork, root: Kind, deletion_id: UUID) -> dict[str, int]:
    """How many rows of each kind a deletion holds now."""
    counts = {}
    for kind in kinds_below(uow.context.platform.kinds, root):
        table = inspect(kind.model).local_table
        found = await uow.session.execute(
            select(func.count()).select_from(table).where(table.c.deletion_id == deletion_id)
        )
        if number := found.scalar_one():
            counts[kind.name] = number
    return counts


def name_of(person: Kind | None, id: Any) -> Any:
    """The name of whoever has this id, as a sub-select; NULL where nobody has names."""
    if person is None:
        return null()
    table = inspect(person.model).local_table.alias("actor")
    name = select(cast(table.c[person.model.label_column], String))
    return name.where(table.c.id == id).correlate_except(table).scalar_subquery()


async def deletion_answer(uow: UnitOfWork, deletion: Deletion) -> Response:
    """202 with the deletion."""
    await uow.session.flush()
    await uow.session.refresh(deletion)
    actor = None
    if deletion.actor_id is not None:
        name = select(name_of(uow.context.platform.kinds.person, deletion.actor_id))
        actor = ActorRead(id=deletion.actor_id, label=(await uow.session.execute(name)).scalar_one())
    shown = DeletionRead(
        id=deletion.id,
        root=RootRead(kind=deletion.root_kind, id=deletion.root_id, label=deletion.label),
        root_ids=deletion.root_ids,
        state=deletion.state,
        actor_id=deletion.actor_id,
        actor=actor,
        reason=deletion.reason,
        created_at=deletion.created_at,
        counts=deletion.counts,
        conflict=deletion.conflict,
        purge_after=deletion.purge_after,
    )
    return JsonBytes(shown.model_dump(), 202)


def read_conflict(conflict: Conflict) -> ConflictRead:
    """A conflict as clients see it."""
    return ConflictRead(**{**vars(conflict), "choices": list(conflict.choices)})


async def preview_answer(uow: UnitOfWork, root: RootRead, walk: Walk, conflicts: Sequence[Conflict]) -> Response:
    """200 with what would happen."""
    preview = DeletionPreview(
        root=root,
        counts=await walk.count(uow),
        conflicts=[read_conflict(conflict) for conflict in conflicts],
        affected=await affected(uow, walk),
    )
    return JsonBytes(preview.model_dump())
