"""Migrations: one Alembic lineage and one version table for the core and for each plugin, under one lock."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import Script, ScriptDirectory
from sqlalchemy import Connection, inspect, pool, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

import lms_core
from lms_core.db import advisory_lock, sqlalchemy_url
from lms_core.errors import StartRefused
from lms_core.platform import Platform
from lms_core.uow import sqlstate

LOCK = "lms migrations"
WAITING = {"lock_timeout": "3s", "statement_timeout": "0"}
"""How long a migration waits for a lock, and with it whoever comes after it and wants the same table."""
PAUSES_SECONDS = (1, 2, 4, 8, 15, 30, 30, 30)
"""Between tries of a migration that did not get its lock."""
GAVE_WAY = ("55P03", "40P01")
"""Lock time-out, and a deadlock, which PostgreSQL ends by an error to one of both."""
SINCE = "SELECT obj_description(to_regclass(:name), 'pg_class')"
NUMBERED = re.compile(r"(\w+)_(\d+)")

Phase = Literal["expand", "contract", "maintenance"]
"""When a migration may run.

expand: while the release before still runs, which must not notice. contract: once nothing older than this release runs;
it removes what no code uses any more. maintenance: with every process stopped.
"""


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
    """Where a lineage is, and what there is of it."""

    lineage: str
    current: str | None
    scripts: tuple[Script, ...]
    """All of its migrations, in their order."""
    since: str | None = None
    """The last migration that took something away: code that does not know it cannot run any more."""

    @property
    def head(self) -> str | None:
        """Where it should be."""
        return self.scripts[-1].revision if self.scripts else None

    @property
    def newer(self) -> bool:
        """Whether a later release was here, whose migrations this code does not know: they have higher numbers."""
        found = NUMBERED.fullmatch(self.current or "")
        head = NUMBERED.fullmatch(self.head or "")
        return bool(found and head and found[1] == head[1] and int(found[2]) > int(head[2]))

    @property
    def pending(self) -> tuple[Script, ...]:
        """What is left to run, in its order."""
        known = [script.revision for script in self.scripts]
        if self.newer:
            return ()
        return self.scripts[known.index(self.current) + 1 :] if self.current in known else self.scripts

    @property
    def at_head(self) -> bool:
        """Whether nothing is left to run."""
        return self.current == self.head

    @property
    def serves(self) -> bool:
        """Whether this code runs on it: all that is left removes what no code uses, or a later release only added."""
        if self.newer:
            return self.since is None or self.since in {script.revision for script in self.scripts}
        return all(phase_of(one) == "contract" for one in self.pending)

    @property
    def expanding(self) -> tuple[Script, ...]:
        """What may run while the release before still runs: all up to the first that may not; all where nothing is yet."""
        if self.current is None:
            return self.pending
        phases = [phase_of(one) for one in self.pending]
        return self.pending[: next((n for n, phase in enumerate(phases) if phase != "expand"), len(phases))]


def phase_of(script: Script) -> Phase:
    """What a migration says of itself by `phase = "contract"`; without a word it is `expand`."""
    phase: Phase = getattr(script.module, "phase", "expand")
    if phase not in get_args(Phase):
        raise StartRefused(
            f"Migration {script.revision} has phase {phase!r}; it is one of {', '.join(get_args(Phase))}."
        )
    return phase


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
        return await asyncpg.connect(url, timeout=10, server_settings=WAITING)
    except asyncpg.ProtocolViolationError as error:
        raise StartRefused(
            f"This is not PostgreSQL itself ({error}); LMS_DATABASE_DIRECT_URL has to name it when LMS_DATABASE_URL is "
            "PgBouncer."
        ) from None
    except (OSError, TimeoutError, asyncpg.PostgresError) as error:
        raise StartRefused(
            f"The database does not answer ({error}); start `lms up`, or set LMS_DATABASE_URL to one that does."
        ) from None


async def upgrade(platform: Platform, url: str | None = None, expand_only: bool = False) -> list[str]:
    """Bring every lineage to its head; the names of those that moved. Only one migrator runs at a time.

    Each migration is a transaction of its own. With `expand_only` it stops in front of what may not run beside the
    release before. StartRefused when a migration did not get its lock in all its tries; those before it stay done.
    """
    url = url or platform.settings.direct_url
    moved = []
    holder = await reach(url)
    try:
        async with advisory_lock(holder, LOCK):
            for lineage, position in zip(lineages(platform), await positions(platform, url), strict=True):
                steps = position.expanding if expand_only else position.pending
                for step in steps:
                    await run_patiently(url, lineage, step)
                if steps:
                    moved.append(lineage.name)
    finally:
        await holder.close()
    return moved


async def left_for_later(platform: Platform) -> list[str]:
    """A line for each lineage that is not at its end."""
    return [
        f"Left for later: {one.pending[0].revision} ({phase_of(one.pending[0])}); `lms db plan` shows it."
        for one in await positions(platform)
        if one.pending
    ]


async def run_patiently(url: str, lineage: Lineage, step: Script) -> None:
    """Run one migration, again and again while others hold what it has to lock.

    It never waits long itself: behind a statement that waits for a table stand all others that want it.
    """
    for pause in (*PAUSES_SECONDS, None):
        try:
            return await run_step(url, lineage, step)
        except DBAPIError as error:
            if sqlstate(error) not in GAVE_WAY:
                raise
        if pause is not None:
            await asyncio.sleep(pause)
    raise StartRefused(
        f"Migration {step.revision} did not get its lock: something holds a table of it. Look for long transactions in "
        "pg_stat_activity, and run `lms db upgrade` again; what is done is not done twice."
    )


async def run_step(url: str, lineage: Lineage, step: Script) -> None:
    """One migration on a connection of its own, which Alembic commits."""
    engine = create_async_engine(
        sqlalchemy_url(url), poolclass=pool.NullPool, connect_args={"server_settings": WAITING}
    )

    def run(connection: Connection) -> None:
        command.upgrade(configuration(lineage, connection), step.revision)
        if phase_of(step) != "expand":
            # For older releases, which do not know this migration (`Position.since`).
            connection.exec_driver_sql(f"COMMENT ON TABLE {lineage.version_table} IS '{step.revision}'")
            connection.commit()

    try:
        async with engine.connect() as connection:
            await connection.run_sync(run)
    finally:
        await engine.dispose()


def scripts(platform: Platform) -> dict[str, tuple[Script, ...]]:
    """The migrations of every lineage; read from the files once, since they don't change while a process runs."""
    if not platform.migrations:
        for lineage in lineages(platform):
            found = ScriptDirectory.from_config(configuration(lineage)).walk_revisions()
            platform.migrations[lineage.name] = tuple(reversed(list(found)))
    return platform.migrations


async def positions(platform: Platform, url: str | None = None) -> list[Position]:
    """Where every lineage is."""

    def read(connection: Connection) -> list[Position]:
        existing = set(inspect(connection).get_table_names())
        found = []
        for lineage in lineages(platform):
            current = since = None
            if lineage.version_table in existing:
                context = MigrationContext.configure(connection, opts={"version_table": lineage.version_table})
                current = context.get_current_revision()
                since = connection.scalar(text(SINCE), {"name": lineage.version_table})
            found.append(Position(lineage.name, current, scripts(platform)[lineage.name], since))
        return found

    result: list[Position] = await with_connection(url or platform.settings.direct_url, read)
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

    script = await with_connection(platform.settings.direct_url, write)
    return Path(script.path)
