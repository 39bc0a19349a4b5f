"""`lms purge …`: removing for good."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lms_core.commands import with_context

if TYPE_CHECKING:
    from lms_core.uow import Context

purging = typer.Typer(no_args_is_help=True, help="Removing for good what was deleted long enough ago.")


@purging.command("status")
def purge_status() -> None:
    """How the switch stands, and what waits in the recycle bin."""
    from lms_core.purge import overview

    async def show(context: Context) -> None:
        for line in await overview(context):
            typer.echo(line)

    asyncio.run(with_context(show))


@purging.command("switch")
def purge_switch(
    position: Annotated[
        Literal["manual", "scheduled", "stopped"],
        typer.Argument(help="manual: only by command; scheduled: every hour, too; stopped: not at all, at once"),
    ],
) -> None:
    """Say when deleted things are removed for good; `stopped` also ends what is running, at its next chunk."""
    from lms_core.purge import switch

    async def turn(context: Context) -> None:
        async with context.unit_of_work() as uow:
            await switch(uow, position)
        typer.echo(f"Purging is {position} now.")

    asyncio.run(with_context(turn))


@purging.command("run")
def purge_run(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="How many deletions at most")] = None,
) -> None:
    """Remove for good what was deleted longer ago than it is kept. It cannot be restored from then on."""
    from lms_core.purge import run

    async def remove(context: Context) -> None:
        lines = 0
        async for line in run(context, dry_run, limit):
            typer.echo(line)
            lines += 1
        if not lines:
            typer.echo("Nothing to remove: no deletion's time is over.")

    asyncio.run(with_context(remove))
