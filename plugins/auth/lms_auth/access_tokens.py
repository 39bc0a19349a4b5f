"""Access tokens (RFC 9068): signed with Ed25519, valid for minutes, and worth nothing once their session ended."""

import time
from typing import Any
from uuid import UUID

from joserfc import jwt
from joserfc.errors import JoseError, UnsupportedAlgorithmError
from joserfc.jwk import OKPKey
from joserfc.jws import JWSRegistry, extract_compact
from joserfc.registry import JWS_HEADER_REGISTRY
from lms_users.contracts import UserDirectory
from sqlalchemy import Uuid, bindparam, extract, func
from sqlmodel import col, select

from lms_auth.models import AuthSession
from lms_auth.settings import AuthSettings
from lms_auth.signing_keys import CLOCK_SKEW_SECONDS, SigningKeys
from lms_core.sdk import Authenticator, Context, Identity, Read, new_id

ALGORITHM = "EdDSA"
TYPE = "at+jwt"
AUDIENCE = "lms"

LIVE_SESSION = Read(
    select(
        AuthSession.user_id,
        extract(
            "epoch", func.least(col(AuthSession.idle_expires_at), col(AuthSession.absolute_expires_at)) - func.now()
        ).label("seconds_left"),
    ).where(
        AuthSession.id == bindparam("session_id", type_=Uuid()),
        col(AuthSession.revoked_at).is_(None),
        col(AuthSession.idle_expires_at) > func.now(),
        col(AuthSession.absolute_expires_at) > func.now(),
    )
)


class OnlyOurs(JWSRegistry):
    """One algorithm and three header fields: a token cannot choose how, or with whose key, it is verified."""

    def __init__(self) -> None:
        super().__init__()
        self.header_registry = {name: JWS_HEADER_REGISTRY[name] for name in ("alg", "kid", "typ")}

    def get_alg(self, name: str) -> Any:
        """EdDSA, without the library's warning that newer RFCs call it Ed25519: verifiers know it as EdDSA."""
        if name != ALGORITHM:
            raise UnsupportedAlgorithmError(f"Only {ALGORITHM} is accepted.")
        return self.algorithms[ALGORITHM]


class StrictClaims(jwt.JWTClaimsRegistry):
    """Claims that must all be there; only `iat` may be a little ahead, when the signer's clock is."""

    def validate_iat(self, value: object) -> None:
        """Not from the future, clocks allowing."""
        super().validate_iat(value - CLOCK_SKEW_SECONDS if type(value) is int else value)


REGISTRY = OnlyOurs()


class AccessTokens(Authenticator):
    """Signs and verifies; one for each process."""

    def __init__(self) -> None:
        self.keys = SigningKeys()

    async def sign(self, context: Context, user_id: UUID, session_id: UUID) -> str:
        """A new access token of a session."""
        signing = await self.keys.signing(context)
        now = int(time.time())
        life = context.platform.plugin_settings(AuthSettings).access_token_life
        claims = {
            "iss": issuer(context),
            "aud": AUDIENCE,
            "sub": str(user_id),
            "sid": str(session_id),
            "jti": str(new_id()),
            "iat": now,
            "exp": now + int(life.total_seconds()),
        }
        header = {"alg": ALGORITHM, "typ": TYPE, "kid": signing.kid}
        return jwt.encode(header, claims, signing.key, registry=REGISTRY)

    async def authenticate(self, context: Context, token: str) -> Identity | None:
        """The identity behind a token whose session lives and whose user may sign in."""
        kid = key_id(token)
        key = None if kid is None else await self.keys.verifying(context, kid)
        claims = None if key is None else verified_claims(context, token, key)
        if claims is None:
            return None
        user_id, session_id = UUID(claims["sub"]), UUID(claims["sid"])
        session = await LIVE_SESSION.one(context.database, session_id=session_id)
        if session is None or session["user_id"] != user_id:
            return None
        async with context.unit_of_work() as uow:
            if not await uow.use(UserDirectory).may_sign_in(uow, user_id):
                return None
        return Identity(user_id, session_id, min(claims["exp"], time.time() + float(session["seconds_left"])))


def issuer(context: Context) -> str:
    """Who says so: the address of this plugin."""
    settings = context.settings
    return f"{settings.public_url.rstrip('/')}{settings.api_prefix}/auth"


def metadata_of(context: Context) -> dict[str, Any]:
    """What a client or a verifying service needs to know of this issuer (RFC 8414)."""
    base = issuer(context)
    return {
        "issuer": base,
        "token_endpoint": f"{base}/login",
        "jwks_uri": f"{base}/.well-known/jwks.json",
        "grant_types_supported": ["password"],
        "response_types_supported": [],
        "token_endpoint_auth_methods_supported": ["none"],
    }


def key_id(token: str) -> str | None:
    """Which key a token claims to be signed with; None when its header is not one that we write."""
    try:
        header = extract_compact(token.encode()).headers()
        REGISTRY.check_header(header)
    except (JoseError, ValueError, RecursionError):
        return None
    kid = header.get("kid")
    return kid if header.get("typ") == TYPE and isinstance(kid, str) else None


def verified_claims(context: Context, token: str, key: OKPKey) -> dict[str, Any] | None:
    """The claims of a token, when signature, issuer, audience and times are right."""
    required: dict[str, Any] = {name: {"essential": True} for name in ("sub", "sid", "jti", "iat", "exp")}
    registry = StrictClaims(
        iss={"essential": True, "value": issuer(context)}, aud={"essential": True, "value": AUDIENCE}, **required
    )
    try:
        claims = jwt.decode(token, key, registry=REGISTRY).claims
        registry.validate(claims)
        UUID(claims["sub"]), UUID(claims["sid"])
    except (JoseError, ValueError, AttributeError, TypeError, RecursionError):
        return None
    return claims
