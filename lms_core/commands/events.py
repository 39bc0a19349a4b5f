"""`lms events …`: what was stated, and what became of it."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from lms_core.commands import load
from lms_core.errors import StartRefused

events = typer.Typer(no_args_is_help=True, help="Events and their deliveries.")


@events.command("describe")
def events_describe() -> None:
    """Every event, what it holds and who handles it, as Markdown."""
    from lms_core.event_catalog import describe

    typer.echo(describe(load()), nl=False)


@events.command("dead")
def events_dead() -> None:
    """The deliveries that were given up, with the reason."""
    from lms_core.delivery import dead_deliveries
    from lms_core.uow import Context

    async def main() -> None:
        context = Context.create(load())
        try:
            for one in await dead_deliveries(context):
                typer.echo(
                    f"{one['id']} {one['handler']} of {one['name']}, {one['dead_at']:%F %T}: {one['last_error']}"
                )
        finally:
            await context.close()

    asyncio.run(main())


@events.command("replay")
def events_replay(
    delivery: Annotated[str | None, typer.Argument(help="A delivery's id; all dead ones without it")] = None,
) -> None:
    """Try dead deliveries anew."""
    from uuid import UUID

    from lms_core.delivery import replay
    from lms_core.uow import Context

    try:
        id = None if delivery is None else UUID(delivery)
    except ValueError:
        raise StartRefused(f"{delivery!r} is no id of a delivery; `lms events dead` lists them.") from None

    async def main() -> None:
        context = Context.create(load())
        try:
            typer.echo(f"{await replay(context, id)} deliveries are tried anew.")
        finally:
            await context.close()

    asyncio.run(main())
