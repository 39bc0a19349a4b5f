"""`lms up`, as a process of its own: what it says, keeps running, keeps, and leaves behind (nothing)."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import pytest

from lms_core.errors import StartRefused
from lms_core.mail_folder import keep_mail
from lms_core.supervisor import Process, status

PATIENCE_SECONDS = 60

# Stands for `lms`: quick to start, and its worker has a child that ignores SIGTERM.
UP = """
import http.server, os, subprocess, sys, time
from pathlib import Path
from lms_core.errors import StartRefused
from lms_core.supervisor import up

class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

    def log_message(self, *arguments):
        pass

class StandIn:
    def preload(self):
        pass

    def run(self, arguments):
        command = arguments[0]
        if command == "setup":
            if os.environ.get("FAIL"):
                print("The set-up does not like this machine; buy another.", file=sys.stderr)
                return 1
            print("Super admin admin@example.org, password once-only")
            print("Demo" if "--demo" in arguments else "No demo")
            return 0
        if command == "serve":
            print(os.environ["LMS_SECRET_KEY"], flush=True)
            http.server.ThreadingHTTPServer((arguments[2], int(arguments[4])), Ready).serve_forever()
        if command == "worker":
            ignore = "import os, signal, time; signal.signal(15, signal.SIG_IGN); print(os.getpid(), flush=True); time.sleep(9)"
            subprocess.Popen([sys.executable, "-c", ignore])
        time.sleep(600)

try:
    sys.exit(up(Path(sys.argv[1]), "127.0.0.1", int(sys.argv[2]), False, StandIn()))
except StartRefused as refusal:
    sys.exit(str(refusal))
"""

ELSEWHERE = {
    "LMS_DATABASE_URL": "postgresql://lms@127.0.0.1:1/lms",
    "LMS_REDIS_URL": "redis://127.0.0.1/0",
    "LMS_S3_ENDPOINT": "https://files.example.org",
}


class Up:
    """A running `lms up`; what it printed is in `lines`."""

    def __init__(self, folder: Path, environment: dict[str, str], port: int = 0) -> None:
        self.data, self.lines = folder / "data", list[str]()
        kept = {key: value for key, value in os.environ.items() if not key.startswith("LMS_")}
        self.process = subprocess.Popen(
            [sys.executable, "-c", UP, str(self.data), str(port)],
            env=kept | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def read_until(self, part: str) -> str:
        """The next line that has `part`."""
        assert self.process.stdout is not None
        while line := self.process.stdout.readline():
            self.lines.append(line)
            if part in line:
                return line
        raise AssertionError(f"It ended without {part!r}: {self.lines}")

    def status(self) -> dict[str, Any]:
        """What `lms status` says."""
        return status(self.data)

    def pids(self) -> list[int]:
        """All processes that it started, and theirs."""
        return [child.pid for child in psutil.Process(self.process.pid).children(recursive=True)]

    def refusal(self) -> str:
        """The sentence with which it refused to start."""
        _, error = self.process.communicate(timeout=PATIENCE_SECONDS)
        assert self.process.returncode == 1
        assert error.count("\n") == 1
        return error.strip()


@contextlib.contextmanager
def up(folder: Path, environment: dict[str, str] = ELSEWHERE, port: int = 0) -> Iterator[Up]:
    """`lms up` that runs for the length of a block."""
    running = Up(folder, environment, port)
    try:
        yield running
    finally:
        running.process.terminate()
        try:
            running.process.communicate(timeout=PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            running.process.kill()
            raise


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for something that must happen."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "It did not happen."
        time.sleep(0.05)


def is_gone(pid: int) -> bool:
    """Whether a process has ended, collected by its parent or not."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def query(url: str, sql: str) -> object:
    """The first value of a query."""

    async def run() -> object:
        connection = await asyncpg.connect(url)
        try:
            return await connection.fetchval(sql)
        finally:
            await connection.close()

    return asyncio.run(run())


def test_up_says_what_to_open_and_sigterm_leaves_nothing(tmp_path: Path) -> None:
    with up(tmp_path) as running:
        ready = running.read_until("Ready: ")
        found = running.status()
        assert ready.startswith(f"Ready: {found['url']} ")
        assert f"{found['url']}/docs" in ready
        assert "admin@example.org, password once-only" in ready
        assert found["ready"]
        # The worker's own child has begun.
        wait_until(lambda: (running.data / "logs" / "worker.log").read_text().strip().isdigit())
        pids = running.pids()
        running.process.send_signal(signal.SIGTERM)
        rest, _ = running.process.communicate(timeout=PATIENCE_SECONDS)
        assert running.process.returncode == 0
        assert "Ready" not in rest
        assert len(pids) == 5
        assert all(is_gone(pid) for pid in pids)
        after = running.status()
        assert not after["ready"]
        assert {process["pid"] for process in after["processes"].values()} == {None}


def test_mails_that_nobody_sends_are_shown(tmp_path: Path) -> None:
    keep_mail(tmp_path / "data", "old", b"Subject: From before\n\nText\n")
    with up(tmp_path) as running:
        running.read_until("Ready: ")
        keep_mail(running.data, "new", b"To: ada@example.org\nSubject: Hello\n\nFirst\nSecond\n")
        running.read_until("| Second")
        shown = [line.split("| ")[1].strip() for line in running.lines if line.startswith("  |")]
        assert shown == ["To: ada@example.org", "Subject: Hello", "", "First", "Second"]


def test_commands_in_another_terminal_see_the_same_settings(tmp_path: Path) -> None:
    given = {
        "LMS_CORS_ORIGINS": "https://front.example",
        "LMS_FILES__MULTIPART_FROM_MB": "5",
        "LMS_S3_SECRET_KEY": "needed",
    }
    secrets = {"LMS_ADMIN_PASSWORD": "a", "LMS_METRICS_TOKEN": "b", "LMS_SMTP_URL": "smtp://a:b@c"}
    with up(tmp_path, {**ELSEWHERE, **given, **secrets}) as running:
        running.read_until("Ready: ")
        kept = json.loads((running.data / "environment.json").read_text())
    assert kept.items() >= (ELSEWHERE | given).items()
    assert not kept.keys() & secrets.keys()


def test_engines_elsewhere_are_not_started(tmp_path: Path) -> None:
    with up(tmp_path) as running:
        running.read_until("Ready: ")
        found = running.status()
        assert found["processes"]["postgres"] == {"pid": None, "port": 1}
        assert found["processes"]["redis"] == {"pid": None, "port": 6379}
        assert found["processes"]["s3"] == {"pid": None, "port": 443}
        assert [found[key] for key in ("database_url", "redis_url", "s3_endpoint")] == list(ELSEWHERE.values())
        for name in ("worker", "relay", "scheduler"):
            assert found["processes"][name]["port"] is None


def test_kill_9_leaves_no_process_and_the_next_start_keeps_everything(tmp_path: Path) -> None:
    with up(tmp_path, {}) as running:
        running.read_until("Ready: ")
        before = running.status()
        query(before["database_url"], "CREATE TABLE kept (n int)")
        pids = [process["pid"] for process in before["processes"].values()]
        running.process.kill()
        running.process.wait()
        assert not running.status()["ready"]
    with up(tmp_path, {}) as running:
        running.read_until("Ready: ")
        assert all(is_gone(pid) for pid in pids)
        after = running.status()
        assert {key: after[key] for key in ("url", "database_url", "redis_url", "s3_endpoint")} == {
            key: before[key] for key in ("url", "database_url", "redis_url", "s3_endpoint")
        }
        assert query(after["database_url"], "SELECT count(*) FROM kept") == 0
        secrets = (running.data / "logs" / "api.log").read_text().split()
        assert len(secrets) == 2
        assert len(set(secrets)) == 1


def test_what_dies_is_started_again(tmp_path: Path) -> None:
    with up(tmp_path, {key: value for key, value in ELSEWHERE.items() if key != "LMS_REDIS_URL"}) as running:
        running.read_until("Ready: ")
        before = running.status()["processes"]
        for name in ("worker", "redis"):
            os.kill(before[name]["pid"], signal.SIGKILL)
            running.read_until(f"{name} died (signal 9)")
            running.read_until(f"{name} runs again")
        after = running.status()["processes"]
        for name in ("worker", "redis"):
            assert after[name]["pid"] != before[name]["pid"]
            assert after[name]["port"] == before[name]["port"]
        for name in ("api", "relay", "scheduler"):
            assert after[name] == before[name]


def test_each_failure_in_a_row_doubles_the_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    process = Process("worker", child=None, begun=now)  # type: ignore[arg-type]
    assert [process.pause() for _ in range(8)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    now += 61
    assert process.pause() == 0.5


def test_a_data_folder_in_use_is_refused(tmp_path: Path) -> None:
    with up(tmp_path) as running:
        running.read_until("Ready: ")
        with up(tmp_path) as second:
            assert f"{running.data} is in use by process {running.process.pid};" in second.refusal()
        assert running.status()["ready"]


def test_a_busy_port_is_refused(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with up(tmp_path, port=port) as running:
            assert f"Port {port} on 127.0.0.1 is taken by process {os.getpid()};" in running.refusal()


def test_a_failed_setup_is_said_in_its_own_words(tmp_path: Path) -> None:
    with up(tmp_path, ELSEWHERE | {"FAIL": "1"}) as running:
        assert running.refusal() == "The set-up does not like this machine; buy another."


def test_production_embeds_no_engine(tmp_path: Path) -> None:
    with up(tmp_path, {"LMS_ENV": "production", "LMS_REDIS_URL": "redis://127.0.0.1/0"}) as running:
        assert "set LMS_DATABASE_URL, LMS_S3_ENDPOINT to" in running.refusal()
    assert not running.data.exists()


def test_status_of_a_folder_that_was_never_used_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StartRefused, match="Nothing ever ran in"):
        status(tmp_path)
