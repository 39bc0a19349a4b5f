"""Legal holds: while one stands, nothing that it covers is removed for good, however long it has been deleted."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import Query, Response
from pydantic import BaseModel
from sqlalchemy import (
    DateTime,
    Index,
    String,
    bindparam,
    exists,
    false,
    func,
    inspect,
    literal,
    null,
    or_,
    select,
    text,
    true,
)
from sqlmodel import Field, col

from lms_core.conditions import among
from lms_core.db import Record
from lms_core.deletion import places_of
from lms_core.errors import Forbidden, Invalid, NotFound
from lms_core.inputs import Input
from lms_core.kinds import Kind, Kinds, pointing_at
from lms_core.pagination import Listing, Page, PageParams, Point
from lms_core.permissions import ACTOR_ID, Filter
from lms_core.routing import Router, Uow, requires
from lms_core.types import Permission
from lms_core.uow import UnitOfWork

HOLD_KIND = "core.legal_hold"
HOLD = Permission("core.hold", "Set and lift legal holds", roles=("principal",))


class LegalHold(Record, table=True):
    """Nothing that is, or hangs under, this object is removed for good until the hold is lifted; it stays on record.

    It is set in the name of a place: the topmost over the object where whoever sets it may, or none when they may
    everywhere. Only those who may set holds there know of it.
    """

    __tablename__ = "core_legal_hold"
    __table_args__ = (
        Index(
            "uq_core_legal_hold_object",
            "kind",
            "object_id",
            "place_kind",
            "place_id",
            unique=True,
            postgresql_where=text("lifted_at IS NULL"),
            postgresql_nulls_not_distinct=True,
        ),
        Index("ix_core_legal_hold_object_id", "object_id", "id"),
        Index("ix_core_legal_hold_kind", "kind", "id"),
        Index("ix_core_legal_hold_place_id", "place_id", "id"),
    )

    kind: str
    object_id: UUID
    reason: str
    place_kind: str | None = None
    place_id: UUID | None = None
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
    """Holds that were set in the name of a place, dead or alive, where the actor may set them."""
    scope, rules = uow.access.scope(HOLD.name, None), uow.context.platform.rules
    parameters: dict[str, Any] = {"actor_id": uow.access.actor_id}
    parameters |= {rules.parameter("hold_", kind): ids for kind, ids in scope.ids.items()}

    def write(hold: Any) -> Any:
        places = [
            (hold.place_kind == kind) & rules.named(hold.place_id, kind, "hold_", dead=True) for kind in scope.ids
        ]
        # A hold on themselves is not theirs to see, or to lift.
        kinds = uow.context.platform.kinds
        own = [(hold.kind == kind.name) & concerning(kinds, kind, hold.object_id) for kind in kinds.by_name.values()]
        return ~or_(false(), *own) & (true() if scope.everywhere else or_(false(), *places))

    never, gathers = not (scope.everywhere or scope.ids), not scope.everywhere
    return Filter(("holds", scope.shape), parameters, write, never, gathers=gathers)


def concerning(kinds: Kinds, kind: Kind, id: Any) -> Any:
    """A condition: the row of this kind is the actor, or names them."""
    if kinds.person is None:
        return false()
    people = inspect(kinds.person.model).local_table
    columns = ["id"] if kind is kinds.person else pointing_at(kind.model, people)
    is_theirs = or_(false(), *(getattr(kind.model, column) == ACTOR_ID for column in columns))
    return exists().where(col(kind.model.id) == id, is_theirs).correlate_except(kind.model)


async def concerns_actor(uow: UnitOfWork, kind: Kind, id: UUID) -> bool:
    """Whether a row is the actor, or names them."""
    asked = select(concerning(uow.context.platform.kinds, kind, id))
    return bool((await uow.session.execute(asked, {"actor_id": uow.access.actor_id})).scalar_one())


async def place_over(uow: UnitOfWork, kind: Kind, object_id: UUID) -> tuple[str | None, UUID | None]:
    """The topmost place over an object where the actor may set holds; none when they may everywhere."""
    scope, kinds = uow.access.scope(HOLD.name, None), uow.context.platform.kinds
    if scope.everywhere:
        return None, None
    above = await places_of(uow, kind, [object_id])
    # Of people those are the places where they hold roles, which hang under others.
    for name, ids in list(above.items()):
        for further, found in (await places_of(uow, kinds.by_name[name], list(ids))).items():
            above.setdefault(further, set()).update(found)
    for name in sorted(set(above) & set(scope.ids)):
        place = kinds.by_name[name]
        table = inspect(place.model).local_table
        column = table.c[place.tree_column().key] if place.is_tree else null()
        chosen = select(table.c.id, column.label("parent_id"), literal(0).label("height")).where(
            among(table.c.id, above[name])
        )
        path = chosen.cte("path", recursive=True)
        path = path.union(select(table.c.id, column, path.c.height + 1).where(table.c.id == path.c.parent_id))
        topmost = select(path.c.id).where(among(path.c.id, scope.ids[name])).order_by(path.c.height.desc(), path.c.id)
        found_id: UUID | None = (await uow.session.execute(topmost.limit(1))).scalar_one_or_none()
        if found_id is not None:
            return name, found_id
    raise NotFound(kind.name, object_id)


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
    """Hold something, deleted or not; what is held in the same name already keeps that hold: 200."""
    kinds = uow.context.platform.kinds
    kind = kinds.by_name.get(data.kind)
    if kind is None:
        known = ", ".join(sorted(kinds.by_name))
        raise Invalid("unknown_kind", f"There is no kind of this name; use one of: {known}.", ("body", "kind"))
    if await concerns_actor(uow, kind, data.object_id):
        raise Forbidden("Nobody sets a hold on themselves, or on what is theirs; ask somebody else who may.")
    permitted = uow.context.platform.rules.restorable(uow.access, kind, "hold", HOLD.name)
    found = select(col(kind.model.id)).where(col(kind.model.id) == data.object_id, permitted.write(kind.model))
    if permitted.never or (await uow.session.execute(found, permitted.parameters)).first() is None:
        raise NotFound(kind.name, data.object_id)
    place_kind, place_id = await place_over(uow, kind, data.object_id)
    await uow.alone(str(data.object_id))
    standing = select(col(LegalHold.id)).where(
        col(LegalHold.kind) == kind.name,
        col(LegalHold.object_id) == data.object_id,
        col(LegalHold.place_kind).is_not_distinct_from(place_kind),
        col(LegalHold.place_id).is_not_distinct_from(place_id),
        col(LegalHold.lifted_at).is_(None),
    )
    existing = (await uow.session.execute(standing)).scalar_one_or_none()
    if existing is not None:
        return await HOLD_POINT.after_write(uow, existing, 200)
    hold = LegalHold(
        kind=kind.name, object_id=data.object_id, reason=data.reason, place_kind=place_kind, place_id=place_id,
        actor_id=uow.access.actor_id,
    )  # fmt: skip
    uow.session.add(hold)
    # Under the hold's own id: who reads what was done to a thing need not know that it is held.
    told = {"object_id": str(data.object_id), "reason": data.reason}
    uow.record("held", HOLD_KIND, hold.id, {name: {"before": None, "after": value} for name, value in told.items()})
    return await HOLD_POINT.after_write(uow, hold.id, 201)


async def lift(uow: UnitOfWork, id: UUID) -> Response:
    """End a hold; one that was lifted before stays as it is."""
    may = known_to_actor(uow)
    found = select(LegalHold).where(col(LegalHold.id) == id, may.write(LegalHold)).with_for_update()
    hold = None if may.never else (await uow.session.execute(found, may.parameters)).scalar_one_or_none()
    if hold is None:
        raise NotFound(HOLD_KIND, id)
    if hold.lifted_at is None:
        hold.lifted_at, hold.lifted_by = func.now(), uow.access.actor_id  # type: ignore[assignment]
        uow.record("hold_lifted", HOLD_KIND, hold.id, {"object_id": {"before": str(hold.object_id), "after": None}})
    return await HOLD_POINT.after_write(uow, id)


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
