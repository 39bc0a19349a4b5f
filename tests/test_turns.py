"""One caller's burst of writes leaves connections to everybody else."""

from __future__ import annotations

import asyncio
from typing import Any

from lms_core.testing import Lms, School


async def test_a_burst_of_one_caller_takes_half_of_the_connections(lms: Lms, school: School) -> None:
    pool: Any = lms.context.database.engine.pool
    most = 0

    async def watch() -> None:
        nonlocal most
        while True:
            most = max(most, pool.checkedout())
            await asyncio.sleep(0)

    watching = asyncio.create_task(watch())
    path = f"/courses/{school.course['id']}"
    answers = await asyncio.gather(*(school.teacher.patch(path, {"title": f"Title {n}"}) for n in range(30)))
    watching.cancel()
    assert [answer.status_code for answer in answers] == [200] * 30
    assert 0 < most <= lms.context.settings.database_pool // 2
    # Who waits for nothing any more is forgotten.
    assert school.teacher.id not in lms.context.turns.callers
