"""Where the time of one endpoint goes: the application in this process, asked again and again under cProfile."""

from __future__ import annotations

import contextlib
import cProfile
import os
import pstats
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvloop
from starlette.types import Message

from benchmarks.bars_of_writes import new_pairs
from benchmarks.load import Asked, bearer, posted
from benchmarks.system import ROOT

if TYPE_CHECKING:
    from benchmarks.system import System

COURSES = 100_000
WARM, TIMED, PROFILED = 200, 1_000, 1_000
SHOWN = 60
LEAST_SHARE = 0.005


async def ask(application: Any, asked: Asked) -> int:
    """One request through ASGI, without a server; the status."""
    path, _, query = asked.path.partition("?")
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": asked.method, "scheme": "http",
        "path": path, "raw_path": path.encode(), "query_string": query.encode(), "root_path": "",
        "headers": [(name.lower().encode(), value.encode()) for name, value in asked.headers.items()],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8000),
    }  # fmt: skip
    status = 0

    async def receive() -> Message:
        return {"type": "http.request", "body": asked.body, "more_body": False}

    async def send(message: Message) -> None:
        nonlocal status
        status = message.get("status", status)

    await application(scope, receive, send)
    return status


async def profile(make: Callable[[int], Asked]) -> None:
    """Print microseconds of CPU for each request, whose code took them, then the functions that took most."""
    from lms_core.commands import load
    from lms_core.http import create_app

    application: Any = create_app(load())
    inner = application
    while not hasattr(inner, "router"):
        inner = inner.app
    number = 0

    async def some(times: int) -> None:
        nonlocal number
        for _ in range(times):
            asked = make(number)
            status = await ask(application, asked)
            assert status == asked.good, (asked.path, status)
            number += 1

    async with inner.router.lifespan_context(inner):
        await some(WARM)
        started = time.process_time()
        await some(TIMED)
        asked = make(number)
        print(f"{asked.method} {asked.path}: {(time.process_time() - started) / TIMED * 1e6:.0f} us of CPU")
        profiler = cProfile.Profile(time.process_time)
        profiler.enable()
        await some(PROFILED)
        profiler.disable()
        stats = pstats.Stats(profiler)
        for package, share in sorted(shares(stats).items(), key=lambda pair: -pair[1]):
            print(f"{package:24} {share:5.1%}")
        stats.strip_dirs().sort_stats("cumtime").print_stats(SHOWN)


def shares(stats: pstats.Stats) -> dict[str, float]:
    """Of the whole, what each package took itself; what is built into Python counts for whoever called it."""
    found: dict[str, float] = defaultdict(float)
    functions: dict[Any, Any] = stats.stats  # type: ignore[attr-defined]
    for (file, _, _), (_, _, own, _, callers) in functions.items():
        if file != "~":
            found[package_of(file)] += own
            continue
        for (calling, _, _), (_, _, spent, _) in callers.items():
            found[package_of(calling)] += spent
    whole = sum(found.values())
    return {package: spent / whole for package, spent in found.items() if spent / whole > LEAST_SHARE}


def package_of(file: str) -> str:
    """The library that a file belongs to, ours, or Python's."""
    parts = Path(file).parts
    if "site-packages" in parts:
        return parts[parts.index("site-packages") + 1].removesuffix(".py")
    return "ours" if Path(file).is_relative_to(ROOT) else "Python's own"


def show(system: System, path: str) -> None:
    """Profile `GET path`, or `POST /enrollments`, at a hundred thousand courses, as the first super admin, on uvloop."""
    database = system.sized(COURSES)
    served = system.serve("small api", database)
    token = bearer(system.token(served.url))
    pairs = new_pairs(system, database) if path == "POST /enrollments" else []

    def make(number: int) -> Asked:
        if not pairs:
            return Asked("GET", path, token)
        course, user = pairs[number]
        return posted("/enrollments", {"course_id": course, "user_id": user, "role": "student"}, token)

    os.environ.update(system.environment_for(database, LMS_PUBLIC_URL=served.url))
    # The access log: its cost belongs to a request, its lines do not belong here.
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
        uvloop.run(profile(make))
