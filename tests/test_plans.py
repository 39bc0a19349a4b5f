"""Conditions and partial indexes fit together: PostgreSQL can use them, whatever it chooses with few rows."""

from __future__ import annotations

import sys
from uuid import uuid4

import asyncpg
import pytest

from lms_core.pagination import Listing, Point
from lms_core.statements import Read
from lms_core.testing import Lms, School

pytestmark = pytest.mark.anyio


async def plan(lms: Lms, sql: str, *arguments: object) -> str:
    """The plan when every index that can be used is."""
    connection = await asyncpg.connect(lms.context.settings.database_url)
    try:
        await connection.execute(
            "SET enable_seqscan = off; SET enable_bitmapscan = off; SET plan_cache_mode = force_generic_plan"
        )
        rows = await connection.fetch(f"EXPLAIN {sql}", *arguments)
        return "\n".join(row[0] for row in rows)
    finally:
        await connection.close()


async def test_live_children_are_found_by_their_index(lms: Lms) -> None:
    for kind in lms.context.platform.kinds.by_name.values():
        for edge in kind.parents:
            name = kind.name.replace(".", "_")
            found = await plan(lms, f"SELECT id FROM {name} WHERE {edge.column} = $1 AND NOT is_deleted", uuid4())
            assert f"Index Cond: ({edge.column} =" in found, found


async def test_the_statements_that_clients_cause_say_it_so(lms: Lms, school: School) -> None:
    """`IS FALSE` is the same to people, but not to the planner."""
    for path in ("/courses", "/enrollments", "/groups", "/materials", "/files", "/users", "/institutions"):
        assert (await school.principal.get(path)).status_code == 200
    rules = lms.context.platform.rules
    assert rules.held_read is not None
    reads: list[Read] = [rules.held_read, *rules.check_reads.values()]
    modules = [module for name, module in list(sys.modules.items()) if name.startswith("lms_")]
    for value in (value for module in modules for value in vars(module).values()):
        if isinstance(value, Listing | Point):
            reads += value.reads.values()
    assert len(reads) > 6
    for read in reads:
        assert "is_deleted IS" not in read.sql, read.sql
    assert "users_grant" in rules.held_read.sql
    roles = await plan(lms, rules.held_read.sql, *rules.held_read.arguments({"actor_id": uuid4()}))
    assert "Seq Scan on users_grant" not in roles
    assert "Seq Scan on enrollments_enrollment" not in roles
