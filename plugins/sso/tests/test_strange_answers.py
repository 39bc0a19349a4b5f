"""Answers that are well signed and still strange: too deep, compressed, unstorable; and people who are not who they were."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import httpx2
import pytest
from lms_sso.openid import BoundedTransport, ProviderFailed, is_public
from providers import CHALLENGE, Liar, Realm, make_realm

from lms_core.testing import Lms, School

pytestmark = pytest.mark.anyio
DEEP = b'{"id_token": "x", "a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"


@pytest.fixture
async def realm(lms: Lms, school: School, liar: Liar) -> Realm:
    return await make_realm(lms, school, liar.issuer)


async def outcome(realm: Realm, liar: Liar, **changed: Any) -> dict[str, str]:
    """What the front end hears of an ID token with changed claims."""
    location, cookie = await realm.start()
    liar.answer_with(liar.claims(location, **changed))
    return await back(realm, location, cookie)


async def back(realm: Realm, location: str, cookie: str) -> dict[str, str]:
    answer = await realm.come_back(cookie, state=parse_qs(urlsplit(location).query)["state"][0], code="any")
    assert answer.status_code == 303, answer.text
    return {name: values[0] for name, values in parse_qs(urlsplit(answer.headers["Location"]).query).items()}


async def test_json_of_any_depth_breaks_nothing(realm: Realm, liar: Liar) -> None:
    location, cookie = await realm.start()
    liar.token_answer = (200, DEEP)
    assert await back(realm, location, cookie) == {"error": "token_refused"}


async def test_metadata_of_any_depth_breaks_nothing(
    realm: Realm, liar: Liar, lms: Lms, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(liar, "find", lambda path: (200, DEEP))
    path = f"/sso/providers/{realm.provider['id']}/start"
    answer = await lms.client.get(path, params={"code_challenge": CHALLENGE})
    assert (answer.status_code, answer.json()["code"]) == (503, "provider_unavailable")


async def test_claims_that_no_column_can_hold_are_refused(realm: Realm, liar: Liar) -> None:
    assert await outcome(realm, liar, sub="a\0b") == {"error": "no_subject"}
    assert await outcome(realm, liar, email="a\0b@school.example") == {"error": "no_email"}
    assert "code" in await outcome(realm, liar, sid="a\0b")


async def test_a_key_of_an_unknown_curve_spoils_no_other(
    realm: Realm, liar: Liar, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = liar.find
    strange = {"kty": "EC", "crv": "unknown", "x": "AA", "y": "AA", "kid": "strange"}
    keys = {"keys": [strange, liar.key.as_dict(private=False)]}
    monkeypatch.setattr(liar, "find", lambda path: (200, keys) if path == "/jwks" else find(path))
    assert "code" in await outcome(realm, liar)


async def test_an_address_that_went_to_the_next_person_opens_nothing(realm: Realm, liar: Liar) -> None:
    email, first = f"{uuid4().hex}@school.example", uuid4().hex
    assert "code" in await outcome(realm, liar, email=email, sub=first)
    assert await outcome(realm, liar, email=email, sub=uuid4().hex) == {"error": "already_linked"}
    assert "code" in await outcome(realm, liar, email=email, sub=first)


@pytest.mark.parametrize(("role", "at_home"), [("student", False), ("principal", False), ("principal", True)])
async def test_who_came_to_hold_more_since_signs_in_with_a_password(
    realm: Realm, liar: Liar, lms: Lms, role: str, at_home: bool
) -> None:
    email, subject, admin = f"{uuid4().hex}@school.example", uuid4().hex, await lms.admin()
    assert "code" in await outcome(realm, liar, email=email, sub=subject)
    [user] = await admin.items("/users", email=email)
    place = realm.school.institution if at_home else await lms.make_institution()
    await admin.create(f"/users/{user['id']}/roles", {"role": role, "institution_id": place["id"]})
    assert await outcome(realm, liar, email=email, sub=subject) == {"error": "account_elsewhere"}


@pytest.fixture
def compressing() -> Iterator[str]:
    """A server whose 49 kB become 50 MB."""
    content = gzip.compress(b'{"a": "' + b"0" * 50_000_000 + b'"}')

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Encoding", "gzip")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


async def test_nothing_is_unpacked(compressing: str) -> None:
    async with httpx2.AsyncClient(transport=BoundedTransport(private=True, plain=True)) as client:
        with pytest.raises(ProviderFailed, match="compresses"):
            await client.get(compressing)


async def test_the_address_that_was_looked_at_is_the_one_that_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    async def answer(self: Any, request: httpx2.Request) -> httpx2.Response:
        asked.append((request.url.host, request.headers["Host"], request.extensions["sni_hostname"]))
        return httpx2.Response(200, stream=httpx2.ByteStream(b"{}"), request=request)

    monkeypatch.setattr(httpx2.AsyncHTTPTransport, "handle_async_request", answer)
    monkeypatch.setattr("asyncio.BaseEventLoop.getaddrinfo", resolved)
    monkeypatch.setattr("uvloop.Loop.getaddrinfo", resolved, raising=False)
    async with httpx2.AsyncClient(transport=BoundedTransport(private=False, plain=False)) as client:
        await client.get("https://id.example.org/keys")
    assert asked == [("8.8.8.8", "id.example.org", "id.example.org")]


async def resolved(*arguments: Any, **options: Any) -> list[Any]:
    return [(2, 1, 6, "", ("8.8.8.8", 443))]


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("8.8.8.8", True), ("2001:4860:4860::8888", True), ("127.0.0.1", False), ("10.1.2.3", False),
        ("169.254.169.254", False), ("100.64.0.1", False), ("224.0.0.1", False), ("::1", False), ("fe80::1", False),
        ("::ffff:10.0.0.1", False), ("64:ff9b::a00:1", False), ("64:ff9b::808:808", True), ("2002:a00:1::", False),
    ],
)  # fmt: skip
def test_public_addresses(address: str, expected: bool) -> None:
    assert is_public(address) is expected
