"""Talking to an OpenID Connect provider: what it says of itself, a code for an ID token, and whether that is right.

Nothing here touches the database, and nothing of it runs while a transaction is open.
"""

from __future__ import annotations

import asyncio
import functools
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any
from urllib.parse import urlsplit

import httpx2
import structlog
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.httpx_client import AsyncOAuth2Client
from authlib.oidc.core import CodeIDToken
from authlib.oidc.discovery import get_well_known_url
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import JWKRegistry, KeySet

from lms_core.sdk import Context
from lms_sso.settings import SsoSettings

log = structlog.get_logger("lms.sso")
# What is signed by a key that only the provider has: no `none`, and no HMAC, for which our own secret would do.
ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"]
KNOWN_SECONDS = 600.0
KEYS_AGAIN_SECONDS = 30.0
ANSWER_SECONDS = 5.0
MOST_BYTES = 1024 * 1024
LEEWAY_SECONDS = 60
TRANSLATED = ip_network("64:ff9b::/96")
LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"


class ProviderFailed(Exception):
    """The provider is away, or does not do what OpenID Connect says; the message is for whoever runs it."""


class TokenRefused(Exception):
    """A token or a code that must not be believed."""


@dataclass
class Known:
    """What a provider says of itself, and its keys, for a while."""

    metadata: dict[str, Any]
    read_at: float
    keys: KeySet | None = None
    keys_read_at: float = 0.0


@functools.cache
def certificates() -> ssl.SSLContext:
    """Whom this machine trusts, read once: it takes 25 ms, in which nobody else is served."""
    return httpx2.create_ssl_context(trust_env=False)


class BoundedTransport(httpx2.AsyncHTTPTransport):
    """Reaches no address that is ours alone, unless that is allowed, and reads no answer without end."""

    def __init__(self, private: bool, plain: bool) -> None:
        super().__init__(verify=certificates(), trust_env=False)
        self.private, self.plain = private, plain

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """One request, of whatever library asks for it."""
        await self.aim(request)
        # What is compressed could grow without end when it is unpacked.
        request.headers["Accept-Encoding"] = "identity"
        response = await super().handle_async_request(request)
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            await response.aclose()
            raise ProviderFailed(f"{request.url.host} compresses its answer, though it was asked not to.")
        content = bytearray()
        async for part in response.aiter_raw():
            content += part
            if len(content) > MOST_BYTES:
                await response.aclose()
                raise ProviderFailed(f"{request.url.host} answers more than {MOST_BYTES} bytes.")
        await response.aclose()
        return httpx2.Response(response.status_code, headers=response.headers, content=bytes(content), request=request)

    async def aim(self, request: httpx2.Request) -> None:
        """Raise ProviderFailed for what must not be asked: so nobody explores our network by naming a provider.

        The request then goes to the very address that was looked at: a name could have another one a moment later.
        """
        url = request.url
        if url.scheme != "https" and not (self.plain and url.scheme == "http"):
            raise ProviderFailed(f"{url.host} is not asked by {url.scheme}; a provider needs https.")
        if self.private:
            return
        try:
            found = await asyncio.get_running_loop().getaddrinfo(url.host, url.port or 443)
        except OSError as error:
            raise ProviderFailed(f"{url.host} has no address ({error}).") from None
        addresses = [str(address[0]) for *_, address in found]
        if not addresses or not all(is_public(address) for address in addresses):
            raise ProviderFailed(f"{url.host} is at a private address; see the setting private_providers.")
        request.extensions["sni_hostname"] = url.host
        request.url = url.copy_with(host=addresses[0])


def is_public(address: str) -> bool:
    """Whether an address is on the Internet and one machine's, also when it wraps an IPv4 address (RFC 6052, 3056)."""
    found = ip_address(address)
    if isinstance(found, IPv6Address):
        inner = IPv4Address(found.packed[-4:]) if found in TRANSLATED else found.ipv4_mapped or found.sixtofour
        if inner is not None:
            return is_public(str(inner))
    return found.is_global and not found.is_multicast


@dataclass
class OpenIdProviders:
    """All providers that this process knows, by issuer."""

    known: dict[str, Known] = field(default_factory=dict)

    @asynccontextmanager
    async def client(self, context: Context, **options: Any) -> AsyncIterator[AsyncOAuth2Client]:
        """An OAuth client that follows no redirect and waits for no answer for long."""
        private = context.platform.plugin_settings(SsoSettings).private_providers
        transport = BoundedTransport(private, private and not context.settings.production)
        async with AsyncOAuth2Client(
            transport=transport,
            timeout=ANSWER_SECONDS,
            follow_redirects=False,
            trust_env=False,
            # An access token is used at once: one that lives a minute only is good enough.
            leeway=0,
            **options,
        ) as client:
            try:
                yield client
            except AuthlibBaseError as error:
                raise TokenRefused(f"The provider does not take what it gave ({error}).") from error
            except httpx2.HTTPError as error:
                raise ProviderFailed(f"The provider does not answer ({type(error).__name__}).") from error

    async def fetch(self, context: Context, url: str) -> dict[str, Any]:
        """A JSON object from the provider."""
        async with self.client(context) as client:
            answer = await client.request("GET", url, withhold_token=True)
        try:
            found = answer.json() if answer.status_code == 200 else None
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise ProviderFailed(f"{url} answers no JSON object, but {answer.status_code}.")
        return found

    async def metadata(self, context: Context, issuer: str) -> dict[str, Any]:
        """What the issuer publishes (OpenID Connect Discovery 1.0 §4)."""
        known = self.known.get(issuer)
        if known is None or time.monotonic() - known.read_at > KNOWN_SECONDS:
            found = await self.fetch(context, get_well_known_url(issuer, external=True))
            if found.get("issuer") != issuer:
                raise ProviderFailed(
                    f"The provider calls itself {found.get('issuer')!r}, not {issuer!r}; correct the issuer."
                )
            for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
                if not isinstance(found.get(name), str) or urlsplit(found[name]).scheme not in ("https", "http"):
                    raise ProviderFailed(f"The provider publishes no {name}.")
            known = self.known[issuer] = Known(found, time.monotonic())
        return known.metadata

    async def keys(self, context: Context, issuer: str, again: bool = False) -> KeySet:
        """The provider's keys; read again when they may have changed, but not all the time."""
        metadata = await self.metadata(context, issuer)
        known = self.known[issuer]
        age = time.monotonic() - known.keys_read_at
        if known.keys is None or age > KNOWN_SECONDS or (again and age > KEYS_AGAIN_SECONDS):
            found = (await self.fetch(context, metadata["jwks_uri"])).get("keys")
            public = [key for key in found if isinstance(key, dict)] if isinstance(found, list) else []
            usable = [
                key for key in public if key.get("kty") in ("RSA", "EC", "OKP") and key.get("use", "sig") == "sig"
            ]
            known.keys = readable_keys(usable)
            known.keys_read_at = time.monotonic()
        return known.keys

    async def exchange(
        self, context: Context, issuer: str, client: Client, code: str, verifier: str, nonce: str
    ) -> dict[str, Any]:
        """The claims about whoever signed in, for the code that the browser brought (OpenID Connect Core 1.0 §3.1.3)."""
        metadata = await self.metadata(context, issuer)
        options = {"client_id": client.id, "client_secret": client.secret, "redirect_uri": client.redirect_uri}
        method = authentication_of(client, metadata)
        async with self.client(context, token_endpoint_auth_method=method, **options) as oauth:
            try:
                tokens = await oauth.fetch_token(metadata["token_endpoint"], code=code, code_verifier=verifier)
            except (ValueError, RecursionError) as error:
                raise TokenRefused(f"The provider answers the code with no JSON ({error}).") from error
            claims = await self.id_token_claims(context, issuer, client, tokens, nonce)
            endpoint = metadata.get("userinfo_endpoint")
            if "email" not in claims and isinstance(endpoint, str):
                # Whoever follows OpenID Connect Core 1.0 §5.4 to the letter tells it only there.
                claims = await more_claims(oauth, endpoint, claims)
        return claims

    async def id_token_claims(
        self, context: Context, issuer: str, client: Client, tokens: Mapping[str, Any], nonce: str
    ) -> dict[str, Any]:
        """The claims of an ID token that is for us and for this sign-in (OpenID Connect Core 1.0 §3.1.3.7)."""
        id_token = tokens.get("id_token")
        if not isinstance(id_token, str):
            raise TokenRefused("The provider sends no ID token.")
        token = await self.verified(context, issuer, id_token)
        claims = CodeIDToken(
            token.claims,
            token.header,
            {"iss": {"essential": True, "value": issuer}, "aud": {"essential": True, "value": client.id}},
            {"nonce": nonce, "client_id": client.id, "access_token": tokens.get("access_token")},
        )
        try:
            claims.validate(leeway=LEEWAY_SECONDS)
        except (JoseError, ValueError, TypeError) as error:
            raise TokenRefused(f"The ID token is not for this sign-in ({error}).") from error
        return dict(token.claims)

    async def logout_claims(
        self, context: Context, issuer: str, client_id: str, logout_token: str
    ) -> Mapping[str, Any]:
        """The claims of a logout token (OpenID Connect Back-Channel Logout 1.0 §2.6)."""
        token = await self.verified(context, issuer, logout_token)
        rules = jwt.JWTClaimsRegistry(
            leeway=LEEWAY_SECONDS,
            iss={"essential": True, "value": issuer},
            aud={"essential": True, "value": client_id},
            iat={"essential": True},
            exp={"essential": True},
            jti={"essential": True},
        )
        try:
            rules.validate(token.claims)
        except JoseError as error:
            raise TokenRefused(f"The logout token is not for us ({error}).") from error
        events = token.claims.get("events")
        if not isinstance(events, dict) or LOGOUT_EVENT not in events or "nonce" in token.claims:
            raise TokenRefused("This is no logout token.")
        return token.claims

    async def verified(self, context: Context, issuer: str, text: str) -> jwt.Token:
        """A token whose signature is the issuer's; its claims are still to be checked."""
        try:
            try:
                return jwt.decode(text, await self.keys(context, issuer), algorithms=ALGORITHMS)
            except (JoseError, ValueError):
                return jwt.decode(text, await self.keys(context, issuer, again=True), algorithms=ALGORITHMS)
        except (JoseError, ValueError, TypeError, RecursionError) as error:
            raise TokenRefused(f"The token is not signed by the provider ({error}).") from error


def readable_keys(published: list[dict[str, Any]]) -> KeySet:
    """The keys that we can use; one of a curve that we do not know must not spoil the others."""
    keys = []
    for one in published:
        try:
            keys.append(JWKRegistry.import_key(one))
        except (JoseError, ValueError, TypeError, KeyError) as error:
            log.info("key not usable", kid=str(one.get("kid"))[:100], reason=str(error)[:200])
    return KeySet(keys)


@dataclass(frozen=True)
class Client:
    """Who we are to the provider."""

    id: str
    secret: str | None
    redirect_uri: str


async def more_claims(oauth: AsyncOAuth2Client, endpoint: str, claims: dict[str, Any]) -> dict[str, Any]:
    """With what the provider tells about the same subject at its UserInfo endpoint; what the ID token says counts more."""
    answer = await oauth.request("GET", endpoint)
    try:
        found = answer.json() if answer.status_code == 200 else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or found.get("sub") != claims.get("sub"):
        raise TokenRefused("The UserInfo endpoint tells of somebody else, or of nobody.")
    return {**found, **claims}


def authentication_of(client: Client, metadata: Mapping[str, Any]) -> str:
    """How we show the provider that we are its client; `client_secret_basic` is what all must know."""
    offered = metadata.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
    if client.secret is None:
        return "none"
    return "client_secret_basic" if "client_secret_basic" in offered else "client_secret_post"
