"""`lms plugins …`: which there are, on and off."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from lms_core.commands import load, settings_now
from lms_core.errors import StartRefused

plugins = typer.Typer(help="Which plugins there are; switching them on and off.")


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
