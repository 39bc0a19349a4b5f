"""kill -9 in the middle of a cascade, of whatever there is to kill: it completes, and nothing is doubled."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from hashlib import sha256
from uuid import uuid4

import httpx2
import pytest
import samples
from browser import downloaded, upload
from running import System, system

from lms_core.testing import Caller

pytestmark = pytest.mark.anyio
PEOPLE = 15_000
IMPORTED = 600
ENROLL_MANY = """
    WITH person AS (
        INSERT INTO users_user (id, email, email_key, full_name, is_active)
        SELECT gen_random_uuid(), m, m, 'Somebody', true
        FROM (SELECT $1::text || n || '@example.org' AS m FROM generate_series(1, $2::int) n) made RETURNING id
    )
    INSERT INTO enrollments_enrollment (id, course_id, user_id, role, state)
    SELECT gen_random_uuid(), $3::uuid, id, 'student', 'active' FROM person
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with system(tmp_path_factory.mktemp("crashes") / "data") as found:
        yield found


async def big_course(running: System, admin: Caller, people: int = PEOPLE) -> str:
    school = await admin.create("/institutions", {"name": "School", "slug": f"s{uuid4().hex[:8]}"})
    course = await admin.create("/courses", {"institution_id": school["id"], "code": "BIG", "title": "Big"})
    await running.sql(ENROLL_MANY, uuid4().hex, people, course["id"])
    return str(course["id"])


@pytest.mark.parametrize(
    "victim",
    [
        "worker",
        "postgres",
        *(pytest.param(one, marks=pytest.mark.faults) for one in ("relay", "redis", "api", "scheduler")),
    ],
)
async def test_a_cascade_survives(running: System, victim: str) -> None:
    async with httpx2.AsyncClient(base_url=running.url, timeout=30) as client:
        admin = await running.admin(client)
        course = await big_course(running, admin)
        deletion = (await admin.delete(f"/courses/{course}")).json()["id"]
        some = "SELECT count(*) > 0 FROM enrollments_enrollment WHERE deletion_id = $1"
        await running.until("the cascade begins", some, deletion)
        running.kill(victim)
        await running.until("the cascade ends", "SELECT state = 'deleted' FROM core_deletion WHERE id = $1", deletion)
        left = "SELECT count(*) FROM enrollments_enrollment WHERE course_id = $1 AND NOT is_deleted"
        assert (await running.sql(left, course))[0][0] == 0
        # Every row was stamped once: an insert and one change.
        versions = "SELECT DISTINCT version FROM enrollments_enrollment WHERE deletion_id = $1"
        assert [row[0] for row in await running.sql(versions, deletion)] == [2]
        counts = await running.sql(
            "SELECT counts->>'enrollments.enrollment' FROM core_deletion WHERE id = $1", deletion
        )
        assert counts[0][0] == str(PEOPLE)
        await running.until("nothing is left to do", "SELECT count(*) = 0 FROM core_delivery WHERE done_at IS NULL")
        dead = await running.sql("SELECT count(*) FROM core_delivery WHERE dead_at IS NOT NULL")
        assert dead[0][0] == 0


@pytest.mark.faults
async def test_a_cascade_over_200_000_rows_survives_three_kills(running: System) -> None:
    people = 200_000
    async with httpx2.AsyncClient(base_url=running.url, timeout=60) as client:
        admin = await running.admin(client)
        course = await big_course(running, admin, people)
        deletion = (await admin.delete(f"/courses/{course}")).json()["id"]
        done = "SELECT count(*) >= $2 FROM enrollments_enrollment WHERE deletion_id = $1"
        for part in (1, 50_000, 120_000):
            await running.until(f"{part} rows are taken", done, deletion, part)
            running.kill("worker")
        await running.until("the cascade ends", "SELECT state = 'deleted' FROM core_deletion WHERE id = $1", deletion)
        versions = "SELECT version, count(*) FROM enrollments_enrollment WHERE deletion_id = $1 GROUP BY 1"
        assert [tuple(row) for row in await running.sql(versions, deletion)] == [(2, people)]
        assert (await admin.post(f"/courses/{course}/restore")).status_code == 202
        begun = "SELECT count(*) < $2 FROM enrollments_enrollment WHERE deletion_id = $1"
        await running.until("it begins to come back", begun, deletion, people)
        running.kill("worker")
        await running.until("all is back", "SELECT state = 'restored' FROM core_deletion WHERE id = $1", deletion)
        left = "SELECT count(*) FROM enrollments_enrollment WHERE course_id = $1 AND is_deleted"
        assert (await running.sql(left, course))[0][0] == 0


async def test_an_import_and_its_undo_survive(running: System) -> None:
    async with httpx2.AsyncClient(base_url=running.url, timeout=60) as client:
        admin = await running.admin(client)
        school = await admin.create("/institutions", {"name": "School", "slug": f"s{uuid4().hex[:8]}"})
        tag = uuid4().hex[:8]
        rows = "".join(f"{tag}-{number}@example.org,Person {number},{number}\n" for number in range(IMPORTED))
        file = await upload(admin, f"email,full_name,external_id\n{rows}".encode(), "text/csv", "people.csv")
        await running.until("the file is ready", "SELECT state = 'ready' FROM files_file WHERE id = $1", file["id"])
        body = {"file_id": file["id"], "institution_id": school["id"]}
        answer = await admin.post("/users/import", body)
        assert answer.status_code == 202, answer.text
        job = answer.json()["id"]
        # Or all: on a busy machine nobody may look in between.
        some = "SELECT rows_done > 0 FROM core_import WHERE id = $1"
        people = "SELECT count(*), count(DISTINCT email_key) FROM users_user WHERE email LIKE $1 AND NOT is_deleted"
        await running.until("the import begins", some, job)
        running.kill("worker")
        await running.until("the import ends", "SELECT state = 'done' FROM core_import WHERE id = $1", job)
        assert tuple((await running.sql(people, f"{tag}-%"))[0]) == (IMPORTED, IMPORTED)
        for table in ("users_grant", "users_imported"):
            found = f"SELECT count(*), count(DISTINCT user_id) FROM {table} WHERE institution_id = $1"
            assert tuple((await running.sql(found, school["id"]))[0]) == (IMPORTED, IMPORTED)
        assert (await admin.post(f"/imports/{job}/undo")).status_code == 202
        await running.until("the undo begins", some, job)
        running.kill("worker")
        await running.until("the undo ends", "SELECT state = 'undone' FROM core_import WHERE id = $1", job)
        assert tuple((await running.sql(people, f"{tag}-%"))[0]) == (0, 0)
        deletions = "SELECT count(*) FROM core_deletion WHERE root_kind = 'users.user' AND root_id IN (SELECT object_id FROM core_import_row WHERE import_id = $1)"
        assert (await running.sql(deletions, job))[0][0] == IMPORTED


@pytest.mark.parametrize("moment", [0.3, *(pytest.param(one, marks=pytest.mark.faults) for one in (0.0, 0.8))])
async def test_files_under_way_survive(running: System, moment: float) -> None:
    async with httpx2.AsyncClient(base_url=running.url, timeout=60) as client:
        admin = await running.admin(client)
        contents = {}
        for number in range(4):
            pdf, picture = samples.pdf([f"words {uuid4().hex}"]), samples.image("PNG", (600 + number, 400))
            for content, kind, name in (
                (pdf, "application/pdf", "a.pdf"),
                (pdf, "application/pdf", "the same again.pdf"),
                (picture, "image/png", "a.png"),
                (samples.HTML, "application/pdf", "none.pdf"),
            ):
                contents[(await upload(admin, content, kind, name))["id"]] = content
        await asyncio.sleep(moment)
        running.kill("worker")
        ids = list(contents)
        at_work = """
            SELECT NOT EXISTS (
                SELECT FROM core_delivery d JOIN core_event e ON e.id = d.event_id
                WHERE d.done_at IS NULL AND e.payload->>'file_id' = ANY($1::text[])
            )
        """
        await running.until("all files are done with", at_work, ids)
        for id, content in contents.items():
            file = (await admin.get(f"/files/{id}")).json()
            if content == samples.HTML:
                assert (file["state"], file["reason"]) == ("rejected", "type_mismatch")
                continue
            assert (file["state"], file["sha256"]) == ("ready", sha256(content).hexdigest())
            assert file["derivatives"]["thumbnail"]["state"] == "ready"
            assert (await downloaded(admin, id)).content == content
        room = (await admin.get("/files/limits/me")).json()
        sums = "SELECT coalesce(sum(size), 0) FROM files_file WHERE state = 'ready' AND course_id IS NULL AND owner_id = $1::uuid"
        mine = (await admin.get("/users/me")).json()["id"]
        assert (room["used_bytes"], room["reserved_bytes"]) == ((await running.sql(sums, mine))[0][0], 0)


async def test_the_supervisor_killed_leaves_nothing_and_the_next_start_has_everything(
    running: System, tmp_path_factory: pytest.TempPathFactory
) -> None:
    async with httpx2.AsyncClient(base_url=running.url, timeout=30) as client:
        admin = await running.admin(client)
        course = await big_course(running, admin)
        deletion = (await admin.delete(f"/courses/{course}")).json()["id"]
    assert running.process is not None
    running.process.kill()
    running.process.wait()
    running.start()
    await running.until("the cascade ends", "SELECT state = 'deleted' FROM core_deletion WHERE id = $1", deletion)
    counts = await running.sql("SELECT counts->>'enrollments.enrollment' FROM core_deletion WHERE id = $1", deletion)
    assert counts[0][0] == str(PEOPLE)
    assert running.stop() == 0
