"""Commands for operators: `lms materials …`."""

import asyncio
from typing import Annotated
from uuid import UUID

import typer

from lms_core.sdk import Context
from lms_materials import indexing

commands = typer.Typer()


@commands.callback()
def of_materials() -> None:
    """So that `reindex` is a command of its own name, the only one there is."""


@commands.command("reindex")
def reindex(
    command: typer.Context,
    after: Annotated[str | None, typer.Option(help="Go on behind the material with this id")] = None,
) -> None:
    """Make the searchable text of all materials anew, one by one; search goes on finding the old text until then."""

    async def work() -> int:
        context = Context.create(command.obj)
        try:
            done = 0
            async for material_id in indexing.index_all(context, None if after is None else UUID(after)):
                done += 1
                if done % 1000 == 0:
                    typer.echo(f"{done} materials, the last is {material_id}")
            return done
        finally:
            await context.close()

    typer.echo(f"{asyncio.run(work())} materials have new searchable text.")
