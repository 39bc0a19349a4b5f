"""The general rate limit, per caller: counted in Redis, and in this process while Redis is away, but never open."""

from __future__ import annotations

import time

import structlog
from fastapi import Request
from limits import RateLimitItem, parse
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import FixedWindowRateLimiter
from limits.errors import StorageError
from prometheus_client import Counter

from lms_core.config import Settings
from lms_core.errors import Problem, StartRefused
from lms_core.permissions import Access

log = structlog.get_logger("lms.rate_limit")

REDIS_TIMEOUT_SECONDS = 0.5
REDIS_PAUSE_SECONDS = 5.0
LIMITED = Counter("lms_rate_limited_total", "Requests refused since their caller asks too often")


class RateLimit:
    """`LMS_RATE_LIMIT`, such as `600/minute`."""

    def __init__(self, settings: Settings, limit: str) -> None:
        try:
            self.item: RateLimitItem = parse(limit)
        except ValueError:
            raise StartRefused(f"LMS_RATE_LIMIT is {limit!r}; write it like 600/minute, or leave it empty.") from None
        timeouts = {"socket_timeout": REDIS_TIMEOUT_SECONDS, "socket_connect_timeout": REDIS_TIMEOUT_SECONDS}
        url = f"async+{settings.redis_url}"
        self.shared = FixedWindowRateLimiter(
            RedisStorage(url, wrap_exceptions=True, implementation="redispy", key_prefix="lms:rate", **timeouts)
        )
        self.own = FixedWindowRateLimiter(MemoryStorage())
        self.redis_rests_until = 0.0

    async def refuse_excess(self, request: Request, access: Access) -> None:
        """429 with `Retry-After` when this caller has asked too often; who is not signed in counts by address."""
        caller = str(access.actor_id or (request.client.host if request.client else "unknown"))
        if time.monotonic() >= self.redis_rests_until:
            try:
                await self.count(self.shared, caller)
            except StorageError as error:
                log.warning("rate limits are counted per process for now", reason=repr(error.storage_error))
                self.redis_rests_until = time.monotonic() + REDIS_PAUSE_SECONDS
            else:
                return
        await self.count(self.own, caller)

    async def count(self, limiter: FixedWindowRateLimiter, caller: str) -> None:
        """Count one request."""
        if await limiter.hit(self.item, caller):
            return
        reset = (await limiter.get_window_stats(self.item, caller)).reset_time
        seconds = max(1, round(reset - time.time()))
        LIMITED.inc()
        raise Problem(
            429, "too_many_requests", f"At most {self.item} for each caller; slow down.", {"Retry-After": str(seconds)}
        )


def rate_limit_of(settings: Settings) -> RateLimit | None:
    """The limit in force, or None when there is none."""
    limit = settings.rate_limit if settings.rate_limit is not None else settings.usual_rate_limit
    return RateLimit(settings, limit) if limit else None
