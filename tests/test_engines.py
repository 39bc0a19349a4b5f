"""The embedded engines: what they keep, what they refuse, and what they survive."""

import asyncio
import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest

from lms_core.engine import find_program
from lms_core.engine_postgres import Postgres
from lms_core.engine_redis import Redis
from lms_core.engine_s3 import S3
from lms_core.engines import Engines
from lms_core.errors import StartRefused

PATIENCE_SECONDS = 20


@contextlib.contextmanager
def engines_in(folder: Path, *names: str) -> Iterator[Engines]:
    """Engines that run for the length of a block."""
    engines = Engines(folder, durable=False)
    try:
        engines.start(names)
        yield engines
    finally:
        engines.stop()


def query(engines: Engines, sql: str, **instead: str) -> object:
    """The first value of a query on the embedded PostgreSQL."""

    async def run() -> object:
        connection = await asyncpg.connect(engines.environment()["LMS_DATABASE_URL"], **instead)
        try:
            return await connection.fetchval(sql)
        finally:
            await connection.close()

    return asyncio.run(run())


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


def test_a_second_start_has_the_same_ports_and_everything_stored(tmp_path: Path) -> None:
    with engines_in(tmp_path, "postgres", "redis", "s3") as engines:
        before = engines.environment()
        query(engines, "CREATE TABLE kept (n int)")
        store = engines.engines["s3"]
        assert isinstance(store, S3)
        assert store.put("bucket", b"") == 200
        assert store.put("bucket/object", b"kept") == 200
        assert {running.name for running in engines.running()} == {"postgres", "redis", "s3"}
    with engines_in(tmp_path, "postgres", "redis", "s3") as engines:
        assert engines.environment() == before
        assert query(engines, "SELECT count(*) FROM kept") == 0
        store = engines.engines["s3"]
        assert isinstance(store, S3)
        assert store.put("bucket", b"") == 409


def test_postgres_knows_letters_of_all_languages(tmp_path: Path) -> None:
    with engines_in(tmp_path, "postgres") as engines:
        assert query(engines, "SELECT lower('ÄÇŠΩЖ')") == "äçšωж"
        assert query(engines, "SHOW timezone") == "UTC"


def test_nobody_gets_in_without_the_password(tmp_path: Path) -> None:
    with engines_in(tmp_path, "postgres", "redis", "s3") as engines:
        with pytest.raises(asyncpg.InvalidPasswordError):
            query(engines, "SELECT 1", password="guess")
        with socket.create_connection(("127.0.0.1", engines.port("redis"))) as connection:
            connection.sendall(b"PING\r\n")
            assert connection.recv(64).startswith(b"-NOAUTH")
        for port, path in (("s3_port", "/lms-readiness/ready"), ("s3_filer_port", "/buckets/lms-readiness/ready")):
            client = http.client.HTTPConnection("127.0.0.1", engines.folder.port(port), timeout=5)
            client.request("GET", path)
            assert client.getresponse().status in (401, 403)
            client.close()


def test_secrets_are_for_the_owner_only(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with engines_in(folder, "postgres", "redis", "s3") as engines:
        secrets = [value for value in engines.folder.kept.values() if isinstance(value, str) and "/" not in value]
        assert folder.stat().st_mode & 0o077 == 0
        assert (folder / "kept.json").stat().st_mode & 0o077 == 0
        commands = [" ".join(psutil.Process(running.pid).cmdline()) for running in engines.running()]
        assert not [secret for secret in secrets for command in commands if secret in command]


def test_an_engine_that_was_killed_starts_again_on_its_port_with_its_data(tmp_path: Path) -> None:
    with engines_in(tmp_path, "postgres") as engines:
        query(engines, "CREATE TABLE kept (n int)")
        port, pid = engines.port("postgres"), engines.pid("postgres")
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not engines.is_alive("postgres"))
        engines.start_one("postgres")
        engines.wait_until_ready(["postgres"])
        assert engines.port("postgres") == port
        assert query(engines, "SELECT count(*) FROM kept") == 0


def test_a_frozen_engine_stops_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Redis, "stop_seconds", 0.2)
    engines = Engines(tmp_path, durable=False)
    engines.start(["redis"])
    pid = engines.pid("redis")
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    engines.stop()
    assert is_gone(pid)


def test_engines_end_with_the_process_that_started_them(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from lms_core.engines import Engines\n"
        "engines = Engines(Path(sys.argv[1]), durable=False); engines.start()\n"
        "print(*(running.pid for running in engines.running()), flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 3
        parent.kill()
    with engines_in(tmp_path, "postgres", "redis", "s3"):
        assert all(is_gone(pid) for pid in pids)


def test_a_data_folder_has_one_user(tmp_path: Path) -> None:
    engines = Engines(tmp_path)
    with pytest.raises(StartRefused, match=rf"{tmp_path} is in use by process {os.getpid()};"):
        Engines(tmp_path)
    engines.stop()
    Engines(tmp_path).stop()


def test_a_pid_that_was_given_to_another_program_does_not_stop_postgres(tmp_path: Path) -> None:
    with engines_in(tmp_path, "postgres") as engines:
        pid = engines.pid("postgres")
        assert pid is not None
        postgres = engines.engines["postgres"]
        assert isinstance(postgres, Postgres)
        pid_file = postgres.cluster / "postmaster.pid"
        text = pid_file.read_text()
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not engines.is_alive("postgres"))
    pid_file.write_text(text.replace(str(pid), str(os.getpid()), 1))
    with engines_in(tmp_path, "postgres") as engines:
        assert query(engines, "SELECT 1") == 1


def test_a_creation_that_was_interrupted_begins_anew(tmp_path: Path) -> None:
    half = tmp_path / "postgres.new"
    half.mkdir()
    (half / "PG_VERSION").write_text("18")
    with engines_in(tmp_path, "postgres") as engines:
        assert query(engines, "SELECT 1") == 1
    assert not half.exists()


def test_a_port_that_a_stranger_took_is_chosen_again(tmp_path: Path) -> None:
    engines = Engines(tmp_path, durable=False)
    port = engines.port("redis")
    with subprocess.Popen([sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port)]) as stranger:
        try:
            wait_until(lambda: not engines.engines["redis"].can_listen(port))
            engines.start(["redis"])
            assert engines.port("redis") != port
        finally:
            engines.stop()
            stranger.terminate()


def test_what_is_on_no_wheel_and_not_on_path_is_not_found() -> None:
    assert find_program("no-such-distribution", "/nothing", "no-such-program") is None
    assert find_program("no-such-distribution", "/nothing", "sh") is not None
