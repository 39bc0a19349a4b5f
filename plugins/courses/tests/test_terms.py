"""Terms: days, nesting, what time it is where, and the courses in them."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import httpx2
import pytest
from lms_courses import terms
from lms_courses.schemas import TermUpdate

from lms_core.testing import Lms, School

pytestmark = pytest.mark.anyio


def term(school: School, starts_on: str, ends_on: str, **more: Any) -> dict[str, Any]:
    days = {"starts_on": starts_on, "ends_on": ends_on}
    return {"institution_id": school.institution["id"], "name": uuid4().hex, **days, **more}


def code_of(answer: httpx2.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


async def test_a_term_is_inside_of_its_year(lms: Lms, school: School) -> None:
    principal, other = school.principal, await lms.make_school()
    year = await principal.create("/courses/terms", term(school, "2026-08-01", "2027-07-31"))
    inside = term(school, "2026-09-01", "2026-12-18", parent_id=year["id"])
    autumn = await principal.create("/courses/terms", inside)
    for starts_on, ends_on, code in (
        ("2026-07-31", "2026-12-18", "outside_of_parent"),
        ("2027-05-01", "2027-08-01", "outside_of_parent"),
        ("2026-12-18", "2026-09-01", "ends_before_start"),
    ):
        answer = await principal.post("/courses/terms", term(school, starts_on, ends_on, parent_id=year["id"]))
        assert code_of(answer) == (422, code)
    foreign = await other.principal.create("/courses/terms", term(other, "2026-01-01", "2027-12-31"))
    for parent_id in (foreign["id"], str(uuid4())):
        answer = await principal.post("/courses/terms", {**inside, "name": "X", "parent_id": parent_id})
        assert code_of(answer) == (404, "term_not_found")
    path = f"/courses/terms/{year['id']}"
    assert code_of(await principal.patch(path, {"ends_on": "2026-12-17"})) == (409, "terms_inside")
    assert code_of(await principal.patch(path, {"ends_on": "2026-07-01"})) == (422, "ends_before_start")
    assert (await principal.get(path)).json()["ends_on"] == "2027-07-31"
    assert (await principal.patch(path, {"ends_on": "2026-12-18"})).status_code == 200
    assert code_of(await principal.patch(f"/courses/terms/{autumn['id']}", {"ends_on": "2026-12-19"})) == (
        422, "outside_of_parent",
    )  # fmt: skip
    inside_year = await principal.items("/courses/terms", parent_id=year["id"])
    assert [one["id"] for one in inside_year] == [autumn["id"]]


async def test_codes_are_unique_in_their_term(lms: Lms, school: School) -> None:
    principal = school.principal
    spring = await principal.create("/courses/terms", term(school, "2026-01-01", "2026-06-30"))
    autumn = await principal.create("/courses/terms", term(school, "2026-09-01", "2026-12-18"))
    body = {"institution_id": school.institution["id"], "code": "BIO", "title": "Biology"}
    for term_id in (None, spring["id"], autumn["id"]):
        course = await principal.create("/courses", {**body, "term_id": term_id})
        assert (course["term"] or {}).get("id") == term_id
        assert code_of(await principal.post("/courses", {**body, "term_id": term_id})) == (409, "natural_key_taken")
    moved = await principal.patch(f"/courses/{course['id']}", {"term_id": spring["id"]})
    assert code_of(moved) == (409, "natural_key_taken")
    found = await principal.items("/courses", term_id=autumn["id"])
    assert [(one["code"], one["term"]["name"]) for one in found] == [("BIO", autumn["name"])]


async def test_a_course_takes_terms_of_its_institution_and_above(lms: Lms, school: School) -> None:
    admin, other = await lms.admin(), await lms.make_school()
    below = await lms.make_institution(school.institution["id"])
    above = await admin.create("/courses/terms", term(school, "2026-01-01", "2026-06-30"))
    foreign = await admin.create("/courses/terms", term(other, "2026-01-01", "2026-06-30"))
    course = await lms.make_course(below["id"], term_id=above["id"])
    assert course["term"]["id"] == above["id"]
    path = f"/courses/{course['id']}"
    assert code_of(await admin.patch(path, {"term_id": foreign["id"]})) == (404, "term_not_found")
    # A course does not take its term to where that means nothing.
    elsewhere = {"institution_id": other.institution["id"]}
    assert code_of(await admin.patch(path, elsewhere)) == (409, "term_elsewhere")
    answer = await admin.patch(path, {**elsewhere, "term_id": None})
    assert (answer.status_code, answer.json()["term"]) == (200, None)


async def test_deleting_a_term_leaves_its_courses(lms: Lms, school: School) -> None:
    principal = school.principal
    year = await principal.create("/courses/terms", term(school, "2026-01-01", "2026-12-31"))
    spring = await principal.create("/courses/terms", term(school, "2026-01-01", "2026-06-30", parent_id=year["id"]))
    course = await lms.make_course(school.institution["id"], term_id=spring["id"])
    assert (await principal.delete(f"/courses/terms/{year['id']}")).status_code == 202
    await lms.work_off()
    shown = (await principal.get(f"/courses/{course['id']}")).json()
    assert (shown["term"], shown["title"]) == (None, course["title"])
    assert (await principal.get(f"/courses/terms/{spring['id']}")).status_code == 404
    assert (await principal.post(f"/courses/terms/{year['id']}/restore")).status_code == 202
    await lms.work_off()
    assert (await principal.get(f"/courses/{course['id']}")).json()["term"]["id"] == spring["id"]


async def test_today_is_where_the_institution_is(lms: Lms, school: School) -> None:
    principal, path = school.principal, f"/institutions/{school.institution['id']}"
    far_east, far_west = ZoneInfo("Pacific/Kiritimati"), ZoneInfo("Pacific/Pago_Pago")
    east, west = datetime.now(far_east).date(), datetime.now(far_west).date()
    assert east > west
    first = await principal.create("/courses/terms", term(school, "2020-01-01", str(west)))
    second = await principal.create("/courses/terms", term(school, str(west + timedelta(days=1)), "2999-01-01"))
    for zone, expected in ((far_east, second), (far_west, first)):
        answer = await (await lms.admin()).patch(path, {"timezone": str(zone)})
        assert answer.status_code == 200, answer.text
        now = await principal.items("/courses/terms", institution_id=school.institution["id"], on="today")
        assert [one["id"] for one in now] == [expected["id"]]
    on_a_day = await principal.items("/courses/terms", institution_id=school.institution["id"], on=str(west))
    assert [one["id"] for one in on_a_day] == [first["id"]]
    for params, code in (({"on": "today"}, "institution_required"), ({"on": "soon"}, "invalid_day")):
        assert code_of(await principal.get("/courses/terms", params=params)) == (422, code)
    strange = {"on": "today", "institution_id": str(uuid4())}
    assert code_of(await principal.get("/courses/terms", params=strange)) == (404, "institution_not_found")


async def test_a_term_that_comes_back_fits_into_its_parent(lms: Lms, school: School) -> None:
    body = {
        "institution_id": school.institution["id"],
        "name": "2026",
        "starts_on": "2026-01-01",
        "ends_on": "2026-12-31",
    }
    year = await school.principal.create("/courses/terms", body)
    autumn = await school.principal.create(
        "/courses/terms", {**body, "name": "Autumn", "starts_on": "2026-09-01", "parent_id": year["id"]}
    )
    path = f"/courses/terms/{autumn['id']}"
    assert (await school.principal.delete(path)).status_code == 202
    await lms.work_off()
    shorter = await school.principal.patch(f"/courses/terms/{year['id']}", {"ends_on": "2026-06-30"})
    assert shorter.status_code == 200
    answer = await school.principal.post(f"{path}/restore")
    assert (answer.status_code, answer.json()["code"]) == (409, "outside_of_parent")
    await school.principal.patch(f"/courses/terms/{year['id']}", {"ends_on": "2026-12-31"})
    assert (await school.principal.post(f"{path}/restore")).status_code == 202


async def test_a_term_is_put_into_its_year_later(lms: Lms, school: School) -> None:
    principal = school.principal
    autumn = await principal.create("/courses/terms", term(school, "2026-09-01", "2026-12-18"))
    year = await principal.create("/courses/terms", term(school, "2026-09-01", "2026-12-18"))
    short = await principal.create("/courses/terms", term(school, "2026-10-01", "2026-12-18"))
    path = f"/courses/terms/{autumn['id']}"
    assert code_of(await principal.patch(path, {"parent_id": short["id"]})) == (422, "outside_of_parent")
    assert code_of(await principal.patch(path, {"parent_id": str(uuid4())})) == (404, "term_not_found")
    assert code_of(await principal.patch(path, {"parent_id": autumn["id"]})) == (409, "would_be_a_cycle")
    assert (await principal.patch(path, {"parent_id": year["id"]})).json()["parent_id"] == year["id"]
    # Of the same days, so that only the nesting is in the way.
    back = await principal.patch(f"/courses/terms/{year['id']}", {"parent_id": autumn["id"]})
    assert code_of(back) == (409, "would_be_a_cycle")
    assert (await principal.patch(path, {"name": "Autumn"})).json()["parent_id"] == year["id"]
    assert (await principal.delete(f"/courses/terms/{year['id']}")).status_code == 202
    assert (await principal.get(path)).status_code == 404
    assert (await principal.post(f"/courses/terms/{year['id']}/restore")).status_code == 202
    await lms.work_off()
    assert (await principal.patch(path, {"parent_id": None})).json()["parent_id"] is None


async def test_terms_that_are_put_into_each_other_at_once_are_no_cycle(lms: Lms, school: School) -> None:
    """Each below the other: neither move locks what the other one changes."""
    days = ("2026-09-01", "2026-12-18")
    for _ in range(5):
        tops = [await school.principal.create("/courses/terms", term(school, *days)) for _ in range(2)]
        below = [
            await school.principal.create("/courses/terms", term(school, *days, parent_id=top["id"])) for top in tops
        ]
        moves = [
            school.principal.patch(f"/courses/terms/{top['id']}", {"parent_id": into["id"]})
            for top, into in zip(tops, reversed(below), strict=True)
        ]
        answers = await asyncio.gather(*moves)
        assert sorted(answer.status_code for answer in answers) == [200, 409]


async def test_a_term_that_is_taken_out_stays_when_its_year_goes(lms: Lms, school: School) -> None:
    """The delete waits for the move, and takes what is in the year then."""
    days = ("2026-09-01", "2026-12-18")
    year = await school.principal.create("/courses/terms", term(school, *days))
    inside = await school.principal.create("/courses/terms", term(school, *days, parent_id=year["id"]))
    async with lms.context.unit_of_work() as uow:
        await terms.update(uow, UUID(inside["id"]), TermUpdate(parent_id=None), None)
        deleting = asyncio.create_task(school.principal.delete(f"/courses/terms/{year['id']}"))
        await lms.until_somebody_waits()
    assert (await deleting).status_code == 202
    assert (await school.principal.get(f"/courses/terms/{inside['id']}")).status_code == 200


async def test_a_course_goes_elsewhere_without_the_term_that_is_deleted(lms: Lms, school: School) -> None:
    """Nothing is said of a term that nobody sees; it is asked for all the same, since it may come back."""
    admin, district, other = await lms.admin(), await lms.make_school(), await lms.make_school()
    for one in (school, other):
        moved = {"parent_id": district.institution["id"]}
        assert (await admin.patch(f"/institutions/{one.institution['id']}", moved)).status_code == 200
    own = await admin.create("/courses/terms", term(school, "2026-01-01", "2026-06-30"))
    shared = await admin.create("/courses/terms", term(district, "2026-01-01", "2026-06-30"))
    elsewhere = {"institution_id": other.institution["id"]}
    for of, code in ((own, 409), (shared, 200)):
        course = await lms.make_course(school.institution["id"], term_id=of["id"])
        assert (await admin.delete(f"/courses/terms/{of['id']}")).status_code == 202
        assert await admin.items("/courses", term_id=of["id"]) == []
        path = f"/courses/{course['id']}"
        answer = await admin.patch(path, elsewhere)
        assert answer.status_code == code, answer.text
        if code == 409:
            assert answer.json()["code"] == "term_elsewhere"
            assert (await admin.patch(path, {**elsewhere, "term_id": None})).status_code == 200
        else:
            assert (await admin.post(f"/courses/terms/{of['id']}/restore")).status_code == 202
            await lms.work_off()
            assert (await admin.get(path)).json()["term"]["id"] == of["id"]
