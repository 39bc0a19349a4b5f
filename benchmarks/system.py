"""What is measured: a whole system of its own (`lms up`), databases of several sizes beside its own, and processes on them."""

from __future__ import annotations

import asyncio
import hmac
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from benchmarks import data
from benchmarks.load import Asked, one, signing_in

EMAIL, PASSWORD = "admin@example.org", "correct horse battery staple"
ROOT = Path(__file__).parent.parent
START_SECONDS = 60.0
# Less than a token lives.
TOKEN_SECONDS = 300.0
LMS = (sys.executable, "-m", "lms_core.cli")
SETTINGS = (
    # What the disk takes is not what is compared; CPU is then what every arm waits for.
    "ALTER SYSTEM SET synchronous_commit = off",
    "ALTER SYSTEM SET max_wal_size = '4GB'",
    "ALTER SYSTEM SET shared_preload_libraries = 'pg_stat_statements'",
)


class Served:
    """One process that answers HTTP."""

    def __init__(self, command: list[str], environment: dict[str, str], url: str, log: Path) -> None:
        self.url, self.log = url, log
        with log.open("w") as file:
            self.process = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=file, stderr=file)
        self.pid = self.process.pid
        port = urlsplit(url).port or 0
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                is_starting = self.process.poll() is None and time.monotonic() < deadline
                assert is_starting, log.read_text()[-2000:]
                time.sleep(0.05)

    def stop(self) -> None:
        """SIGTERM, and wait."""
        self.process.terminate()
        self.process.wait(30)


class System:
    """`lms up` in a temporary folder, or one that is kept for the next run, and whatever is started beside it.

    All of it ends with the block.
    """

    def __init__(self, kept: Path | None = None) -> None:
        self.folder = None if kept else tempfile.TemporaryDirectory(prefix="lms-bench-", ignore_cleanup_errors=True)
        self.data = (kept or Path(self.folder.name if self.folder else "")).absolute()
        self.data.mkdir(parents=True, exist_ok=True)
        self.environment = {
            **os.environ,
            "LMS_ADMIN_EMAIL": EMAIL,
            "LMS_ADMIN_PASSWORD": PASSWORD,
            "LMS_SECRET_KEY": "a secret for benchmarks, which is long enough",
            # A process of production writes a line for each request.
            "LMS_LOG_LEVEL": "INFO",
        }
        self.running: subprocess.Popen[str] | None = None
        self.served: dict[str, Served] = {}
        self.tokens: dict[tuple[str, str], tuple[str, float]] = {}
        self.databases: set[str] = set()

    def __enter__(self) -> System:
        self.up()
        asyncio.run(self.execute(self.database_url(), *SETTINGS))
        self.down()
        self.up()
        asyncio.run(self.execute(self.database_url(), "CREATE EXTENSION IF NOT EXISTS pg_stat_statements"))
        return self

    def __exit__(self, *_: object) -> None:
        for served in self.served.values():
            served.stop()
        self.down()
        if self.folder is not None:
            self.folder.cleanup()

    # The whole system

    def up(self) -> float:
        """Start, and how many seconds it took until it was ready."""
        started = time.perf_counter()
        log = (self.data / "up.log").open("a")
        self.running = subprocess.Popen(
            [*LMS, "up", "--data", str(self.data / "system"), "--port", "0"],
            env=self.environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True,
        )  # fmt: skip
        assert self.running.stdout is not None
        for line in self.running.stdout:
            if line.startswith("Ready: "):
                return time.perf_counter() - started
        raise AssertionError((self.data / "up.log").read_text())

    def down(self) -> None:
        """Stop it in order."""
        if self.running is not None:
            self.running.send_signal(signal.SIGTERM)
            self.running.wait(60)
            self.running = None

    def status(self) -> dict[str, Any]:
        """What `lms status --json` says."""
        found: dict[str, Any] = json.loads((self.data / "system" / "status.json").read_text())
        return found

    def pid(self, name: str) -> int:
        """Of one process of the whole system."""
        found: int = self.status()["processes"][name]["pid"]
        return found

    @property
    def url(self) -> str:
        """Of the whole system's API."""
        return str(self.status()["url"])

    # Databases

    def database_url(self, name: str | None = None) -> str:
        """Of the system's own database, or of another one on its server."""
        own = str(self.status()["database_url"])
        return own if name is None else urlunsplit(urlsplit(own)._replace(path=f"/{name}"))

    async def execute(self, database_url: str, *statements: str) -> None:
        """Statements, each outside of a transaction."""
        connection = await asyncpg.connect(database_url)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    async def fetch(self, database_url: str, statement: str, *arguments: Any) -> list[Any]:
        """Rows."""
        connection = await asyncpg.connect(database_url)
        try:
            return list(await connection.fetch(statement, *arguments))
        finally:
            await connection.close()

    def sized(self, courses: int) -> str:
        """The name of a database with so many courses, made on first use."""
        return self.made(f"courses_{courses}", lambda url: data.fill(url, courses))

    def made(self, name: str, fill: Callable[[str], Coroutine[Any, Any, None]]) -> str:
        """The name of a database beside the system's own, migrated and filled on first use."""
        begun, filled = f"{name}_begun", f"{name}_filled"
        if name in self.databases:
            return filled
        self.databases.add(name)
        there = "SELECT FROM pg_database WHERE datname = $1"
        if asyncio.run(self.fetch(self.database_url(), there, filled)):
            self.migrate(filled)
            return filled
        began = time.perf_counter()
        make = (f"DROP DATABASE IF EXISTS {begun} WITH (FORCE)", f"CREATE DATABASE {begun}")
        asyncio.run(self.execute(self.database_url(), *make))
        self.migrate(begun)
        asyncio.run(fill(self.database_url(begun)))
        asyncio.run(self.execute(self.database_url(), f"ALTER DATABASE {begun} RENAME TO {filled}"))
        print(f"(made {name} in {time.perf_counter() - began:.0f} s)", file=sys.stderr, flush=True)
        return filled

    def migrate(self, database: str) -> None:
        """Make the tables, and the first super admin."""
        command = [*LMS, "setup", "--nothing-runs"]
        subprocess.run(command, env=self.environment_for(database), cwd=ROOT, check=True, capture_output=True)

    # Processes beside it

    def environment_for(self, database: str, **more: str) -> dict[str, str]:
        """The environment of a process on one of the databases."""
        kept = json.loads((self.data / "system" / "environment.json").read_text())
        own = {"LMS_DATABASE_URL": self.database_url(database), "LMS_ENV": "production", "LMS_RATE_LIMIT": ""}
        return {**kept, **self.environment, **own, **more}

    def serve(self, name: str, database: str, **more: str) -> Served:
        """`lms serve` on a database."""
        if name not in self.served:
            port = free_port()
            url = f"http://127.0.0.1:{port}"
            environment = self.environment_for(database, LMS_PUBLIC_URL=url, **more)
            command = [*LMS, "serve", "--port", str(port)]
            self.served[name] = Served(command, environment, url, self.data / f"{name}.log")
        return self.served[name]

    def reference(self, name: str, factory: str, database: str) -> Served:
        """An application of `benchmarks` under the same server."""
        if name not in self.served:
            port = free_port()
            command = [sys.executable, "-m", "uvicorn", "--factory", f"benchmarks.{factory}", "--port", str(port)]
            command += ["--no-access-log", "--log-level", "warning"]
            url = f"http://127.0.0.1:{port}"
            environment = self.environment_for(database, LMS_PUBLIC_URL=url)
            self.served[name] = Served(command, environment, url, self.data / f"{name}.log")
        return self.served[name]

    def cursor_key(self) -> bytes:
        """What cursors are sealed with, to ask for a page that nobody has walked to."""
        return hmac.digest(self.environment["LMS_SECRET_KEY"].encode(), b"cursor", "sha256")

    def token(self, url: str, email: str = EMAIL) -> str:
        """Somebody's access token, a new one every five minutes."""
        found, at = self.tokens.get((url, email), ("", -TOKEN_SECONDS))
        if time.monotonic() - at >= TOKEN_SECONDS:
            found = one(url, signing_in(email, PASSWORD))["access_token"]
            self.tokens[url, email] = found, time.monotonic()
        return found

    def statements_of(self, served: Served, database: str, asked: list[Asked]) -> float:
        """Statements that one of these requests causes, BEGIN and COMMIT included, by pg_stat_statements."""
        own = self.database_url()
        reset = "SELECT pg_stat_statements_reset(0, (SELECT oid FROM pg_database WHERE datname = $1), 0)"
        count = """
            SELECT coalesce(sum(calls), 0)::float AS calls FROM pg_stat_statements
            WHERE dbid = (SELECT oid FROM pg_database WHERE datname = $1) AND query NOT LIKE '%pg_current_wal_lsn%'
        """
        asyncio.run(self.fetch(own, reset, database))
        for each in asked:
            one(served.url, each)
        return float(asyncio.run(self.fetch(own, count, database))[0]["calls"]) / len(asked)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def unique() -> str:
    """Eight characters that no other row has."""
    return secrets.token_hex(4)
