"""Access tokens: what is accepted, what hostile ones get, and keys that rotate."""

import asyncio
import base64
import hmac
import json
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from joserfc import jwt
from joserfc.jwk import OKPKey
from lms_auth.access_tokens import REGISTRY, AccessTokens, issuer

from lms_core.testing import Lms, application, load_platform


def part(value: Any) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def signed(header: dict[str, Any], claims: Any, key: OKPKey) -> str:
    """A token with a good signature, whatever its header and claims say."""
    start = f"{part(header)}.{part(claims)}"
    private: Any = key.private_key
    return f"{start}.{part(private.sign(start.encode()))}"


def decoded(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    header, claims, _ = token.split(".")
    first, second = (json.loads(base64.urlsafe_b64decode(text + "==")) for text in (header, claims))
    return first, second


async def genuine_key(lms: Lms) -> OKPKey:
    return (await lms.context.platform.service(AccessTokens).keys.signing(lms.context)).key


async def test_what_stands_in_a_token(lms: Lms, account: Any) -> None:
    header, claims = decoded((await account.tokens())["access_token"])
    [session] = await account.sessions()
    assert set(header) == {"alg", "typ", "kid"}
    assert (header["alg"], header["typ"]) == ("EdDSA", "at+jwt")
    assert set(claims) == {"iss", "aud", "sub", "sid", "jti", "iat", "exp"}
    assert (claims["iss"], claims["aud"]) == (issuer(lms.context), "lms")
    assert (claims["sub"], claims["sid"]) == (account.id, str(session["id"]))
    assert claims["exp"] - claims["iat"] == 600


async def test_published_keys_verify_and_hold_nothing_private(lms: Lms, account: Any) -> None:
    answer = await lms.client.get("/auth/.well-known/jwks.json")
    assert answer.status_code == 200
    keys = answer.json()["keys"]
    assert keys
    assert all(set(key) == {"kty", "crv", "x", "kid", "use", "alg"} for key in keys)
    token = (await account.tokens())["access_token"]
    key = next(OKPKey.import_key(key) for key in keys if key["kid"] == decoded(token)[0]["kid"])
    assert jwt.decode(token, key, registry=REGISTRY).claims["sub"] == account.id


HOSTILE: dict[str, Callable[[dict[str, Any], dict[str, Any], OKPKey], str]] = {
    "no algorithm": lambda header, claims, key: f"{part(header | {'alg': 'none'})}.{part(claims)}.",
    "no algorithm, kept signature": lambda header, claims, key: signed(header | {"alg": "none"}, claims, key),
    "other name of the algorithm": lambda header, claims, key: signed(header | {"alg": "Ed25519"}, claims, key),
    "algorithm is no text": lambda header, claims, key: signed(header | {"alg": ["EdDSA"]}, claims, key),
    "public key as HMAC secret": lambda header, claims, key: with_hmac(header, claims, key.as_bytes(private=False)),
    "public x as HMAC secret": lambda header, claims, key: with_hmac(header, claims, key.as_dict()["x"].encode()),
    "foreign key": lambda header, claims, key: signed(header, claims, OKPKey.generate_key()),
    "foreign kid": lambda header, claims, key: signed(header | {"kid": "unknown"}, claims, key),
    "kid is no text": lambda header, claims, key: signed(header | {"kid": {"a": 1}}, claims, key),
    "no kid": lambda header, claims, key: signed(without(header, "kid"), claims, key),
    "no typ": lambda header, claims, key: signed(without(header, "typ"), claims, key),
    "typ JWT": lambda header, claims, key: signed(header | {"typ": "JWT"}, claims, key),
    "typ of a refresh token": lambda header, claims, key: signed(header | {"typ": "rt+jwt"}, claims, key),
    "brings its key, without kid": lambda header, claims, key: with_own_key(without(header, "kid"), claims),
    "brings its key": lambda header, claims, key: with_own_key(header, claims),
    "jku": lambda header, claims, key: signed(header | {"jku": "https://example.org/keys"}, claims, key),
    "x5u": lambda header, claims, key: signed(header | {"x5u": "https://example.org/x"}, claims, key),
    "crit": lambda header, claims, key: signed(header | {"crit": ["exp"], "exp": 1}, claims, key),
    "b64": lambda header, claims, key: signed(header | {"crit": ["b64"], "b64": False}, claims, key),
    "other audience": lambda header, claims, key: signed(header, claims | {"aud": "others"}, key),
    "no audience": lambda header, claims, key: signed(header, without(claims, "aud"), key),
    "other issuer": lambda header, claims, key: signed(header, claims | {"iss": "https://evil.example"}, key),
    "no issuer": lambda header, claims, key: signed(header, without(claims, "iss"), key),
    "expired": lambda header, claims, key: signed(header, claims | {"exp": int(time.time())}, key),
    "never expires": lambda header, claims, key: signed(header, without(claims, "exp"), key),
    "expires as text": lambda header, claims, key: signed(header, claims | {"exp": "9999999999"}, key),
    "from the future": lambda header, claims, key: signed(header, claims | {"iat": int(time.time()) + 60}, key),
    "no iat": lambda header, claims, key: signed(header, without(claims, "iat"), key),
    "no session": lambda header, claims, key: signed(header, without(claims, "sid"), key),
    "session of nobody": lambda header, claims, key: signed(header, claims | {"sid": str(uuid4())}, key),
    "session is no id": lambda header, claims, key: signed(header, claims | {"sid": 7}, key),
    "claims are a list": lambda header, claims, key: signed(header, [claims], key),
    "claims are deep": lambda header, claims, key: signed(header, b"[" * 20_000, key),
    "header is deep": lambda header, claims, key: f"{part(b'[' * 5_000)}.{part(claims)}.{part(b'x' * 64)}",
    "header is a list": lambda header, claims, key: f"{part([1])}.{part(claims)}.{part(b'x' * 64)}",
    "cut": lambda header, claims, key: signed(header, claims, key)[:-4],
    "two parts": lambda header, claims, key: signed(header, claims, key).rpartition(".")[0],
    "five parts": lambda header, claims, key: signed(header, claims, key) + ".a.b",
    "no base64": lambda header, claims, key: "ä.ö.ü",
    "dots": lambda header, claims, key: "..",
}


def without(values: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key != name}


def with_hmac(header: dict[str, Any], claims: dict[str, Any], secret: bytes) -> str:
    start = f"{part(header | {'alg': 'HS256'})}.{part(claims)}"
    return f"{start}.{part(hmac.digest(secret, start.encode(), 'sha256'))}"


def with_own_key(header: dict[str, Any], claims: dict[str, Any]) -> str:
    key = OKPKey.generate_key()
    return signed(header | {"jwk": key.as_dict(private=False)}, claims, key)


@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_tokens_are_refused(lms: Lms, account: Any, name: str) -> None:
    header, claims = decoded((await account.tokens())["access_token"])
    key = await genuine_key(lms)
    assert await account.me(signed(header, claims, key)) == 200
    headers = {"Authorization": b"Bearer " + HOSTILE[name](header, claims, key).encode()}
    answer = await lms.client.get("/users/me", headers=headers)
    assert answer.status_code == 401, answer.text
    assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("name", ["jku", "x5u"])
async def test_no_token_makes_us_fetch_its_keys(lms: Lms, account: Any, name: str) -> None:
    header, claims = decoded((await account.tokens())["access_token"])
    connections = 0

    def count(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        writer.close()

    async with await asyncio.start_server(count, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        pointing = header | {name: f"http://127.0.0.1:{port}/keys"}
        for kid in (header["kid"], "theirs"):
            for key in (OKPKey.generate_key(), await genuine_key(lms)):
                assert await account.me(signed(pointing | {"kid": kid}, claims, key)) == 401
        await asyncio.sleep(0.05)
        assert connections == 0
        # The server does count: what the test would have seen.
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.sleep(0.05)
        writer.close()
    assert connections == 1


async def test_a_session_speaks_for_its_own_user_only(lms: Lms, account: Any) -> None:
    header, claims = decoded((await account.tokens())["access_token"])
    admin = await lms.admin()
    assert await account.me(signed(header, claims | {"sub": str(admin.id)}, await genuine_key(lms))) == 401


async def test_other_tokens_are_no_access_tokens(lms: Lms, account: Any) -> None:
    tokens = await account.tokens()
    assert await account.me(tokens["refresh_token"]) == 401
    assert (await account.refresh(tokens["access_token"])).status_code == 401


async def test_an_ended_session_ends_its_access_token_at_once(lms: Lms, account: Any) -> None:
    tokens, other = await account.tokens(), await account.tokens()
    headers = {"Authorization": f"Bearer {other['access_token']}"}
    assert await account.me(tokens["access_token"]) == 200
    id = decoded(tokens["access_token"])[1]["sid"]
    assert (await lms.client.delete(f"/auth/sessions/{id}", headers=headers)).status_code == 204
    assert await account.me(tokens["access_token"]) == 401
    assert await account.me(other["access_token"]) == 200


async def test_another_process_hears_of_an_ended_session(lms: Lms, account: Any) -> None:
    tokens = await account.tokens()
    headers = {"Authorization": f"Bearer {tokens['access_token']}"}
    async with application(load_platform(lms.context.settings)) as other:
        assert (await other.client.get("/users/me", headers=headers)).status_code == 200
        await lms.client.post("/auth/logout", json={"refresh_token": tokens["refresh_token"]})
        assert await becomes(401, lambda: other.client.get("/users/me", headers=headers), 1.0)


async def becomes(status: int, ask: Callable[[], Any], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if (await ask()).status_code == status:
            return True
    return False


async def test_a_token_is_worth_nothing_when_the_database_is_away(
    lms: Lms, account: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = await account.tokens()
    monkeypatch.setattr(lms.context.database, "watching", False)
    monkeypatch.setattr(lms.context.database, "away", True)
    assert await account.me(tokens["access_token"]) == 503
    assert (await account.login()).status_code == 503
    assert (await account.refresh(tokens["refresh_token"])).status_code == 503


async def test_unknown_keys_cannot_make_us_query(lms: Lms, account: Any) -> None:
    header, claims = decoded((await account.tokens())["access_token"])
    key = await genuine_key(lms)
    forged = [signed(header | {"kid": f"unknown-{number}"}, claims, key) for number in range(50)]
    await account.me(forged[0])
    async with lms.counted() as counted:
        assert {await account.me(token) for token in forged} == {401}
    assert counted.statements <= 1
