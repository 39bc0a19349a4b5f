"""What an append-only table like the audit trail costs as one table, and as a partition for each month.

    createdb benchmark_partitions
    python benchmarks/partitions.py postgresql://postgres@127.0.0.1:5432/benchmark_partitions [ROWS]

ROWS (2,000,000 unless given) are spread over 24 months and written to both, month by month. CPU is that of PostgreSQL's
process of this connection, which has to run on this machine; the write-ahead log is the whole server's, which should
have nothing else to do. The last part turns the one table into the first partition of another, as a migration would.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg

MONTHS = [datetime(2025 + number // 12, number % 12 + 1, 1, tzinfo=UTC) for number in range(26)]
"""The beginnings of 24 months that are filled, of one that is written into, and the end of that."""
FILLED = 24
SINGLE_INSERTS, LOOKUPS, PORTION = 3_000, 2_000, 10_000
COLUMNS = "id, actor_id, address, request_id, action, kind, object_id, changes"
TABLE = """
    CREATE TABLE {name} (
        id uuid NOT NULL, created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz NOT NULL DEFAULT now(),
        version integer NOT NULL DEFAULT 1, actor_id uuid, address text, request_id text, action text NOT NULL,
        kind text NOT NULL, object_id uuid NOT NULL, changes jsonb NOT NULL
    ) {kind}
"""
INDEXES = """
    ALTER TABLE {name} ADD CONSTRAINT {name}_pkey PRIMARY KEY (id);
    CREATE INDEX {name}_object ON {name} (object_id, id);
    CREATE INDEX {name}_actor ON {name} (actor_id, id);
    CREATE INDEX {name}_kind ON {name} (kind, id);
    CREATE INDEX {name}_action ON {name} (action, id) WHERE action <> 'created' AND action <> 'changed'
"""
# Of four rows one tells of a new object, two of objects of the same days, and one of what has been there for long.
MADE = """
    WITH given AS (SELECT $1::timestamptz AS begin, $2::timestamptz - $1::timestamptz AS length, $3::bigint AS rows),
    numbered AS (
        SELECT n, CASE WHEN n % 4 = 0 THEN n ELSE n - n * 7919 % least(n, 5000) END AS made, begin, length / rows AS step
        FROM given, generate_series(1, rows) AS n
    )
    SELECT pg_temp.uuid_at(begin + step * (n - 1), n), pg_temp.uuid_at('2024-09-01', n * 7919 % 20000),
        '192.0.2.' || n % 250, md5(n::text), CASE WHEN n % 4 = 0 THEN 'created' ELSE 'changed' END,
        (ARRAY['submission', 'grade', 'material', 'enrollment', 'user', 'course', 'file', 'message'])[n % 8 + 1],
        CASE WHEN n % 4 = 3 THEN pg_temp.uuid_at('2024-09-01', n * 104729 % 500000)
            ELSE pg_temp.uuid_at(begin + step * (made - 1), made) END,
        jsonb_build_object('title', jsonb_build_object('before', md5(n::text), 'after', md5((n + 1)::text)),
            'state', jsonb_build_object('before', 'draft', 'after', 'published'))
    FROM numbered
"""
UUID_AT = """
    CREATE FUNCTION pg_temp.uuid_at(moment timestamptz, salt bigint) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
        SELECT (lpad(to_hex(floor(extract(epoch FROM moment) * 1000)::bigint), 12, '0') || '7'
            || substr(md5(salt::text), 1, 3) || '8' || substr(md5(salt::text), 4, 15))::uuid
    $$
"""


def first_id(moment: datetime) -> UUID:
    """The least UUID of version 7 that can be made at a moment."""
    return UUID(int=int(moment.timestamp() * 1000) << 80)


@dataclass
class Cost:
    """What PostgreSQL spent between two moments."""

    cpu: float = 0.0
    log: int = 0
    elapsed: float = 0.0


class Server:
    """One connection, and what its process costs."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self.connection = connection
        self.schedule = Path(f"/proc/{connection.get_server_pid()}/schedstat")

    def cpu(self) -> float:
        """Seconds that the process has run; the kernel counts nanoseconds there, and hundredths elsewhere."""
        return int(self.schedule.read_text().split()[0]) / 1e9

    async def log_position(self) -> int:
        """Bytes of write-ahead log so far."""
        position: int = await self.connection.fetchval(
            "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint"
        )
        return position

    @asynccontextmanager
    async def cost(self) -> AsyncIterator[Cost]:
        """What is spent within."""
        found, log = Cost(), await self.log_position()
        before, started = self.cpu(), time.perf_counter()
        yield found
        found.elapsed = time.perf_counter() - started
        found.cpu = self.cpu() - before
        found.log = await self.log_position() - log


async def make(connection: asyncpg.Connection) -> None:
    """Both tables, empty."""
    await connection.execute("DROP TABLE IF EXISTS one, months CASCADE")
    # What autovacuum does would be counted at random.
    await connection.execute(TABLE.format(name="one", kind="WITH (autovacuum_enabled = off)"))
    await connection.execute(INDEXES.format(name="one"))
    await connection.execute(TABLE.format(name="months", kind="PARTITION BY RANGE (id)"))
    await connection.execute(INDEXES.format(name="months"))
    for number in range(FILLED + 1):
        begin, end = first_id(MONTHS[number]), first_id(MONTHS[number + 1])
        await connection.execute(
            f"CREATE TABLE months_{number} PARTITION OF months FOR VALUES FROM ('{begin}') TO ('{end}') "
            "WITH (autovacuum_enabled = off)"
        )


async def fill(server: Server, rows: int) -> None:
    """COPY, month by month, into one and the other in turns."""
    costs: dict[str, list[Cost]] = {"one": [], "months": []}
    await server.connection.execute(UUID_AT)
    for number in range(FILLED):
        data = BytesIO()
        await server.connection.copy_from_query(
            MADE, MONTHS[number], MONTHS[number + 1], rows // FILLED, output=data, format="binary"
        )
        for name in sorted(costs, reverse=number % 2 == 1):
            data.seek(0)
            async with server.cost() as cost:
                await server.connection.copy_to_table(name, source=data, columns=COLUMNS.split(", "), format="binary")
            costs[name].append(cost)
    for name, found in costs.items():
        for title, part in (("first 6 months", found[:6]), ("last 6 months", found[-6:])):
            many = len(part) * (rows // FILLED)
            cpu, log = sum(cost.cpu for cost in part) / many * 1e6, sum(cost.log for cost in part) / many
            print(f"COPY, {title}, {name}: {cpu:.1f} µs of CPU and {log:.0f} bytes of log a row", flush=True)


async def insert_singly(server: Server) -> None:
    """One row in each transaction, into the month that comes after those that are filled."""
    rows = await server.connection.fetch(MADE, MONTHS[FILLED], MONTHS[FILLED + 1], SINGLE_INSERTS)
    await server.connection.execute("SET synchronous_commit = off")
    costs: dict[str, list[Cost]] = {"one": [], "months": []}
    statements = {
        name: await server.connection.prepare(f"INSERT INTO {name} ({COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)")
        for name in costs
    }
    for begin in range(0, SINGLE_INSERTS, 500):
        for name, statement in statements.items():
            async with server.cost() as cost:
                for row in rows[begin : begin + 500]:
                    await statement.fetch(*row.values())
            costs[name].append(cost)
    await server.connection.execute("RESET synchronous_commit")
    for name, found in costs.items():
        cpu, log = sum(cost.cpu for cost in found), sum(cost.log for cost in found)
        print(
            f"single insert, {name}: {cpu / SINGLE_INSERTS * 1e6:.0f} µs of CPU, {log / SINGLE_INSERTS:.0f} bytes of log"
        )


async def sizes(connection: asyncpg.Connection) -> None:
    """Bytes of the rows, and of the indexes."""
    for name in ("one", "months"):
        found = await connection.fetchrow(
            """
            SELECT sum(pg_relation_size(oid)) AS rows, sum(pg_indexes_size(oid)) AS indexes FROM pg_class
            WHERE oid = $1::regclass OR oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = $1::regclass)
            """,
            name,
        )
        megabytes = {part: float(size) / 1e6 for part, size in found.items()}
        print(f"size, {name}: rows {megabytes['rows']:.0f} MB, indexes {megabytes['indexes']:.0f} MB")


SINCE, UNTIL = first_id(MONTHS[11]), first_id(MONTHS[12])
QUESTIONS = {
    "by object": "SELECT * FROM {name} WHERE object_id = $1 ORDER BY id DESC LIMIT 50",
    "by object, of one month": f"SELECT * FROM {{name}} WHERE object_id = $1 AND id >= '{SINCE}' AND id < '{UNTIL}' "
    "ORDER BY id DESC LIMIT 50",
    "by id": "SELECT * FROM {name} WHERE id = $1",
    "newest 50": "SELECT * FROM {name} WHERE $1::uuid IS NOT NULL ORDER BY id DESC LIMIT 50",
}


async def look_up(server: Server, url: str) -> None:
    """What one question costs, planned each time, planned once, and as the first of a connection."""
    connection = server.connection
    for name in ("one", "months"):
        await connection.execute(f"ANALYZE {name}")
    for title, sql in QUESTIONS.items():
        column = "id" if title == "by id" else "object_id"
        wanted = [
            row[0]
            for row in await connection.fetch(f"SELECT {column} FROM one TABLESAMPLE BERNOULLI (0.5) LIMIT {LOOKUPS}")
        ]
        for name in ("one", "months"):
            parts = []
            for mode in ("force_custom_plan", "force_generic_plan"):
                await connection.execute(f"SET plan_cache_mode = {mode}")
                statement = await connection.prepare(sql.format(name=name))
                async with server.cost() as cost:
                    for value in wanted:
                        await statement.fetch(value)
                parts.append(f"{cost.cpu / len(wanted) * 1e6:.0f} µs {mode[6:-5]}")
            explained = await connection.fetchval(
                f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql.format(name=name).replace('$1', repr(str(wanted[0])))}"
            )
            plan: dict[str, Any] = json.loads(explained)[0]
            buffers = plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"]
            parts.append(
                f"planning {plan['Planning Time']:.2f} ms, execution {plan['Execution Time']:.2f} ms, {buffers} blocks"
            )
            print(f"{title}, {name}: {', '.join(parts)}", flush=True)
    await connection.execute("RESET plan_cache_mode")
    for name in ("one", "months"):
        firsts, memory = [], 0
        for _ in range(5):
            fresh = await asyncpg.connect(url)
            before = await fresh.fetchval("SELECT sum(total_bytes) FROM pg_backend_memory_contexts")
            explained = await fresh.fetchval(
                f"EXPLAIN (FORMAT JSON, SUMMARY) {QUESTIONS['by object'].format(name=name).replace('$1', repr(str(UUID(int=0))))}"
            )
            firsts.append(json.loads(explained)[0]["Planning Time"])
            memory = await fresh.fetchval("SELECT sum(total_bytes) FROM pg_backend_memory_contexts") - before
            await fresh.close()
        print(f"first plan of a connection, {name}: {statistics.median(firsts):.1f} ms, {memory / 1024:.0f} KiB kept")


async def remove_a_month(server: Server) -> None:
    """The oldest month: deleted in portions and vacuumed, against a partition that is taken out."""
    connection = server.connection

    async def delete() -> None:
        end = first_id(MONTHS[1])
        while True:
            done = await connection.execute(
                f"DELETE FROM one WHERE id IN (SELECT id FROM one WHERE id < $1 ORDER BY id LIMIT {PORTION})", end
            )
            if done == "DELETE 0":
                return

    async def vacuum() -> None:
        await connection.execute("VACUUM one")

    async def detach() -> None:
        await connection.execute("ALTER TABLE months DETACH PARTITION months_0 CONCURRENTLY")

    async def drop() -> None:
        await connection.execute("DROP TABLE months_0")

    # The first VACUUM of a table looks at all of it; a later one, which is what a month costs, at what changed.
    await connection.execute("VACUUM one")
    steps: dict[str, Callable[[], Awaitable[None]]] = {
        "DELETE": delete,
        "VACUUM": vacuum,
        "DETACH": detach,
        "DROP": drop,
    }
    for title, step in steps.items():
        async with server.cost() as cost:
            await step()
        print(f"{title} of a month: {cost.cpu:.2f} s of CPU, {cost.elapsed:.2f} s, {cost.log / 1e6:.1f} MB of log")
    await sizes(connection)


async def turn_into_partitions(server: Server, url: str) -> None:
    """The one table becomes the first partition: how long each step takes, and whether readers with plans notice."""
    connection, boundary = server.connection, first_id(MONTHS[FILLED + 1])
    await connection.execute("DROP TABLE IF EXISTS months CASCADE")
    reader = await asyncpg.connect(url)
    prepared = await reader.prepare("SELECT count(*) FROM (SELECT FROM one ORDER BY id DESC LIMIT 10) AS newest")
    assert await prepared.fetchval() == 10
    swap = (
        "BEGIN; ALTER TABLE one RENAME TO one_before; "
        + TABLE.format(name="one", kind="PARTITION BY RANGE (id)")
        + "; "
        + INDEXES.format(name="one")
        .replace("ONE_", "one_")
        .replace("one_pkey", "one_all_pkey")
        .replace("INDEX one_", "INDEX one_all_")
        + f"; CREATE TABLE one_next PARTITION OF one FOR VALUES FROM ('{boundary}') TO (MAXVALUE)"
        + f"; ALTER TABLE one ATTACH PARTITION one_before FOR VALUES FROM (MINVALUE) TO ('{boundary}'); COMMIT"
    )
    steps = {
        "CHECK … NOT VALID": f"ALTER TABLE one ADD CONSTRAINT one_before_range CHECK (id < '{boundary}') NOT VALID",
        "VALIDATE (reads all, nobody waits)": "ALTER TABLE one VALIDATE CONSTRAINT one_before_range",
        "rename, new table, ATTACH (all wait)": swap,
        "drop the CHECK": "ALTER TABLE one_before DROP CONSTRAINT one_before_range",
    }
    for title, sql in steps.items():
        async with server.cost() as cost:
            await connection.execute(sql)
        print(f"{title}: {cost.elapsed * 1000:.0f} ms, {cost.log / 1024:.0f} KiB of log")
    count = await connection.fetchval("SELECT count(*) FROM pg_inherits WHERE inhparent = 'one'::regclass")
    indexes = await connection.fetchval(
        "SELECT count(*) FROM pg_index JOIN pg_inherits ON inhrelid = indexrelid WHERE indrelid = 'one_before'::regclass"
    )
    again = await prepared.fetchval()
    print(
        f"afterwards: {count} partitions, {indexes} of 5 indexes taken over, a statement prepared before finds {again} of 10 rows"
    )
    await reader.close()


async def try_triggers(connection: asyncpg.Connection) -> None:
    """Whether a trigger that refuses changes on the whole also does so when a partition is named."""
    await connection.execute(
        """
        CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION 'append-only'; END $$;
        CREATE TRIGGER of_statements BEFORE UPDATE OR DELETE ON one FOR EACH STATEMENT EXECUTE FUNCTION refuse()
        """
    )

    async def refused(sql: str) -> str:
        try:
            await connection.execute(sql)
        except asyncpg.RaiseError:
            return "refused"
        return "goes through"

    row = await connection.fetchval("SELECT id FROM one_before LIMIT 1")
    whole, part = f"DELETE FROM one WHERE id = '{row}'", f"DELETE FROM one_before WHERE id = '{row}'"
    print(
        f"trigger FOR EACH STATEMENT: naming the whole {await refused(whole)}, naming a partition {await refused(part)}"
    )
    await connection.execute("DROP TRIGGER of_statements ON one")
    await connection.execute(
        "CREATE TRIGGER of_rows BEFORE UPDATE OR DELETE ON one FOR EACH ROW EXECUTE FUNCTION refuse()"
    )
    row = await connection.fetchval("SELECT id FROM one_before LIMIT 1")
    whole, part = f"DELETE FROM one WHERE id = '{row}'", f"DELETE FROM one_before WHERE id = '{row}'"
    print(f"trigger FOR EACH ROW: naming the whole {await refused(whole)}, naming a partition {await refused(part)}")
    print(f"TRUNCATE of a partition: {await refused('TRUNCATE one_next')}")


async def run(url: str, rows: int) -> None:
    """All of it."""
    connection = await asyncpg.connect(url)
    server = Server(connection)
    await make(connection)
    await fill(server, rows)
    await insert_singly(server)
    await sizes(connection)
    await look_up(server, url)
    await remove_a_month(server)
    await turn_into_partitions(server, url)
    await try_triggers(connection)
    await connection.close()


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 2_000_000))
