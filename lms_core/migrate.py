"""Migrations: one Alembic lineage and one version table for the core and for each plugin, under one lock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, pool
from sqlalchemy.ext.asyncio import create_async_engine

import lms_core
from lms_core.db import advisory_lock, sqlalchemy_url
from lms_core.errors import StartRefused
from lms_core.platform import Platform

LOCK = "lms migrations"


@dataclass(frozen=True)
class Lineage:
    """The migrations of the core or of one plugin."""

    name: str
    folder: Path

    @property
    def version_table(self) -> str:
        """Where its position is kept."""
        return f"alembic_version_{self.name}"


@dataclass(frozen=True)
class Position:
    """Where a lineage is, and where it should be."""

    lineage: str
    current: str | None
    head: str | None

    @property
    def at_head(self) -> bool:
        """Whether nothing is left to run."""
        return self.current == self.head


def environment() -> Path:
    """The folder with env.py: beside the package in a checkout, inside it in a wheel."""
    package = Path(str(lms_core.__file__)).parent
    inside = package / "migrations"
    return inside if inside.is_dir() else package.parent / "migrations"


def lineages(platform: Platform) -> list[Lineage]:
    """The core's, then each plugin's that has tables, in their order."""
    core = Lineage("core", environment() / "versions")
    return [core, *(Lineage(one.name, one.migrations) for one in platform.plugins if one.models)]


def configuration(lineage: Lineage, connection: Connection | None = None) -> Config:
    """Alembic's configuration for one lineage."""
    config = Config()
    config.set_main_option("script_location", str(environment()))
    config.set_main_option("version_locations", str(lineage.folder))
    config.set_main_option("path_separator", "os")
    config.attributes.update(connection=connection, lineage=lineage)
    return config


async def with_connection(url: str, work: Callable[[Connection], Any]) -> Any:
    """Run synchronous work on one connection, committed at its end. StartRefused when the database does not answer."""
    await (await reach(url)).close()
    engine = create_async_engine(sqlalchemy_url(url), poolclass=pool.NullPool)
    try:
        async with engine.begin() as connection:
            return await connection.run_sync(work)
    finally:
        await engine.dispose()


async def reach(url: str) -> asyncpg.Connection:
    """A connection; StartRefused with what to do when there is none to be had."""
    try:
        return await asyncpg.connect(url, timeout=10)
    except (OSError, TimeoutError, asyncpg.PostgresError) as error:
        raise StartRefused(
            f"The database does not answer ({error}); start `lms up`, or set LMS_DATABASE_URL to one that does."
        ) from None


async def upgrade(platform: Platform, url: str | None = None) -> list[str]:
    """Bring every lineage to its head; the names of those that moved. Only one migrator runs at a time."""
    url = url or platform.settings.database_url
    moved = []
    holder = await reach(url)
    try:
        async with advisory_lock(holder, LOCK):
            before = await positions(platform, url)
            for lineage, position in zip(lineages(platform), before, strict=True):
                if position.at_head:
                    continue
                await with_connection(url, partial(upgrade_lineage, lineage))
                moved.append(lineage.name)
    finally:
        await holder.close()
    return moved


def upgrade_lineage(lineage: Lineage, connection: Connection) -> None:
    """Run what is missing of one lineage."""
    command.upgrade(configuration(lineage, connection), "heads")


def heads(platform: Platform) -> dict[str, str | None]:
    """Where every lineage should be; read from the files once, since they don't change while a process runs."""
    if not platform.heads:
        platform.heads = {
            lineage.name: ScriptDirectory.from_config(configuration(lineage)).get_current_head()
            for lineage in lineages(platform)
        }
    return platform.heads


async def positions(platform: Platform, url: str | None = None) -> list[Position]:
    """Where every lineage is."""

    def read(connection: Connection) -> list[Position]:
        existing = set(inspect(connection).get_table_names())
        found = []
        for lineage in lineages(platform):
            head = ScriptDirectory.from_config(configuration(lineage)).get_current_head()
            current = None
            if lineage.version_table in existing:
                context = MigrationContext.configure(connection, opts={"version_table": lineage.version_table})
                current = context.get_current_revision()
            found.append(Position(lineage.name, current, head))
        return found

    result: list[Position] = await with_connection(url or platform.settings.database_url, read)
    return result


async def revision(platform: Platform, name: str, message: str) -> Path:
    """Write a new migration for a lineage from the difference between its tables and the database."""
    found = next((lineage for lineage in lineages(platform) if lineage.name == name), None)
    if found is None:
        raise StartRefused(f"There is no enabled plugin {name} with tables; enable it in plugins.toml.")

    def write(connection: Connection) -> Any:
        config = configuration(found, connection)
        number = len(list(found.folder.glob("*.py"))) + 1
        return command.revision(config, message, autogenerate=True, rev_id=f"{name}_{number:04d}")

    script = await with_connection(platform.settings.database_url, write)
    return Path(script.path)
