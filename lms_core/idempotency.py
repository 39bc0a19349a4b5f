"""Idempotency keys: a creating POST that is sent twice happens once, and is answered twice with the same bytes.

The answer is stored in the transaction of the write itself, so that there is no moment in which one exists
without the other.
"""

from __future__ import annotations

import hmac
import re
from datetime import datetime
from hashlib import sha256
from uuid import UUID

from fastapi import Request, Response
from sqlalchemy import DateTime, LargeBinary, delete, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel, select

from lms_core.errors import Problem
from lms_core.uow import UnitOfWork

KEPT_HOURS = 24
KEPT_HEADERS = ("content-type", "etag", "location")
VALID_KEY = re.compile(r"[\x20-\x7e]{1,255}")


class IdempotencyKey(SQLModel, table=True):
    """One answer that was given under a key of one caller."""

    __tablename__ = "core_idempotency_key"

    actor_id: UUID = Field(primary_key=True)
    key: str = Field(primary_key=True, max_length=255)
    request_hash: bytes = Field(sa_type=LargeBinary)
    status: int
    headers: dict[str, str] = Field(sa_type=JSONB)
    body: bytes = Field(sa_type=LargeBinary)
    created_at: datetime = Field(
        default=None,
        sa_type=DateTime(timezone=True),
        sa_column_kwargs={"server_default": func.now(), "nullable": False},
        index=True,
    )


async def fingerprint(uow: UnitOfWork, request: Request) -> bytes:
    """What makes two requests the same: method, path, query and body.

    Keyed, since bodies may hold passwords, and a plain fast hash of one could be tried out.
    """
    digest = hmac.new(uow.context.platform.derived_key("idempotency"), digestmod=sha256)
    digest.update(f"{request.method} {request.url.path}?{request.url.query}\n".encode())
    digest.update(await request.body())
    return digest.digest()


def requested_key(request: Request) -> str | None:
    """The caller's key; 422 when it is not 1 to 255 printable ASCII characters."""
    key = request.headers.get("idempotency-key")
    if key is not None and not VALID_KEY.fullmatch(key):
        raise Problem(
            422, "invalid_idempotency_key", "An Idempotency-Key is 1 to 255 printable ASCII characters; send another."
        )
    return key


async def replay(uow: UnitOfWork, request: Request, key: str) -> Response | None:
    """The stored answer, or None when this request is the first; then nobody else runs under the key meanwhile."""
    mine = (
        await uow.session.execute(
            select(func.pg_try_advisory_xact_lock(func.hashtextextended(f"{uow.actor_id} {key}", 0)))
        )
    ).scalar_one()
    if not mine:
        raise Problem(
            409,
            "idempotency_in_progress",
            "A request with this Idempotency-Key is still at work; wait for its answer, then repeat.",
            {"Retry-After": "1"},
        )
    stored = (
        await uow.session.execute(
            select(IdempotencyKey).where(
                IdempotencyKey.actor_id == uow.actor_id,
                IdempotencyKey.key == key,
                IdempotencyKey.created_at > func.now() - text(f"interval '{KEPT_HOURS} hours'"),
            )
        )
    ).scalar_one_or_none()
    if stored is None:
        return None
    if stored.request_hash != await fingerprint(uow, request):
        raise Problem(
            422,
            "idempotency_key_reused",
            "This Idempotency-Key was used for another request; take a new key for a new request.",
        )
    return Response(stored.body, stored.status, {**stored.headers, "Idempotent-Replayed": "true"})


async def remember(uow: UnitOfWork, request: Request, key: str, response: Response) -> None:
    """Store the answer with the write."""
    await forget_old(uow, uow.actor_id, key)
    uow.session.add(
        IdempotencyKey(
            actor_id=uow.actor_id,
            key=key,
            request_hash=await fingerprint(uow, request),
            status=response.status_code,
            headers={name: response.headers[name] for name in KEPT_HEADERS if name in response.headers},
            body=bytes(response.body),
        )
    )
    await uow.session.flush()


async def forget_old(uow: UnitOfWork, actor_id: UUID, key: str) -> None:
    """Remove an expired answer under the same key."""
    await uow.session.execute(
        delete(IdempotencyKey).where(IdempotencyKey.actor_id == actor_id, IdempotencyKey.key == key)  # type: ignore[arg-type]
    )


async def forget_expired(uow: UnitOfWork) -> None:
    """Remove every answer that is older than it is kept; runs on a schedule."""
    await uow.session.execute(
        delete(IdempotencyKey).where(IdempotencyKey.created_at < func.now() - text(f"interval '{KEPT_HOURS} hours'"))
    )
