"""The drill: back up while people write, restore elsewhere, and everything that was acknowledged before is there."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import aioboto3
import httpx2
import pytest
from browser import downloaded, send_form
from invariants import INVARIANTS
from running import REPOSITORY, System, system

from lms_core.backup import empty_database
from lms_core.errors import StartRefused
from lms_core.testing import Caller, Lms, on_server

pytestmark = pytest.mark.anyio
SECRET = "the same secret in both places, thirty-two bytes"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("backup")


@pytest.fixture(scope="module")
def first(folder: Path) -> Iterator[System]:
    with system(folder / "first", LMS_SECRET_KEY=SECRET) as found:
        yield found


def lms_of(running: System, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command on a running system."""
    environment = {**running.environment, "LMS_DATA": str(running.data)}
    return subprocess.run(
        [sys.executable, "-m", "lms_core.cli", *arguments],
        env=environment, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


async def hand_in(caller: Caller, course: str, content: bytes, complete: bool = True) -> str:
    """A file, sent."""
    body = {"filename": "a.txt", "content_type": "text/plain", "size": len(content), "course_id": course}
    requested = await caller.create("/files", body)
    assert (await send_form(requested["upload"], content)).status_code == 204
    if complete:
        assert (await caller.post(f"/files/{requested['id']}/complete")).status_code == 202
    return str(requested["id"])


async def write_on(caller: Caller, course: str, over: asyncio.Event) -> int:
    """Pages and files, until it is over; how many."""
    made = 0
    while not over.is_set():
        body = {"course_id": course, "kind": "page", "title": f"later {made}"}
        page = await caller.create("/materials", body)
        await hand_in(caller, course, f"later words {uuid4()}".encode())
        if made % 3 == 0:
            assert (await caller.delete(f"/materials/{page['id']}")).status_code == 202
        made += 1
        # As quick as people are: all of it is worked off, and read again, elsewhere.
        await asyncio.sleep(0.2)
    return made


async def test_everything_comes_back_elsewhere(first: System, folder: Path) -> None:
    contents = [f"Words {uuid4()}".encode() for _ in range(8)]
    async with httpx2.AsyncClient(base_url=first.url, timeout=30) as client:
        admin = await first.admin(client)
        school = await admin.create("/institutions", {"name": "School", "slug": f"s{uuid4().hex[:8]}"})
        body = {"institution_id": school["id"], "code": "BIO", "title": "Biology"}
        course = str((await admin.create("/courses", body))["id"])
        page = {"course_id": course, "kind": "page"}
        pages = [await admin.create("/materials", {**page, "title": f"Page {number}"}) for number in range(10)]
        deletion = (await admin.delete(f"/materials/{pages[0]['id']}")).json()["id"]
        files = [await hand_in(admin, course, content) for content in contents]
        await first.until("files are ready", "SELECT count(*) = 8 FROM files_file WHERE state = 'ready'")
        over = asyncio.Event()
        writing = asyncio.create_task(write_on(admin, course, over))
        await asyncio.sleep(1)
        done = await asyncio.to_thread(lms_of, first, "backup", "create", str(folder / "copy"))
        over.set()
        assert done.returncode == 0, done.stderr
        assert await writing > 0
        again = await asyncio.to_thread(lms_of, first, "backup", "create", str(folder / "copy"))
        assert again.returncode == 0, again.stderr
        new = int(again.stdout.split(" objects of files, ")[1].split(" ")[0])
        assert new < len(json.loads((folder / "copy" / "manifest.json").read_text())["objects"]["files"])
    assert lms_of(first, "backup", "verify", str(folder / "copy")).returncode == 0
    elsewhere = await bucket_at(first)
    pushed = await asyncio.to_thread(lms_of, first, "backup", "push", str(folder / "copy"), elsewhere.address)
    assert pushed.returncode == 0, pushed.stderr
    pushed_again = await asyncio.to_thread(lms_of, first, "backup", "push", str(folder / "copy"), elsewhere.address)
    assert " 0 of them new" in pushed_again.stdout
    with system(folder / "second", LMS_SECRET_KEY=SECRET, **elsewhere.settings) as second:
        pulled = await asyncio.to_thread(lms_of, second, "backup", "pull", elsewhere.address, str(folder / "pulled"))
        assert pulled.returncode == 0, pulled.stderr
        refused = lms_of(second, "backup", "restore", str(folder / "pulled"))
        assert refused.returncode != 0
        assert "not empty" in refused.stderr
        restored = await asyncio.to_thread(lms_of, second, "backup", "restore", str(folder / "pulled"), "--replace")
        assert restored.returncode == 0, restored.stderr
        assert "_before_" in restored.stdout
        async with httpx2.AsyncClient(base_url=second.url, timeout=30) as client:
            # Who was signed in when the backup was made is signed in no more.
            before = Caller(client, headers=admin.headers)
            while (answer := await before.get("/users/me")).status_code == 503:
                # It looks for its new database.
                await asyncio.sleep(0.1)
            assert answer.status_code == 401
            admin = await second.admin(client)
            for one in pages[1:]:
                assert (await admin.get(f"/materials/{one['id']}")).status_code == 200
            assert (await admin.get(f"/materials/{pages[0]['id']}")).status_code == 404
            assert (await admin.post(f"/deletions/{deletion}/restore")).status_code == 202
            restored_now = "SELECT state = 'restored' FROM core_deletion WHERE id = $1::uuid"
            await second.until("the page is back", restored_now, deletion)
            assert (await admin.get(f"/materials/{pages[0]['id']}")).status_code == 200
            for id, content in zip(files, contents, strict=True):
                assert (await downloaded(admin, id)).content == content
            for row in await second.sql("SELECT id::text, sha256 FROM files_file WHERE state = 'ready'"):
                assert sha256((await downloaded(admin, row["id"])).content).hexdigest() == row["sha256"]
        await second.until("work is done", OPEN)
        states = await second.sql("SELECT state, reason, count(*) AS n FROM files_file GROUP BY 1, 2")
        assert {(row["state"], row["reason"]) for row in states} <= {("ready", None), ("requested", None)}
        for name, statement in INVARIANTS.items():
            assert await second.sql(statement) == [], name


@dataclass
class Elsewhere:
    """A bucket for backups, and how another system reaches it."""

    address: str
    settings: dict[str, str]


async def bucket_at(running: System) -> Elsewhere:
    """A bucket at a system's store."""
    kept = json.loads((running.data / "environment.json").read_text())
    name = f"backups-{uuid4().hex[:8]}"
    client = aioboto3.Session().client(
        "s3", endpoint_url=kept["LMS_S3_ENDPOINT"], region_name="us-east-1",
        aws_access_key_id=kept["LMS_S3_ACCESS_KEY"], aws_secret_access_key=kept["LMS_S3_SECRET_KEY"],
    )  # fmt: skip
    async with client as store:
        await store.create_bucket(Bucket=name)
    settings = {
        "LMS_FILES__BACKUP_ENDPOINT": kept["LMS_S3_ENDPOINT"],
        "LMS_FILES__BACKUP_ACCESS_KEY": kept["LMS_S3_ACCESS_KEY"],
        "LMS_FILES__BACKUP_SECRET_KEY": kept["LMS_S3_SECRET_KEY"],
    }
    return Elsewhere(f"s3://{name}/school", settings)


OPEN = "SELECT count(*) = 0 FROM core_delivery WHERE done_at IS NULL AND dead_at IS NULL"


def test_a_damaged_backup_is_refused_before_anything_changes(first: System, folder: Path) -> None:
    copy = folder / "own"
    assert lms_of(first, "backup", "create", str(copy)).returncode == 0
    one = next(path for path in sorted(copy.rglob("*")) if path.is_file() and path.name != "manifest.json")
    content = one.read_bytes()
    try:
        one.write_bytes(content[:-1] + b"?")
        verified = lms_of(first, "backup", "verify", str(copy))
        assert verified.returncode == 1
        assert "not as it was" in verified.stdout
        one.unlink()
        assert "is missing" in lms_of(first, "backup", "verify", str(copy)).stdout
        refused = lms_of(first, "backup", "restore", str(copy), "--replace")
        assert refused.returncode != 0
        assert "nothing was restored" in refused.stderr
    finally:
        one.write_bytes(content)
    assert lms_of(first, "backup", "verify", str(folder)).returncode != 0


async def test_a_role_that_may_not_make_databases_is_told_so(lms: Lms) -> None:
    role = f"lms_{uuid4().hex[:8]}"
    await on_server(f"CREATE ROLE {role} LOGIN PASSWORD 'a password of nobody'")
    await on_server(f"GRANT pg_read_all_data TO {role}")
    parts = urlsplit(lms.context.settings.database_url)
    url = urlunsplit(parts._replace(netloc=f"{role}:a%20password%20of%20nobody@{parts.hostname}:{parts.port}"))
    with pytest.raises(StartRefused, match="CREATEDB"):
        async with empty_database(url, replace=True):
            raise AssertionError("there is no database to restore into")
    await on_server(f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_a_folder_that_cannot_be_made_is_told(first: System) -> None:
    refused = lms_of(first, "backup", "create", "/proc/no-such")
    assert (refused.returncode, len(refused.stderr.strip().splitlines())) == (2, 1)
