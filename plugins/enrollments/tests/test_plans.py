"""What an enrollment asks of PostgreSQL is planned once, and not anew for each of them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from lms_enrollments.joining import STANDING
from people import make_people

from lms_core.config import Settings
from lms_core.testing import Lms, School, application_apart

pytestmark = pytest.mark.anyio
TRIED = 5
"""PostgreSQL plans so often for the values that it gets, before one plan for all may do (its documentation, PREPARE)."""
STATEMENTS = 6
"""Those of an enrollment, beside BEGIN and COMMIT."""


@pytest.fixture
async def lms(settings: Settings) -> AsyncIterator[Lms]:
    """Which plan PostgreSQL takes is decided by all that is there."""
    async with application_apart(settings) as lms:
        yield lms


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


# As their columns are, but for the ids.
OTHER_COURSES = """
    INSERT INTO courses_course SELECT other.* FROM courses_course AS c, generate_series(1, :count) AS number,
        json_populate_record(c, json_build_object('id', gen_random_uuid(), 'code', 'other ' || number)) AS other
    WHERE c.id = :course_id
"""
ENROLLED_IN_EACH = """
    INSERT INTO enrollments_enrollment SELECT one.* FROM courses_course AS c, enrollments_enrollment AS e,
        json_populate_record(e, json_build_object('id', gen_random_uuid(), 'course_id', c.id)) AS one
    WHERE c.code LIKE 'other %' AND e.course_id = :course_id AND e.user_id = ANY(:user_ids)
"""


async def standing_plan(lms: Lms, course_id: str, user_id: str, mode: str) -> list[str]:
    """How it is found whether a student takes part in a course, by one of the plans that PostgreSQL may come to take."""
    values = {"course_id": course_id, "user_ids": f"{{{user_id}}}", "role": "student"}
    given = ", ".join(f"'{values[name]}'" for name in STANDING.names)
    async with lms.context.unit_of_work() as uow:
        await uow.session.fetch(f"SET LOCAL plan_cache_mode = {mode}", [])
        await uow.session.fetch(f"PREPARE standing AS {STANDING.sql}", [])
        plan = await uow.session.fetch(f"EXPLAIN ANALYZE EXECUTE standing ({given})", [])
        await uow.session.fetch("DEALLOCATE standing", [])
    return [str(line["QUERY PLAN"]) for line in plan]


@pytest.mark.parametrize("mode", ["force_generic_plan", "force_custom_plan"])
async def test_who_is_in_a_large_course_is_looked_up_one_by_one(lms: Lms, school: School, mode: str) -> None:
    """Where most courses are small, PostgreSQL takes a course that it does not know yet for small."""
    others = await make_people(lms, school, 2000)
    many = {"course_id": school.course["id"], "role": "student", "user_ids": others}
    assert (await school.principal.post("/enrollments/bulk", many)).status_code == 200
    await lms.sql(OTHER_COURSES, course_id=school.course["id"], count=3000)
    await lms.sql(ENROLLED_IN_EACH, course_id=school.course["id"], user_ids=others[:1])
    await lms.sql("ANALYZE courses_course, enrollments_enrollment")
    plan = await standing_plan(lms, school.course["id"], str(school.student.id), mode)
    assert [line for line in plan if "Removed by" in line] == []


@pytest.mark.parametrize("mode", ["force_generic_plan", "force_custom_plan"])
async def test_who_is_in_a_course_newer_than_the_statistics_is_looked_up_one_by_one(
    lms: Lms, school: School, mode: str
) -> None:
    """It is taken for empty, and then the least deep of the indexes would do."""
    others = await make_people(lms, school, 2000)
    old = await lms.make_course(school.institution["id"])
    many = {"course_id": old["id"], "role": "student", "user_ids": others}
    assert (await school.principal.post("/enrollments/bulk", many)).status_code == 200
    await lms.sql(OTHER_COURSES, course_id=old["id"], count=20)
    await lms.sql(ENROLLED_IN_EACH, course_id=old["id"], user_ids=others)
    # So that all rows are looked at, and not a sample of them.
    await lms.sql("ALTER TABLE enrollments_enrollment ALTER COLUMN course_id SET STATISTICS 1000")
    await lms.sql("ANALYZE courses_course, enrollments_enrollment")
    new = await lms.make_course(school.institution["id"])
    assert (await school.principal.post("/enrollments/bulk", many | {"course_id": new["id"]})).status_code == 200
    plan = await standing_plan(lms, new["id"], others[0], mode)
    assert [line for line in plan if "Removed by" in line] == []
