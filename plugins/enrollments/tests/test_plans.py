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


async def fill(lms: Lms, course_id: str) -> None:
    """A course that has two thousand students already: in a small one every plan costs the same."""
    await lms.sql(
        """
        WITH person AS (
            INSERT INTO users_user (id, email, email_key, full_name, is_active)
            SELECT id, id::text, id::text, 'Person', true FROM (SELECT gen_random_uuid() AS id FROM generate_series(1, 2000))
            RETURNING id
        )
        INSERT INTO enrollments_enrollment (id, course_id, user_id, role, state)
        SELECT gen_random_uuid(), :course, id, 'student', 'active' FROM person
        """,
        course=course_id,
    )
    await lms.sql("ANALYZE users_user, enrollments_enrollment")


async def planned(lms: Lms) -> dict[str, tuple[int, int]]:
    """How often each statement was planned for its values, and how often done by a plan for all.

    Whoever comes alone gets the same connection each time.
    """
    async with lms.context.unit_of_work() as uow:
        rows = await uow.session.fetch("SELECT statement, custom_plans, generic_plans FROM pg_prepared_statements", [])
    return {row["statement"]: (row["custom_plans"], row["generic_plans"]) for row in rows}


async def test_the_statements_of_an_enrollment_are_planned_once(lms: Lms, school: School) -> None:
    await fill(lms, school.course["id"])
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
