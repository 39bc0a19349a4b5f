"""The outbox: events and their deliveries, stored in the transaction that made them true.

Each (event, handler) pair is one delivery. PostgreSQL is the truth; the relay (relay.py) wakes workers through the
broker, and a worker (delivery.py) marks a delivery done in the transaction of its effect.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec
from sqlalchemy import ARRAY, BigInteger, Column, DateTime, Identity, Index, String, Uuid, bindparam, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

from lms_core.db import new_id
from lms_core.statements import Write, as_json
from lms_core.tracing import traceparent

if TYPE_CHECKING:
    from lms_core.types import Event, Handler
    from lms_core.uow import UnitOfWork

CHANNEL = "lms_outbox"
FIRST_IN_ORDER = """
    NOT EXISTS (
        SELECT FROM core_delivery AS earlier
        WHERE core_delivery.order_key IS NOT NULL AND earlier.handler = core_delivery.handler
        AND earlier.order_key = core_delivery.order_key AND earlier.position < core_delivery.position
        AND earlier.done_at IS NULL AND earlier.dead_at IS NULL
    )
"""


class StoredEvent(SQLModel, table=True):
    """A fact, as it was stated."""

    __tablename__ = "core_event"

    id: UUID = Field(default_factory=new_id, primary_key=True)
    name: str
    payload: dict[str, Any] = Field(sa_type=JSONB)
    actor_id: UUID | None = None
    request_id: str | None = None
    traceparent: str | None = None
    created_at: datetime = Field(
        default=None,
        sa_type=DateTime(timezone=True),
        sa_column_kwargs={"server_default": func.now(), "nullable": False},
        index=True,
    )


class Delivery(SQLModel, table=True):
    """What one handler has to do about one event.

    Those of one handler with the same `order_key` are done one after the other, in the order of `position`, which is that
    in which their transactions held what they are about. Due when `next_attempt_at` has passed; while it is in flight, that is the end of its lease. A worker that is
    `at_work` holds an advisory lock; without the lock, it has died.
    """

    __tablename__ = "core_delivery"
    __table_args__ = (
        Index("ix_core_delivery_due", "next_attempt_at", postgresql_where=text("done_at IS NULL AND dead_at IS NULL")),
        Index("ix_core_delivery_dead", "dead_at", postgresql_where=text("dead_at IS NOT NULL AND done_at IS NULL")),
        Index("uq_core_delivery_event", "event_id", "handler", unique=True),
        Index(
            "ix_core_delivery_order",
            "handler",
            "order_key",
            "position",
            postgresql_where=text("done_at IS NULL AND dead_at IS NULL AND order_key IS NOT NULL"),
        ),
    )

    id: UUID = Field(default_factory=new_id, primary_key=True)
    event_id: UUID = Field(foreign_key="core_event.id")
    handler: str
    order_key: str | None = None
    position: int = Field(default=None, sa_column=Column(BigInteger(), Identity(always=True), nullable=False))
    attempts: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    in_flight: bool = Field(default=False, sa_column_kwargs={"server_default": text("false")})
    at_work: bool = Field(default=False, sa_column_kwargs={"server_default": text("false")})
    next_attempt_at: datetime = Field(
        default=None,
        sa_type=DateTime(timezone=True),
        sa_column_kwargs={"server_default": func.now(), "nullable": False},
    )
    done_at: datetime | None = Field(default=None, sa_type=DateTime(timezone=True))
    dead_at: datetime | None = Field(default=None, sa_type=DateTime(timezone=True))
    last_error: str | None = None


class KnownHandler(SQLModel, table=True):
    """A handler that some process had, and since when: what happened from then on it is owed, also while it was off."""

    __tablename__ = "core_handler"

    name: str = Field(primary_key=True)
    known_since: datetime = Field(
        default=None,
        sa_type=DateTime(timezone=True),
        sa_column_kwargs={"server_default": func.now(), "nullable": False},
    )


STORE = Write(
    text(
        """
    WITH event AS (
        INSERT INTO core_event (id, name, payload, actor_id, request_id, traceparent)
        SELECT id, name, payload, :actor_id, :request_id, :traceparent
        FROM json_to_recordset(CAST(:events AS json)) AS given (id uuid, name text, payload jsonb)
    ), delivery AS (
        INSERT INTO core_delivery (id, event_id, handler, order_key)
        SELECT id, event_id, handler, order_key FROM json_to_recordset(CAST(:deliveries AS json))
            AS given (id uuid, event_id uuid, handler text, order_key text)
    ), audit AS (
        INSERT INTO core_audit_entry (id, action, kind, object_id, changes, actor_id, address, request_id)
        SELECT id, action, kind, object_id, changes, :audit_actor_id, :address, :request_id
        FROM json_to_recordset(CAST(:audit AS json))
            AS given (id uuid, action text, kind text, object_id uuid, changes jsonb)
    )
    SELECT pg_notify(channel, message)
    FROM json_to_recordset(CAST(:notices AS json)) AS given (channel text, message text)
    """
    ).bindparams(
        bindparam("actor_id", type_=Uuid()),
        bindparam("audit_actor_id", type_=Uuid()),
        *(
            bindparam(name, type_=String())
            for name in ("address", "request_id", "traceparent", "events", "deliveries", "audit", "notices")
        ),
    )
)


def order_key(handler: Handler, event: Event) -> str | None:
    """What a handler does one after the other."""
    return None if handler.order_by is None else str(getattr(event, handler.order_by))


async def store_events(uow: UnitOfWork) -> None:
    """Write the unit of work's events, their deliveries, its audit trail and its announcements, in one statement."""
    handlers_of = uow.context.platform.handlers_of
    events = [(new_id(), event) for event in uow.events]
    deliveries = [
        {"id": new_id(), "event_id": id, "handler": handler.name, "order_key": order_key(handler, event)}
        for id, event in events
        for handler in handlers_of.get(event.event_name, ())
    ]
    notices = [{"channel": "lms_access", "message": topic} for topic in dict.fromkeys(uow.announcements)]
    if deliveries:
        notices.append({"channel": CHANNEL, "message": ""})
    await STORE.run(
        uow.session,
        audit_actor_id=uow.access.actor_id or uow.caused_by,
        address=uow.address,
        actor_id=uow.access.actor_id,
        request_id=uow.request_id,
        traceparent=traceparent(),
        events=as_json(
            [
                {"id": id, "name": event.event_name, "payload": msgspec.Raw(event.model_dump_json().encode())}
                for id, event in events
            ]
        ),
        deliveries=as_json(deliveries),
        audit=as_json(uow.trail.rows()),
        notices=as_json(notices),
    )


def _texts(name: str) -> Any:
    return bindparam(name, type_=ARRAY(String()))


REMEMBER_HANDLERS = text("INSERT INTO core_handler (name) SELECT unnest(:handlers) ON CONFLICT DO NOTHING").bindparams(
    _texts("handlers")
)
OWE = text(
    """
    INSERT INTO core_delivery (id, event_id, handler, order_key)
    SELECT gen_random_uuid(), event.id, known.name, event.payload->>given.order_by
    FROM unnest(:handlers, :names, :order_bys) AS given (handler, name, order_by)
    JOIN core_handler known ON known.name = given.handler
    JOIN core_event event ON event.name = given.name AND event.created_at >= known.known_since
    WHERE event.created_at > now() - make_interval(secs => :seconds)
    AND NOT EXISTS (SELECT FROM core_delivery WHERE event_id = event.id AND handler = known.name)
    ORDER BY event.created_at, event.id
    ON CONFLICT DO NOTHING
    RETURNING handler
    """
).bindparams(*map(_texts, ("handlers", "names", "order_bys")))


async def catch_up(uow: UnitOfWork, seconds: float) -> int:
    """Owe each handler what was stated in the last so many seconds by a process that did not have it; how many.

    A plugin that was switched off hears of all that happened meanwhile. One that is new hears of nothing from before.
    """
    handlers = list(uow.context.platform.handlers.values())
    names = [handler.name for handler in handlers]
    await uow.session.execute(REMEMBER_HANDLERS, {"handlers": names})
    values = {
        "handlers": names,
        "names": [handler.event.event_name for handler in handlers],
        "order_bys": [handler.order_by for handler in handlers],
        "seconds": seconds,
    }
    return len((await uow.session.execute(OWE, values)).all())
