"""What legal holds cover: whether a deletion took anything that may not be removed for good while one stands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, exists, false, func, inspect, or_, select
from sqlalchemy.orm import aliased
from sqlmodel import col

from lms_core.conditions import among
from lms_core.kinds import Kind, kind_name, pointing_at, scope_columns
from lms_core.legal_holds import LegalHold
from lms_core.subtree import kinds_below
from lms_core.types import Part
from lms_core.uow import UnitOfWork


async def is_held(uow: UnitOfWork, root: Kind, deletion_id: UUID) -> bool:
    """Whether a hold covers anything that a deletion took.

    That is the thing itself, what it hangs under or is a part of, and the people whom it names; its parts; and what
    something that is covered points at, as a held material does at the file that it shows.
    """
    standing = await standing_holds(uow)
    if not standing:
        return False
    coverage = Coverage(uow, standing)
    for kind in kinds_below(uow.context.platform.kinds, root):
        conditions = coverage.of_taken(kind, deletion_id)
        if conditions and (await uow.session.execute(select(or_(*conditions)))).scalar_one():
            return True
    return False


async def mark_of_holds(uow: UnitOfWork) -> Any:
    """What is another one as soon as a hold was set or lifted."""
    standing = select(func.count(), func.max(col(LegalHold.created_at))).where(col(LegalHold.lifted_at).is_(None))
    return tuple((await uow.session.execute(standing)).one())


async def standing_holds(uow: UnitOfWork) -> dict[str, set[UUID]]:
    """What is held, by kind; of a tree, with everything below it, dead or alive."""
    kinds = uow.context.platform.kinds
    held: dict[str, set[UUID]] = {}
    standing = select(col(LegalHold.kind), col(LegalHold.object_id)).where(col(LegalHold.lifted_at).is_(None))
    for name, id in (await uow.session.execute(standing)).all():
        if name in kinds.by_name:
            held.setdefault(name, set()).add(id)
    for name in [name for name in held if kinds.by_name[name].is_tree]:
        table, column = inspect(kinds.by_name[name].model).local_table, kinds.by_name[name].tree_column().key
        tree = select(table.c.id).where(among(table.c.id, held[name])).cte("below", recursive=True)
        tree = tree.union(select(table.c.id).where(table.c[column] == tree.c.id))
        held[name] |= set((await uow.session.execute(select(tree.c.id))).scalars())
    return held


class Coverage:
    """Conditions in SQL on what some holds cover."""

    def __init__(self, uow: UnitOfWork, held: dict[str, set[UUID]]) -> None:
        self.held, self.kinds = held, uow.context.platform.kinds
        self.models = [model for plugin in uow.context.platform.plugins for model in plugin.models]
        people = [self.kinds.by_name[name] for name in held if self.kinds.by_name[name].is_person]
        self.people = {inspect(kind.model).local_table: held[kind.name] for kind in people}

    def of_taken(self, kind: Kind, deletion_id: UUID) -> list[ColumnElement[bool]]:
        """Each is true when the deletion took rows of this kind that are covered in one of the three ways."""
        table = inspect(kind.model).local_table
        taken = select(table.c.id).where(table.c.deletion_id == deletion_id)
        found: list[ColumnElement[bool]] = [exists(taken.where(covered)) for covered in self.covers(kind.model)]
        found += self.of_parts(kind.model, taken)
        rows: Any = taken
        for part in self.kinds.parts:
            if part.model is kind.model and part.of is kind.model:
                # What points at a thing needs its versions too.
                rows = rows.union(select(table.c[part.column]).where(table.c.deletion_id == deletion_id))
        for model in self.models:
            if columns := pointing_at(model, table):
                other = aliased(model)
                covers = or_(false(), *self.covers(other))
                found += [exists().where(getattr(other, column).in_(rows), covers) for column in columns]
        return found

    def of_parts(self, model: type[Any], rows: Any) -> Iterator[ColumnElement[bool]]:
        """The same for the parts of rows, and the parts of those."""
        for part in self.kinds.parts:
            if part.of is not model:
                continue
            own = aliased(part.model)
            going = getattr(own, part.column).in_(rows)
            if covers := self.covers(own):
                yield exists().where(going, or_(*covers))
            if part.model is not model and "id" in inspect(part.model).local_table.c:
                yield from self.of_parts(part.model, select(own.id).where(going))

    def covers(self, entity: Any) -> list[ColumnElement[bool]]:
        """Rows of a table that are held, hang under or are a part of what is held, or name somebody who is."""
        model = inspect(entity).mapper.class_
        columns = scope_columns(self.kinds, entity)
        found = [among(column, self.held[name]) for name, column in columns if name in self.held]
        for table, ids in self.people.items():
            found += [among(getattr(entity, column), ids) for column in pointing_at(model, table)]
        for part in self.kinds.parts:
            if part.model is model:
                found += self.covers_part(part, getattr(entity, part.column))
        return found

    def covers_part(self, part: Part, column: Any) -> Sequence[ColumnElement[bool]]:
        """What is a part of something that is covered; of a thing of its own kind (a version of a file), of one that is held."""
        if part.of is part.model:
            return [among(column, self.held.get(kind_name(part.model), ()))]
        # A name stands for its table by then (kinds.py).
        whole: Any = aliased(part.of)  # type: ignore[arg-type]
        covers = self.covers(whole)
        return [column.in_(select(whole.id).where(or_(false(), *covers)))] if covers else []
