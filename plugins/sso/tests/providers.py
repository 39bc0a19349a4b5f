"""The other ends of a sign-in: a provider of ours that lies as a test wants, and a school with its browser."""

from __future__ import annotations

import time
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import httpx2
from joserfc import jwt
from joserfc.jwk import ECKey

from lms_core.testing import Lms, School

SECRET = "a secret of the client"
VERIFIER = "a-verifier-of-the-front-end-that-is-long-enough"
CHALLENGE = urlsafe_b64encode(sha256(VERIFIER.encode()).digest()).decode().rstrip("=")
FRONT_END = "https://front.example"


@dataclass
class Liar:
    """A provider that says what a test wants; `id_token` makes a right token for an authorization request."""

    issuer: str = ""
    key: ECKey = field(default_factory=lambda: ECKey.generate_key("P-256", {"kid": "one", "use": "sig"}))
    metadata: dict[str, Any] = field(default_factory=dict)
    token_answer: tuple[int, Any] = (200, {})
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)

    def claims(self, location: str, **changed: Any) -> dict[str, Any]:
        """Of a good ID token for the request that a browser was sent with."""
        query = parse_qs(urlsplit(location).query)
        now = int(time.time())
        right = {
            "iss": self.issuer, "aud": "lms", "sub": uuid4().hex, "iat": now, "exp": now + 60,
            "nonce": query["nonce"][0], "email": f"{uuid4().hex}@school.example", "email_verified": True, "name": "Ada",
        }  # fmt: skip
        return {name: value for name, value in {**right, **changed}.items() if value is not None}

    def answer_with(self, claims: dict[str, Any], key: Any = None, alg: str = "ES256", **header: Any) -> None:
        """What the token endpoint says next."""
        key = key or self.key
        token = jwt.encode({"alg": alg, "kid": "one", **header}, claims, key, algorithms=[alg])
        self.token_answer = (200, {"access_token": "x", "token_type": "Bearer", "id_token": token})

    def find(self, path: str) -> tuple[int, Any]:
        found: dict[str, tuple[int, Any]] = {
            "/.well-known/openid-configuration": (200, {
                "issuer": self.issuer, "authorization_endpoint": f"{self.issuer}/authorize",
                "token_endpoint": f"{self.issuer}/token", "jwks_uri": f"{self.issuer}/jwks", **self.metadata,
            }),
            "/jwks": (200, {"keys": [self.key.as_dict(private=False)]}),
            "/token": self.token_answer,
        }  # fmt: skip
        return found.get(path, (404, {}))


@dataclass
class Realm:
    """A school with a provider and a domain."""

    lms: Lms
    school: School
    provider: dict[str, Any]

    async def start(self, return_to: str | None = f"{FRONT_END}/welcome") -> tuple[str, str]:
        """Where the browser is sent, and its cookie."""
        params = {"code_challenge": CHALLENGE, **({"return_to": return_to} if return_to else {})}
        answer = await self.lms.client.get(f"/sso/providers/{self.provider['id']}/start", params=params)
        assert answer.status_code == 303, answer.text
        self.lms.client.cookies.clear()
        return answer.headers["Location"], answer.headers["Set-Cookie"].partition(";")[0]

    async def come_back(self, cookie: str, **query: str) -> httpx2.Response:
        """What the callback answers."""
        headers = {"Cookie": cookie} if cookie else {}
        answer = await self.lms.client.get("/sso/callback", params=query, headers=headers)
        self.lms.client.cookies.clear()
        return answer

    async def exchange(self, code: str, verifier: str = VERIFIER) -> httpx2.Response:
        return await self.lms.client.post("/sso/token", json={"code": code, "code_verifier": verifier})


async def make_realm(lms: Lms, school: School, issuer: str, **fields: Any) -> Realm:
    """A provider of the school, and the domain school.example, for a test."""
    body = {
        "institution_id": school.institution["id"], "name": uuid4().hex, "issuer": issuer, "client_id": "lms",
        "client_secret": SECRET, "default_role": "student",
        "role_rules": [{"claim": "groups", "value": "staff", "role": "teacher"}], **fields,
    }  # fmt: skip
    admin = await lms.admin()
    for domain in await admin.items("/sso/domains"):
        await admin.delete(f"/sso/domains/{domain['id']}")
    await admin.create("/sso/domains", {"institution_id": school.institution["id"], "domain": "school.example"})
    return Realm(lms, school, await school.principal.create("/sso/providers", body))
