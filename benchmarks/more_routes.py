"""The same application with 80 more routes, as four more plugins would bring them, asked before all others."""

from __future__ import annotations

import sys

from starlette.types import ASGIApp

from lms_core.commands import load
from lms_core.http import create_app
from lms_core.platform import Plugin
from lms_core.sdk import PluginInfo, Router, Uow, signed_in

PLUGINS, ROUTES = 4, 20


def router_of_many() -> Router:
    """Twenty routes with a parameter each."""
    router = Router()
    for number in range(ROUTES):

        @router.get(f"/things{number}/{{thing_id}}", name=f"things{number}", dependencies=[signed_in("a benchmark")])
        async def thing(uow: Uow, thing_id: int) -> dict[str, int]:
            return {"id": thing_id}

    return router


def create() -> ASGIApp:
    """For `uvicorn --factory`."""
    platform = load()
    platform.plugins[:0] = [
        Plugin(PluginInfo(f"more{number}", "Many routes."), sys.modules[__name__], None, [router_of_many()])
        for number in range(PLUGINS)
    ]
    return create_app(platform)
