"""A store that is away, slow, full or breaks off at any step: a defined answer, nothing half done, and all well after."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, get_args
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
import samples
from browser import described, downloaded, send_form, send_parts
from faulty_proxy import Fault, Proxy, proxy_before
from lms_files import storage, storage_clients, sweeps
from lms_files.differences import differences
from lms_files.settings import MIB, FilesSettings
from lms_files.storage import store_of
from lms_files.storage_clients import Clients

from lms_core.sdk import Unavailable
from lms_core.testing import Caller, Lms, School

FAULTS = get_args(Fault)


class ImpatientClients(Clients):
    """Which wait less long than is usual."""

    async def at(self, endpoint: str, answer_seconds: float = 0.7) -> Any:
        return await super().at(endpoint, min(answer_seconds, 0.7))


@pytest.fixture
async def proxy(lms: Lms, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Proxy]:
    """What our own requests to the store go through; clients reach it as ever."""
    store = store_of(lms.context)
    place = urlsplit(store.endpoint)
    monkeypatch.setattr(storage_clients, "CONNECT_SECONDS", 0.5)
    async with proxy_before(str(place.hostname), int(place.port or 80)) as found:
        clients = ImpatientClients(lms.context)
        monkeypatch.setattr(store, "clients", clients)
        monkeypatch.setattr(store, "endpoint", found.address)
        yield found
        await clients.close()


async def whole_again(lms: Lms, caller: Caller, file: dict[str, Any], content: bytes) -> None:
    """Once the store is back: the file is ready with its bytes, and neither database nor store has anything else."""
    await lms.sql("UPDATE core_delivery SET next_attempt_at = now() WHERE done_at IS NULL AND dead_at IS NULL")
    await lms.work_off()
    found = (await caller.get(f"/files/{file['id']}")).json()
    assert found["state"] == "ready", found
    assert "pending" not in str(found["derivatives"])
    assert (await downloaded(caller, file["id"])).content == content
    assert [one.text async for one in differences(lms.context, False) if str(caller.id) in one.text] == []


@pytest.mark.parametrize("fault", FAULTS)
async def test_while_it_is_completed(lms: Lms, school: School, proxy: Proxy, fault: Fault) -> None:
    content = samples.pdf([uuid4().hex])
    file = await school.student.create("/files", described(content))
    path = f"/files/{file['id']}/complete"
    assert (await send_form(file["upload"], content)).status_code == 204
    proxy.become(fault)
    answer = await school.student.post(path)
    if fault == "is slow":
        assert answer.status_code == 202
    else:
        assert (answer.status_code, answer.json()["code"]) == (503, "store_away")
        assert (await school.student.get(f"/files/{file['id']}")).json()["state"] == "requested"
    proxy.become(None)
    assert (await school.student.post(path)).status_code == 202
    await whole_again(lms, school.student, file, content)


@pytest.mark.parametrize("fault", FAULTS)
async def test_while_it_is_verified_and_derived(lms: Lms, school: School, proxy: Proxy, fault: Fault) -> None:
    content = samples.pdf([uuid4().hex])
    file = await school.student.create("/files", described(content))
    assert (await send_form(file["upload"], content)).status_code == 204
    assert (await school.student.post(f"/files/{file['id']}/complete")).status_code == 202
    proxy.become(fault)
    await lms.work_off()
    state = (await school.student.get(f"/files/{file['id']}")).json()["state"]
    assert state == ("ready" if fault == "is slow" else "verifying")
    proxy.become(None)
    await whole_again(lms, school.student, file, content)


STEPS = ["download", "find", "publish", "put_clean", "delete_incoming"]


@pytest.mark.parametrize("step", STEPS)
async def test_that_breaks_in_the_middle_of_the_work(
    lms: Lms, school: School, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    content = samples.pdf([uuid4().hex])
    file = await school.student.create("/files", described(content))
    assert (await send_form(file["upload"], content)).status_code == 204
    assert (await school.student.post(f"/files/{file['id']}/complete")).status_code == 202
    whole, broken = getattr(storage.Store, step), []

    async def away(self: storage.Store, *arguments: Any, **named: Any) -> Any:
        # The first time it gets there; what comes after finds it away too, until it is back.
        if not broken:
            broken.append(step)
            proxy.become("refuses")
        return await whole(self, *arguments, **named)

    monkeypatch.setattr(storage.Store, step, away)
    await lms.work_off()
    assert broken == [step]
    waiting = await lms.sql(
        "SELECT count(*) AS n FROM core_delivery d JOIN core_event e ON e.id = d.event_id "
        "WHERE d.done_at IS NULL AND d.dead_at IS NULL AND e.payload->>'file_id' = :id",
        id=file["id"],
    )
    assert waiting[0]["n"] >= 1
    proxy.become(None)
    await whole_again(lms, school.student, file, content)


@pytest.mark.parametrize("fault", FAULTS)
async def test_while_large_uploads_begin_go_on_and_end(
    lms: Lms, school: School, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    monkeypatch.setattr(lms.context.platform.plugin_settings(FilesSettings), "multipart_from_mb", 1)
    content = samples.MP4 + uuid4().bytes + bytes(2 * MIB)
    body = described(content, "video/mp4", "a.mp4")
    proxy.become(fault)
    answer = await school.student.post("/files", body)
    assert answer.status_code == (201 if fault == "is slow" else 503), answer.text
    # What did not begin has taken no room.
    room = (await school.student.get("/files/limits/me")).json()
    assert room["reserved_bytes"] == (len(content) if fault == "is slow" else 0)
    proxy.become(None)
    file = await school.student.create("/files", body)
    await send_parts(file["upload"], content)
    proxy.become(fault)
    for path in (f"/files/{file['id']}/upload", f"/files/{file['id']}/complete"):
        answer = await school.student.post(path)
        assert answer.status_code in ((200, 202) if fault == "is slow" else (503,)), (path, answer.text)
    proxy.become(None)
    assert (await school.student.post(f"/files/{file['id']}/complete")).status_code == 202
    await whole_again(lms, school.student, file, content)


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault != "is slow"])
async def test_while_it_is_swept(lms: Lms, proxy: Proxy, fault: Fault) -> None:
    proxy.become(fault)
    with pytest.raises(Unavailable):
        await sweeps.sweep_store(lms.context, sweeps.StoreSweepDue())
    proxy.become(None)
    await sweeps.sweep_store(lms.context, sweeps.StoreSweepDue())
