"""Migrations: one lineage for each plugin, one migrator at a time, neighbours untouched."""

from __future__ import annotations

import asyncio
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from installed import REPOSITORY, environment, lms
from sqlalchemy import Connection
from sqlmodel import SQLModel

from lms_core.migrate import lineages, positions, run_patiently, upgrade, with_connection
from lms_core.operations import CACHED_SECONDS
from lms_core.platform import Platform
from lms_core.testing import Lms, on_server, settings_for

pytestmark = pytest.mark.anyio


async def new_database() -> str:
    name = f"lms_{uuid4().hex[:12]}"
    await on_server(f'CREATE DATABASE "{name}"')
    return settings_for(name).database_url


async def test_four_migrators_at_once_migrate_once(platform: Platform) -> None:
    url = await new_database()
    moved = await asyncio.gather(*(upgrade(platform, url) for _ in range(4)))
    everything = [lineage.name for lineage in lineages(platform)]
    assert sorted(moved, key=len) == [[], [], [], everything]
    assert all(position.at_head for position in await positions(platform, url))


async def test_what_commits_in_between_can_be_done_twice(platform: Platform) -> None:
    """A migration that was broken off after a commit of its own begins again from where its lineage was before it."""
    url = await new_database()
    await upgrade(platform, url)
    connection = await asyncpg.connect(url)
    tried = 0
    for lineage, position in zip(lineages(platform), await positions(platform, url), strict=True):
        for script in position.scripts:
            source = Path(script.path).read_text()
            if "autocommit_block" in source or "_online(" in source:
                await connection.execute(f"UPDATE {lineage.version_table} SET version_num = $1", script.down_revision)
                await run_patiently(url, lineage, script)
                tried += 1
        await connection.execute(f"UPDATE {lineage.version_table} SET version_num = $1", position.head)
    await connection.close()
    assert tried >= 5


async def test_the_migrations_make_exactly_the_tables_of_the_code(platform: Platform) -> None:
    url = await new_database()
    await upgrade(platform, url)
    prefixes = tuple(f"{lineage.name}_" for lineage in lineages(platform))

    def difference(connection: Connection) -> list[object]:
        options = {
            "include_name": lambda name, kind, _: kind != "table" or str(name).startswith(prefixes),
            "include_object": lambda item, name, kind, reflected, other: (
                kind != "table" or str(name).startswith(prefixes)
            ),
        }
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), SQLModel.metadata))

    assert await with_connection(url, difference) == []


async def test_a_plugin_that_is_switched_off_keeps_its_data_and_its_neighbours_work(tmp_path: Path) -> None:
    url = await new_database()
    everything = (REPOSITORY / "plugins.toml").read_text()
    on = environment(tmp_path, everything, LMS_DATABASE_URL=url)
    assert lms(on, "db", "upgrade").returncode == 0
    (tmp_path / "off").mkdir()
    without = everything.replace("[plugins.materials]\nenabled = true", "[plugins.materials]\nenabled = false")
    off = environment(tmp_path / "off", without, LMS_DATABASE_URL=url)
    assert "materials" not in lms(off, "db", "status").stdout
    assert lms(off, "db", "upgrade").stdout == "Nothing to do.\n"
    again = environment(tmp_path, everything, LMS_DATABASE_URL=url)
    assert lms(again, "db", "status").returncode == 0


async def test_an_api_in_front_of_an_old_schema_is_not_ready(lms: Lms) -> None:
    assert (await lms.client.get("/health/ready")).status_code == 200
    [before] = await lms.sql("SELECT version_num FROM alembic_version_courses")
    await lms.sql("UPDATE alembic_version_courses SET version_num = 'courses_0001'")
    await asyncio.sleep(CACHED_SECONDS + 0.1)
    try:
        refused = await lms.client.get("/health/ready")
        assert (refused.status_code, refused.json()["code"]) == (503, "not_migrated")
        assert refused.headers["retry-after"]
        assert "courses" in refused.json()["detail"]
    finally:
        await lms.sql("UPDATE alembic_version_courses SET version_num = :version", version=before["version_num"])
