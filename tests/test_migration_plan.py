"""Upgrades beside people who work: what a migration locks is known before, it gives way, and the rules of its phase hold."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest
from alembic.script import Script, ScriptDirectory
from installed import REPOSITORY, environment, lms
from sqlalchemy import Connection, text

from lms_core import migrate
from lms_core.config import load_settings
from lms_core.errors import StartRefused
from lms_core.migrate import Lineage, Position, lineages, phase_of, run_patiently, scripts, with_connection
from lms_core.migration_plan import DROPPED_INDEX, WAITING, locks_of, statements_of
from lms_core.platform import Platform, load_platform
from lms_core.testing import on_server, settings_for

pytestmark = pytest.mark.anyio

SQUAWK = Path(sys.executable).parent / "squawk"
STYLE = "prefer-bigint-over-int,prefer-text-field,require-lock-timeout,require-statement-timeout"
"""Rules of taste, and the time-outs, which the migrator sets."""
REMOVING = "ban-drop-column,ban-drop-table,ban-drop-not-null"
"""What a contract migration is for."""
HEAVY = list(WAITING)[2:]

ALL = [
    pytest.param(lineage, script, id=script.revision)
    for platform in [load_platform(load_settings())]
    for lineage in lineages(platform)
    for script in scripts(platform)[lineage.name]
]


async def new_database() -> str:
    name = f"lms_{uuid4().hex[:12]}"
    await on_server(f'CREATE DATABASE "{name}"')
    return settings_for(name).database_url


@pytest.fixture
async def url() -> AsyncIterator[str]:
    url = await new_database()
    yield url
    parts = urlsplit(url)
    await on_server(f'DROP DATABASE "{parts.path[1:]}" WITH (FORCE)')


def squawk(script: Script, excluded: str) -> list[str]:
    statements = ";\n".join([*statements_of(script), ""])
    # An index on a table of the same transaction is no danger; CONCURRENTLY runs outside of any.
    inside = [] if "CONCURRENTLY" in statements else ["--assume-in-transaction"]
    run = subprocess.run(
        [SQUAWK, "--pg-version", "15", "--exclude", excluded, "--reporter", "json", *inside],
        input=statements,
        capture_output=True,
        text=True,
    )
    return [f"{one['rule_name']}: {one['message']}" for one in json.loads(run.stdout)]


@pytest.mark.parametrize(("lineage", "script"), ALL)
def test_a_migration_may_do_what_its_phase_says(lineage: Lineage, script: Script) -> None:
    if phase_of(script) == "maintenance":
        assert script.revision in BEFORE_THE_FIRST_RELEASE, "a release must not need that everything is stopped"
        return
    excluded = STYLE if phase_of(script) == "expand" else f"{STYLE},{REMOVING}"
    assert squawk(script, excluded) == []


BEFORE_THE_FIRST_RELEASE = {
    "core_0004", "core_0005", "courses_0002", "enrollments_0003", "enrollments_0004", "files_0002",
    "institutions_0002", "materials_0003", "materials_0004", "users_0002",
}  # fmt: skip


def probe(folder: Path, number: int, body: str, phase: str = "expand") -> Script:
    """A migration of a lineage of its own."""
    before = f'"probe_{number - 1:04d}"' if number > 1 else "None"
    (folder / f"probe_{number:04d}.py").write_text(
        f'"""Number {number}."""\n\nfrom alembic import op\nfrom lms_core.sdk import create_index_online\n\n'
        f'revision = "probe_{number:04d}"\ndown_revision = {before}\nphase = "{phase}"\n\n\n'
        f"def upgrade() -> None:\n    {body}\n"
    )
    return all_of(folder)[-1]


def all_of(folder: Path) -> tuple[Script, ...]:
    config = migrate.configuration(Lineage("probe", folder))
    return tuple(reversed(list(ScriptDirectory.from_config(config).walk_revisions())))


def test_the_linter_finds_what_it_is_for(tmp_path: Path) -> None:
    dangerous = probe(tmp_path, 1, 'op.execute("CREATE INDEX one ON probe_thing (name)")')
    assert "require-concurrent-index-creation" in squawk(dangerous, STYLE)[0]
    removing = probe(tmp_path, 2, 'op.execute("ALTER TABLE probe_thing DROP COLUMN name")')
    assert "ban-drop-column" in squawk(removing, STYLE)[0]
    assert squawk(removing, f"{STYLE},{REMOVING}") == []


async def test_the_plan_names_every_lock_that_makes_others_wait(platform: Platform, url: str) -> None:
    """Each migration of every lineage runs, and PostgreSQL itself says what it has locked by then."""
    existing = "SELECT c.oid::regclass::text, c.oid FROM pg_class c WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
    taken = "SELECT relation, mode FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'relation' AND granted"
    indexes = "SELECT indexrelid::regclass::text AS name, indrelid::regclass::text AS of_table FROM pg_index"
    compared = 0

    def run(connection: Connection, script: Script) -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
        tables = {oid: name for name, oid in connection.execute(text(existing))}
        of_index = {one.name: one.of_table for one in connection.execute(text(indexes))}
        planned = set()
        for statement in statements_of(script):
            planned |= {(lock.table, lock.mode) for lock in locks_of(statement, of_index)}
            if "CONCURRENTLY" not in statement:
                connection.exec_driver_sql(statement)
        names = {mode.replace(" ", "") + "Lock": mode for mode in WAITING}
        spelled = {name.lower(): mode for name, mode in names.items()}
        found = {
            (tables[oid], spelled[mode.lower()])
            for oid, mode in connection.execute(text(taken))
            if oid in tables and mode.lower() in spelled
        }
        return (
            {one for one in planned if one[1] in HEAVY and one[0] in tables.values()},
            {one for one in found if one[1] in HEAVY},
        )

    for lineage in lineages(platform):
        for script in scripts(platform)[lineage.name]:
            planned, found = await with_connection(url, lambda connection, script=script: run(connection, script))
            strongest = {
                table: max((mode for name, mode in planned if name == table), key=HEAVY.index) for table, _ in planned
            }
            really = {
                table: max((mode for name, mode in found if name == table), key=HEAVY.index) for table, _ in found
            }
            assert strongest == really, script.revision
            compared += len(really)
    assert compared > 20


async def test_a_migration_that_gets_no_lock_gives_way_and_comes_again(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(migrate.WAITING, "lock_timeout", "200ms")
    monkeypatch.setattr(migrate, "PAUSES_SECONDS", (0.5,) * 20)
    holder, other = await asyncpg.connect(url), await asyncpg.connect(url)
    await holder.execute("CREATE TABLE probe_thing (name text)")
    step = probe(tmp_path, 1, 'op.execute("ALTER TABLE probe_thing ADD COLUMN more text")')
    reading = holder.transaction()
    await reading.start()
    await holder.fetch("SELECT * FROM probe_thing")
    upgrading = asyncio.create_task(run_patiently(url, Lineage("probe", tmp_path), step))
    try:
        for _ in range(10):
            # Whoever comes after a waiting ALTER TABLE waits, too: for its time-out, not for the long transaction.
            await asyncio.wait_for(other.execute("INSERT INTO probe_thing VALUES ('written')"), 3)
            await asyncio.sleep(0.1)
        assert not upgrading.done()
        await reading.rollback()
        await upgrading
        assert await other.fetchval("SELECT count(more) FROM probe_thing") == 0
        assert await other.fetchval("SELECT version_num FROM alembic_version_probe") == "probe_0001"
    finally:
        await holder.close()
        await other.close()


async def test_a_lock_that_is_never_free_ends_with_what_to_do(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(migrate.WAITING, "lock_timeout", "100ms")
    monkeypatch.setattr(migrate, "PAUSES_SECONDS", (0.1,))
    holder = await asyncpg.connect(url)
    await holder.execute("CREATE TABLE probe_thing (name text)")
    body = 'op.execute("CREATE TABLE probe_other (name text)")\n    op.execute("DROP TABLE probe_thing")'
    step = probe(tmp_path, 1, body)
    async with holder.transaction():
        await holder.fetch("SELECT * FROM probe_thing")
        with pytest.raises(StartRefused, match="pg_stat_activity"):
            await run_patiently(url, Lineage("probe", tmp_path), step)
    assert await holder.fetchval("SELECT to_regclass('probe_other')") is None
    await holder.close()


async def test_an_index_is_built_beside_writers_and_anew_after_a_broken_try(url: str, tmp_path: Path) -> None:
    connection, writer = await asyncpg.connect(url), await asyncpg.connect(url)
    await connection.execute("CREATE TABLE probe_thing (name text)")
    await connection.execute("INSERT INTO probe_thing VALUES ('twice'), ('twice')")
    step = probe(tmp_path, 1, 'create_index_online("uq_probe_thing", "probe_thing", ["name"], unique=True)')
    lineage = Lineage("probe", tmp_path)
    with pytest.raises(Exception, match="uq_probe_thing"):
        await run_patiently(url, lineage, step)
    valid = "SELECT indisvalid FROM pg_index WHERE indexrelid = 'uq_probe_thing'::regclass"
    assert await connection.fetchval(valid) is False
    await connection.execute("DELETE FROM probe_thing")
    writing = writer.transaction()
    await writing.start()
    await writer.execute("INSERT INTO probe_thing VALUES ('open')")
    building = asyncio.create_task(run_patiently(url, lineage, step))
    try:
        waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%CONCURRENTLY%'"
        while not await connection.fetchval(waits):
            await asyncio.sleep(0.05)
        await asyncio.wait_for(connection.execute("INSERT INTO probe_thing VALUES ('beside')"), 3)
        assert not building.done()
        await writing.commit()
        await building
        assert await connection.fetchval(valid) is True
        assert await connection.fetchval("SELECT count(*) FROM probe_thing") == 2
    finally:
        await connection.close()
        await writer.close()


def test_what_serves_and_what_may_run_beside_the_release_before(tmp_path: Path) -> None:
    for number, phase in enumerate(("expand", "expand", "contract", "expand", "contract"), 1):
        probe(tmp_path, number, "pass", phase)
    known = all_of(tmp_path)

    def at(current: str | None) -> tuple[bool, list[str]]:
        position = Position("probe", current, known)
        return position.serves, [one.revision for one in position.expanding]

    # Where there is nothing yet, nobody notices anything.
    assert at(None) == (False, [f"probe_000{number}" for number in range(1, 6)])
    assert at("probe_0001") == (False, ["probe_0002"])
    # The fourth needs the third, which the release before would notice.
    assert at("probe_0002") == (False, [])
    assert at("probe_0004") == (True, [])
    assert at("probe_0005") == (True, [])
    # A later release was here: what it added, this one does not notice.
    assert at("probe_0006") == (True, [])
    assert Position("probe", "probe_0007", known, since="probe_0005").serves
    # But when it took something away, this one cannot run any more.
    assert not Position("probe", "probe_0007", known, since="probe_0006").serves
    assert at("other_0006") == (False, ["probe_0001", "probe_0002"])


def test_a_phase_is_one_of_three(tmp_path: Path) -> None:
    with pytest.raises(StartRefused, match="whenever"):
        phase_of(probe(tmp_path, 1, "pass", "whenever"))


async def test_operators_see_what_an_upgrade_would_run(platform: Platform, tmp_path: Path, url: str) -> None:
    on = environment(tmp_path, (REPOSITORY / "plugins.toml").read_text(), LMS_DATABASE_URL=url)
    whole = lms(on, "db", "plan").stdout
    assert whole.startswith("core_0001 (expand)")
    assert "ALTER TABLE" not in whole
    connection = await asyncpg.connect(url)
    for lineage in lineages(platform):
        for script in scripts(platform)[lineage.name][:1]:
            await run_patiently(url, lineage, script)
    partly = lms(on, "setup").stderr
    assert "Left for later: core_0004 (maintenance)" in partly
    left = lms(on, "db", "plan", "--sql").stdout
    assert left.startswith("core_0004 (maintenance): ")
    assert "ACCESS EXCLUSIVE on core_deletion (about 0 rows), reads all of it: readers and writers wait" in left
    assert "ALTER TABLE core_deletion" in left
    note = "SELECT obj_description('alembic_version_core'::regclass, 'pg_class')"
    assert await connection.fetchval(note) is None
    assert "Left" not in lms(on, "db", "upgrade").stdout
    assert lms(on, "db", "plan").stdout == "Nothing to do.\n"
    assert await connection.fetchval(note) == "core_0005"
    await connection.close()


def test_indexes_are_told_by_the_names_of_their_tables() -> None:
    tables = {"ix_one": "probe_thing"}
    assert DROPPED_INDEX.match("DROP INDEX CONCURRENTLY IF EXISTS ix_one")
    [lock] = locks_of("DROP INDEX CONCURRENTLY IF EXISTS ix_one", tables)
    assert (lock.table, lock.waiting) == ("probe_thing", "nobody waits")
    [lock] = locks_of("DROP INDEX ix_one", tables)
    assert (lock.table, lock.waiting) == ("probe_thing", "readers and writers wait")
