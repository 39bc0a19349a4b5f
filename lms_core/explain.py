"""Why somebody may do a thing, or not; and who may. Both ask what decides every request: the roles, and the same SQL."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, Uuid, any_, literal, or_, select
from sqlalchemy.orm import aliased
from sqlmodel import col

from lms_core.conditions import among
from lms_core.db import Table
from lms_core.errors import Invalid, NotFound
from lms_core.kinds import Kind, alive, kind_name, scope_columns
from lms_core.permissions import SUPER_ADMIN, Access, permissions_column
from lms_core.types import HeldRole, ReadRule
from lms_core.uow import UnitOfWork

Place = tuple[str, UUID]
"""A kind and an id, at which a role may be held."""


@dataclass(frozen=True)
class Decision:
    """One permission: whether it is given, and by which held roles."""

    permission: str
    allowed: bool
    through: tuple[HeldRole, ...]
    sufficient: tuple[str, ...]


async def find_object(uow: UnitOfWork, on: str) -> tuple[Kind, UUID]:
    """What `courses.course:<id>` or `course:<id>` names; 422 for anything else, 404 when the actor may not know it."""
    noun, _, text = on.partition(":")
    kind = uow.context.platform.kinds.find(noun)
    try:
        id = UUID(text)
    except ValueError:
        id = None
    if kind is None or id is None:
        known = ", ".join(uow.context.platform.kinds.by_name)
        raise Invalid("invalid_object", f"Name one object as <kind>:<id>, with a kind of: {known}.", ("query", "on"))
    if not await uow.knows(kind.model, id):
        raise NotFound(kind.name, id)
    return kind, id


async def explain(uow: UnitOfWork, access: Access, kind: Kind, id: UUID) -> tuple[bool, list[Decision]]:
    """Whether an actor may read a live row, and the decision on every permission there is, in one statement."""
    rules, model = uow.context.platform.rules, kind.model
    names = sorted(rules.permissions)
    asked_by = [rules.rule_for(model, name) for name in names]
    filters = [rules.any_of(access, model, [rule], f"explained{number}_") for number, rule in enumerate(asked_by)]
    readable = rules.readable(access, model)
    columns = [one.write(model).label(f"permission_{number}") for number, one in enumerate(filters)]
    parameters = dict(readable.parameters)
    for one in filters:
        parameters |= one.parameters
    asked = select(readable.write(model).label("readable"), *columns).where(col(model.id) == id, alive(model))
    row = (await uow.session.execute(asked, parameters)).first()
    if row is None:
        raise NotFound(kind.name, id)
    places = {rule.holder is None: await places_of(uow, kind, id, rule) for rule in one_of_each(asked_by)}
    decisions = []
    for rule, name, allowed in zip(asked_by, names, row[1:], strict=True):
        at = places[rule.holder is None]
        through = [held for held in access.roles if counts(uow, held, rule, at)] if allowed else []
        decisions.append(Decision(name, bool(allowed), tuple(through), tuple(sorted(rules.roles_with(name)))))
    return bool(row[0]), decisions


def one_of_each(rules: Iterable[ReadRule]) -> Iterable[ReadRule]:
    """One rule that asks of the row, and one that asks of its person, where there are such."""
    return {rule.holder is None: rule for rule in rules}.values()


def counts(uow: UnitOfWork, held: HeldRole, rule: ReadRule, places: set[Place]) -> bool:
    """Whether a held role gives the permission of a rule at one of these places."""
    rules, permission = uow.context.platform.rules, str(rule.permission)
    kind = None if rule.holder is not None else kind_name(rule.model)
    if held.object_id is None:
        return held.role == SUPER_ADMIN or rules.gives(held, permission, kind)
    return (held.kind, UUID(str(held.object_id))) in places and rules.gives(held, permission, kind)


async def who_may(uow: UnitOfWork, permission: str, kind: Kind, id: UUID) -> list[UUID]:
    """Everybody whose roles give a permission on a row, by their ids; whether they may sign in is not asked."""
    rules = uow.context.platform.rules
    rule = rules.rule_for(kind.model, permission)
    places = await with_above_in_trees(uow, await places_of(uow, kind, id, rule))
    found: set[UUID] = set()
    for source in rules.sources:
        held = source.statement.subquery()
        ids = [place_id for place_kind, place_id in places if place_kind == source.kind]
        at = or_(held.c.object_id.is_(None), held.c.object_id == any_(literal(ids, ARRAY(Uuid()))))
        columns = (held.c.actor_id, held.c.object_id, held.c.role, held.c.grant_id, permissions_column(held))
        for actor_id, object_id, role, grant_id, own in (await uow.session.execute(select(*columns).where(at))).all():
            given = None if own is None else frozenset(own)
            one = HeldRole(source.name, source.kind, object_id, role, grant_id, None, given)
            if counts(uow, one, rule, places):
                found.add(actor_id)
    return sorted(found)


async def places_of(uow: UnitOfWork, kind: Kind, id: UUID, rule: ReadRule) -> set[Place]:
    """A row and all that it hangs under; or, for its person, where they hold roles and what that hangs under."""
    if rule.holder is None:
        return await scope_of(uow, kind.model, [id])
    person = (await uow.session.execute(select(rule.holder).where(col(kind.model.id) == id))).scalar_one()
    places: set[Place] = set()
    for source in uow.context.platform.rules.sources:
        held = source.statement.subquery()
        at = select(held.c.object_id).where(held.c.actor_id == person, held.c.object_id.is_not(None)).distinct()
        ids = list((await uow.session.execute(at)).scalars())
        places |= await scope_of(uow, uow.context.platform.kinds.by_name[source.kind].model, ids)
    return places


async def scope_of(uow: UnitOfWork, model: type[Table], ids: Iterable[UUID]) -> set[Place]:
    """Rows of a kind and all that they hang under."""
    columns = list(scope_columns(uow.context.platform.kinds, model))
    asked = select(*(expression for _, expression in columns)).where(among(model.id, ids))
    rows = (await uow.session.execute(asked)).all()
    kinds = [name for name, _ in columns]
    return {(name, id) for row in rows for name, id in zip(kinds, row, strict=True) if id is not None}


async def with_above_in_trees(uow: UnitOfWork, places: set[Place]) -> set[Place]:
    """The places, and in trees those above: a role held there holds for all below."""
    found = set(places)
    for kind in uow.context.platform.kinds.by_name.values():
        ids = [id for name, id in places if name == kind.name]
        if not kind.is_tree or not ids:
            continue
        column = kind.tree_column()
        path = select(col(kind.model.id), column.label("above")).where(among(kind.model.id, ids))
        walk: Any = path.cte("above", recursive=True)
        parent = aliased(kind.model)
        upwards = select(col(parent.id), getattr(parent, column.key)).where(col(parent.id) == walk.c.above)
        walk = walk.union(upwards)
        found |= {(kind_name(kind.model), id) for id in (await uow.session.execute(select(walk.c.id))).scalars()}
    return found
