"""The command line: `lms …`. Modules are imported by the command that needs them, so that help is quick."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperGroup

import lms_core
from lms_core.errors import StartRefused

if TYPE_CHECKING:
    from lms_core.config import Settings
    from lms_core.platform import Platform
    from lms_core.uow import Context


class CommandsWithPlugins(TyperGroup):
    """The core's commands, and those of the enabled plugins as `lms <plugin> …`."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A core command, or a plugin's group; plugins are loaded only when no core command has the name."""
        found = super().get_command(ctx, cmd_name)
        if found is not None:
            return found
        platform = load()
        ctx.obj = platform
        for plugin in platform.plugins:
            if plugin.name == cmd_name and plugin.commands:
                group = typer.Typer(no_args_is_help=True, help=plugin.info.summary)
                for commands in plugin.commands:
                    group.registered_commands += commands.registered_commands
                return typer.main.get_group(group)
        return None


app = typer.Typer(
    cls=CommandsWithPlugins,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
database = typer.Typer(no_args_is_help=True, help="Migrations.")
app.add_typer(database, name="db")

events = typer.Typer(no_args_is_help=True, help="Events and their deliveries.")
app.add_typer(events, name="events")

purging = typer.Typer(no_args_is_help=True, help="Removing for good what was deleted long enough ago.")
app.add_typer(purging, name="purge")

backups = typer.Typer(no_args_is_help=True, help="Copies of everything, and back.")
app.add_typer(backups, name="backup")

plugins = typer.Typer(help="Which plugins there are; switching them on and off.")
app.add_typer(plugins, name="plugins")

DataFolder = Annotated[Path, typer.Option("--data", envvar="LMS_DATA", help="The data folder")]


@app.callback(invoke_without_command=True)
def lms(version: Annotated[bool, typer.Option("--version", help="Show the version and exit")] = False) -> None:
    """A headless learning management system. Enabled plugins add commands of their own: `lms <plugin> --help`."""
    if version:
        typer.echo(lms_core.__version__)
        raise typer.Exit


def settings_now() -> Settings:
    """The settings of this process; those of the data folder's own system when the environment names no database."""
    from lms_core.config import load_settings

    kept = Path(os.environ.get("LMS_DATA", ".lms")) / "environment.json"
    if not os.environ.get("LMS_DATABASE_URL") and os.environ.get("LMS_ENV") != "production" and kept.is_file():
        os.environ.update(json.loads(kept.read_text()) | dict(os.environ))
    return load_settings()


def load() -> Platform:
    """The enabled plugins."""
    from lms_core.platform import load_platform

    return load_platform(settings_now())


def run_until_stopped(work: Coroutine[Any, Any, None]) -> None:
    """Run until SIGTERM or Ctrl-C, and let what is under way end."""
    import signal

    async def main() -> None:
        task = asyncio.ensure_future(work)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, task.cancel)
        try:
            await task
        except asyncio.CancelledError:
            return

    asyncio.run(main())


@app.command()
def up(
    data: DataFolder = Path(".lms"),
    host: Annotated[str, typer.Option(help="Where the API listens")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one and keeps it")] = 8000,
    demo: Annotated[bool, typer.Option("--demo", help="Seed an institution to look at")] = False,
) -> None:
    """Start everything on this machine: engines, migrations, API, worker, relay, scheduler."""
    from lms_core.supervisor import up as supervise

    raise typer.Exit(supervise(data, host, port, demo, CommandLine()))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def test(context: typer.Context) -> None:
    """Run the whole suite on engines of its own; extra arguments go to pytest."""
    import pytest

    arguments = [*context.args]
    if not any(argument.startswith("-n") for argument in arguments):
        # One more than there are cores, since some tests wait for processes; neighbours stay together, who share systems.
        arguments += ["-n", str(min(os.cpu_count() or 1, 4) + 1), "--dist", "worksteal"]
    raise typer.Exit(int(pytest.main(arguments)))


@app.command()
def setup(demo: Annotated[bool, typer.Option("--demo", help="Seed an institution to look at")] = False) -> None:
    """Migrate, then make what must be there before the first request (buckets, the first super admin)."""
    from lms_core.migrate import upgrade
    from lms_core.setup import run_setups

    async def main() -> None:
        platform = load()
        for name in await upgrade(platform):
            typer.echo(f"Migrated {name}.", err=True)
        for line in await run_setups(platform, demo):
            typer.echo(line)

    asyncio.run(main())


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Where to listen")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535)] = 8000,
) -> None:
    """Run one API process."""
    import uvicorn

    from lms_core.http import create_app
    from lms_core.logs import configure_logs

    settings = settings_now()
    configure_logs(settings)
    uvicorn.run(
        create_app(load()),
        forwarded_allow_ips=settings.trusted_proxies,
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=10,
        proxy_headers=True,
    )


@app.command()
def worker() -> None:
    """Run a worker: it does what events and schedules ask for."""
    from lms_core.worker import run_worker

    run_worker(settings_now())


@app.command()
def relay() -> None:
    """Run a relay: it sends due deliveries to the workers."""
    from lms_core.logs import configure_logs
    from lms_core.relay import Relay
    from lms_core.uow import Context
    from lms_core.worker import CelerySender

    platform = load()
    configure_logs(platform.settings)

    async def main() -> None:
        context = Context.create(platform)
        context.database.start_watch()
        try:
            await Relay(context, CelerySender(platform.settings)).run()
        finally:
            await context.close()

    run_until_stopped(main())


@app.command()
def scheduler() -> None:
    """Run a scheduler: it states when a schedule is due."""
    from lms_core.logs import configure_logs
    from lms_core.scheduler import run_scheduler
    from lms_core.uow import Context

    platform = load()
    configure_logs(platform.settings)

    async def main() -> None:
        context = Context.create(platform)
        context.database.start_watch()
        try:
            await run_scheduler(context)
        finally:
            await context.close()

    run_until_stopped(main())


@app.command()
def status(data: DataFolder = Path(".lms"), as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
    """What runs on a data folder."""
    from lms_core.supervisor import status as supervised

    found = supervised(data)
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    typer.echo(f"{found['url']}: {'ready' if found['ready'] else 'not ready'}")
    for name, process in found["processes"].items():
        typer.echo(f"  {name}: pid {process['pid'] or '-'}, port {process['port'] or '-'}")


@plugins.callback(invoke_without_command=True)
def list_plugins(context: typer.Context) -> None:
    """The enabled plugins, in the order in which they start."""
    if context.invoked_subcommand is not None:
        return
    for plugin in load().plugins:
        needs = f" (requires {', '.join(plugin.info.requires)})" if plugin.info.requires else ""
        typer.echo(f"{plugin.name} {plugin.info.version}: {plugin.info.summary}{needs}")


@plugins.command("plan")
def plugins_plan(what: Literal["enable", "disable"], name: str) -> None:
    """Say what switching a plugin on or off takes; nothing is written."""
    from lms_core.plugins_file import plan

    for line in plan(settings_now(), name, what == "enable").lines():
        typer.echo(line)


@plugins.command("enable")
def plugins_enable(
    name: str,
    along: Annotated[bool, typer.Option("--with-required", help="Switch on what it requires, too")] = False,
) -> None:
    """Switch a plugin on in plugins.toml."""
    switch_plugin(name, True, along, "--with-required")


@plugins.command("disable")
def plugins_disable(
    name: str,
    along: Annotated[bool, typer.Option("--with-dependants", help="Switch off what requires it, too")] = False,
) -> None:
    """Switch a plugin off in plugins.toml; its data stay."""
    switch_plugin(name, False, along, "--with-dependants")


def switch_plugin(name: str, on: bool, along: bool, option: str) -> None:
    """Write plugins.toml, unless others have to go along and nobody said that they may."""
    from lms_core.plugins_file import plan, switch

    settings = settings_now()
    switching = plan(settings, name, on)
    if switching.along and not along:
        relation = "requires" if on else "is required by"
        raise StartRefused(f"{name} {relation} {switching.listed}; say {option} to switch all of them.")
    switch(settings, switching)
    for line in switching.lines():
        typer.echo(line)


@app.command()
def doctor() -> None:
    """Check settings, plugins, engines and migrations; the exit code is not 0 when something is wrong."""
    from lms_core.setup import examine

    problems = 0
    for line, is_well in asyncio.run(examine(load())):
        problems += not is_well
        typer.echo(f"{'ok     ' if is_well else 'PROBLEM'} {line}")
    raise typer.Exit(1 if problems else 0)


@database.command("upgrade")
def database_upgrade() -> None:
    """Bring the core's and every enabled plugin's tables to their newest form."""
    from lms_core.migrate import upgrade

    moved = asyncio.run(upgrade(load()))
    typer.echo(f"Migrated {', '.join(moved)}." if moved else "Nothing to do.")


@database.command("status")
def database_status() -> None:
    """Where every lineage of migrations is; the exit code is not 0 when one is behind."""
    from lms_core.migrate import positions

    found = asyncio.run(positions(load()))
    for position in found:
        state = "at head" if position.at_head else f"behind, head is {position.head}"
        typer.echo(f"{position.lineage}: {position.current or 'empty'} ({state})")
    raise typer.Exit(0 if all(position.at_head for position in found) else 1)


@database.command("revision")
def database_revision(plugin: str, message: str) -> None:
    """Write a migration for a plugin (or `core`) from what its tables lack in the database."""
    from lms_core.migrate import revision

    typer.echo(f"Wrote {asyncio.run(revision(load(), plugin, message))}.")


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


async def with_context(work: Callable[[Context], Awaitable[None]]) -> None:
    """Do something with connections of its own, those of the plugins included."""
    from lms_core.lifespan import running
    from lms_core.uow import Context

    async with running(Context.create(load())) as context:
        await work(context)


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


async def show_lines(lines: AsyncIterator[str]) -> None:
    """As they come."""
    async for line in lines:
        typer.echo(line)


class CommandLine:
    """`lms` itself, for the supervisor, which runs its commands in forks of one process."""

    def preload(self) -> None:
        """Import what the processes of `up` need, the enabled plugins included. Raises StartRefused."""
        for module in ("http", "relay", "scheduler", "setup", "worker"):
            importlib.import_module(f"lms_core.{module}")
        for module in ("celery.apps.worker", "celery.concurrency.prefork", "uvicorn", "uvloop"):
            importlib.import_module(module)
        load()

    def run(self, arguments: list[str]) -> int:
        """Run one command; the exit code."""
        try:
            app(args=arguments)
        except StartRefused as refusal:
            print(refusal, file=sys.stderr)
            return 2
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else int(end.code is not None)
        return 0


def main() -> None:
    """The `lms` command; a refused start is one sentence on standard error."""
    sys.exit(CommandLine().run(sys.argv[1:]))


if __name__ == "__main__":
    main()
