"""The keys of access tokens: shared by all processes, surviving restarts, replaced by `lms auth rotate-keys`.

A private key is derived from LMS_SECRET_KEY and the id of its row, so the database never holds one.
"""

import time
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from joserfc.jwk import OKPKey
from sqlalchemy import extract, func, update
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import col, or_, select

from lms_auth.models import SigningKey
from lms_auth.settings import AuthSettings
from lms_core.sdk import Context, Read, UnitOfWork, new_id

KEYS_TOPIC = "auth:signing_keys"
RELOAD_SECONDS = 30.0
UNKNOWN_KEY_SECONDS = 3.0
CLOCK_SKEW_SECONDS = 10

USABLE = Read(
    select(SigningKey.id, extract("epoch", col(SigningKey.retires_at) - func.now()).label("seconds_left"))
    .where(or_(col(SigningKey.retires_at).is_(None), col(SigningKey.retires_at) > func.now()))
    .order_by(col(SigningKey.id))
)


@dataclass(frozen=True)
class KnownKey:
    """A key and when it retires (monotonic), if that is settled."""

    kid: str
    key: OKPKey
    retires: float | None


@dataclass
class SigningKeys:
    """The keys that this process knows."""

    known: dict[str, KnownKey] = field(default_factory=dict)
    loaded: float | None = None
    announced: int = 0

    async def signing(self, context: Context) -> KnownKey:
        """The key that signs; the very first one is made here."""
        await self.load_if_older(context, RELOAD_SECONDS)
        found = self.newest()
        while found is None:
            async with context.unit_of_work() as uow:
                await uow.session.execute(insert(SigningKey).values(id=new_id()).on_conflict_do_nothing())
            await self.load(context)
            found = self.newest()
        return found

    def newest(self) -> KnownKey | None:
        """The known key that is not on its way out."""
        return next((known for known in self.known.values() if known.retires is None), None)

    async def verifying(self, context: Context, kid: str) -> OKPKey | None:
        """A key by its id, until it retires.

        An unknown id makes the keys be read again, but not more often than every few seconds: a forger names as many
        ids as they like.
        """
        await self.load_if_older(context, RELOAD_SECONDS if kid in self.known else UNKNOWN_KEY_SECONDS)
        found = self.known.get(kid)
        if found is None or (found.retires is not None and found.retires <= time.monotonic()):
            return None
        return found.key

    async def public(self, context: Context) -> list[dict[str, Any]]:
        """What anybody may know of the keys that verify now."""
        await self.signing(context)
        now = time.monotonic()
        return [
            {**known.key.as_dict(private=False), "kid": known.kid, "use": "sig", "alg": "EdDSA"}
            for known in self.known.values()
            if known.retires is None or known.retires > now
        ]

    async def load_if_older(self, context: Context, seconds: float) -> None:
        """Read the keys again when what is known is older than this."""
        if self.loaded is None or time.monotonic() - self.loaded > seconds:
            await self.load(context)

    async def load(self, context: Context) -> None:
        """Read the keys that are not retired."""
        started, announced = time.monotonic(), self.announced
        known = {}
        for row in await USABLE.all(context.database):
            key, left = derive(context, row["id"]), row["seconds_left"]
            kid = key.thumbprint()
            known[kid] = KnownKey(kid, key, None if left is None else started + float(left))
        # What was announced meanwhile may not be in there.
        self.known, self.loaded = known, started if self.announced == announced else None

    def hear(self, announced: str) -> None:
        """Read the keys again before their next use, when they were rotated or notifications were missed."""
        if announced in (KEYS_TOPIC, "all"):
            self.announced += 1
            self.loaded = None


def derive(context: Context, id: UUID) -> OKPKey:
    """The key pair behind a row."""
    secret = context.platform.derived_key("auth.signing_key")
    return OKPKey.derive_key(secret, "Ed25519", kdf_options={"info": id.bytes})


async def rotate(uow: UnitOfWork) -> None:
    """Let a new key sign; the old one verifies until the last token that any process signs with it has expired."""
    await uow.alone(KEYS_TOPIC)
    remaining = uow.settings(AuthSettings).access_token_life + timedelta(seconds=RELOAD_SECONDS + CLOCK_SKEW_SECONDS)
    await uow.session.execute(
        update(SigningKey).where(col(SigningKey.retires_at).is_(None)).values(retires_at=func.now() + remaining)
    )
    uow.session.add(SigningKey())
    uow.announce(KEYS_TOPIC)
