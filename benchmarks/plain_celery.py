"""What a task costs with Celery alone: the broker, and one change of one row on a connection that stays open."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
from celery import Celery

from benchmarks.load import cpu_of

if TYPE_CHECKING:
    from benchmarks.system import System

WARM = 50
app = Celery("plain", broker=os.environ.get("LMS_REDIS_URL"))
app.conf.update(task_ignore_result=True, task_acks_late=True, worker_prefetch_multiplier=1, task_default_queue="plain")
kept: dict[str, Any] = {}


@app.task(name="change")  # type: ignore[untyped-decorator]
def change(number: int) -> None:
    """Change a row."""
    if not kept:
        kept["loop"] = asyncio.new_event_loop()
        kept["connection"] = kept["loop"].run_until_complete(asyncpg.connect(os.environ["LMS_DATABASE_URL"]))
    statement = "UPDATE plain_task SET done = done + 1 WHERE id = $1"
    kept["loop"].run_until_complete(kept["connection"].execute(statement, number))


def cpu_ms_of_a_task(system: System, tasks: int) -> float:
    """Milliseconds of CPU of the worker for each of so many tasks."""
    url = system.database_url()
    table = "CREATE TABLE IF NOT EXISTS plain_task (id int PRIMARY KEY, done int NOT NULL DEFAULT 0)"
    fill = f"INSERT INTO plain_task SELECT n FROM generate_series(0, {tasks + WARM}) n ON CONFLICT DO NOTHING"
    asyncio.run(system.execute(url, table, fill, "UPDATE plain_task SET done = 0"))
    environment = system.environment_for("lms")
    environment |= {"LMS_REDIS_URL": urlunsplit(urlsplit(environment["LMS_REDIS_URL"])._replace(path="/9"))}
    command = [sys.executable, "-m", "celery", "-A", "benchmarks.plain_celery", "worker", "--concurrency=1"]
    command += ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel=ERROR", "--queues=plain"]
    app.conf.broker_url = environment["LMS_REDIS_URL"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for number in range(WARM):
            change.delay(number)
        wait(system, url, WARM)
        before = cpu_of(process.pid)
        for number in range(WARM, WARM + tasks):
            change.delay(number)
        wait(system, url, WARM + tasks)
        return (cpu_of(process.pid) - before) / tasks * 1000
    finally:
        process.terminate()
        process.wait(30)


def wait(system: System, url: str, done: int) -> None:
    """Until so many tasks are done."""
    deadline = time.monotonic() + 120
    while asyncio.run(system.fetch(url, "SELECT sum(done) AS n FROM plain_task"))[0]["n"] < done:
        assert time.monotonic() < deadline, "Plain Celery takes too long."
        time.sleep(0.05)
