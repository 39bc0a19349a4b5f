"""The command line: `lms …`. Modules are imported by the command that needs them, so that help is quick."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import sys
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

import lms_core
from lms_core import garbage
from lms_core.commands import load, settings_now
from lms_core.commands.backups import backups
from lms_core.commands.database import database
from lms_core.commands.events import events
from lms_core.commands.plugins import plugins
from lms_core.commands.purging import purging
from lms_core.errors import StartRefused

if TYPE_CHECKING:
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
    # Plain help: what draws boxes around it takes longer to import than all else.
    rich_markup_mode=None,
)
for name, group in (
    ("db", database),
    ("events", events),
    ("purge", purging),
    ("backup", backups),
    ("plugins", plugins),
):
    app.add_typer(group, name=name)

DataFolder = Annotated[Path, typer.Option("--data", envvar="LMS_DATA", help="The data folder")]


@app.callback(invoke_without_command=True)
def lms(version: Annotated[bool, typer.Option("--version", help="Show the version and exit")] = False) -> None:
    """A headless learning management system. Enabled plugins add commands of their own: `lms <plugin> --help`."""
    if version:
        typer.echo(lms_core.__version__)
        raise typer.Exit


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


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []})
def bench(context: typer.Context) -> None:
    """Measure how quick this is, on engines and data of its own, against what Python can do: `lms bench --help`."""
    import runpy

    root = Path(__file__).parent.parent
    if not (root / "benchmarks").is_dir():
        raise StartRefused("The benchmarks come with the source; get that, and run this there.")
    sys.path.insert(0, str(root))
    sys.argv = ["lms bench", *context.args]
    runpy.run_module("benchmarks", run_name="__main__")


@app.command()
def setup(
    demo: Annotated[bool, typer.Option("--demo", help="Seed an institution to look at")] = False,
    nothing_runs: Annotated[
        bool, typer.Option("--nothing-runs", help="Do all migrations, those too that an older release would notice")
    ] = False,
) -> None:
    """Migrate, then make what must be there before the first request (buckets, the first super admin).

    What the release that runs now would notice is left for `lms db upgrade`.
    """
    from lms_core.migrate import left_for_later, upgrade
    from lms_core.setup import run_setups

    async def main() -> None:
        platform = load()
        for name in await upgrade(platform, expand_only=not nothing_runs):
            typer.echo(f"Migrated {name}.", err=True)
        for line in await left_for_later(platform):
            typer.echo(line, err=True)
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
    from lms_core import metrics_port

    settings = settings_now()
    metrics_port.begin(settings)
    from lms_core.worker import run_worker

    metrics_port.serve(settings)
    run_worker(settings)


@app.command()
def relay() -> None:
    """Run a relay: it sends due deliveries to the workers."""
    from lms_core import metrics_port
    from lms_core.relay import Relay
    from lms_core.worker import CelerySender

    async def work(context: Context) -> None:
        metrics_port.serve(context.settings)
        await Relay(context, CelerySender(context.settings)).run()

    run_until_stopped(in_background(work))


@app.command()
def scheduler() -> None:
    """Run a scheduler: it states when a schedule is due."""
    from lms_core import metrics_port
    from lms_core.scheduler import run_scheduler

    async def work(context: Context) -> None:
        metrics_port.serve(context.settings)
        await run_scheduler(context)

    run_until_stopped(in_background(work))


async def in_background(work: Callable[[Context], Awaitable[None]]) -> None:
    """Work for ever, with connections that notice when the database goes away."""
    from lms_core.uow import Context

    context = Context.create(load())
    context.start_watch()
    try:
        await work(context)
    finally:
        await context.close()


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


@app.command()
def doctor() -> None:
    """Check settings, engines, clocks, versions, migrations and plugins; the exit code is not 0 when something is wrong."""
    from lms_core.doctor import examine

    async def look() -> int:
        problems = 0
        async for finding in examine(load()):
            problems += not finding.is_well
            typer.echo(f"{'ok     ' if finding.is_well else 'PROBLEM'} {finding.text}")
        return problems

    raise typer.Exit(1 if asyncio.run(look()) else 0)


class CommandLine:
    """`lms` itself, for the supervisor, which runs its commands in forks of one process."""

    def preload(self) -> None:
        """Import what the processes of `up` need, the enabled plugins included. Raises StartRefused."""
        with garbage.kept():
            for module in ("http", "relay", "scheduler", "setup", "worker"):
                importlib.import_module(f"lms_core.{module}")
            for module in ("celery.apps.worker", "celery.concurrency.prefork", "uvicorn", "uvloop"):
                importlib.import_module(module)
            load()

    def run(self, arguments: list[str]) -> int:
        """Run one command; the exit code."""
        try:
            app(args=arguments, prog_name="lms")
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
