"""Legal holds: while one stands, nothing that it covers is removed for good, however long it has been deleted."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import Query, Response
from pydantic import BaseModel
from sqlalchemy import DateTime, Index, String, bindparam, exists, false, func, inspect, or_, select, text
from sqlmodel import Field, col

from lms_core.db import Record, among
from lms_core.errors import Invalid, NotFound
from lms_core.inputs import Input
from lms_core.kinds import Kind, scope_columns
from lms_core.pagination import Listing, Page, PageParams, Point
from lms_core.permissions import ACTOR_ID, Filter
from lms_core.routing import Router, Uow, requires
from lms_core.subtree import kinds_below
from lms_core.types import Permission
from lms_core.uow import UnitOfWork

HOLD = Permission("core.hold", "Set and lift legal holds", roles=("principal",))


class LegalHold(Record, table=True):
    """Nothing that is, or hangs under, this object is removed for good until the hold is lifted; it stays on record."""

    __tablename__ = "core_legal_hold"
    __table_args__ = (
        Index(
            "uq_core_legal_hold_object", "kind", "object_id", unique=True, postgresql_where=text("lifted_at IS NULL")
        ),
    )

    kind: str
    object_id: UUID
    reason: str
    actor_id: UUID | None = None
    lifted_at: datetime | None = Field(default=None, sa_type=DateTime(timezone=True))
    lifted_by: UUID | None = None


class LegalHoldCreate(Input):
    """What to hold, and why: a case, a letter, whoever asked for it."""

    kind: str = Field(max_length=100, description="Such as `users.user` or `courses.course`")
    object_id: UUID
    reason: str = Field(min_length=1, max_length=1_000)


class LegalHoldRead(BaseModel):
    """A hold; one that was lifted says when and by whom."""

    id: UUID
    kind: str
    object_id: UUID
    reason: str
    actor_id: UUID | None
    created_at: datetime
    lifted_at: datetime | None
    lifted_by: UUID | None


def known_to_actor(uow: UnitOfWork) -> Filter:
    """Holds on objects, dead or alive, at which the actor may set holds."""
    parts, parameters = uow.context.platform.rules.restorable_kinds(uow.access, "hold", HOLD.name)

    def write(hold: Any) -> Any:
        # A hold on themselves is not theirs to see, or to lift.
        return (hold.object_id != ACTOR_ID) & or_(
            false(),
            *(
                (hold.kind == kind.name)
                & exists().where(col(kind.model.id) == hold.object_id, permitted.write(kind.model))
                for kind, permitted in parts
            ),
        )

    shape = ("holds", tuple((kind.name, permitted.shape) for kind, permitted in parts))
    return Filter(shape, parameters, write, never=not parts)


HOLDS = Listing(
    LegalHold,
    LegalHoldRead,
    filters={
        "kind": col(LegalHold.kind) == bindparam("kind", type_=String()),
        "object_id": col(LegalHold.object_id) == bindparam("object_id"),
        "lifted": col(LegalHold.lifted_at).is_not(None) == bindparam("lifted"),
    },
    readable=known_to_actor,
)
HOLD_POINT = Point(LegalHold, LegalHoldRead, readable=known_to_actor)


async def create(uow: UnitOfWork, data: LegalHoldCreate) -> Response:
    """Hold something, deleted or not; what is held already keeps the hold that it has: 200."""
    kinds = uow.context.platform.kinds
    kind = kinds.by_name.get(data.kind)
    if kind is None:
        known = ", ".join(sorted(kinds.by_name))
        raise Invalid("unknown_kind", f"There is no kind of this name; use one of: {known}.", ("body", "kind"))
    permitted = uow.context.platform.rules.restorable(uow.access, kind, "hold", HOLD.name)
    found = select(col(kind.model.id)).where(col(kind.model.id) == data.object_id, permitted.write(kind.model))
    if permitted.never or (await uow.session.execute(found, permitted.parameters)).first() is None:
        raise NotFound(kind.name, data.object_id)
    await uow.session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(str(data.object_id), 0))))
    standing = select(col(LegalHold.id)).where(
        col(LegalHold.kind) == kind.name,
        col(LegalHold.object_id) == data.object_id,
        col(LegalHold.lifted_at).is_(None),
    )
    existing = (await uow.session.execute(standing)).scalar_one_or_none()
    if existing is not None:
        return await HOLD_POINT.after_write(uow, existing, 200)
    hold = LegalHold(kind=kind.name, object_id=data.object_id, reason=data.reason, actor_id=uow.access.actor_id)
    uow.session.add(hold)
    uow.record("held", kind.name, data.object_id, {"reason": {"before": None, "after": data.reason}})
    return await HOLD_POINT.after_write(uow, hold.id, 201)


async def lift(uow: UnitOfWork, id: UUID) -> Response:
    """End a hold; one that was lifted before stays as it is."""
    may = known_to_actor(uow)
    found = select(LegalHold).where(col(LegalHold.id) == id, may.write(LegalHold)).with_for_update()
    hold = None if may.never else (await uow.session.execute(found, may.parameters)).scalar_one_or_none()
    if hold is None:
        raise NotFound("core.legal_hold", id)
    if hold.lifted_at is None:
        hold.lifted_at, hold.lifted_by = func.now(), uow.access.actor_id  # type: ignore[assignment]
        uow.record("hold_lifted", hold.kind, hold.object_id, {"reason": {"before": hold.reason, "after": None}})
    return await HOLD_POINT.after_write(uow, id)


async def is_held(uow: UnitOfWork, root: Kind, deletion_id: UUID) -> bool:
    """Whether a hold covers anything that a deletion took: the thing itself, or what it hangs under."""
    kinds = uow.context.platform.kinds
    held: dict[str, set[UUID]] = {}
    standing = select(col(LegalHold.kind), col(LegalHold.object_id)).where(col(LegalHold.lifted_at).is_(None))
    for name, id in (await uow.session.execute(standing)).all():
        held.setdefault(name, set()).add(id)
    for name in [name for name in held if name in kinds.by_name and kinds.by_name[name].is_tree]:
        held[name] |= await below(uow, kinds.by_name[name], held[name])
    people = [name for name in held if name in kinds.by_name and kinds.by_name[name].is_person]
    tables = {name: inspect(kinds.by_name[name].model).local_table for name in people}
    for kind in kinds_below(kinds, root) if held else ():
        covered = [among(column, held[name]) for name, column in scope_columns(kinds, kind.model) if name in held]
        # And what mentions somebody who is held: the file that they own.
        for column in inspect(kind.model).local_table.columns:
            for key in column.foreign_keys:
                covered += [among(column, held[name]) for name in people if key.column.table is tables[name]]
        taken = select(col(kind.model.id)).where(col(kind.model.deletion_id) == deletion_id, or_(false(), *covered))
        if covered and (await uow.session.execute(taken.limit(1))).first() is not None:
            return True
    return False


async def below(uow: UnitOfWork, kind: Kind, ids: set[UUID]) -> set[UUID]:
    """Everything below some rows of a tree, dead or alive."""
    table = inspect(kind.model).local_table
    tree = select(table.c.id).where(among(table.c.id, ids)).cte("below", recursive=True)
    tree = tree.union(select(table.c.id).where(table.c[kind.tree_column().key] == tree.c.id))
    return set((await uow.session.execute(select(tree.c.id))).scalars())


def router() -> Router:
    """The core's own routes for holds."""
    routes = Router()

    @routes.get(
        "/legal-holds",
        name="list_legal_holds",
        response_model=Page[LegalHoldRead],
        dependencies=[requires(HOLD.name)],
    )
    async def list_legal_holds(
        uow: Uow,
        params: PageParams,
        kind: Annotated[str | None, Query(max_length=100)] = None,
        object_id: UUID | None = None,
        lifted: Annotated[bool | None, Query(description="Only those that stand, or only those that do not")] = None,
    ) -> Response:
        """The holds where you may set them, newest first."""
        return await HOLDS.page(uow, params, kind=kind, object_id=object_id, lifted=lifted)

    @routes.post(
        "/legal-holds",
        name="create_legal_hold",
        status_code=201,
        response_model=LegalHoldRead,
        dependencies=[requires(HOLD.name)],
    )
    async def create_legal_hold(uow: Uow, data: LegalHoldCreate) -> Response:
        """Keep something, and all under it, from being removed for good; it may be deleted already."""
        return await create(uow, data)

    @routes.get(
        "/legal-holds/{legal_hold_id}",
        name="get_legal_hold",
        response_model=LegalHoldRead,
        dependencies=[requires(HOLD.name)],
    )
    async def get_legal_hold(uow: Uow, legal_hold_id: UUID) -> Response:
        """One hold."""
        return await HOLD_POINT.get(uow, legal_hold_id)

    @routes.post(
        "/legal-holds/{legal_hold_id}/lift",
        name="lift_legal_hold",
        response_model=LegalHoldRead,
        dependencies=[requires(HOLD.name)],
    )
    async def lift_legal_hold(uow: Uow, legal_hold_id: UUID) -> Response:
        """End a hold; it stays on record."""
        return await lift(uow, legal_hold_id)

    return routes
