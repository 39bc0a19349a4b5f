"""Uploads and downloads as browsers do them, straight to the store; and the way of a whole file through the API."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import httpx2

from lms_core.testing import Caller, Lms

PDF = "application/pdf"


def browsing(**options: Any) -> httpx2.AsyncClient:
    """A client for what speaks plain HTTP: reading the machine's certificates takes longer than most uploads."""
    return httpx2.AsyncClient(verify=False, **options)


async def send_form(upload: dict[str, Any], content: bytes, **changed_fields: str) -> httpx2.Response:
    """POST multipart/form-data: the signed fields, then the file under a name of the browser's."""
    async with browsing() as client:
        return await client.post(
            upload["url"],
            data={**upload["fields"], **changed_fields},
            files={"file": ("C:\\fakepath\\upload", content, upload["fields"]["Content-Type"])},
            headers={"Origin": "https://front.example"},
        )


async def send_parts(upload: dict[str, Any], content: bytes) -> list[dict[str, Any]]:
    """PUT the parts; what complete wants to know of them."""
    parts = []
    async with browsing(timeout=60) as client:
        for index, part in enumerate(upload["parts"]):
            start = index * upload["part_size"]
            answer = await client.put(part["url"], content=content[start : start + upload["part_size"]])
            assert answer.status_code == 200, answer.text
            parts.append({"number": part["number"], "etag": answer.headers["ETag"]})
    return parts


async def fetch(url: str) -> httpx2.Response:
    """GET from the store."""
    async with browsing() as client:
        return await client.get(url)


def described(content: bytes, content_type: str = PDF, filename: str = "lecture.pdf", **more: Any) -> dict[str, Any]:
    """The body of a request for an upload."""
    return {"filename": filename, "content_type": content_type, "size": len(content), **more}


async def upload(caller: Caller, content: bytes, *described_as: str, **more: Any) -> dict[str, Any]:
    """Request, send and complete; the file, uploaded but not verified."""
    requested = await caller.create("/files", described(content, *described_as, **more))
    answer = await send_form(requested["upload"], content)
    assert answer.status_code == 204, answer.text
    completed = await caller.post(f"/files/{requested['id']}/complete")
    assert completed.status_code == 202, completed.text
    file: dict[str, Any] = completed.json()
    assert file["state"] == "uploaded"
    return {**file, "upload": requested["upload"]}


async def finish(lms: Lms, caller: Caller, content: bytes, *described_as: str, **more: Any) -> dict[str, Any]:
    """The same, and what the workers make of it."""
    uploaded = await upload(caller, content, *described_as, **more)
    await lms.work_off()
    file: dict[str, Any] = (await caller.get(f"/files/{uploaded['id']}")).json()
    if file["state"] == "ready":
        assert file["sha256"] == sha256(content).hexdigest()
    return {**file, "upload": uploaded["upload"]}


async def replace(lms: Lms, caller: Caller, file: dict[str, Any], content: bytes, **more: Any) -> dict[str, Any]:
    """Upload a new version, and what the workers make of it."""
    body = {"content_type": PDF, "size": len(content), **more}
    version = await caller.create(f"/files/{file['id']}/versions", body)
    assert (await send_form(version["upload"], content)).status_code == 204
    assert (await caller.post(f"/files/{version['id']}/complete")).status_code == 202
    await lms.work_off()
    return version


async def downloaded(caller: Caller, file_id: str, **params: str) -> httpx2.Response:
    """What a reader gets."""
    answer = await caller.get(f"/files/{file_id}/download", params=params)
    assert answer.status_code == 200, answer.text
    return await fetch(answer.json()["url"])
