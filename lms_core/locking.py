"""How a row is kept from changing: what it hangs under first, from the top, then the row itself, in one statement.

Everybody takes locks in that order, so that two who want the same do not wait for each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from uuid import UUID

from sqlalchemy import Select, Uuid, bindparam, true
from sqlalchemy.orm import aliased
from sqlmodel import col, select

from lms_core.db import Table
from lms_core.errors import NotFound
from lms_core.kinds import Kinds, alive, kind_name, scope_columns
from lms_core.statements import Read


@dataclass
class Lock:
    """A statement that keeps the row `row_id` and what it hangs under as they are, until the transaction ends.

    It gives `held_id_<n>` and `held_is_deleted_<n>` of each of the kinds, from the top, and `own_id` of the row itself.
    """

    model: type[Table]
    kinds: tuple[str, ...]
    statement: Select[*tuple[Any, ...]]

    @cached_property
    def read(self) -> Read:
        """The statement compiled, where it gives no entity."""
        return Read(self.statement, plan_once=True)

    def living(self, id: UUID, row: Mapping[Any, Any] | None) -> Mapping[Any, Any]:
        """What was found of the row of this id; NotFound for the topmost that is deleted."""
        if row is None:
            raise NotFound(kind_name(self.model), id)
        for number, kind in enumerate(self.kinds):
            held_id = row[f"held_id_{number}"]
            if held_id is not None and row[f"held_is_deleted_{number}"] is not False:
                raise NotFound(kind, held_id)
        if row["own_id"] is None:
            raise NotFound(kind_name(self.model), id)
        return row


def holding(kinds: Kinds, model: type[Table], locks: bool) -> Lock:
    """`FOR SHARE` on what a row hangs under and on itself; without `locks` all of it is only looked at."""
    form = (model, locks)
    if form not in kinds.locks:
        held, statement = held_rows(kinds, model, itself=True, locks=locks)
        kinds.locks[form] = Lock(model, held, statement)
    return kinds.locks[form]


def locking(kinds: Kinds, model: type[Table], columns: tuple[str, ...] | None, locks: bool) -> Lock:
    """`FOR SHARE` on what a row hangs under, then `FOR UPDATE` on the row: its `columns`, or an `entity`.

    `own_id` is null where it does not live. Without `locks` all of it is only looked at.
    """
    form = (model, columns, locks)
    if form not in kinds.locks:
        above, statement = held_rows(kinds, model, itself=False, locks=locks)
        # What is materialized PostgreSQL takes whole before it looks for what is joined to it.
        held = statement.cte("held").prefix_with("MATERIALIZED")
        chosen = select(model) if columns is None else select(*(col(getattr(model, name)) for name in columns))
        own = chosen.add_columns(col(model.id).label("own_id")).where(col(model.id) == held.c.own_id, alive(model))
        found = (own.with_for_update(of=model) if locks else own).correlate(held).lateral("own")
        row: list[Any] = (
            [aliased(model, found, name="entity")] if columns is None else [found.c[name] for name in columns]
        )
        row += [found.c.own_id, *(column for column in held.c if column.key.startswith("held_"))]
        locked = select(*row).select_from(held).outerjoin(found, true())
        kinds.locks[form] = Lock(model, above, locked)
    return kinds.locks[form]


def held_rows(kinds: Kinds, model: type[Table], itself: bool, locks: bool) -> tuple[tuple[str, ...], Any]:
    """The kinds that a row hangs under, from the top, and a `select()` of `own_id` and each of them."""
    order = list(kinds.by_name)
    above = [(kind, column) for kind, column in scope_columns(kinds, model) if itself or kind != kind_name(model)]
    above.sort(key=lambda pair: order.index(pair[0]))
    row_id = bindparam("row_id", type_=Uuid())
    named = [column.label(f"held_id_{number}") for number, (_, column) in enumerate(above)]
    ids = select(col(model.id).label("own_id"), *named).where(col(model.id) == row_id).subquery()
    looks = []
    for number, (kind, _) in enumerate(above):
        other = aliased(kinds.by_name[kind].model)
        look = select(col(other.is_deleted)).where(col(other.id) == ids.c[f"held_id_{number}"])
        if locks:
            look = look.with_for_update(read=True)
        looks.append(look.correlate(ids).scalar_subquery().label(f"held_is_deleted_{number}"))
    return tuple(kind for kind, _ in above), select(*ids.c, *looks)
