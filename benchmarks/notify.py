"""What a commit costs that wakes others (NOTIFY), beside one that does not: such commits go one by one.

    createdb benchmark_notify
    python -m benchmarks.notify postgresql://postgres@127.0.0.1:5432/benchmark_notify

Needs pgbench, and a server on this machine that has nothing else to do: CPU is that of all its processes. Every commit
stores a row of 300 bytes. The listeners wait for another channel, as API processes do when the relay is woken.
"""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import asyncpg
import psutil

from benchmarks.load import cpu_of

SECONDS = 5
ROW = "INSERT INTO benchmark_event (id, payload) VALUES (gen_random_uuid(), repeat('x', 300))"
SCRIPTS = {"without": f"{ROW};", "with": f"WITH event AS ({ROW}) SELECT pg_notify('lms_outbox', '');"}


def measure(url: str, script: Path, clients: int) -> tuple[float, float]:
    """Commits a second, and what each costs, in seconds of CPU."""
    command = ["pgbench", "-n", "-M", "prepared", "-c", str(clients), "-T", str(SECONDS), "-f", str(script), url]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"number of transactions actually processed: (\d+)(?s:.)*tps = ([\d.]+)", printed)
    assert found is not None, printed
    return float(found[2]), float(found[1])


async def run(url: str) -> None:
    """All of it."""
    connection = await asyncpg.connect(url)
    await connection.execute("CREATE TABLE IF NOT EXISTS benchmark_event (id uuid PRIMARY KEY, payload text)")
    server = psutil.Process(connection.get_server_pid()).ppid()
    listening: list[asyncpg.Connection] = []
    with tempfile.TemporaryDirectory(prefix="lms-notify-") as folder:
        for clients, listeners in ((1, 0), (16, 0), (16, 16), (16, 64)):
            while len(listening) < listeners:
                listening.append(await asyncpg.connect(url))
                await listening[-1].add_listener("lms_access", lambda *_: None)
            for name, sql in SCRIPTS.items():
                script = Path(folder) / f"{name}.sql"
                script.write_text(sql)
                await asyncio.sleep(1)
                before = cpu_of(server)
                a_second, commits = await asyncio.to_thread(measure, url, script, clients)
                # What the processes of the writers used is counted when they have ended.
                await asyncio.sleep(1)
                cost = (cpu_of(server) - before) / commits * 1e6
                print(
                    f"{clients} writers, {listeners} listeners, {name} NOTIFY: {a_second:.0f} commits a second, "
                    f"{cost:.0f} µs of CPU each",
                    flush=True,
                )
    for one in (*listening, connection):
        await one.close()


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1]))
