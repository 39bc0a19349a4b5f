"""What an enrollment asks of PostgreSQL is planned once, and not anew for each of them."""

from __future__ import annotations

import pytest
from people import make_people

from lms_core.testing import Lms, School

pytestmark = pytest.mark.anyio
TRIED = 5
"""PostgreSQL plans so often for the values that it gets, before one plan for all may do (its documentation, PREPARE)."""
STATEMENTS = 7
"""Those of an enrollment, beside BEGIN and COMMIT."""


async def planned(lms: Lms) -> dict[str, tuple[int, int]]:
    """How often each statement was planned for its values, and how often done by a plan for all.

    Whoever comes alone gets the same connection each time.
    """
    async with lms.context.unit_of_work() as uow:
        rows = await uow.session.fetch("SELECT statement, custom_plans, generic_plans FROM pg_prepared_statements", [])
    return {row["statement"]: (row["custom_plans"], row["generic_plans"]) for row in rows}


async def test_the_statements_of_an_enrollment_are_planned_once(lms: Lms, school: School) -> None:
    # In a small course every plan costs the same.
    others = await make_people(lms, school, 2000)
    many = {"course_id": school.course["id"], "role": "student", "user_ids": others}
    assert (await school.principal.post("/enrollments/bulk", many)).status_code == 200
    await lms.sql("ANALYZE users_user, enrollments_enrollment")
    people = await make_people(lms, school, 3 * TRIED)
    before = await planned(lms)
    for person in people:
        body = {"course_id": school.course["id"], "user_id": person, "role": "student"}
        await school.principal.create("/enrollments", body)
    found = []
    for statement, (custom, generic) in (await planned(lms)).items():
        custom_before, generic_before = before.get(statement, (0, 0))
        if custom + generic - custom_before - generic_before >= len(people):
            found.append((statement, custom - custom_before))
    assert len(found) == STATEMENTS
    assert [statement for statement, times in found if times > TRIED] == []
