"""Switching plugins on and off in plugins.toml: what goes along is named first, comments stay, and nothing is written that
would not start.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path

import tomlkit
from tomlkit.items import Table

from lms_core.config import PluginSettings, Settings, read_plugins_file
from lms_core.errors import StartRefused
from lms_core.platform import ENTRY_POINTS, import_plugin, load_platform


@dataclass(frozen=True)
class Switching:
    """What is to be switched: the plugin that was named, and what has to go along."""

    name: str
    on: bool
    along: tuple[str, ...]

    def lines(self) -> list[str]:
        """For the operator."""
        if self.on:
            told = [f"{self.name} is switched on" + (f", and what it requires: {self.listed}" if self.along else "")]
            return [*told, "then run `lms db upgrade` and restart every process; it is owed the last 29 days of events"]
        told = [f"{self.name} is switched off" + (f", and what requires it: {self.listed}" if self.along else "")]
        return [*told, "then restart every process; its tables and all that is in them stay"]

    @property
    def listed(self) -> str:
        """The others' names."""
        return ", ".join(self.along)


def plan(settings: Settings, name: str, on: bool) -> Switching:
    """What switching a plugin takes. Raises StartRefused when it is not installed, or stands so already."""
    enabled = {one.name for one in read_plugins_file(Path(settings.plugins_file)) if one.enabled}
    if (name in enabled) is on:
        raise StartRefused(f"Plugin {name} is switched {'on' if on else 'off'} already.")
    if on:
        return Switching(name, on, tuple(sorted(required_by([name]) - enabled - {name})))
    needing = {one for one in enabled if one != name and name in required_by([one])}
    return Switching(name, on, tuple(sorted(needing)))


def required_by(names: Collection[str]) -> set[str]:
    """These plugins, and all that they require, directly or not."""
    installed = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += import_plugin(PluginSettings(name=name, enabled=True, values={}), installed).info.requires
    return found


def switch(settings: Settings, switching: Switching) -> None:
    """Write the file, unless the plugins would not start that way: then it stays as it is, and StartRefused says why."""
    path = Path(settings.plugins_file)
    document = tomlkit.parse(path.read_text(encoding="utf-8"))
    plugins = document.setdefault("plugins", tomlkit.table(is_super_table=True))
    for name in (*switching.along, switching.name):
        table = plugins.setdefault(name, tomlkit.table())
        if not isinstance(table, Table):
            raise StartRefused(f"Plugin {name} in {path} is no table; write [plugins.{name}].")
        table["enabled"] = switching.on
    unfinished = path.with_name(f".{path.name}.new")
    unfinished.write_text(tomlkit.dumps(document), encoding="utf-8")
    try:
        load_platform(settings.model_copy(update={"plugins_file": str(unfinished)}))
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
