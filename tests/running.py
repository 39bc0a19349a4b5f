"""A whole system of its own, started as a person would start it: `lms up`, with real processes to kill."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import asyncpg
import httpx2
from canaries import found_in, found_in_logs

from lms_core.testing import ADMIN_EMAIL, ADMIN_PASSWORD, Caller

REPOSITORY = Path(__file__).parent.parent
# Not how long it takes, but from when on nothing more will come, on a machine that is busy with much else.
DEADLINE_SECONDS = 300.0
OURS = ("LMS_DATABASE_URL", "LMS_REDIS_URL", "LMS_S3_ENDPOINT", "LMS_S3_ACCESS_KEY", "LMS_S3_SECRET_KEY", "LMS_DATA")


class System:
    """A running `lms up`."""

    def __init__(self, data: Path, environment: dict[str, str]) -> None:
        self.data, self.environment = data, environment
        self.process: subprocess.Popen[bytes] | None = None
        self.terminal = data.with_name(f"{data.name}-terminal.txt")
        self.url = ""

    def start(self) -> None:
        """Until it is ready."""
        command = [sys.executable, "-m", "lms_core.cli", "up", "--data", str(self.data), "--port", "0"]
        # Into a file, not a pipe: nobody reads it later, and a full pipe stops whoever writes.
        with self.terminal.open("w") as terminal:
            self.process = subprocess.Popen(
                command, env=self.environment, cwd=REPOSITORY, stdout=terminal, stderr=subprocess.STDOUT
            )
        while (ready := re.search(r"^Ready: (\S+)", self.terminal.read_text(), re.MULTILINE)) is None:
            assert self.process.poll() is None, self.terminal.read_text()
            time.sleep(0.05)
        self.url = ready.group(1)

    def said(self) -> str:
        """The last that its terminal showed and its logs warned of."""
        lines = self.terminal.read_text().splitlines()[-20:]
        for log in sorted((self.data / "logs").glob("*.log")):
            warned = [
                line for line in log.read_text(errors="replace").splitlines() if "warning" in line or "rror" in line
            ]
            lines += [f"{log.stem}: {line[:500]}" for line in warned[-20:]]
        return "\n".join(lines)

    def status(self) -> dict[str, Any]:
        """`lms status --json`."""
        found: dict[str, Any] = json.loads((self.data / "status.json").read_text())
        return found

    def kill(self, name: str) -> None:
        """`kill -9` of one process."""
        os.kill(self.status()["processes"][name]["pid"], signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(60)

    async def sql(self, statement: str, *arguments: Any) -> list[Any]:
        """Rows, straight from its database."""
        connection = await asyncpg.connect(self.status()["database_url"])
        try:
            return list(await connection.fetch(statement, *arguments))
        finally:
            await connection.close()

    async def admin(self, client: httpx2.AsyncClient) -> Caller:
        """The first super admin, signed in, as soon as the API answers."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while time.monotonic() < deadline:
            try:
                if (await client.get("/health/ready")).status_code == 200:
                    break
            except httpx2.TransportError:
                await asyncio.sleep(0.1)
        form = {"username": ADMIN_EMAIL, "password": ADMIN_PASSWORD}
        while (answer := await client.post("/auth/login", data=form)).status_code == 503:
            # What is under way when a database takes another's place is cut off.
            assert time.monotonic() < deadline, answer.text
            await asyncio.sleep(0.1)
        assert answer.status_code == 200, answer.text
        return Caller(client, headers={"Authorization": f"Bearer {answer.json()['access_token']}"})

    async def until(self, what: str, statement: str, *arguments: Any) -> None:
        """Wait until the first column of the first row is true; the database may be away meanwhile."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while time.monotonic() < deadline:
            try:
                if (await self.sql(statement, *arguments))[0][0]:
                    return
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await asyncio.sleep(0.2)
            await asyncio.sleep(0.05)
        raise AssertionError(f"not within {DEADLINE_SECONDS:.0f} s: {what}\n{self.said()}")


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


@contextmanager
def served(variables: dict[str, str]) -> Iterator[str]:
    """`lms serve`, until the block ends."""
    port = free_port()
    command = [sys.executable, "-m", "lms_core.cli", "serve", "--port", str(port)]
    url = f"http://127.0.0.1:{port}"
    # Into a file, not a pipe: nobody reads while it runs, and a full pipe stops whoever writes.
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            command, env={**variables, "LMS_LOG_LEVEL": "INFO"}, cwd=REPOSITORY, stderr=log, text=True
        )
        try:
            deadline = time.monotonic() + DEADLINE_SECONDS
            # One client for all attempts, and without certificates: reading them for each took longer than the start.
            with httpx2.Client(verify=False) as client:
                while time.monotonic() < deadline:
                    assert process.poll() is None, logged(log)
                    try:
                        if client.get(f"{url}/health/ready").status_code == 200:
                            break
                    except httpx2.TransportError:
                        time.sleep(0.1)
            yield url
        finally:
            process.terminate()
            process.wait(30)
        assert found_in(logged(log)) == []


def logged(log: IO[str]) -> str:
    """All that was written."""
    log.seek(0)
    return log.read()


@contextmanager
def system(data: Path, **more: str) -> Iterator[System]:
    """A system on a data folder, with more variables in its environment; stopped, with nothing left, at the end."""
    environment = {key: value for key, value in os.environ.items() if key not in OURS}
    environment |= {
        "LMS_LOG_LEVEL": "INFO",
        "LMS_ADMIN_EMAIL": ADMIN_EMAIL,
        "LMS_ADMIN_PASSWORD": ADMIN_PASSWORD,
        **more,
    }
    running = System(data, environment)
    running.start()
    try:
        yield running
    finally:
        if running.process is not None and running.process.poll() is None:
            running.stop()
        assert found_in_logs(data) == []
