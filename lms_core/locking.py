"""How a row is kept from changing: what it hangs under first, from the top, then the row itself, in one statement.

Everybody takes locks in that order, so that two who want the same do not wait for each other.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from uuid import UUID

from sqlalchemy import Select, Uuid, bindparam, true
from sqlalchemy.orm import QueryableAttribute, aliased
from sqlmodel import col, select

from lms_core.db import Table
from lms_core.errors import NotFound
from lms_core.kinds import Kinds, kind_name, scope_columns
from lms_core.statements import Read

Places = list[tuple[str, Any]]
"""What a row hangs under: the kinds, and for each a column of the row's own, or a select for what is further up."""


@dataclass
class Lock:
    """A statement that keeps the row `row_id` and what it hangs under as they are, until the transaction ends.

    It gives `held_id_<n>` and `held_is_deleted_<n>` of each of the `places`, from the top, and `own_id` of the row itself.
    While it waits for what the row hangs under, the row may be moved: `seen_id_<n>`, for the numbers in `moving`, are
    where it is once it is locked. That a parent is moved meanwhile is not noticed: of those only materials move, between
    modules of one course, and a material that is held is not deleted.
    """

    model: type[Table]
    places: int
    statement: Select[*tuple[Any, ...]]
    moving: tuple[int, ...] = ()

    @cached_property
    def read(self) -> Read:
        """The statement compiled, where it gives no entity."""
        return Read(self.statement, plan_once=True)

    async def living(self, id: UUID, look: Callable[[], Awaitable[Mapping[Any, Any] | None]]) -> Mapping[Any, Any]:
        """What `look` finds by the statement for this id; NotFound when that, or anything it hangs under, is deleted."""
        row = await look()
        while row is not None and self.has_moved(row):
            row = await look()
        if row is None or row["own_id"] is None or any(self.is_dead(row, number) for number in range(self.places)):
            raise NotFound(kind_name(self.model), id)
        return row

    def is_dead(self, row: Mapping[Any, Any], number: int) -> bool:
        """Whether the row hangs under something there that is deleted, or gone."""
        return row[f"held_id_{number}"] is not None and row[f"held_is_deleted_{number}"] is not False

    def has_moved(self, row: Mapping[Any, Any]) -> bool:
        """Whether the row hangs under something else than what is held by now: it has to be locked once more."""
        is_locked = row["own_id"] is not None
        return is_locked and any(row[f"held_id_{number}"] != row[f"seen_id_{number}"] for number in self.moving)


def holding(kinds: Kinds, model: type[Table], locks: bool) -> Lock:
    """`FOR SHARE` on what a row hangs under and on itself; without `locks` all of it is only looked at."""
    form = (model, locks)
    if form not in kinds.locks:
        places = places_above(kinds, model, itself=True)
        kinds.locks[form] = Lock(model, len(places), held_rows(kinds, model, places, locks))
    return kinds.locks[form]


def locking(kinds: Kinds, model: type[Table], columns: tuple[str, ...] | None, locks: bool) -> Lock:
    """`FOR SHARE` on what a row hangs under, then `FOR UPDATE` on the row: its `columns`, or an `entity`.

    `own_id` is null where it does not live. Without `locks` all of it is only looked at.
    """
    form = (model, columns, locks)
    if form not in kinds.locks:
        places = places_above(kinds, model, itself=False)
        # What is materialized PostgreSQL takes whole before it looks for what is joined to it.
        held = held_rows(kinds, model, places, locks).cte("held").prefix_with("MATERIALIZED")
        above = [column for column in held.c if column.key.startswith("held_")]
        # What stands in the row itself; the others are found through it.
        direct = {n: place for n, (_, place) in enumerate(places) if isinstance(place, QueryableAttribute)}
        seen = [place.label(f"seen_id_{number}") for number, place in direct.items()]
        chosen = select(model) if columns is None else select(*(col(getattr(model, name)) for name in columns))
        own = chosen.add_columns(col(model.id).label("own_id"), *seen)
        # Whether what it hangs under lives is known as it is now; asked here, it would be as it was before the wait.
        own = own.where(col(model.id) == held.c.own_id, ~col(model.is_deleted))
        found = (own.with_for_update(of=model) if locks else own).correlate(held).lateral("own")
        row: list[Any] = (
            [aliased(model, found, name="entity")] if columns is None else [found.c[name] for name in columns]
        )
        row += [found.c.own_id, *(found.c[column.key] for column in seen), *above]
        locked = select(*row).select_from(held).outerjoin(found, true())
        kinds.locks[form] = Lock(model, len(places), locked, tuple(direct))
    return kinds.locks[form]


def places_above(kinds: Kinds, model: type[Table], itself: bool) -> Places:
    """From the top; several of a kind, where a row hangs under it in several ways."""
    order = list(kinds.by_name)
    above = [(kind, place) for kind, place in scope_columns(kinds, model) if itself or kind != kind_name(model)]
    return sorted(above, key=lambda pair: order.index(pair[0]))


def held_rows(kinds: Kinds, model: type[Table], places: Places, locks: bool) -> Any:
    """`own_id` of a row, and for each place its id and whether it is deleted, each with a lock."""
    row_id = bindparam("row_id", type_=Uuid())
    named = [place.label(f"held_id_{number}") for number, (_, place) in enumerate(places)]
    ids = select(col(model.id).label("own_id"), *named).where(col(model.id) == row_id).subquery()
    looks = []
    for number, (kind, _) in enumerate(places):
        other = aliased(kinds.by_name[kind].model)
        look = select(col(other.is_deleted)).where(col(other.id) == ids.c[f"held_id_{number}"])
        if locks:
            look = look.with_for_update(read=True)
        looks.append(look.correlate(ids).scalar_subquery().label(f"held_is_deleted_{number}"))
    return select(*ids.c, *looks)
