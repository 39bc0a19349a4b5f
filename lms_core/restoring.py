"""Restore: what stands in its way, and the request that begins it; a worker then brings the rows back (cascade.py).

What comes back is a whole deletion, or a part of one: the part then becomes a deletion of its own, taken from the larger
one, whose rest stays where it is.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Annotated, Any
from uuid import UUID

from fastapi import Response
from sqlalchemy import Row, String, cast, exists, inspect, literal, select, text, true, update
from sqlalchemy.orm import aliased
from sqlmodel import Field, col

from lms_core.audit import CHANGED, RESTORED
from lms_core.conditions import among
from lms_core.db import Table
from lms_core.deletion import (
    Deletion,
    RestoreRequested,
    RootRead,
    deletion_answer,
    label_of,
    leave_out,
    preview_answer,
    read_conflict,
    stamp,
)
from lms_core.errors import Forbidden, Invalid, NotFound, Problem, StateConflict
from lms_core.inputs import Input
from lms_core.kinds import Kind, alive
from lms_core.subtree import Walk
from lms_core.types import Conflict
from lms_core.uow import UnitOfWork, key_in_words

MAX_CONFLICTS = 1_000
MAX_RENAMES = 1_000
UNKNOWN = "Something that you may not see stands in the way; send one of the choices, or ask somebody who may see it."
RENAME = "rename"
"""The choice to give what comes back another key where its own is taken."""
PARENTS = "parents"
"""The choice to bring back what a row hangs under as well, though nothing else of that."""

Choice = Annotated[str, Field(max_length=40)]


class RestoreRequest(Input):
    """How to solve conflicts: each names its `choices`."""

    on_conflict: Choice | Annotated[list[Choice], Field(max_length=10)] | None = Field(
        default=None, description="`rename`, `parents`, `waitlist`, or what else a conflict names; several as a list"
    )


async def restore(uow: UnitOfWork, model: type[Table], id: UUID, request: RestoreRequest | None = None) -> Response:
    """Bring back what one delete took, or this part of it: 202 with the deletion; in a dry run 200 with a preview.

    409 `not_deleted`, `parent_deleted`, `natural_key_taken`, `deletion_under_way`, or what the plugins' reactions say.
    """
    kind = uow.context.platform.kinds.of(model)
    deletion_id = await find_dead(uow, kind, id)
    choices = chosen(uow, request)
    if deletion_id is None:
        return await answer_about_to_go(uow, kind, id, choices)
    deletion = await hold_deletion(uow, deletion_id)
    # Once more under the lock: a part of the deletion may have become one of its own meanwhile.
    if not uow.dry_run and await find_dead(uow, kind, id) != deletion_id:
        raise under_way("This is being restored; try again shortly.")
    if deletion.root_kind == kind.name and deletion.root_ids == [id]:
        return await restore_whole(uow, kind, deletion, choices)
    return await restore_part(uow, kind, id, deletion, choices)


async def restore_deletion(uow: UnitOfWork, deletion_id: UUID, request: RestoreRequest | None = None) -> Response:
    """Bring back all that a deletion holds; whoever asks is known to be allowed to."""
    choices = chosen(uow, request)
    deletion = await hold_deletion(uow, deletion_id)
    return await restore_whole(uow, uow.context.platform.kinds.by_name[deletion.root_kind], deletion, choices)


def chosen(uow: UnitOfWork, request: RestoreRequest | None) -> list[str]:
    """The choices of a request; 422 for one that nobody knows."""
    given = None if request is None else request.on_conflict
    choices = [given] if isinstance(given, str) else list(given or ())
    reactions = [reaction for kind in uow.context.platform.kinds.by_name.values() for reaction in kind.reactions]
    known = sorted({RENAME, PARENTS} | {choice for reaction in reactions for choice in reaction.choices})
    if not set(choices) <= set(known):
        raise Invalid(
            "unknown_choice",
            f"There is no such way to solve a conflict; use {', '.join(known)}.",
            ("body", "on_conflict"),
        )
    return choices


async def find_dead(uow: UnitOfWork, kind: Kind, id: UUID) -> UUID | None:
    """The deletion that holds a row which the actor may restore.

    404 when they may not know the row, 403 when they may know but not restore it, 409 `not_deleted` when it lives. None
    when it hangs under something deleted, and the cascade has not come to it yet.
    """
    found = select(col(kind.model.deletion_id)).where(col(kind.model.id) == id)
    row = (await uow.session.execute(found)).first()
    if row is None or not await may_restore(uow, kind, id):
        if row is not None and await uow.knows(kind.model, id):
            raise Forbidden(f"This needs the permission {kind.restore_permission}, which you do not have here.")
        raise NotFound(kind.name, id)
    if row.deletion_id is None:
        lives = select(col(kind.model.id)).where(col(kind.model.id) == id, alive(kind.model))
        if (await uow.session.execute(lives)).first() is not None:
            raise not_deleted(kind)
    deletion_id: UUID | None = row.deletion_id
    return deletion_id


async def answer_about_to_go(uow: UnitOfWork, kind: Kind, id: UUID, choices: Sequence[str]) -> Response:
    """What hangs under something deleted may not come back without it, whether a cascade has come to it yet or not."""
    above = await dead_above(uow, kind, [id])
    if not above or (PARENTS in choices and not uow.dry_run):
        raise under_way("What this went with is still being deleted, or has just come back; try again shortly.")
    name, dead = next(reversed(above.items()))
    conflicts = [parent_deleted(uow, name, one, kind, id, PARENTS not in choices) for one in dead]
    if not uow.dry_run:
        refuse(conflicts)
    root = RootRead(kind=kind.name, id=id, label=await label_of(uow, kind, [id]))
    return await preview_answer(uow, root, Walk(uow.context.platform.kinds, kind, [id]), conflicts)


async def may_restore(uow: UnitOfWork, kind: Kind, id: UUID) -> bool:
    """Whether the actor has the kind's restore permission on a dead row."""
    rules = uow.context.platform.rules
    permitted = rules.restorable(uow.access, kind, "restore")
    return await rules.holds(uow.asked, permitted, kind.model, id, dead_too=True)


async def hold_deletion(uow: UnitOfWork, deletion_id: UUID) -> Deletion:
    """A deletion, locked unless this is a dry run."""
    statement = select(Deletion).where(col(Deletion.id) == deletion_id)
    if not uow.dry_run:
        statement = statement.with_for_update().execution_options(populate_existing=True)
    return (await uow.session.execute(statement)).scalar_one()


def not_deleted(kind: Kind) -> StateConflict:
    """409: there is nothing to restore."""
    return StateConflict("not_deleted", f"This {kind.noun.replace('_', ' ')} is not deleted.")


def under_way(detail: str) -> Problem:
    """409: a worker is at it."""
    return Problem(409, "deletion_under_way", detail, {"Retry-After": "1"})


def parent_deleted(uow: UnitOfWork, name: str, id: UUID, child: Kind, child_id: UUID, may_come: bool) -> Conflict:
    """What it hangs under is deleted. People come back whole, never as what something of theirs hangs under.

    Else they would come without the roles by which others are known to be below them.
    """
    noun = uow.context.platform.kinds.by_name[name].noun.replace("_", " ")
    hint = f", or send on_conflict: {PARENTS} to bring back both" if may_come else ""
    detail = f"The {noun} it belongs to is deleted; restore that first{hint}."
    return Conflict(child.name, child_id, "parent_deleted", detail, (PARENTS,) if may_come else ())


async def restore_whole(uow: UnitOfWork, kind: Kind, deletion: Deletion, choices: Sequence[str]) -> Response:
    """Bring back all that a deletion holds."""
    if deletion.state in ("restored", "purged"):
        raise not_deleted(kind)
    if deletion.state == "restoring" and not uow.dry_run:
        return await deletion_answer(uow, deletion)
    part = select(col(Deletion.id)).where(col(Deletion.taken_from) == deletion.id, col(Deletion.state) == "restoring")
    if (await uow.session.execute(part.limit(1))).first() is not None:
        raise under_way("A part of this is being restored; try again shortly.")
    walk = Walk(uow.context.platform.kinds, kind, None, deletion.id)
    conflicts = await find_conflicts(uow, kind, deletion.root_ids, walk, choices)
    if uow.dry_run:
        root = RootRead(kind=kind.name, id=deletion.root_id, label=deletion.label)
        return await preview_answer(uow, root, walk, conflicts)
    refuse(conflicts)
    return await begin(uow, deletion, choices)


async def restore_part(uow: UnitOfWork, kind: Kind, id: UUID, larger: Deletion, choices: Sequence[str]) -> Response:
    """Bring back one thing out of a larger deletion, with all that went with it; the rest stays deleted."""
    if larger.state in ("restored", "purged"):
        raise not_deleted(kind)
    if larger.state != "deleted" and not uow.dry_run:
        doing = "deleted" if larger.state == "cascading" else "restored"
        raise under_way(f"What this went with is still being {doing}; try again shortly.")
    walk = Walk(uow.context.platform.kinds, kind, [id], larger.id)
    conflicts = await find_conflicts(uow, kind, [id], walk, choices)
    label = await label_of(uow, kind, [id])
    if uow.dry_run:
        return await preview_answer(uow, RootRead(kind=kind.name, id=id, label=label), walk, conflicts)
    may_know = larger.root_id in await known_ids(uow, larger.root_kind, [larger.root_id])
    refuse(conflicts, **({"root": {"kind": larger.root_kind, "id": str(larger.root_id)}} if may_know else {}))
    # Why the larger thing was deleted, whoever restores a part of it need not know.
    part = Deletion(
        root_kind=kind.name, root_id=id, root_ids=[id], label=label, actor_id=larger.actor_id, taken_from=larger.id, purge_after=larger.purge_after,
    )  # fmt: skip
    uow.session.add(part)
    await uow.session.flush()
    ids = list((await uow.session.execute(select(walk.ids[kind.name].c.id))).scalars())
    await uow.session.execute(stamp(kind.model, part.id).where(among(col(kind.model.id), ids)))
    await leave_out(uow, larger, kind, id)
    return await begin(uow, part, choices)


async def begin(uow: UnitOfWork, deletion: Deletion, choices: Sequence[str]) -> Response:
    """From here on it is on its way back."""
    deletion.state, deletion.choices, deletion.conflict = "restoring", list(choices), None
    actor_id = uow.access.actor_id
    uow.emit(RestoreRequested(deletion_id=deletion.id, kind=deletion.root_kind, id=deletion.root_id, actor_id=actor_id))
    for id in deletion.root_ids:
        uow.record(RESTORED, deletion.root_kind, id)
    return await deletion_answer(uow, deletion)


def refuse(conflicts: Sequence[Conflict], **more: Any) -> None:
    """409 when anything stands in the way: the first, with all of them listed."""
    if conflicts:
        listed = [read_conflict(conflict).model_dump(mode="json") for conflict in conflicts]
        raise StateConflict(conflicts[0].code, conflicts[0].detail, conflicts=listed, **more)


async def find_conflicts(
    uow: UnitOfWork, root: Kind, ids: Sequence[UUID], walk: Walk, choices: Collection[str]
) -> list[Conflict]:
    """Everything that stands in the way when these rows are to come back."""
    above = await dead_above(uow, root, ids, walk)
    conflicts: list[Conflict] = []
    people = [name for name in above if uow.context.platform.kinds.by_name[name].is_person]
    if people or (above and PARENTS not in choices):
        kind, dead = next(reversed(above.items()))
        conflicts += [parent_deleted(uow, kind, id, root, ids[0], not people) for id in dead]
    elif above:
        conflicts += await conflicts_above(uow, above, choices)
    if above and not conflicts:
        conflicts += await conflicts_under(uow, above, walk, choices)
    else:
        conflicts += await conflicts_within(uow, walk, choices)
    return await as_known(uow, Conflict(root.name, ids[0], "", UNKNOWN), conflicts[:MAX_CONFLICTS])


async def as_known(uow: UnitOfWork, hidden: Conflict, conflicts: Sequence[Conflict]) -> list[Conflict]:
    """The same, without what the actor may not know: a person takes part in places that others know nothing of."""
    known: set[UUID] = set()
    for name in {conflict.kind for conflict in conflicts}:
        known |= await known_ids(uow, name, [conflict.id for conflict in conflicts if conflict.kind == name])
    shown = [
        conflict
        if conflict.id in known or conflict.id == hidden.id
        else replace(hidden, code=conflict.code, choices=conflict.choices)
        for conflict in conflicts
    ]
    return list(dict.fromkeys(shown))


async def known_ids(uow: UnitOfWork, kind_name: str, ids: Sequence[UUID]) -> set[UUID]:
    """Those of some rows, dead or alive, that the actor may know."""
    kind = uow.context.platform.kinds.by_name[kind_name]
    visible = uow.context.platform.rules.readable(uow.access, kind.model, dead=True)
    found = select(col(kind.model.id)).where(among(col(kind.model.id), ids), visible.write(kind.model))
    return set((await uow.session.execute(found, visible.parameters)).scalars())


async def conflicts_within(uow: UnitOfWork, walk: Walk, choices: Collection[str]) -> list[Conflict]:
    """What stands in the way of the rows themselves."""
    found: list[Conflict] = []
    for name, coming in walk.ids.items():
        kind = uow.context.platform.kinds.by_name[name]
        found += await natural_key_conflicts(uow, kind, coming, choices)
        if kind.reactions:
            taken = list((await uow.session.execute(select(coming.c.id))).scalars())
            found += await conflicts_of_reactions(uow, kind, taken, choices)
    return found


async def conflicts_under(
    uow: UnitOfWork, above: dict[str, list[UUID]], walk: Walk, choices: Collection[str]
) -> list[Conflict]:
    """The same, asked as if what they hang under lived: then nobody is appointed along with a course that is dead."""
    entries = dict(uow.trail.entries)
    savepoint = await uow.session.begin_nested()
    for name, ids in above.items():
        kind = uow.context.platform.kinds.by_name[name]
        if RENAME in choices:
            await rename_taken(uow, kind, ids)
        await uow.session.execute(stamp(kind.model, None).where(among(col(kind.model.id), ids)))
    found = await conflicts_within(uow, walk, choices)
    await savepoint.rollback()
    uow.trail.entries = entries
    return found


async def conflicts_above(uow: UnitOfWork, above: dict[str, list[UUID]], choices: Collection[str]) -> list[Conflict]:
    """What stands in the way of bringing back, without all else that is in them, the things that a row hangs under."""
    found: list[Conflict] = []
    for name, ids in above.items():
        kind = uow.context.platform.kinds.by_name[name]
        for id in ids:
            if not await may_restore(uow, kind, id):
                noun = kind.noun.replace("_", " ")
                found.append(
                    Conflict(
                        name, id, "parent_deleted", f"The {noun} it belongs to is deleted; you may not restore it."
                    )
                )
        rows = select(col(kind.model.id)).where(among(col(kind.model.id), ids)).cte("above")
        found += await natural_key_conflicts(uow, kind, rows, choices)
        found += await conflicts_of_reactions(uow, kind, ids, choices)
    return found


async def conflicts_of_reactions(
    uow: UnitOfWork, kind: Kind, ids: Sequence[UUID], choices: Collection[str]
) -> list[Conflict]:
    """What the plugins have against it."""
    found: list[Conflict] = []
    for reaction in kind.reactions:
        if reaction.conflicts is not None and ids:
            found += await reaction.conflicts(uow, ids, choices)
    return found


async def dead_above(
    uow: UnitOfWork, kind: Kind, ids: Sequence[UUID], walk: Walk | None = None
) -> dict[str, list[UUID]]:
    """What rows hang under that is dead, the topmost first; what is itself about to come back (`walk`) is left out."""
    found: dict[str, list[UUID]] = {}
    kinds = uow.context.platform.kinds
    seen: set[UUID] = set(ids)

    async def look(kind: Kind, ids: Sequence[UUID]) -> None:
        for edge in kind.parents:
            parent = kinds.by_name[edge.parent]
            column, upper = getattr(kind.model, edge.column), aliased(parent.model)
            statement = (
                select(col(upper.id), col(upper.is_deleted))
                .join(kind.model, column == upper.id)
                .where(among(col(kind.model.id), ids))
                .distinct()
            )
            rows = [(id, dead) for id, dead in (await uow.session.execute(statement)).all() if id not in seen]
            if not rows:
                continue
            seen.update(id for id, _ in rows)
            await look(parent, [id for id, _ in rows])
            dead = [id for id, dead in rows if dead]
            if dead and walk is not None and parent.name in walk.ids:
                coming = walk.ids[parent.name]
                back = select(coming.c.id).where(among(coming.c.id, dead))
                dead = [id for id in dead if id not in set((await uow.session.execute(back)).scalars())]
            if dead:
                found.setdefault(parent.name, []).extend(dead)

    if ids:
        await look(kind, ids)
    gone = select(col(kind.model.id)).where(among(col(kind.model.id), ids), col(kind.model.is_deleted))
    if walk is not None:
        # Roots that came back by themselves, and were deleted again since.
        gone = gone.where(col(kind.model.id).not_in(select(walk.ids[kind.name].c.id)))
        if again := list((await uow.session.execute(gone)).scalars()):
            found.setdefault(kind.name, []).extend(again)
    return found


async def taken_keys(uow: UnitOfWork, kind: Kind, coming: Any) -> Sequence[Row[Any]]:
    """Rows that are to come back, and their labels, whose natural key a live row has by now."""
    if not kind.model.natural_key:
        return []
    table = inspect(kind.model).local_table
    condition = text(kind.model.natural_key_condition) if kind.model.natural_key_condition else literal(True)
    dead = select(table).where(table.c.id.in_(select(coming.c.id)), condition).subquery()
    living = select(table).where(~table.c.is_deleted, condition).subquery()
    # One look into the key's index for each dead row: as a plain join, statistics from before the delete made
    # PostgreSQL compare every dead row with every living one. Plain equality where it can be had: PostgreSQL cannot use an index for IS NOT DISTINCT FROM.
    same = [
        dead.c[name].is_not_distinct_from(living.c[name]) if table.c[name].nullable else dead.c[name] == living.c[name]
        for name in kind.model.natural_key
    ]
    taken = select(living.c.id).where(*same).limit(1).lateral()
    statement = select(dead.c.id, cast(dead.c[kind.model.label_column], String).label("label")).join(taken, true())
    return (await uow.session.execute(statement.limit(MAX_CONFLICTS))).all()


async def natural_key_conflicts(uow: UnitOfWork, kind: Kind, coming: Any, choices: Collection[str]) -> list[Conflict]:
    """One for each row whose key is taken, unless it will be renamed."""
    can_rename = kind.model.renamed_column is not None
    if can_rename and RENAME in choices:
        return []
    noun, names = kind.noun.replace("_", " "), key_in_words(kind.model)
    hint = f", or send on_conflict: {RENAME}" if can_rename else ""
    return [
        Conflict(
            kind.name,
            row.id,
            "natural_key_taken",
            f"Another {noun} has taken the {names} of {row.label!r} meanwhile; change or delete that one, then restore{hint}.",
            (RENAME,) if can_rename else (),
        )
        for row in await taken_keys(uow, kind, coming)
    ]


async def rename_taken(uow: UnitOfWork, kind: Kind, ids: Sequence[UUID]) -> None:
    """Give rows that come back another key where theirs is taken: `BIO-restored`, then `BIO-restored-2`."""
    name = kind.model.renamed_column
    if name is None or not ids:
        return
    table = inspect(kind.model).local_table
    coming = select(table.c.id).where(among(table.c.id, ids)).cte("coming")
    for row in await taken_keys(uow, kind, coming):
        before = (await uow.session.execute(select(table.c[name]).where(table.c.id == row.id))).scalar_one()
        after = await free_key(uow, kind, row.id, before)
        await uow.session.execute(update(table).where(table.c.id == row.id).values({name: after}))
        uow.record(CHANGED, kind.name, row.id, {name: {"before": before, "after": after}})


async def free_key(uow: UnitOfWork, kind: Kind, id: UUID, taken: str) -> str:
    """The first of the names made of a taken one that no row has which lives, or comes back with this one."""
    table, name = inspect(kind.model).local_table, str(kind.model.renamed_column)
    longest = table.c[name].type.length or 300
    own, other = table.alias("own"), table.alias("other")
    same = [own.c[part].is_not_distinct_from(other.c[part]) for part in kind.model.natural_key if part != name]
    for number in range(1, MAX_RENAMES):
        suffix = "-restored" if number == 1 else f"-restored-{number}"
        candidate = taken[: longest - len(suffix)].rstrip("-") + suffix
        here = ~other.c.is_deleted | (other.c.deletion_id == own.c.deletion_id)
        clash = exists().where(other.c.id != own.c.id, other.c[name] == candidate, here, *same).correlate(own)
        if not (await uow.session.execute(select(clash).where(own.c.id == id))).scalar_one():
            return candidate
    raise StateConflict("natural_key_taken", f"There are {MAX_RENAMES} rows named after {taken!r}; rename some.")


async def hold_above(
    uow: UnitOfWork, kind: Kind, ids: Sequence[UUID], deletion_id: UUID, for_change: bool = False
) -> bool:
    """Keep alive, until this transaction ends, what the roots of a deletion hang under; False when something is dead.

    Roots that came back already are kept alive themselves. With `for_change` nobody else holds it meanwhile: reactions
    may lock it, and of two who hold it already neither could.
    """
    model, kinds = kind.model, uow.context.platform.kinds
    needed: list[tuple[str, UUID]] = []
    rows = await uow.session.execute(
        select(col(model.id), col(model.deletion_id)).where(among(col(model.id), ids)).order_by(col(model.id))
    )
    held_by = {row.id: row.deletion_id for row in rows.all()}
    if any(holder not in (None, deletion_id) for holder in held_by.values()):
        return False
    for edge in kind.parents:
        upper = aliased(kinds.by_name[edge.parent].model)
        parents = (
            select(col(upper.id))
            .join(model, getattr(model, edge.column) == upper.id)
            .where(
                among(col(model.id), [id for id, holder in held_by.items() if holder == deletion_id]),
                col(upper.deletion_id).is_distinct_from(deletion_id),
            )
            .distinct()
        )
        needed += [(edge.parent, id) for id in sorted((await uow.session.execute(parents)).scalars())]
    needed += [(kind.name, id) for id, holder in held_by.items() if holder is None]
    try:
        for name, id in needed:
            if for_change:
                await uow.lock(kinds.by_name[name].model, id)
            else:
                await uow.hold(name, id)
    except NotFound:
        return False
    return True
