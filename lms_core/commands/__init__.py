"""The groups of commands, and what they begin with. Modules are imported by the command that needs them."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from lms_core import garbage

if TYPE_CHECKING:
    from lms_core.config import Settings
    from lms_core.platform import Platform
    from lms_core.uow import Context


def settings_now() -> Settings:
    """The settings of this process; those of the data folder's own system when the environment names no database."""
    from lms_core.config import load_settings

    kept = Path(os.environ.get("LMS_DATA", ".lms")) / "environment.json"
    if not os.environ.get("LMS_DATABASE_URL") and os.environ.get("LMS_ENV") != "production" and kept.is_file():
        os.environ.update(json.loads(kept.read_text()) | dict(os.environ))
    return load_settings()


def load() -> Platform:
    """The enabled plugins."""
    with garbage.kept():
        from lms_core.logs import configure_logs
        from lms_core.platform import load_platform

        settings = settings_now()
        configure_logs(settings)
        return load_platform(settings)


async def with_context(work: Callable[[Context], Awaitable[None]]) -> None:
    """Do something with connections of its own, those of the plugins included."""
    from lms_core.lifespan import running
    from lms_core.uow import Context

    async with running(Context.create(load())) as context:
        await work(context)


async def show_lines(lines: AsyncIterator[str]) -> None:
    """As they come."""
    async for line in lines:
        typer.echo(line)
