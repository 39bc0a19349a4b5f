"""What lives as long as a process: the context's connections and the plugins' own lifespans."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from lms_core.uow import Context


@asynccontextmanager
async def running(context: Context) -> AsyncIterator[Context]:
    """Enter every plugin's lifespan in order; leave them in reverse, then close the connections."""
    async with AsyncExitStack() as stack:
        stack.push_async_callback(context.close)
        for lifespan in context.platform.lifespans:
            await stack.enter_async_context(lifespan(context))
        yield context
