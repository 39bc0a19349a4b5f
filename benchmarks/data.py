"""Rows to measure on: schools with courses and people, with the skew of real ones, the same each time.

Filled on the server. The n-th row of a kind has the same id whenever it is made: a UUID version 7 whose time is n
milliseconds after a fixed moment, so that ids rise as they would.
"""

from __future__ import annotations

import asyncpg

SEED = 0.42
FIRST_MS = 1_700_000_000_000
IDS = f"""
    CREATE OR REPLACE FUNCTION pg_temp.id_of(kind text, n bigint) RETURNS uuid IMMUTABLE LANGUAGE sql AS $$
        SELECT (lpad(to_hex({FIRST_MS} + n), 12, '0') || '7' || substr(md5(kind || n), 1, 3)
            || '8' || substr(md5(n || kind), 1, 15))::uuid
    $$
"""
# A few schools have most of the courses, a few courses most of the students.
FILL = (
    """
    INSERT INTO institutions_institution (id, name, slug, timezone)
    SELECT pg_temp.id_of('institution', n), 'School ' || n, 'school-' || n, 'Europe/Berlin'
    FROM generate_series(1, {institutions}) n
    """,
    """
    INSERT INTO courses_term (id, institution_id, name, starts_on, ends_on)
    SELECT pg_temp.id_of('term', n), pg_temp.id_of('institution', n), 'Autumn', '2026-09-01', '2026-12-18'
    FROM generate_series(1, {institutions}) n
    """,
    """
    INSERT INTO courses_course (id, institution_id, term_id, code, title, description, state, waitlist)
    SELECT pg_temp.id_of('course', n), pg_temp.id_of('institution', school), pg_temp.id_of('term', school), 'C' || n,
        (ARRAY['Biology', 'Chemistry', 'History', 'Algebra', 'Art'])[1 + n % 5] || ' ' || n,
        repeat('What this course is about. ', 4), CASE WHEN n % 10 = 0 THEN 'draft' ELSE 'published' END, false
    FROM (
        SELECT n, 1 + floor({institutions} * power(random(), 2))::int AS school FROM generate_series(1, {courses}) n
    ) made
    """,
    """
    INSERT INTO users_user (id, email, email_key, full_name, is_active)
    SELECT pg_temp.id_of('user', n), 'u' || n || '@example.org', 'u' || n || '@example.org', 'Person ' || n, true
    FROM generate_series(1, {users}) n
    """,
    """
    INSERT INTO users_grant (id, user_id, role, institution_id)
    SELECT pg_temp.id_of('grant', n), pg_temp.id_of('user', n), CASE WHEN n % 20 = 0 THEN 'teacher' ELSE 'student' END,
        pg_temp.id_of('institution', 1 + floor({institutions} * power(random(), 2))::int)
    FROM generate_series(1, {users}) n
    """,
    """
    INSERT INTO enrollments_enrollment (id, course_id, user_id, role, state)
    SELECT pg_temp.id_of('enrollment', row_number() OVER ()), pg_temp.id_of('course', course),
        pg_temp.id_of('user', person), CASE WHEN person % 20 = 0 THEN 'teacher' ELSE 'student' END, 'active'
    FROM (
        SELECT DISTINCT 1 + n % {users} AS person, 1 + floor({courses} * power(random(), 3))::int AS course
        FROM generate_series(1, {enrollments}) n
    ) made
    """,
)


async def fill(database_url: str, courses: int) -> None:
    """So many courses, a tenth as many people (200 at least), five enrollments for each of them."""
    users = max(200, courses // 10)
    sizes = {
        "courses": courses,
        "institutions": max(5, courses // 1_000),
        "users": users,
        "enrollments": 5 * users,
    }
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(IDS)
        await connection.execute(f"SELECT setseed({SEED})")
        for statement in FILL:
            await connection.execute(statement.format(**sizes))
        await connection.execute("VACUUM ANALYZE")
        # Else it is written to the disk beside what is measured next.
        await connection.execute("CHECKPOINT")
    finally:
        await connection.close()


async def ids(database_url: str, kind: str, first: int, last: int) -> list[str]:
    """The ids of the rows of a kind from the `first`-th to the `last`-th."""
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(IDS)
        found = await connection.fetch(
            "SELECT pg_temp.id_of($1, n) AS id FROM generate_series($2::int, $3::int) n", kind, first, last
        )
        return [str(row["id"]) for row in found]
    finally:
        await connection.close()
