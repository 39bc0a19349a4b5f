"""Commands for operators: `lms auth …`."""

import asyncio

import typer

from lms_auth import signing_keys
from lms_core.sdk import Context

commands = typer.Typer()


@commands.command("rotate-keys")
def rotate_keys(command: typer.Context) -> None:
    """Sign access tokens with a new key; tokens signed with the old one stay valid until they expire."""

    async def rotate() -> None:
        context = Context.create(command.obj)
        try:
            async with context.unit_of_work() as uow:
                await signing_keys.rotate(uow)
        finally:
            await context.close()

    asyncio.run(rotate())
    typer.echo("A new key signs from now on; the old one retires when its last token has expired.")
