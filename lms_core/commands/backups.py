"""`lms backup …`: copies of everything, and back."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from lms_core.commands import show_lines, with_context

backups = typer.Typer(no_args_is_help=True, help="Copies of everything, and back.")


@backups.command("create")
def backup_create(
    folder: Annotated[Path, typer.Argument(help="A folder of its own; one that has a backup is renewed")],
) -> None:
    """Copy the database, as of now, and every object that it needs; people may go on working."""
    from lms_core.backup import create

    asyncio.run(with_context(lambda context: show_lines(create(context, folder))))


@backups.command("verify")
def backup_verify(folder: Path) -> None:
    """Compare every file of a backup with its hash; the exit code is not 0 when one is missing or different."""
    from lms_core.backup import differences

    found = differences(folder)
    for line in found or ["Everything is as it was when the backup was made."]:
        typer.echo(line)
    raise typer.Exit(1 if found else 0)


@backups.command("restore")
def backup_restore(
    folder: Path,
    replace: Annotated[
        bool, typer.Option("--replace", help="Take the place of a database in use, which is kept aside")
    ] = False,
) -> None:
    """Bring a backup into an empty database, and its objects into the store; nobody stays signed in."""
    from lms_core.backup import restore

    asyncio.run(with_context(lambda context: show_lines(restore(context, folder, replace))))


@backups.command("push")
def backup_push(
    folder: Path, address: Annotated[str, typer.Argument(help="Such as s3://bucket/folder; an older backup is renewed")]
) -> None:
    """Copy a backup from a folder to a bucket: what is new; what is not needed any more is removed there."""
    from lms_core.backup_shelf import push

    asyncio.run(with_context(lambda context: show_lines(push(context, folder, address))))


@backups.command("pull")
def backup_pull(address: str, folder: Path) -> None:
    """Copy a backup from a bucket into a folder, to be restored; every byte of it is compared with its hash."""
    from lms_core.backup_shelf import pull

    asyncio.run(with_context(lambda context: show_lines(pull(context, address, folder))))
