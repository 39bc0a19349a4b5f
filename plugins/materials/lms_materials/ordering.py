"""The order of modules and materials: something moves by a number between its new neighbours', and nothing else changes."""

from typing import Any, Protocol
from uuid import UUID

from sqlalchemy import ColumnElement, func, update
from sqlmodel import col, select

from lms_core.sdk import Invalid, NotFound, UnitOfWork, alive, kind_name


class Placed(Protocol):
    """Something with a place."""

    id: UUID
    position: float


async def last(uow: UnitOfWork, model: Any, among: ColumnElement[bool]) -> float:
    """The place behind everything, for something new."""
    rows = select(col(model.position)).where(among, alive(model)).order_by(col(model.position).desc()).limit(1)
    highest = (await uow.session.execute(rows)).scalar_one_or_none()
    return 0 if highest is None else float(int(highest) + 1)


async def move(uow: UnitOfWork, model: Any, row: Placed, among: ColumnElement[bool], after_id: UUID | None) -> None:
    """Put a row behind another one, or first; whoever calls this holds what they are all in.

    Raises NotFound when the other one is not among them.
    """
    if after_id == row.id:
        raise Invalid("after_itself", "Nothing comes after itself; name another one.", ("body", "after_id"))
    before, after = await neighbours(uow, model, row, among, after_id)
    position = between(before, after)
    if position is None:
        # Two neighbours with the same number, or after some fifty moves into one gap, no number is left between.
        await spread(uow, model, among)
        position = between(*await neighbours(uow, model, row, among, after_id))
        assert position is not None
    row.position = position


def between(before: float | None, after: float | None) -> float | None:
    """A number between two, None when there is none."""
    if before is None:
        return 0 if after is None else after - 1
    if after is None:
        return before + 1
    middle = (before + after) / 2
    return middle if before < middle < after else None


async def neighbours(
    uow: UnitOfWork, model: Any, row: Placed, among: ColumnElement[bool], after_id: UUID | None
) -> tuple[float | None, float | None]:
    """The numbers of what comes before and after the new place."""
    others = select(col(model.id), col(model.position)).where(among, alive(model), col(model.id) != row.id)
    order = (col(model.position), col(model.id))
    before = None
    if after_id is not None:
        found = (await uow.session.execute(others.where(col(model.id) == after_id))).first()
        if found is None:
            raise NotFound(kind_name(model), after_id)
        before = float(found.position)
        behind = (col(model.position) > before) | ((col(model.position) == before) & (col(model.id) > after_id))
        others = others.where(behind)
    following = (await uow.session.execute(others.order_by(*order).limit(1))).first()
    return before, None if following is None else float(following.position)


async def spread(uow: UnitOfWork, model: Any, among: ColumnElement[bool]) -> None:
    """Number them anew, in the same order."""
    order = (col(model.position), col(model.id))
    numbers: Any = select(col(model.id).label("id"), func.row_number().over(order_by=order).label("number"))
    numbered = numbers.where(among, alive(model)).subquery()
    places = update(model).where(col(model.id) == numbered.c.id).values(position=numbered.c.number)
    await uow.session.execute(places)
