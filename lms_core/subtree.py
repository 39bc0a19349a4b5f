"""What hangs under some rows, as SQL: which rows of which kinds a delete would take, or a restore bring back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from pydantic import BaseModel
from sqlalchemy import CTE, Select, String, cast, func, inspect, select, union
from sqlmodel import col

from lms_core.conditions import among
from lms_core.db import Table
from lms_core.kinds import Kind, Kinds
from lms_core.uow import UnitOfWork

PEOPLE_SHOWN = 50


class PersonRead(BaseModel):
    """Somebody of whom something is taken or brought back."""

    id: UUID
    label: str


class Affected(BaseModel):
    """How many people it is about, and the first of those whom the caller may know."""

    count: int
    people: list[PersonRead]

    @classmethod
    def nobody(cls) -> Affected:
        """About nobody, or not asked."""
        return cls(count=0, people=[])


class Walk:
    """The rows under some roots, kind by kind, parents before children: one common table expression of ids for each.

    Either the live ones, which a delete would take, or those that one deletion holds; of such a deletion, without roots,
    all of them.
    """

    def __init__(self, kinds: Kinds, root: Kind, ids: Sequence[UUID] | None, deletion_id: UUID | None = None) -> None:
        self.kinds, self.root, self.deletion_id = kinds, root, deletion_id
        self.ids: dict[str, CTE] = {}
        for kind in kinds_below(kinds, root):
            if ids is None:
                table = inspect(kind.model).local_table
                self.ids[kind.name] = select(table.c.id).where(self.counts(kind.model)).cte(self.name_of(kind))
            elif kind is root:
                self.ids[kind.name] = self.roots(ids)
            else:
                self.ids[kind.name] = self.hanging(kind).cte(self.name_of(kind))

    def name_of(self, kind: Kind) -> str:
        """What the common table expression of a kind is called."""
        return f"walk_{kind.plugin}_{kind.noun}"

    def counts(self, model: type[Table]) -> Any:
        """The condition on rows of a table: they are among those that are walked at all."""
        table = inspect(model).local_table
        return ~table.c.is_deleted if self.deletion_id is None else table.c.deletion_id == self.deletion_id

    def roots(self, ids: Sequence[UUID]) -> CTE:
        """The roots and, in a tree, everything of their kind below them."""
        table = inspect(self.root.model).local_table
        chosen = select(table.c.id).where(among(table.c.id, ids), self.counts(self.root.model))
        if not self.root.is_tree:
            return chosen.cte(self.name_of(self.root))
        tree = chosen.cte(self.name_of(self.root), recursive=True)
        column = table.c[self.root.tree_column().key]
        return tree.union(select(table.c.id).where(column == tree.c.id, self.counts(self.root.model)))

    def hanging(self, kind: Kind) -> Any:
        """Rows of a kind whose parent is among those already walked, by whichever column."""
        table = inspect(kind.model).local_table
        found = [
            select(table.c.id)
            .join(self.ids[edge.parent], self.ids[edge.parent].c.id == table.c[edge.column])
            .where(self.counts(kind.model))
            for edge in kind.parents
            if edge.takes and edge.parent in self.ids and edge.parent != kind.name
        ]
        return found[0] if len(found) == 1 else union(*found)

    async def count(self, uow: UnitOfWork) -> dict[str, int]:
        """How many rows of each kind, in one statement; kinds of which there are none are left out."""
        numbers = [
            select(func.count()).select_from(ids).scalar_subquery().label(name) for name, ids in self.ids.items()
        ]
        row = (await uow.session.execute(select(*numbers))).one()
        return {name: number for name, number in zip(self.ids, row, strict=True) if number}

    def people(self) -> Select[Any] | None:
        """The ids of the people that these rows are, or belong to; None where no kind stands for people."""
        person = self.kinds.person
        if person is None:
            return None
        found: list[Any] = []
        for name, ids in self.ids.items():
            kind = self.kinds.by_name[name]
            if kind is person:
                found.append(select(ids.c.id))
            table = inspect(kind.model).local_table
            found += [
                select(table.c[edge.column]).join(ids, ids.c.id == table.c.id)
                for edge in kind.parents
                if edge.parent == person.name
            ]
        return select(union(*found).subquery("walked_people").c[0].label("id")) if found else None


def kinds_below(kinds: Kinds, root: Kind) -> list[Kind]:
    """The root's kind and every kind that a delete of it follows, parents before children."""
    below = [kind for _, kind in kinds.below(root.name)]
    return list({kind.name: kind for kind in [root, *below]}.values())


async def affected(uow: UnitOfWork, walk: Walk) -> Affected:
    """Whom it is about: all are counted, those are named whom the caller may read."""
    ids, person = walk.people(), walk.kinds.person
    if ids is None or person is None:
        return Affected.nobody()
    people = ids.cte("affected")
    model = person.model
    readable = uow.readable(model)
    number = (await uow.session.execute(select(func.count()).select_from(people))).scalar_one()
    label = cast(inspect(model).local_table.c[model.label_column], String)
    shown = (
        select(col(model.id), label)
        .join(people, people.c.id == model.id)
        .where(readable.write(model))
        .order_by(label, col(model.id))
        .limit(PEOPLE_SHOWN)
    )
    rows = (await uow.session.execute(shown, readable.parameters)).all()
    return Affected(count=number, people=[PersonRead(id=id, label=text) for id, text in rows])
