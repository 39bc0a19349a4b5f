"""Soft delete and exact restore: one deletion for each delete, stamped on every row that it takes.

A delete stamps its root in the request; a worker stamps what hangs below (cascade.py). Only rows that live are
stamped, so what was deleted earlier keeps its older deletion: that alone makes restore exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from fastapi import Response
from pydantic import BaseModel
from sqlalchemy import DateTime, String, cast, exists, func, inspect, literal, select, text, true, update
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import aliased
from sqlmodel import Field, col

from lms_core.audit import DELETED, RESTORED
from lms_core.db import Record, Table
from lms_core.errors import Forbidden, NotFound, StateConflict, Unavailable
from lms_core.inputs import Input
from lms_core.kinds import Kind, alive
from lms_core.pagination import JsonBytes
from lms_core.types import Conflict, Event
from lms_core.uow import UnitOfWork, key_in_words

RETENTION_DAYS = 30
MAX_CONFLICTS = 1_000

State = Literal["cascading", "deleted", "restoring", "restored", "purged"]


class Deletion(Record, table=True):
    """One delete: what, by whom, and how far it has come."""

    __tablename__ = "core_deletion"

    root_kind: str
    root_id: UUID = Field(index=True)
    label: str
    state: str = Field(default="cascading")
    actor_id: UUID | None = None
    counts: dict[str, int] = Field(default_factory=dict, sa_type=JSONB)
    on_conflict: str | None = None
    purge_after: datetime = Field(
        sa_type=DateTime(timezone=True),
        sa_column_kwargs={"server_default": func.now() + text(f"interval '{RETENTION_DAYS} days'"), "nullable": False},
        default=None,
    )


class RootRead(BaseModel):
    """What was deleted."""

    kind: str
    id: UUID
    label: str


class DeletionRead(BaseModel):
    """A deletion as clients see it."""

    id: UUID
    root: RootRead
    state: State
    actor_id: UUID | None
    created_at: datetime
    counts: dict[str, int]
    purge_after: datetime


class ConflictRead(BaseModel):
    """Why a row cannot come back as things stand."""

    kind: str
    id: UUID
    code: str
    detail: str


class RestorePreview(BaseModel):
    """What a restore would bring back, and what stands in its way."""

    root: RootRead
    counts: dict[str, int]
    conflicts: list[ConflictRead]


class RestoreRequest(Input):
    """How to solve a conflict, where the kind knows a way (`waitlist`, say)."""

    on_conflict: str | None = Field(default=None, max_length=40)


RESTORE_ANSWERS: dict[int | str, dict[str, Any]] = {200: {"model": RestorePreview, "description": "A preview"}}
"""What a restore can answer besides 202, for the documentation of its route."""


class Deleted(Event, name="core.deleted.v1"):
    """A row was deleted; what hangs under it follows."""

    deletion_id: UUID
    kind: str
    id: UUID


class RestoreRequested(Event, name="core.restore_requested.v1"):
    """A deletion is to be undone, in somebody's name (None: it was stuck, and is asked for again)."""

    deletion_id: UUID
    kind: str
    id: UUID
    actor_id: UUID | None = None


class Restored(Event, name="core.restored.v1"):
    """A deletion was undone: its root, and all that it took, live again."""

    deletion_id: UUID
    kind: str
    id: UUID


async def delete(uow: UnitOfWork, model: type[Table], id: UUID, if_match: str | None = None) -> Response:
    """Delete a row and, in the background, all that hangs under it: 202 with the deletion.

    From this answer on nothing of it is readable or writable. NotFound when it is deleted already.
    """
    row = await uow.lock(model, id, if_match)
    kind = uow.context.platform.kinds.of(model)
    deletion = Deletion(
        root_kind=kind.name,
        root_id=id,
        label=str(getattr(row, model.label_column)),
        actor_id=uow.access.actor_id,
    )
    uow.session.add(deletion)
    await uow.session.flush()
    taken = await stamp_root(uow, kind, id, deletion.id)
    deletion.counts = {kind.name: len(taken)}
    await react_to_delete(uow, kind, taken)
    uow.emit(Deleted(deletion_id=deletion.id, kind=kind.name, id=id))
    uow.record(DELETED, kind.name, id)
    if feeds_roles(uow, kind):
        uow.announce("all")
    return await deletion_answer(uow, deletion)


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
    if larger.root_id == id and larger.root_kind == kind.name:
        return
    label = (await uow.session.execute(select(table.c[model.label_column]).where(table.c.id == id))).scalar_one()
    own = Deletion(
        root_kind=kind.name, root_id=id, label=str(label), state="deleted", actor_id=uow.access.actor_id,
        counts={kind.name: 1},
    )  # fmt: skip
    uow.session.add(own)
    await uow.session.flush()
    await uow.session.execute(stamp(model, own.id).where(table.c.id == id, table.c.deletion_id == larger.id))
    larger.counts = {**larger.counts, kind.name: larger.counts.get(kind.name, 1) - 1}
    uow.record(DELETED, kind.name, id)


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


async def stamp_root(uow: UnitOfWork, kind: Kind, id: UUID, deletion_id: UUID) -> list[UUID]:
    """Stamp the root and, where its kind is a tree, everything of the kind below it.

    Level by level, until nothing is left: once a node is stamped nobody can hang a new one under it.
    """
    table = inspect(kind.model).local_table
    taken: list[UUID] = []
    level = [id]
    while level:
        stamped = await uow.session.execute(
            stamp(kind.model, deletion_id).where(table.c.id.in_(level), ~table.c.is_deleted).returning(table.c.id)
        )
        taken += list(stamped.scalars())
        if not kind.is_tree:
            break
        column = table.c[kind.tree_column().key]
        below = await uow.session.execute(select(table.c.id).where(column.in_(level), ~table.c.is_deleted))
        level = list(below.scalars())
    return taken


async def react_to_delete(uow: UnitOfWork, kind: Kind, ids: Sequence[UUID]) -> None:
    """What else the plugins want to be so when rows of this kind go."""
    for reaction in kind.reactions:
        if reaction.deleted is not None and ids:
            await reaction.deleted(uow, ids)


async def restore(
    uow: UnitOfWork,
    model: type[Table],
    id: UUID,
    request: RestoreRequest | None = None,
    dry_run: bool = False,
) -> Response:
    """Bring back exactly what one delete took: 202 with the deletion, or with `dry_run` 200 and a preview.

    409 `not_deleted`, `parent_deleted`, `natural_key_taken`, or what the plugins' reactions say.
    """
    on_conflict = request.on_conflict if request else None
    kind = uow.context.platform.kinds.of(model)
    try:
        deletion = await find_deletion(uow, kind, id, lock=not dry_run)
    except StateConflict as conflict:
        if not dry_run or conflict.code != "parent_deleted":
            raise
        found = ConflictRead(kind=kind.name, id=id, code=conflict.code, detail=conflict.detail)
        root = RootRead(kind=kind.name, id=id, label=str(id))
        return JsonBytes(RestorePreview(root=root, counts={}, conflicts=[found]).model_dump())
    if dry_run:
        conflicts = await find_conflicts(uow, kind, deletion, on_conflict)
        preview = RestorePreview(
            root=RootRead(kind=kind.name, id=id, label=deletion.label),
            counts=await count_taken(uow, kind, deletion.id),
            conflicts=[ConflictRead(**vars(conflict)) for conflict in conflicts],
        )
        return JsonBytes(preview.model_dump())
    if deletion.state == "restoring":
        return await deletion_answer(uow, deletion)
    await hold_parents_of_dead(uow, kind, id)
    conflicts = await find_conflicts(uow, kind, deletion, on_conflict)
    if conflicts:
        first = conflicts[0]
        raise StateConflict(
            first.code,
            first.detail,
            conflicts=[
                {"kind": one.kind, "id": str(one.id), "code": one.code, "detail": one.detail} for one in conflicts
            ],
        )
    deletion.state, deletion.on_conflict = "restoring", on_conflict
    uow.emit(RestoreRequested(deletion_id=deletion.id, kind=kind.name, id=id, actor_id=uow.access.actor_id))
    uow.record(RESTORED, kind.name, id)
    return await deletion_answer(uow, deletion)


async def find_deletion(uow: UnitOfWork, kind: Kind, id: UUID, lock: bool) -> Deletion:
    """The deletion that took this row as its root, if the actor may undo it.

    404 when the actor may not know the row, 403 when they may know but not restore it.
    """
    row = (await uow.session.execute(select(kind.model).where(col(kind.model.id) == id))).scalar_one_or_none()
    permitted = row is not None and await may_restore(uow, kind, id)
    if row is None or not permitted:
        readable = uow.readable(kind.model)
        visible = select(col(kind.model.id)).where(
            col(kind.model.id) == id, alive(kind.model), readable.write(kind.model)
        )
        if row is not None and (await uow.session.execute(visible, readable.parameters)).first() is not None:
            raise Forbidden(f"This needs the permission {kind.restore_permission}, which you do not have here.")
        raise NotFound(kind.name, id)
    if row.deletion_id is None:
        raise not_deleted(kind)
    statement = select(Deletion).where(Deletion.id == row.deletion_id)  # type: ignore[arg-type]
    if lock:
        statement = statement.with_for_update().execution_options(populate_existing=True)
    deletion = (await uow.session.execute(statement)).scalar_one()
    if deletion.root_kind != kind.name or deletion.root_id != id:
        raise StateConflict(
            "parent_deleted",
            f"It was deleted together with the {deletion.root_kind.split('.')[1]} {deletion.label!r}; restore that.",
            root={"kind": deletion.root_kind, "id": str(deletion.root_id)},
        )
    if deletion.state in ("restored", "purged"):
        raise not_deleted(kind)
    return deletion


def not_deleted(kind: Kind) -> StateConflict:
    """409: there is nothing to restore."""
    return StateConflict("not_deleted", f"This {kind.noun.replace('_', ' ')} is not deleted.")


async def may_restore(uow: UnitOfWork, kind: Kind, id: UUID) -> bool:
    """Whether the actor has the kind's restore permission on a dead row."""
    permitted = uow.context.platform.rules.restorable(uow.access, kind, "may")
    statement = select(col(kind.model.id)).where(col(kind.model.id) == id, permitted.write(kind.model))
    return (await uow.session.execute(statement, permitted.parameters)).first() is not None


async def hold_parents_of_dead(uow: UnitOfWork, kind: Kind, id: UUID, for_change: bool = False) -> None:
    """Keep what the row hangs under alive until this transaction ends; 409 `parent_deleted` when it is not.

    With `for_change` nobody else holds it meanwhile: reactions may lock it, and of two who hold it already neither could.
    """
    for edge in kind.parents:
        column = getattr(kind.model, edge.column)
        parent_id = (await uow.session.execute(select(column).where(col(kind.model.id) == id))).scalar_one()
        if parent_id is None:
            continue
        try:
            if for_change:
                await uow.lock(uow.context.platform.kinds.by_name[edge.parent].model, parent_id)
            else:
                await uow.hold(edge.parent, parent_id)
        except NotFound:
            raise parent_deleted(edge.parent, parent_id) from None


def parent_deleted(kind: str, id: UUID) -> StateConflict:
    """409: the thing it hangs under is deleted itself."""
    noun = kind.split(".")[1].replace("_", " ")
    return StateConflict(
        "parent_deleted",
        f"The {noun} it belongs to is deleted; restore that first.",
        parent={"kind": kind, "id": str(id)},
    )


async def find_conflicts(uow: UnitOfWork, root: Kind, deletion: Deletion, on_conflict: str | None) -> list[Conflict]:
    """Everything that stands in the way of undoing a deletion."""
    conflicts: list[Conflict] = []
    for edge in root.parents:
        parent = uow.context.platform.kinds.by_name[edge.parent].model
        column = getattr(root.model, edge.column)
        dead = select(column).where(
            col(root.model.id) == deletion.root_id,
            column.is_not(None),
            ~exists().where(parent.id == column, alive(parent))
            if parent is not root.model
            else dead_in_tree(root, column),
        )
        if (parent_id := (await uow.session.execute(dead)).scalar_one_or_none()) is not None:
            conflict = parent_deleted(edge.parent, parent_id)
            conflicts.append(Conflict(root.name, deletion.root_id, conflict.code, conflict.detail))
    for kind in kinds_taken(uow, root):
        conflicts += await natural_key_conflicts(uow, kind, deletion.id)
        ids = (
            list(
                (
                    await uow.session.execute(
                        select(col(kind.model.id)).where(col(kind.model.deletion_id) == deletion.id)
                    )
                ).scalars()
            )
            if kind.reactions
            else []
        )
        for reaction in kind.reactions:
            if reaction.conflicts is not None and ids:
                conflicts += await reaction.conflicts(uow, ids, on_conflict)
    return conflicts[:MAX_CONFLICTS]


def dead_in_tree(kind: Kind, column: Any) -> Any:
    """Whether the parent of the same kind is dead."""
    parent = aliased(kind.model)
    return ~exists().where(parent.id == column, ~col(parent.is_deleted), alive(parent, own=False))


async def natural_key_conflicts(uow: UnitOfWork, kind: Kind, deletion_id: UUID) -> list[Conflict]:
    """Rows of a deletion whose natural key a live row has by now."""
    if not kind.model.natural_key:
        return []
    table = inspect(kind.model).local_table
    condition = text(kind.model.natural_key_condition) if kind.model.natural_key_condition else literal(True)
    dead = select(table).where(table.c.deletion_id == deletion_id, condition).subquery()
    living = select(table).where(~table.c.is_deleted, condition).subquery()
    # One look into the key's index for each dead row: as a plain join, statistics from before the delete made
    # PostgreSQL compare every dead row with every living one. Plain equality where it can be had: PostgreSQL cannot use an index for IS NOT DISTINCT FROM.
    same = [
        dead.c[name].is_not_distinct_from(living.c[name]) if table.c[name].nullable else dead.c[name] == living.c[name]
        for name in kind.model.natural_key
    ]
    taken = select(living.c.id).where(*same).limit(1).lateral()
    rows = await uow.session.execute(
        select(dead.c.id, cast(dead.c[kind.model.label_column], String)).join(taken, true()).limit(MAX_CONFLICTS)
    )
    noun = kind.noun.replace("_", " ")
    names = key_in_words(kind.model)
    return [
        Conflict(
            kind.name,
            id,
            "natural_key_taken",
            f"Another {noun} has taken the {names} of {label!r} meanwhile; change or delete that one, then restore.",
        )
        for id, label in rows
    ]


def kinds_taken(uow: UnitOfWork, root: Kind) -> list[Kind]:
    """The root's kind and every kind that a delete of it follows, parents before children."""
    below = [kind for _, kind in uow.context.platform.kinds.below(root.name)]
    return list({kind.name: kind for kind in [root, *below]}.values())


async def count_taken(uow: UnitOfWork, root: Kind, deletion_id: UUID) -> dict[str, int]:
    """How many rows of each kind a deletion holds now."""
    counts = {}
    for kind in kinds_taken(uow, root):
        table = inspect(kind.model).local_table
        found = await uow.session.execute(
            select(func.count()).select_from(table).where(table.c.deletion_id == deletion_id)
        )
        if number := found.scalar_one():
            counts[kind.name] = number
    return counts


async def deletion_answer(uow: UnitOfWork, deletion: Deletion) -> Response:
    """202 with the deletion."""
    await uow.session.flush()
    await uow.session.refresh(deletion)
    return JsonBytes(read_deletion(deletion).model_dump(), 202)


def read_deletion(deletion: Deletion) -> DeletionRead:
    """A deletion as clients see it."""
    return DeletionRead(
        id=deletion.id,
        root=RootRead(kind=deletion.root_kind, id=deletion.root_id, label=deletion.label),
        state=deletion.state,
        actor_id=deletion.actor_id,
        created_at=deletion.created_at,
        counts=deletion.counts,
        purge_after=deletion.purge_after,
    )
