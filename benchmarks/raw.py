"""The reference: close to what Python can do. A bare ASGI application: bytes in, one prepared query on asyncpg, bytes out.

It answers `GET /courses?limit=50`, `GET /courses/{id}` and `POST /enrollments` from our tables, without permissions,
validation, errors or documents.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from uuid import UUID

import asyncpg
import msgspec
from starlette.types import Receive, Scope, Send
from uuid_utils.compat import uuid7

TOKEN = "a token that is in the cache"
POOL = 10
COLUMNS = """
    c.id, c.institution_id,
    (SELECT json_build_object('id', t.id, 'name', t.name, 'starts_on', t.starts_on, 'ends_on', t.ends_on)
     FROM courses_term t WHERE t.id = c.term_id AND NOT t.is_deleted) AS term,
    c.code, c.title, c.description, c.state, c.capacity, c.waitlist, c.self_enrollment, c.starts_on, c.ends_on,
    c.created_at, c.updated_at
"""
LIST = f"SELECT {COLUMNS} FROM courses_course c WHERE NOT c.is_deleted ORDER BY c.id DESC LIMIT 51"
POINT = f"SELECT {COLUMNS} FROM courses_course c WHERE c.id = $1 AND NOT c.is_deleted"
encode = msgspec.json.Encoder().encode
CONTENT = [(b"content-type", b"application/json")]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]


async def as_text(connection: asyncpg.Connection) -> None:
    """JSON columns go through as they are."""
    await connection.set_type_codec(
        "json", encoder=str, decoder=lambda raw: msgspec.Raw(raw.encode()), schema="pg_catalog"
    )


async def keep(connection: asyncpg.Connection) -> None:
    """No RESET when a connection goes back."""


def create() -> Asgi:
    """A bare ASGI application: a token in a dictionary, one prepared query, msgspec."""
    pools: list[asyncpg.Pool] = []
    tokens = {f"Bearer {TOKEN}".encode(): "somebody"}

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            pools.append(
                await asyncpg.create_pool(
                    os.environ["LMS_DATABASE_URL"],
                    min_size=POOL,
                    max_size=POOL,
                    reset=keep,
                    init=as_text,
                    server_settings={"jit": "off", "plan_cache_mode": "force_generic_plan"},
                )
            )
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await pools[0].close()
            await send({"type": "lifespan.shutdown.complete"})
            return
        status = 200
        if tokens.get(dict(scope["headers"]).get(b"authorization", b"")) is None:
            status, body = 401, b""
        elif scope["method"] == "POST":
            message = await receive()
            status, body = 201, await enroll(pools[0], message["body"], scope["client"][0])
        elif scope["path"] == "/courses":
            rows = await pools[0].fetch(LIST)
            body = encode({"items": [dict(row) for row in rows[:50]], "next_cursor": str(rows[-1]["id"])})
        else:
            row = await pools[0].fetchrow(POINT, scope["path"][9:])
            body = encode(dict(row))
        length = (b"content-length", str(len(body)).encode())
        await send({"type": "http.response.start", "status": status, "headers": [*CONTENT, length]})
        await send({"type": "http.response.body", "body": body})

    return application


# As `POST /enrollments` sends it, statement by statement, with the same rows in the end.
LOCK = """
    WITH held AS MATERIALIZED (
        SELECT c.id, c.institution_id,
            (SELECT is_deleted FROM institutions_institution WHERE id = c.institution_id FOR SHARE) AS is_deleted
        FROM courses_course c WHERE c.id = $1
    )
    SELECT held.is_deleted AS held_is_deleted, own.* FROM held LEFT JOIN LATERAL (
        SELECT * FROM courses_course WHERE id = held.id AND NOT is_deleted FOR UPDATE
    ) own ON true
"""
MEMBER = "SELECT id, is_active FROM users_user WHERE id = $1 AND NOT is_deleted FOR SHARE"
STANDING = """
    SELECT id, state FROM enrollments_enrollment WHERE course_id = $1 AND user_id = $2 AND role = 'student'
    AND state IN ('requested', 'active', 'waitlisted') AND NOT is_deleted
"""
PLACE = """
    WITH placed AS (
        INSERT INTO enrollments_enrollment (id, course_id, user_id, role, state)
        VALUES ($1, $2, $3, 'student', 'active') RETURNING *
    )
    INSERT INTO enrollments_period (id, enrollment_id, course_id, user_id, role, state, since, cause, actor_id)
    SELECT $4, id, course_id, user_id, role, state, clock_timestamp(), 'enrolled', $5 FROM placed
"""
ROW = """
    SELECT e.id, e.course_id, e.user_id, e.role, e.state,
        CASE WHEN EXISTS (SELECT FROM courses_section s WHERE s.id = e.section_id AND NOT s.is_deleted)
            THEN e.section_id END AS section_id,
        CASE WHEN e.state = 'waitlisted' THEN (
            SELECT count(*) FROM enrollments_enrollment o
            WHERE o.course_id = e.course_id AND o.state = 'waitlisted' AND o.role = 'student' AND NOT o.is_deleted
            AND o.waiting_number <= e.waiting_number
        ) END AS position,
        e.starts_on, e.ends_on, e.created_at, e.updated_at
    FROM enrollments_enrollment e WHERE e.id = $1 AND NOT e.is_deleted
"""
STORE = """
    WITH event AS (
        INSERT INTO core_event (id, name, payload, actor_id, request_id)
        VALUES ($1, 'enrollments.enrollment_activated.v1', $2::jsonb, $6, $7)
    ), audit AS (
        INSERT INTO core_audit_entry (id, action, kind, object_id, changes, actor_id, request_id, address)
        VALUES ($3, 'created', 'enrollments.enrollment', $4, $8::jsonb, $6, $7, $9)
    )
    SELECT pg_notify('lms_access', 'user:' || $5::text)
"""
ACTOR = uuid7()


async def enroll(pool: asyncpg.Pool, body: bytes, address: str) -> bytes:
    """One enrollment, with its period, its event, its audit entry and its notification, in one transaction."""
    given = msgspec.json.decode(body)
    course_id, user_id = UUID(given["course_id"]), UUID(given["user_id"])
    id, request_id = uuid7(), uuid7().hex
    rows = {"course_id": course_id, "user_id": user_id, "role": "student"}
    payload = encode({"enrollment_id": id, **rows}).decode()
    created = {name: {"before": None, "after": value} for name, value in {**rows, "state": "active"}.items()}
    changes = encode(created).decode()
    async with pool.acquire() as connection, connection.transaction():
        await connection.fetchrow(LOCK, course_id)
        await connection.fetchrow(MEMBER, user_id)
        await connection.fetchrow(STANDING, course_id, user_id)
        await connection.execute(PLACE, id, course_id, user_id, uuid7(), ACTOR)
        row = await connection.fetchrow(ROW, id)
        await connection.execute(
            STORE, uuid7(), payload, uuid7(), id, str(user_id), ACTOR, request_id, changes, address
        )
    return encode(dict(row))
