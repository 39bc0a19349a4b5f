"""The general rate limit, per caller: counted in Redis, and in this process while Redis is away, but never open."""

from __future__ import annotations

import time

import structlog
from fastapi import Request
from limits import RateLimitItem, parse
from limits.aio.storage import MemoryStorage, RedisStorage, Storage
from limits.errors import StorageError
from prometheus_client import Counter

from lms_core.config import Settings
from lms_core.errors import Problem, StartRefused
from lms_core.permissions import Access

log = structlog.get_logger("lms.rate_limit")

REDIS_TIMEOUT_SECONDS = 0.5
REDIS_PAUSE_SECONDS = 5.0
REMEMBERED_ENDS = 10_000
RATE_LIMIT_HEADERS = ("RateLimit-Policy", "RateLimit", "RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset")
"""The IETF's draft "RateLimit header fields for HTTP" (version 10), and what its earlier versions had and clients read."""
LIMITED = Counter("lms_rate_limited_total", "Requests refused since their caller asks too often")


class RateLimit:
    """`LMS_RATE_LIMIT`, such as `600/minute`: so many requests of a caller from its first one on, then anew."""

    def __init__(self, settings: Settings, limit: str) -> None:
        try:
            self.item: RateLimitItem = parse(limit)
            if self.item.amount < 1:
                raise ValueError(limit)
        except ValueError:
            raise StartRefused(f"LMS_RATE_LIMIT is {limit!r}; write it like 600/minute, or leave it empty.") from None
        self.seconds = self.item.get_expiry()
        timeouts = {"socket_timeout": REDIS_TIMEOUT_SECONDS, "socket_connect_timeout": REDIS_TIMEOUT_SECONDS}
        url = f"async+{settings.redis_url}"
        self.shared = RedisStorage(
            url, wrap_exceptions=True, implementation="redispy", key_prefix="lms:rate", **timeouts
        )
        self.own = MemoryStorage()
        self.redis_rests_until = 0.0
        self.ends: dict[tuple[bool, str], float] = {}

    async def count(self, request: Request, access: Access) -> dict[str, str]:
        """Count a request, and tell its caller how many are left; who is not signed in counts by address.

        Raises a Problem with 429 and `Retry-After` for one request too many.
        """
        caller = str(access.actor_id or (request.client.host if request.client else "unknown"))
        used, reset = await self.used_of(caller)
        left = max(0, self.item.amount - used)
        policy, state = f'"default";q={self.item.amount};w={self.seconds}', f'"default";r={left};t={reset}'
        values = (policy, state, str(self.item.amount), str(left), str(reset))
        headers = dict(zip(RATE_LIMIT_HEADERS, values, strict=True))
        if used > self.item.amount:
            LIMITED.inc()
            detail = f"At most {self.item} for each caller; slow down."
            raise Problem(429, "too_many_requests", detail, {"Retry-After": str(reset), **headers})
        return headers

    async def used_of(self, caller: str) -> tuple[int, int]:
        """How often this caller has asked, this time included, and seconds until that is forgotten."""
        if time.monotonic() >= self.redis_rests_until:
            try:
                return await self.hit(self.shared, caller)
            except StorageError as error:
                log.warning("rate limits are counted per process for now", reason=repr(error.storage_error))
                self.redis_rests_until = time.monotonic() + REDIS_PAUSE_SECONDS
        return await self.hit(self.own, caller)

    async def hit(self, storage: Storage, caller: str) -> tuple[int, int]:
        """Count in one of both; the end of a caller's window is asked for once, and remembered."""
        key, now = self.item.key_for(caller), time.time()
        window = (storage is self.shared, key)
        used = await storage.incr(key, self.seconds)
        if used == 1:
            self.ends[window] = now + self.seconds
        elif self.ends.get(window, 0) <= now:
            self.ends[window] = await storage.get_expiry(key)
        end = self.ends[window]
        if len(self.ends) > REMEMBERED_ENDS:
            self.ends.clear()
        return used, max(1, round(end - now))


def rate_limit_of(settings: Settings) -> RateLimit | None:
    """The limit in force, or None when there is none."""
    limit = settings.rate_limit if settings.rate_limit is not None else settings.usual_rate_limit
    return RateLimit(settings, limit) if limit else None
