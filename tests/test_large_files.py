"""Five gibibytes in parts, straight to the store: the API has nothing to do with the bytes. Run by `-m large`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx2
import psutil
import pytest
import samples
from running import System, system

pytestmark = [pytest.mark.anyio, pytest.mark.large]
SIZE = 5 * 1024**3
AT_ONCE = 4
GROWN_BYTES = 20 * 1024**2


async def test_the_api_does_not_grow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMS_FILES__MAX_UPLOAD_MB", "6000")
    monkeypatch.setenv("LMS_FILES__PERSONAL_QUOTA_MB", "6000")
    with system(tmp_path / "data") as running:
        async with httpx2.AsyncClient(base_url=running.url, timeout=600) as client:
            admin = await running.admin(client)
            body = {"filename": "lecture.mp4", "content_type": "video/mp4", "size": SIZE}
            await admin.get("/files")
            before = memory_of(running)
            file = await admin.create("/files", body)
            await send(file["upload"])
            answer = await admin.post(f"/files/{file['id']}/complete")
            assert answer.status_code == 202, answer.text
            await running.until("it is verified", "SELECT state = 'ready' FROM files_file WHERE id = $1", file["id"])
            assert memory_of(running) - before < GROWN_BYTES
            assert (await admin.get(f"/files/{file['id']}/download")).status_code == 200


def memory_of(running: System) -> int:
    """What the API has in memory, in bytes."""
    return int(psutil.Process(running.status()["processes"]["api"]["pid"]).memory_info().rss)


async def send(upload: dict[str, object]) -> None:
    """All parts: the head of a video, then zeros."""
    size, turn = int(str(upload["part_size"])), asyncio.Semaphore(AT_ONCE)
    async with httpx2.AsyncClient(timeout=600) as client:

        async def put(part: dict[str, object]) -> None:
            number = int(str(part["number"]))
            length = min(size, SIZE - (number - 1) * size)
            content = samples.MP4 + bytes(length - len(samples.MP4)) if number == 1 else bytes(length)
            async with turn:
                answer = await client.put(str(part["url"]), content=content)
                assert answer.status_code == 200, answer.text

        await asyncio.gather(*(put(part) for part in upload["parts"]))  # type: ignore[attr-defined]
