"""What must be there before the first request."""

from __future__ import annotations

from lms_core.lifespan import running
from lms_core.platform import Platform
from lms_core.uow import Context


async def run_setups(platform: Platform, demo: bool) -> list[str]:
    """Run every plugin's setup in order; lines for the person who starts the system."""
    lines: list[str] = []
    async with running(Context.create(platform)) as context:
        for setup in platform.setups:
            lines += await setup.function(context, demo)
    return lines
