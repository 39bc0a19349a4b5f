"""Where the time of one endpoint goes: the application in this process, asked again and again under cProfile."""

from __future__ import annotations

import cProfile
import os
import pstats
import sys
import time
from typing import TYPE_CHECKING, Any

import uvloop
from starlette.types import Message

from benchmarks.load import Asked, bearer

if TYPE_CHECKING:
    from benchmarks.system import System

COURSES = 100_000
WARM, TIMED, PROFILED = 200, 1_000, 1_000
SHOWN = 60


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


async def profile(asked: Asked) -> None:
    """Print microseconds of CPU for each request, then the functions that took most of it."""
    from lms_core.commands import load
    from lms_core.http import create_app

    application: Any = create_app(load())
    inner = application
    while not hasattr(inner, "router"):
        inner = inner.app
    async with inner.router.lifespan_context(inner):
        for _ in range(WARM):
            status = await ask(application, asked)
            assert status == asked.good, (asked.path, status)
        started = time.process_time()
        for _ in range(TIMED):
            await ask(application, asked)
        print(f"{asked.method} {asked.path}: {(time.process_time() - started) / TIMED * 1e6:.0f} us of CPU")
        profiler = cProfile.Profile(time.process_time)
        profiler.enable()
        for _ in range(PROFILED):
            await ask(application, asked)
        profiler.disable()
        pstats.Stats(profiler).strip_dirs().sort_stats("cumtime").print_stats(SHOWN)


def show(system: System, path: str) -> None:
    """Profile `GET path` at a hundred thousand courses, asked by the first super admin, on uvloop as a server has it."""
    served = system.serve("small api", system.sized(COURSES))
    os.environ.update(system.environment_for(system.sized(COURSES), LMS_PUBLIC_URL=served.url))
    with open(os.devnull, "w") as nowhere:
        # The access log: its cost belongs to a request, its lines do not belong here.
        sys.stderr = nowhere
        uvloop.run(profile(Asked("GET", path, bearer(system.token(served.url)))))
        sys.stderr = sys.__stderr__
