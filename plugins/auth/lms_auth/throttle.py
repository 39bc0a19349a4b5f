"""The throttle of guesses: counts wrong passwords for each account and address, in Redis or, without it, here."""

import asyncio
import hmac
import time
import unicodedata
from dataclasses import dataclass

import prometheus_client
from redis.exceptions import RedisError

from lms_auth.settings import AuthSettings
from lms_core.sdk import Context, Problem

REDIS_SECONDS = 0.7
REDIS_PAUSE_SECONDS = 5.0
LOCAL_ENTRIES = 20_000
LOCAL_SHARE = 2
THROTTLED = prometheus_client.Counter("lms_auth_throttled_total", "Sign-ins refused after too many wrong passwords")
"""Each process counts for itself while Redis is away, so each allows only a part of the guesses."""


@dataclass(frozen=True)
class Guess:
    """Who is guessing about whom. `account` is the user's id, or what was typed when nobody has that address."""

    account: str
    address: str


@dataclass(frozen=True)
class Counter:
    """Wrong passwords so far, how many are free, and the seconds until they are forgotten."""

    count: int
    limit: int
    seconds: float


class Throttle:
    """Refuses further guesses; the right password from another address still works."""

    def __init__(self) -> None:
        self.local: dict[str, tuple[int, float]] = {}
        self.redis_away_until = 0.0

    async def refuse_if_blocked(self, context: Context, guess: Guess) -> None:
        """429 when there were too many wrong passwords already."""
        for counter in await self.counters(context, guess, 0):
            if counter.count >= counter.limit:
                raise too_many(counter)

    async def count_wrong(self, context: Context, guess: Guess) -> None:
        """Count one; 429 when others used up the free guesses while this one was verified."""
        for counter in await self.counters(context, guess, 1):
            if counter.count > counter.limit:
                raise too_many(counter)

    async def counters(self, context: Context, guess: Guess, wrong: int) -> list[Counter]:
        """Both counters, after adding."""
        settings = context.platform.plugin_settings(AuthSettings)
        window = settings.wrong_passwords_minutes * 60
        limits = {
            hashed(context, f"{account_key(guess.account)} {guess.address}"): settings.wrong_passwords_per_account,
            hashed(context, guess.address): settings.wrong_passwords_per_address,
        }
        if time.monotonic() >= self.redis_away_until:
            try:
                return await in_redis(context, limits, window, wrong)
            except (RedisError, OSError, TimeoutError):
                self.redis_away_until = time.monotonic() + REDIS_PAUSE_SECONDS
        return [self.in_process(key, limit, window, wrong) for key, limit in limits.items()]

    def in_process(self, key: str, limit: int, window: float, wrong: int) -> Counter:
        """A counter of this process."""
        now = time.monotonic()
        count, deadline = self.local.get(key, (0, 0.0))
        if deadline <= now:
            count, deadline = 0, now + window
        if wrong:
            while len(self.local) >= LOCAL_ENTRIES:
                del self.local[next(iter(self.local))]
            self.local[key] = (count + wrong, deadline)
        return Counter(count + wrong, max(1, limit // LOCAL_SHARE), deadline - now)


async def in_redis(context: Context, limits: dict[str, int], window: int, wrong: int) -> list[Counter]:
    """The counters that all processes share, in one round trip."""
    async with asyncio.timeout(REDIS_SECONDS), context.redis.pipeline(transaction=True) as pipeline:
        for key in limits:
            pipeline.set(key, 0, ex=window, nx=True)
            pipeline.incrby(key, wrong)
            pipeline.ttl(key)
        answers = await pipeline.execute()
    return [
        Counter(int(answers[3 * index + 1]), limit, float(answers[3 * index + 2]))
        for index, limit in enumerate(limits.values())
    ]


def account_key(account: str) -> str:
    """What was typed, in one form for all ways to type it."""
    return unicodedata.normalize("NFKC", account).casefold().strip()


def hashed(context: Context, text: str) -> str:
    """A Redis key that names nobody."""
    return "auth:wrong:" + hmac.digest(context.platform.derived_key("auth.throttle"), text.encode(), "sha256").hex()


def too_many(counter: Counter) -> Problem:
    """429."""
    THROTTLED.inc()
    seconds = max(1, round(counter.seconds))
    return Problem(
        429,
        "too_many_attempts",
        f"There were too many wrong passwords; try again in {seconds} seconds.",
        {"Retry-After": str(seconds)},
    )
