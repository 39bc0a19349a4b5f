"""Verified tokens of this process, with what their users hold, for as long as nobody announces a change."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prometheus_client import Counter

from lms_core.permissions import Access
from lms_core.types import Identity

if TYPE_CHECKING:
    from lms_core.uow import Context

CACHED_TOKENS = 20_000
ASKED = Counter("lms_access_cache_total", "Requests with a token, by whether what it may was known", ["outcome"])
HIT, MISSED = ASKED.labels("hit"), ASKED.labels("missed")


@dataclass
class CachedAccess:
    """A verified token with what its user holds; good until `deadline` (monotonic) unless a change is announced."""

    identity: Identity
    access: Access
    deadline: float


class AccessCache:
    """Verified tokens of this process.

    It is used only while the database's notifications arrive (`Database.watching`), so a revoked session or role
    stops working here at once and in all other processes within a second.
    """

    def __init__(self) -> None:
        self.entries: dict[str, CachedAccess] = {}
        self.tokens: dict[str, set[str]] = {}
        self.loading: list[set[str]] = []

    def get(self, token: str) -> CachedAccess | None:
        """What is known for a token."""
        entry = self.entries.get(token)
        if entry is not None and entry.deadline <= time.monotonic():
            self.drop(token)
            return None
        return entry

    @contextmanager
    def hearing(self) -> Iterator[set[str]]:
        """Every topic that is announced inside the block: what is loaded there may be old by its end."""
        heard: set[str] = set()
        self.loading.append(heard)
        try:
            yield heard
        finally:
            self.loading = [other for other in self.loading if other is not heard]

    def put(self, token: str, entry: CachedAccess, heard: set[str]) -> None:
        """Remember, unless what was announced while it was loaded concerns it."""
        if "all" in heard or not heard.isdisjoint(self.topics(entry)):
            return
        while len(self.entries) >= CACHED_TOKENS:
            self.drop(next(iter(self.entries)))
        self.entries[token] = entry
        for topic in self.topics(entry):
            self.tokens.setdefault(topic, set()).add(token)

    def topics(self, entry: CachedAccess) -> set[str]:
        """The announcements that concern an identity: about itself, and about the people whose things it may read."""
        identity = entry.identity
        return {
            f"user:{identity.user_id}",
            f"session:{identity.session_id}",
            *(f"user:{held.object_id}" for held in entry.access.roles if held.at_person),
        }

    def drop(self, token: str) -> None:
        """Forget one token."""
        entry = self.entries.pop(token, None)
        if entry is not None:
            for topic in self.topics(entry):
                tokens = self.tokens.get(topic, set())
                tokens.discard(token)
                if not tokens:
                    self.tokens.pop(topic, None)

    def forget(self, topic: str) -> None:
        """An announcement: `user:<id>`, `session:<id>` or `all`."""
        for heard in self.loading:
            heard.add(topic)
        if topic == "all":
            self.entries.clear()
            self.tokens.clear()
        for token in list(self.tokens.get(topic, ())):
            self.drop(token)


async def load_access(context: Context, token: str) -> Access | None:
    """The access behind a bearer token, from the cache or the database; None when the token is not valid."""
    cache = context.access_cache
    if context.database.watching and (known := cache.get(token)) is not None:
        HIT.inc()
        return known.access
    MISSED.inc()
    with cache.hearing() as heard:
        identity = await context.platform.authenticate(context, token)
        if identity is None:
            return None
        access, seconds = await context.platform.rules.load(context, identity.user_id, identity.session_id)
    seconds = min(seconds, identity.expires_at - time.time())
    cache.put(token, CachedAccess(identity, access, time.monotonic() + seconds), heard)
    return access
