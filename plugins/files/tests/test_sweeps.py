"""What is looked after on time, and a store that is away."""

from __future__ import annotations

from uuid import uuid4

import pytest
import samples
from browser import described, finish, send_form, upload
from lms_files import plugin, sweeps
from lms_files.differences import differences
from lms_files.settings import FilesSettings
from lms_files.storage import Store, store_of
from lms_files.storage_clients import Clients, ObjectMissing

from lms_core.testing import Lms, School

CONTENT = samples.pdf(["Photosynthesis needs light."])


async def age(lms: Lms, id: str, column: str) -> None:
    """Put a moment an hour into the past."""
    await lms.sql(f"UPDATE files_file SET {column} = now() - interval '1 hour' WHERE id = :id", id=id)


async def test_requests_expire(lms: Lms, school: School) -> None:
    old, new = [await school.student.create("/files", described(CONTENT)) for _ in range(2)]
    counted = sweeps.SWEPT.labels("expired")._value.get()
    await send_form(old["upload"], CONTENT)
    await age(lms, old["id"], "expires_at")
    async with lms.context.unit_of_work() as uow:
        await sweeps.expire_requests(uow)
    assert sweeps.SWEPT.labels("expired")._value.get() >= counted + 1
    await lms.work_off()
    states = [(await school.student.get(f"/files/{file['id']}")).json()["state"] for file in (old, new)]
    assert states == ["expired", "requested"]
    answer = await school.student.post(f"/files/{old['id']}/complete")
    assert (answer.status_code, answer.json()["code"]) == (409, "upload_expired")
    rows = await lms.sql("SELECT reserved_bytes FROM files_quota WHERE id = :id", id=school.student.id)
    assert rows[0]["reserved_bytes"] == len(CONTENT)
    with pytest.raises(ObjectMissing):
        await store_of(lms.context).find("lms-incoming", f"incoming/{old['id']}")


async def test_what_has_lost_its_bytes_is_counted(lms: Lms, school: School, caplog: pytest.LogCaptureFixture) -> None:
    file = await finish(lms, school.teacher, CONTENT + uuid4().bytes)
    counted = sweeps.SWEPT.labels("missing_object")._value.get()
    key = f"clean/{file['sha256'][:2]}/{file['sha256']}"
    await store_of(lms.context).delete_clean(key)
    await sweeps.look_for_objects(lms.context, sweeps.StoreSweepDue())
    # It may not be copied yet.
    assert key not in caplog.text
    await lms.sql(
        "UPDATE files_content SET created_at = now() - interval '2 hours' WHERE sha256 = :id RETURNING key",
        id=file["sha256"],
    )
    await sweeps.look_for_objects(lms.context, sweeps.StoreSweepDue())
    assert key in caplog.text
    assert sweeps.SWEPT.labels("missing_object")._value.get() > counted
    await lms.sql("UPDATE files_content SET created_at = now() WHERE sha256 = :id RETURNING key", id=file["sha256"])


async def test_a_wrong_count_stops_nobody(lms: Lms, school: School) -> None:
    damaged = await school.student.create("/files", described(CONTENT))
    other = await school.teacher.create("/files", described(CONTENT))
    await lms.sql("UPDATE files_quota SET reserved_bytes = 1 WHERE id = :id", id=school.student.id)
    for file in (damaged, other):
        await age(lms, file["id"], "expires_at")
    async with lms.context.unit_of_work() as uow:
        await sweeps.expire_requests(uow)
    for caller, file in ((school.student, damaged), (school.teacher, other)):
        assert (await caller.get(f"/files/{file['id']}")).json()["state"] == "expired"
        assert (await caller.get("/files/limits/me")).json()["reserved_bytes"] == 0


async def test_deleted_requests_expire_later(lms: Lms, school: School) -> None:
    files = [await school.student.create("/files", described(CONTENT)) for _ in range(2)]
    for file, days in zip(files, (6, 8), strict=True):
        assert (await school.student.delete(f"/files/{file['id']}")).status_code == 202
        await lms.sql(
            "UPDATE files_file SET expires_at = now() - make_interval(days => :days) WHERE id = :id",
            id=file["id"],
            days=days,
        )
    await lms.work_off()
    async with lms.context.unit_of_work() as uow:
        await sweeps.expire_requests(uow)
    assert (await school.student.get("/files/limits/me")).json()["reserved_bytes"] == len(CONTENT)
    states = []
    for file in files:
        assert (await school.student.post(f"/files/{file['id']}/restore")).status_code == 202
        await lms.work_off()
        states.append((await school.student.get(f"/files/{file['id']}")).json()["state"])
    assert states == ["requested", "expired"]


async def test_stuck_work_is_taken_up_again(lms: Lms, school: School) -> None:
    file = await upload(school.student, CONTENT)
    await lms.sql(
        "UPDATE core_delivery SET dead_at = now() FROM core_event WHERE event_id = core_event.id "
        "AND payload->>'file_id' = :id",
        id=file["id"],
    )
    await lms.sql("UPDATE files_file SET state = 'verifying' WHERE id = :id", id=file["id"])
    await age(lms, file["id"], "updated_at")
    async with lms.context.unit_of_work() as uow:
        await sweeps.resume_stuck(uow)
    await lms.work_off()
    assert (await school.student.get(f"/files/{file['id']}")).json()["state"] == "ready"


async def test_what_is_left_over_in_the_store_goes(lms: Lms, school: School, monkeypatch: pytest.MonkeyPatch) -> None:
    store = store_of(lms.context)
    # Other test processes have files of their own in the usual bucket.
    monkeypatch.setattr(store, "incoming", f"lms-sweep-{school.student.id}")
    await store.make_buckets()
    awaited = await upload(school.student, CONTENT)
    monkeypatch.setattr(lms.context.platform.plugin_settings(FilesSettings), "multipart_from_mb", 1)
    parts = await school.student.create("/files", described(samples.MP4 + bytes(2 << 20), "video/mp4", "a.mp4"))
    await store.start_multipart("incoming/forgotten", "video/mp4")
    async with store.asked() as client:
        await client.put_object(Bucket=store.incoming, Key="incoming/old", Body=b"x")
    monkeypatch.setattr(sweeps, "LEFT_OVER_FOR", -sweeps.LEFT_OVER_FOR)
    async with lms.context.unit_of_work() as uow:
        await sweeps.call_for_store_sweep(uow)
    await sweeps.sweep_store(lms.context, sweeps.StoreSweepDue())
    found = {(left.key, left.upload_id is not None) async for left in store.left_over()}
    assert (f"incoming/{awaited['id']}", False) in found
    assert (f"incoming/{parts['id']}", True) in found
    assert not {key for key, _ in found} & {"incoming/forgotten", "incoming/old"}


async def test_a_store_that_is_away(lms: Lms, school: School, monkeypatch: pytest.MonkeyPatch) -> None:
    file = await school.student.create("/files", described(CONTENT))
    uploaded = await upload(school.student, CONTENT)
    store = store_of(lms.context)
    endpoint, clients = store.endpoint, store.clients
    monkeypatch.setattr(store, "endpoint", "http://127.0.0.1:9")
    answer = await school.student.post(f"/files/{file['id']}/complete")
    assert (answer.status_code, answer.json()["code"]) == (503, "store_away")
    assert answer.headers["Retry-After"]
    # Signing needs no store.
    assert (await school.student.post("/files", described(CONTENT))).status_code == 201
    await lms.work_off()
    assert (await school.student.get(f"/files/{uploaded['id']}")).json()["state"] == "verifying"
    with pytest.raises(Exception, match="does not answer"):
        await plugin.check_store(lms.context)
    monkeypatch.setattr(store, "endpoint", endpoint)
    await plugin.check_store(lms.context)
    await lms.sql("UPDATE core_delivery SET next_attempt_at = now() WHERE done_at IS NULL")
    await lms.work_off()
    assert (await school.student.get(f"/files/{uploaded['id']}")).json()["state"] == "ready"
    assert store.clients is clients


async def test_wrong_keys_are_a_store_that_is_away(lms: Lms) -> None:
    settings = lms.context.settings.model_copy(update={"s3_secret_key": "another"})
    store = Store(lms.context)
    store.clients = Clients(type("Context", (), {"settings": settings})())
    with pytest.raises(Exception, match="does not answer"):
        await store.check()
    await store.clients.close()


async def test_buckets_are_made_once(lms: Lms) -> None:
    assert await plugin.make_buckets(lms.context, False) == []
    assert await plugin.make_buckets(lms.context, False) == []


async def test_operators_find_files_whose_object_is_gone(lms: Lms, school: School) -> None:
    whole, broken = [await finish(lms, school.student, samples.pdf([uuid4().hex])) for _ in range(2)]
    key = (await lms.sql("SELECT clean_key FROM files_file WHERE id = :id", id=broken["id"]))[0]["clean_key"]
    store = store_of(lms.context)
    async with store.asked() as client:
        await client.delete_object(Bucket=store.clean, Key=key)
    found = " ".join([one.text async for one in differences(lms.context, read=False)])
    assert broken["id"] in found
    assert whole["id"] not in found
