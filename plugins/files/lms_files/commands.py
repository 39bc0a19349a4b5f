"""Commands for operators: `lms files …`."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

import typer
from sqlmodel import col, select

from lms_core.sdk import Context
from lms_files.models import File
from lms_files.storage import Store, store_of, store_of_process
from lms_files.storage_clients import ObjectMissing

CHUNK = 100

commands = typer.Typer()


@commands.command("check")
def check(command: typer.Context) -> None:
    """Look for files that are ready but not whole in the store; the exit code is not 0 when there are any."""

    async def main() -> list[UUID]:
        context = Context.create(command.obj)
        try:
            async with store_of_process(context):
                return [id async for id in broken_files(context)]
        finally:
            await context.close()

    broken = asyncio.run(main())
    for id in broken:
        typer.echo(f"The object of file {id} is missing or not whole; restore it from a backup of the store.")
    raise typer.Exit(1 if broken else 0)


async def broken_files(context: Context) -> AsyncIterator[UUID]:
    """Ready files, deleted ones too, whose object is missing or has another size."""
    store, last = store_of(context), UUID(int=0)
    while True:
        async with context.unit_of_work() as uow:
            ready = select(File).where(File.state == "ready", col(File.id) > last).order_by(col(File.id)).limit(CHUNK)
            files = (await uow.session.execute(ready)).scalars().all()
        found = await asyncio.gather(*(is_whole(store, file) for file in files))
        for file, whole in zip(files, found, strict=True):
            if not whole:
                yield file.id
        if len(files) < CHUNK:
            return
        last = files[-1].id


async def is_whole(store: Store, file: File) -> bool:
    """Whether the object is there in its full size."""
    try:
        return (await store.find(store.clean, str(file.clean_key))).size == file.size
    except ObjectMissing:
        return False
