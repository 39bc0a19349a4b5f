"""Commands for operators: `lms files …`."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated

import typer

from lms_core.sdk import Context, Unavailable
from lms_files import store_setup
from lms_files.differences import differences
from lms_files.storage import store_of, store_of_process

commands = typer.Typer()


@commands.command("verify")
def verify(
    command: typer.Context,
    read: Annotated[
        bool, typer.Option("--read", help="Read every object and compare its SHA-256; this takes long")
    ] = False,
    repair: Annotated[bool, typer.Option("--repair", help="Repair what can be repaired")] = False,
) -> None:
    """Walk the database and the store both ways, and say where they differ.

    The exit code is 1 while they do, and 2 when the store does not answer.
    """

    async def walk(context: Context) -> bool:
        left = repaired = 0
        async for difference in differences(context, read):
            is_repaired = repair and await difference.repair(context)
            typer.echo(difference.text + (" Repaired." if is_repaired else ""))
            repaired, left = repaired + is_repaired, left + (not is_repaired)
        if not left + repaired:
            typer.echo("No differences.")
        return not left

    run(command, walk)


@commands.command("setup-store")
def setup_store(
    command: typer.Context,
    only_check: Annotated[
        bool, typer.Option("--check", help="Change no settings; small probe objects come and go nevertheless")
    ] = False,
) -> None:
    """Make the buckets and their rules, then try out all that files need; the exit code is 1 when anything fails."""

    async def try_out(context: Context) -> bool:
        is_well = True
        async for finding in store_setup.examine(store_of(context), changes=not only_check):
            typer.echo(f"{finding.level:<4}  {finding.text}")
            is_well = is_well and finding.level != "FAIL"
        return is_well

    run(command, try_out)


def run(command: typer.Context, work: Callable[[Context], Awaitable[bool]]) -> None:
    """Do something with the store; the exit code is 0 when all is well, 2 when the store does not answer."""

    async def main() -> bool:
        context = Context.create(command.obj)
        try:
            async with store_of_process(context):
                return await work(context)
        finally:
            await context.close()

    try:
        is_well = asyncio.run(main())
    except Unavailable as error:
        typer.echo(error.detail, err=True)
        raise typer.Exit(2) from None
    raise typer.Exit(0 if is_well else 1)
