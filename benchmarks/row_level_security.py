"""What row-level security by institution would cost the two reads that everybody does all day.

    LMS_DATABASE_URL=postgresql://…/an_empty_database python benchmarks/row_level_security.py

Three arms, interleaved, each a real API process: `off`; `policy`, where PostgreSQL checks a policy on courses for a role
that is neither owner nor superuser, with the institutions set once for each connection (the least that it could cost,
and of no use: a pool's connections serve everybody); and `wall`, where they are set before each read, as they must be
while a read is one autocommit statement on a pooled connection. Then, as SQL alone, two reads of what hangs below courses,
whose policies can only say "its course may be seen": `owner` and `wall`, in milliseconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import httpx2

from lms_core import cli, db
from lms_core.lifespan import running
from lms_core.uow import Context

ARMS = {"off": 8301, "policy": 8302, "wall": 8303}
ROUNDS, SECONDS, CLIENTS = 7, 3.0, 8
COURSES = 100_000
EMAIL, PASSWORD = "admin@example.org", "benchmarks need long passwords"
SET = "SELECT set_config('lms.institutions', $1, false)"
URL = os.environ["LMS_DATABASE_URL"]
AS_APPLICATION = urlunsplit(urlsplit(URL)._replace(netloc=f"lms_wall@{urlsplit(URL).netloc.rpartition('@')[2]}"))
# The inner SELECT is evaluated once for a statement; without it the array is read again for every row.
WALL = """
    GRANT ALL ON ALL TABLES IN SCHEMA public TO lms_wall;
    ALTER TABLE courses_course ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
    CREATE POLICY institution ON courses_course TO lms_wall
        USING (institution_id = ANY ((SELECT current_setting('lms.institutions')::uuid[])::uuid[]));
"""
BELOW = """
    INSERT INTO materials_material (id, course_id, title, kind, body, published, position)
    SELECT gen_random_uuid(), id, 'Material', 'page', '', true, 0 FROM courses_course;
    INSERT INTO materials_text (id, material_id, page, title, text)
    SELECT gen_random_uuid(), id, 0, title, 'lorem ipsum dolor sit amet word' || row_number() OVER () % 1000
    FROM materials_material;
    ANALYZE materials_material, materials_text;
    ALTER TABLE materials_material ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
    CREATE POLICY institution ON materials_material TO lms_wall USING (course_id IN (SELECT id FROM courses_course));
    ALTER TABLE materials_text ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
    CREATE POLICY institution ON materials_text TO lms_wall
        USING (material_id IN (SELECT id FROM materials_material));
    GRANT ALL ON ALL TABLES IN SCHEMA public TO lms_wall;
"""
READS_BELOW = {
    "search": """
        SELECT m.id FROM materials_text t JOIN materials_material m ON m.id = t.material_id
        JOIN courses_course c ON c.id = m.course_id
        WHERE t.vector @@ to_tsquery('simple', 'word77') AND NOT m.is_deleted
        AND c.institution_id = ANY (current_setting('lms.institutions')::uuid[]) LIMIT 1000
    """,
    "materials of a course": """
        SELECT id FROM materials_material WHERE NOT is_deleted AND course_id = (SELECT max(id::text)::uuid
        FROM (SELECT id FROM courses_course LIMIT 1) one) ORDER BY id DESC LIMIT 50
    """,
}
SEED = """
    INSERT INTO courses_course (id, institution_id, code, title, description, state, waitlist, is_deleted)
    SELECT gen_random_uuid(), (array(SELECT id FROM institutions_institution ORDER BY id))[1 + n % 20],
        'c' || n, 'Course ' || n, repeat('About it. ', 20), 'published', false, false
    FROM generate_series(1, $1::int) n
"""


def serve(arm: str) -> None:
    """One API process, with what the arm changes."""
    allowed = os.environ["INSTITUTIONS"]

    async def once(connection: asyncpg.Connection) -> None:
        await connection.fetch(SET, allowed)

    async def read(self: db.Database, sql: str, arguments: Any) -> list[asyncpg.Record]:
        pool = self.reads or await self.open_reads()
        self.statements += 1
        async with pool.acquire() as connection:
            if arm == "wall":
                await connection.fetch(SET, allowed)
            return list(await connection.fetch(sql, *arguments))

    async def open_reads(self: db.Database) -> asyncpg.Pool:
        self.reads = self.reads or await asyncpg.create_pool(
            URL if arm == "off" else AS_APPLICATION,
            min_size=8, max_size=8, init=once, reset=db.keep_settings, server_settings={"jit": "off"},
        )  # fmt: skip
        return self.reads

    db.Database.read = read  # type: ignore[method-assign]
    db.Database.open_reads = open_reads  # type: ignore[method-assign]
    sys.argv = ["lms", "serve", "--port", str(ARMS[arm])]
    cli.main()


@contextlib.contextmanager
def servers(environment: dict[str, str]) -> Iterator[None]:
    """All arms, running."""
    running = [
        subprocess.Popen([sys.executable, __file__, arm], env={**environment, "LMS_LOG_LEVEL": "ERROR"}) for arm in ARMS
    ]
    try:
        yield
    finally:
        for process in running:
            process.terminate()
            process.wait()


async def rate(port: int, path: str, token: str) -> float:
    """Requests in a second, by a few clients that keep their connections."""
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
    until, done = time.monotonic() + SECONDS, 0

    async def client() -> None:
        nonlocal done
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while time.monotonic() < until:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head
            length = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
            await reader.readexactly(int(length.split(b":")[1]))
            done += 1
        writer.close()

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return done / SECONDS


async def wait_until_ready(client: httpx2.AsyncClient) -> None:
    """All arms answer."""
    for port in ARMS.values():
        for _ in range(200):
            with contextlib.suppress(httpx2.TransportError):
                if (await client.get(f"http://127.0.0.1:{port}/health/ready")).status_code == 200:
                    break
            await asyncio.sleep(0.1)


async def make_super_admin(environment: dict[str, str]) -> None:
    """The one part of the set-up that this needs; the rest asks for a store."""
    os.environ.update(environment)
    async with running(Context.create(cli.load())) as context:
        for setup in context.platform.setups:
            if setup.name == "auth.first_super_admin":
                await setup.function(context, False)


async def measure_below(allowed: str) -> None:
    """Medians of the execution times of reads below courses."""
    owner, wall = await asyncpg.connect(URL), await asyncpg.connect(AS_APPLICATION)
    await owner.execute(BELOW)
    for name, sql in READS_BELOW.items():
        found = {}
        for arm, connection in (("owner", owner), ("wall", wall)):
            await connection.execute("SET jit = off")
            await connection.fetch(SET, allowed)
            plans = [await connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}") for _ in range(ROUNDS)]
            found[arm] = statistics.median(json.loads(plan)[0]["Execution Time"] for plan in plans)
        print(json.dumps({"read": name, **found}))
    await owner.close()
    await wall.close()


async def measure() -> None:
    """Seed, start the arms, and print medians of the ratios to `off`."""
    environment = {**os.environ, "LMS_ADMIN_EMAIL": EMAIL, "LMS_ADMIN_PASSWORD": PASSWORD}
    subprocess.run([sys.executable, "-m", "lms_core.cli", "db", "upgrade"], env=environment, check=True)
    await make_super_admin(environment)
    base = f"http://127.0.0.1:{ARMS['off']}"
    async with httpx2.AsyncClient() as client:
        database = await asyncpg.connect(URL)
        await database.execute("CREATE ROLE lms_wall LOGIN")
        with servers({**environment, "INSTITUTIONS": "{}"}):
            await wait_until_ready(client)
            answer = await client.post(f"{base}/auth/login", data={"username": EMAIL, "password": PASSWORD})
            headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
            for number in range(20):
                body = {"name": f"School {number}", "slug": f"school-{number}"}
                (await client.post(f"{base}/institutions", json=body, headers=headers)).raise_for_status()
        await database.execute(SEED.replace("$1", str(COURSES)))
        await database.execute("VACUUM ANALYZE courses_course")
        await database.execute(WALL)
        ids = [str(row["id"]) for row in await database.fetch("SELECT id FROM institutions_institution ORDER BY id")]
        course = await database.fetchval("SELECT id FROM courses_course LIMIT 1")
        with servers({**environment, "INSTITUTIONS": "{" + ",".join(ids) + "}"}):
            await wait_until_ready(client)
            answer = await client.post(f"{base}/auth/login", data={"username": EMAIL, "password": PASSWORD})
            token = answer.json()["access_token"]
            for path in ("/courses?limit=50", f"/courses/{course}"):
                rates: dict[str, list[float]] = {arm: [] for arm in ARMS}
                for number in range(ROUNDS + 1):
                    for arm, port in ARMS.items():
                        found = await rate(port, path, token)
                        if number:
                            rates[arm].append(found)
                ratios = {arm: [one / off for one, off in zip(rates[arm], rates["off"], strict=True)] for arm in ARMS}
                print(json.dumps({
                    "path": path.replace(str(course), "{id}"),
                    **{arm: {"per_second": round(statistics.median(rates[arm])),
                             "ratio": round(statistics.median(ratios[arm]), 3),
                             "from_to": [round(min(ratios[arm]), 3), round(max(ratios[arm]), 3)]} for arm in ARMS},
                }))  # fmt: skip
        await measure_below("{" + ",".join(ids) + "}")
        await database.execute("DROP OWNED BY lms_wall; DROP ROLE lms_wall")
        await database.close()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        serve(sys.argv[1])
    else:
        asyncio.run(measure())
