"""`lms db …`: migrations."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from lms_core.commands import load

database = typer.Typer(no_args_is_help=True, help="Migrations.")


@database.command("plan")
def database_plan(
    with_sql: Annotated[bool, typer.Option("--sql", help="Show the statements, too")] = False,
) -> None:
    """Say what an upgrade would run: the phase of each migration, the locks it takes, and who waits for them."""
    from lms_core.migration_plan import describe

    for line in asyncio.run(describe(load(), with_sql)) or ["Nothing to do."]:
        typer.echo(line)


@database.command("upgrade")
def database_upgrade(
    expand_only: Annotated[
        bool, typer.Option("--expand-only", help="Only what the release that runs now does not notice")
    ] = False,
) -> None:
    """Bring the core's and every enabled plugin's tables to their newest form."""
    from lms_core.migrate import left_for_later, upgrade

    async def run() -> None:
        platform = load()
        moved = await upgrade(platform, expand_only=expand_only)
        typer.echo(f"Migrated {', '.join(moved)}." if moved else "Nothing to do.")
        for line in await left_for_later(platform):
            typer.echo(line)

    asyncio.run(run())


@database.command("status")
def database_status() -> None:
    """Where every lineage of migrations is; the exit code is not 0 when one is behind."""
    from lms_core.migrate import positions

    found = asyncio.run(positions(load()))
    for position in found:
        ahead = "ahead: a later release was here" if position.newer else f"behind, head is {position.head}"
        state = "at head" if position.at_head else ahead
        typer.echo(f"{position.lineage}: {position.current or 'empty'} ({state})")
    raise typer.Exit(0 if all(position.at_head for position in found) else 1)


@database.command("revision")
def database_revision(plugin: str, message: str) -> None:
    """Write a migration for a plugin (or `core`) from what its tables lack in the database."""
    from lms_core.migrate import revision

    typer.echo(f"Wrote {asyncio.run(revision(load(), plugin, message))}.")
