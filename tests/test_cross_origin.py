"""What pages of other origins may read: every answer where their origin is allowed, none where it is not."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx2
import pytest

from lms_core.http import create_app
from lms_core.platform import Platform

ALLOWED = "https://front.example"


async def fail() -> None:
    raise KeyError("our own fault")


@pytest.fixture
async def client(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of an application that lets one origin in."""
    monkeypatch.setattr(platform, "settings", platform.settings.model_copy(update={"cors_origins": ALLOWED}))
    edge = create_app(platform)
    edge.app.app.app.add_api_route("/fail", fail)  # type: ignore[attr-defined]
    transport = httpx2.ASGITransport(edge, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as opened:
        yield opened


@pytest.mark.parametrize(
    ("path", "status"), [("/health/live", 200), ("/files", 401), ("/nothing", 404), ("/fail", 500)]
)
async def test_an_allowed_page_reads_every_answer(client: httpx2.AsyncClient, path: str, status: int) -> None:
    answer = await client.get(path, headers={"Origin": ALLOWED})
    assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (status, ALLOWED)
    assert "X-Request-ID" in answer.headers["Access-Control-Expose-Headers"]
    stranger = await client.get(path, headers={"Origin": "https://stranger.example"})
    assert "Access-Control-Allow-Origin" not in stranger.headers


async def test_a_preflight_is_answered(client: httpx2.AsyncClient) -> None:
    asked = {"Access-Control-Request-Method": "PATCH", "Access-Control-Request-Headers": "authorization,if-match"}
    answer = await client.options("/files", headers={"Origin": ALLOWED, **asked})
    assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (200, ALLOWED)
    assert "authorization" in answer.headers["Access-Control-Allow-Headers"]
    assert (await client.options("/files", headers={"Origin": "https://stranger.example", **asked})).status_code == 400
