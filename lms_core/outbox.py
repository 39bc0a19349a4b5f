"""The outbox: events and their deliveries, stored in the transaction that made them true.

Each (event, handler) pair is one delivery. PostgreSQL is the truth; the relay (relay.py) wakes workers through the
broker, and a worker (delivery.py) marks a delivery done in the transaction of its effect.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sqlalchemy import ARRAY, DateTime, Index, String, Uuid, bindparam, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

from lms_core.db import new_id

if TYPE_CHECKING:
    from lms_core.uow import UnitOfWork

CHANNEL = "lms_outbox"


class StoredEvent(SQLModel, table=True):
    """A fact, as it was stated."""

    __tablename__ = "core_event"

    id: UUID = Field(default_factory=new_id, primary_key=True)
    name: str
    payload: dict[str, Any] = Field(sa_type=JSONB)
    actor_id: UUID | None = None
    request_id: str | None = None
    created_at: datetime = Field(
        default=None,
        sa_type=DateTime(timezone=True),
        sa_column_kwargs={"server_default": func.now(), "nullable": False},
        index=True,
    )


class Delivery(SQLModel, table=True):
    """What one handler has to do about one event.

    Due when `next_attempt_at` has passed; while it is in flight, that is the end of its lease. A worker that is
    `at_work` holds an advisory lock; without the lock, it has died.
    """

    __tablename__ = "core_delivery"
    __table_args__ = (
        Index("ix_core_delivery_due", "next_attempt_at", postgresql_where=text("done_at IS NULL AND dead_at IS NULL")),
    )

    id: UUID = Field(default_factory=new_id, primary_key=True)
    event_id: UUID = Field(foreign_key="core_event.id", index=True)
    handler: str
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


def _values(name: str, kind: Any) -> Any:
    return bindparam(name, type_=ARRAY(kind))


STORE = text(
    """
    WITH event AS (
        INSERT INTO core_event (id, name, payload, actor_id, request_id)
        SELECT id, name, payload::jsonb, :actor_id, :request_id
        FROM unnest(:event_ids, :names, :payloads) AS given (id, name, payload)
    ), delivery AS (
        INSERT INTO core_delivery (id, event_id, handler)
        SELECT * FROM unnest(:delivery_ids, :delivered_ids, :handlers)
    ), audit AS (
        INSERT INTO core_audit_entry (id, action, kind, object_id, changes, actor_id, address, request_id)
        SELECT id, action, kind, object_id, changes::jsonb, :audit_actor_id, :address, :request_id
        FROM unnest(:audit_ids, :audit_actions, :audit_kinds, :audit_objects, :audit_changes)
            AS given (id, action, kind, object_id, changes)
    )
    SELECT pg_notify(channel, message) FROM unnest(:channels, :messages) AS given (channel, message)
    """
).bindparams(
    bindparam("actor_id", type_=Uuid()),
    bindparam("audit_actor_id", type_=Uuid()),
    bindparam("address", type_=String()),
    bindparam("request_id", type_=String()),
    *(_values(name, Uuid()) for name in ("event_ids", "delivery_ids", "delivered_ids", "audit_ids", "audit_objects")),
    *(_values(name, String()) for name in ("names", "payloads", "handlers", "channels", "messages")),
    *(_values(name, String()) for name in ("audit_actions", "audit_kinds", "audit_changes")),
)


async def store_events(uow: UnitOfWork) -> None:
    """Write the unit of work's events, their deliveries, its audit trail and its announcements, in one statement."""
    handlers_of = uow.context.platform.handlers_of
    events = [(new_id(), event) for event in uow.events]
    deliveries = [
        (new_id(), id, handler.name) for id, event in events for handler in handlers_of.get(event.event_name, ())
    ]
    notices = [("lms_access", topic) for topic in dict.fromkeys(uow.announcements)]
    if deliveries:
        notices.append((CHANNEL, ""))
    await uow.session.execute(
        STORE,
        {
            **uow.trail.values(),
            "audit_actor_id": uow.access.actor_id or uow.caused_by,
            "address": uow.address,
            "actor_id": uow.access.actor_id,
            "request_id": uow.request_id,
            "event_ids": [id for id, _ in events],
            "names": [event.event_name for _, event in events],
            "payloads": [event.model_dump_json() for _, event in events],
            "delivery_ids": [id for id, _, _ in deliveries],
            "delivered_ids": [event_id for _, event_id, _ in deliveries],
            "handlers": [handler for _, _, handler in deliveries],
            "channels": [channel for channel, _ in notices],
            "messages": [message for _, message in notices],
        },
    )
