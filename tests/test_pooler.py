"""A whole system whose connections go through PgBouncer in transaction mode, with the configuration of deploy/."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import httpx2
import pytest
from running import REPOSITORY, System, free_port, system

from lms_core.testing import Caller, on_server, settings_for

pytestmark = pytest.mark.anyio
SERVER_CONNECTIONS = 5


def pgbouncer() -> str | None:
    """The program, if it is new enough to follow prepared statements."""
    found = os.environ.get("PGBOUNCER") or shutil.which("pgbouncer")
    if found is None:
        return None
    version = subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout
    numbers = re.search(r"PgBouncer (\d+)\.(\d+)", version)
    return found if numbers and (int(numbers[1]), int(numbers[2])) >= (1, 21) else None


@contextmanager
def pooled(url: str, folder: Path) -> Iterator[str]:
    """PgBouncer in front of a database, as deploy/ says but for places, names and sizes; the URL through it."""
    program = pgbouncer()
    assert program is not None
    parts, port = urlsplit(url), free_port()
    folder.mkdir()
    (folder / "userlist.txt").write_text(f'"{parts.username}" "{parts.password}"\n')
    changed = {
        r"^lms = host=postgres port=5432 dbname=lms": f"{parts.path[1:]} = host=127.0.0.1 port={parts.port}",
        r"^listen_addr = .*": "listen_addr = 127.0.0.1",
        r"^listen_port = .*": f"listen_port = {port}",
        r"^auth_file = .*": f"auth_file = {folder}/userlist.txt",
        r"^default_pool_size = .*": f"default_pool_size = {SERVER_CONNECTIONS}",
    }
    text = (REPOSITORY / "deploy/pgbouncer/pgbouncer.ini").read_text()
    for pattern, line in changed.items():
        text, times = re.subn(pattern, line, text, flags=re.MULTILINE)
        assert times == 1, pattern
    (folder / "pgbouncer.ini").write_text(text + "unix_socket_dir =\n")
    command = [program, str(folder / "pgbouncer.ini")]
    if os.geteuid() == 0:
        shutil.chown(folder, "nobody")
        folder.chmod(0o755)
        command[1:1] = ["-u", "nobody"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 10
        while b"process up" not in (folder / "log").read_bytes():
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.05)
        yield urlunsplit(parts._replace(netloc=f"{parts.username}:{parts.password}@127.0.0.1:{port}"))
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    if pgbouncer() is None:
        pytest.skip("PgBouncer 1.21 or newer is not installed")
    folder = tmp_path_factory.mktemp("pooler")
    name = f"lms_{uuid4().hex[:12]}"
    asyncio.run(on_server(f'CREATE DATABASE "{name}"'))
    url = settings_for(name).database_url
    with (
        pooled(url, folder / "pgbouncer") as through,
        system(folder / "data", LMS_DATABASE_URL=through, LMS_DATABASE_DIRECT_URL=url) as found,
    ):
        yield found


async def test_everything_works_through_few_connections(running: System) -> None:
    async with httpx2.AsyncClient(base_url=running.url, timeout=60) as client:
        admin = await running.admin(client)
        institution = await admin.create("/institutions", {"name": "School", "slug": uuid4().hex})
        made = [
            admin.create("/courses", {"institution_id": institution["id"], "code": uuid4().hex[:12], "title": "T"})
            for _ in range(60)
        ]
        courses = await asyncio.gather(*made)
        # More at once than there are connections, and more different statements than one connection knows.
        reads = [admin.get(f"/courses/{one['id']}") for one in courses]
        reads += [admin.get("/courses", params={"institution_id": institution["id"]}) for _ in range(60)]
        assert {answer.status_code for answer in await asyncio.gather(*reads)} == {200}
        deleted = await admin.delete(f"/institutions/{institution['id']}")
        assert deleted.status_code == 202
        id = deleted.json()["id"]
        await running.until("the cascade is done", "SELECT state = 'deleted' FROM core_deletion WHERE id = $1", id)
        restored = await admin.post(f"/deletions/{id}/restore", {})
        assert restored.status_code == 202
        await running.until("the restore is done", "SELECT state = 'restored' FROM core_deletion WHERE id = $1", id)
        report = (await client.get("/health")).json()
        assert report["status"] == "ok", report
        await revoked_grants_are_gone_at_once(running, client, admin, institution["id"])


async def revoked_grants_are_gone_at_once(
    running: System, client: httpx2.AsyncClient, admin: Caller, institution_id: str
) -> None:
    """The caches hear of changes by LISTEN, which does not go through the pooler."""
    password = "a long enough passphrase"
    body = {
        "email": f"{uuid4().hex}@example.org", "full_name": "Somebody", "password": password,
        "roles": [{"role": "principal", "institution_id": institution_id}],
    }  # fmt: skip
    user = await admin.create("/users", body)
    form = {"username": body["email"], "password": password}
    token = (await client.post("/auth/login", data=form)).json()["access_token"]
    principal = Caller(client, headers={"Authorization": f"Bearer {token}"})
    assert (await principal.get(f"/institutions/{institution_id}")).status_code == 200
    [grant] = await admin.items(f"/users/{user['id']}/roles")
    assert (await admin.delete(f"/users/{user['id']}/roles/{grant['id']}")).status_code == 202
    assert (await principal.get(f"/institutions/{institution_id}")).status_code == 404


async def test_nothing_stays_behind_in_the_pooler(running: System) -> None:
    """No lock of a session, no transaction left open, no setting of one client on another's connection."""
    mine = "database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    locks = f"SELECT count(*) = 0 FROM pg_locks WHERE locktype = 'advisory' AND {mine}"
    await running.until("work is done, and no lock is left", locks)
    opened = "SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'"
    await running.until("no transaction is left open", opened)
    connection = await asyncpg.connect(running.status()["database_url"])
    try:
        assert await connection.fetchval("SHOW statement_timeout") == "30s"
        assert await connection.fetchval("SHOW default_transaction_read_only") == "off"
    finally:
        await connection.close()


async def test_the_doctor_sees_the_pooler_s_settings(running: System) -> None:
    variables = {**running.environment, "LMS_DATA": str(running.data)}
    del variables["LMS_DATABASE_URL"]
    command = [str(REPOSITORY / ".venv/bin/lms"), "doctor"]
    found = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout
    assert "PgBouncer" not in found.stdout


async def test_a_pooler_alone_is_refused_with_what_to_do(running: System) -> None:
    variables = {key: value for key, value in running.environment.items() if key != "LMS_DATABASE_DIRECT_URL"}
    command = [str(REPOSITORY / ".venv/bin/lms"), "db", "status"]
    found = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert (found.returncode, found.stderr.count("\n")) == (2, 1), found.stderr
    assert "LMS_DATABASE_DIRECT_URL" in found.stderr
