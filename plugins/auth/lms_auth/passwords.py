"""Hashing of passwords: Argon2id through passlib, in threads, and never more than the machine can take."""

import asyncio
import contextlib
import os
import sys
import threading
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from passlib.hash import argon2

from lms_auth.settings import AuthSettings
from lms_core.sdk import Context, Problem

T = TypeVar("T")
# Else the first sign-ins of a process load it, and of two at once one fails: passlib swaps methods under its feet.
argon2.set_backend("argon2_cffi")
ARGON2 = argon2.using(type="ID", memory_cost=19 * 1024, rounds=2, parallelism=1)
HASHING_NICENESS = 10
DUMMY_HASH = "$argon2id$v=19$m=19456,t=2,p=1$0HpPKSVE6H2vFSJE6H1vDQ$RLpa94y91u/bY+6vMw5I3Su4ys4PlLgLcHSF5CYJkfk"
"""Verified where there is no password, so that this takes as long as a wrong one."""


def normal(password: str) -> str:
    """The one form of a password, however a keyboard composes its characters (NIST SP 800-63B)."""
    return unicodedata.normalize("NFKC", password)


class Hasher:
    """Hashes and verifies: as many at once as there are cores, a bounded number waiting, the rest is refused."""

    def __init__(self) -> None:
        self.threads: ThreadPoolExecutor | None = None
        self.under_way = 0

    async def hash(self, context: Context, password: str) -> str:
        """The hash to store."""
        return await self.run(context, partial(ARGON2.hash, normal(password)))

    async def verify(self, context: Context, password: str, hashed: str) -> bool:
        """Whether it is the password behind the hash."""
        return await self.run(context, partial(ARGON2.verify, normal(password), hashed))

    def is_outdated(self, hashed: str) -> bool:
        """Whether the hash was made with other parameters than today's."""
        return bool(ARGON2.needs_update(hashed))

    async def run(self, context: Context, work: Callable[[], T]) -> T:
        """In a thread; 429 when too many wait already."""
        settings = context.platform.plugin_settings(AuthSettings)
        count = settings.hash_threads or os.cpu_count() or 1
        if self.under_way >= count + settings.hash_queue:
            raise Problem(
                429,
                "too_many_sign_ins",
                "Too many people are signing in right now; try again in a moment.",
                {"Retry-After": "2"},
            )
        if self.threads is None:
            self.threads = ThreadPoolExecutor(count, thread_name_prefix="argon2", initializer=give_way)
        self.under_way += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self.threads, work)
        finally:
            self.under_way -= 1


def give_way() -> None:
    """Let this thread run when nobody else wants to: a hash takes 40 ms, and others are answered in between.

    Linux alone knows of threads that are nicer than their process. It is no reason to fail where it is not allowed, and
    nothing to do where the process is nicer already.
    """
    if sys.platform == "linux":
        thread = threading.get_native_id()
        with contextlib.suppress(OSError):
            niceness = max(HASHING_NICENESS, os.getpriority(os.PRIO_PROCESS, thread))
            os.setpriority(os.PRIO_PROCESS, thread, niceness)
