"""Courses: who sees which, who changes them, and how they are found."""

from __future__ import annotations

from uuid import uuid4

import pytest

from lms_core.testing import Lms, School

pytestmark = pytest.mark.anyio


async def test_a_teacher_who_creates_a_course_teaches_it_at_once(school: School) -> None:
    body = {"institution_id": school.institution["id"], "code": "CHE", "title": "Chemistry"}
    course = await school.teacher.create("/courses", body)
    assert course["state"] == "draft"
    path = f"/courses/{course['id']}"
    assert (await school.teacher.get(path)).status_code == 200
    assert (await school.teacher.patch(path, {"state": "published"})).json()["state"] == "published"
    assert course["id"] in [item["id"] for item in await school.teacher.items("/courses", mine="true")]
    assert (await school.teacher.delete(path)).status_code == 403


async def test_drafts_are_for_staff(lms: Lms, school: School) -> None:
    path = f"/courses/{school.course['id']}"
    outside = await lms.make_user("student", school.institution["id"])
    assert (await outside.get(path)).status_code == 200
    await school.teacher.patch(path, {"state": "draft"})
    for caller in (school.student, outside):
        assert (await caller.get(path)).status_code == 404
        assert school.course["id"] not in [item["id"] for item in await caller.items("/courses")]
    for caller in (school.teacher, school.principal):
        assert (await caller.get(path)).status_code == 200


async def test_a_code_is_unique_in_its_institution(lms: Lms, school: School) -> None:
    body = {"institution_id": school.institution["id"], "code": school.course["code"], "title": "Again"}
    refused = await school.principal.post("/courses", body)
    assert (refused.status_code, refused.json()["code"]) == (409, "natural_key_taken")
    other = await lms.make_school()
    await other.principal.create("/courses", {**body, "institution_id": other.institution["id"]})


async def test_students_create_nothing_and_strangers_know_nothing(lms: Lms, school: School) -> None:
    body = {"institution_id": school.institution["id"], "code": "X", "title": "X"}
    assert (await school.student.post("/courses", body)).status_code == 403
    stranger = (await lms.make_school()).principal
    for institution in (school.institution["id"], str(uuid4())):
        answer = await stranger.post("/courses", {**body, "institution_id": institution})
        assert (answer.status_code, answer.json()["code"]) == (404, "institution_not_found")
        assert await stranger.items("/courses", institution_id=institution) == []


async def test_moving_needs_the_permission_at_both_ends(lms: Lms, school: School) -> None:
    path, other = f"/courses/{school.course['id']}", await lms.make_school()
    to = {"institution_id": other.institution["id"]}
    assert (await school.principal.patch(path, to)).status_code == 404
    assert (await school.teacher.patch(path, to)).status_code in (403, 404)
    below = await lms.make_institution(school.institution["id"])
    moved = await school.principal.patch(path, {"institution_id": below["id"]})
    assert moved.json()["institution_id"] == below["id"]
    assert (await (await lms.admin()).patch(path, to)).json() == {
        **moved.json(), "institution_id": other.institution["id"],
        "updated_at": (await other.principal.get(path)).json()["updated_at"],
    }  # fmt: skip
    assert (await school.principal.get(path)).status_code == 404
    assert (await other.principal.get(path)).status_code == 200


async def test_lists_are_filtered_and_stable_while_rows_are_added(lms: Lms, school: School) -> None:
    at = school.institution["id"]
    for number in range(7):
        title = "100%_sure" if number == 3 else f"Course {number}"
        await school.principal.create("/courses", {"institution_id": at, "code": f"C{number}", "title": title})
    page = (await school.principal.get("/courses", params={"institution_id": at, "limit": 3})).json()
    await school.principal.create("/courses", {"institution_id": at, "code": "NEW", "title": "New"})
    seen = [item["code"] for item in page["items"]]
    while page["next_cursor"]:
        params = {"institution_id": at, "limit": 3, "cursor": page["next_cursor"]}
        page = (await school.principal.get("/courses", params=params)).json()
        seen += [item["code"] for item in page["items"]]
    assert seen == [f"C{number}" for number in range(6, -1, -1)] + [school.course["code"]]
    foreign = await school.principal.get("/courses", params={"state": "draft", "cursor": params["cursor"]})
    assert (foreign.status_code, foreign.json()["code"]) == (400, "invalid_cursor")
    for q, found in (("100%_s", ["C3"]), ("%", ["C3"]), ("course 5", ["C5"]), ("rse 2", ["C2"]), ("\\", [])):
        items = await school.principal.items("/courses", institution_id=at, q=q)
        assert [item["code"] for item in items] == found, q
    assert len(await school.principal.items("/courses", institution_id=at, state="draft")) == 8


@pytest.mark.parametrize(
    "fields",
    [
        {"capacity": -1}, {"capacity": 10**30}, {"capacity": 1.5}, {"title": ""}, {"title": "x" * 301}, {"title": " "},
        {"starts_on": "2026-09-01", "ends_on": "2026-08-31"}, {"starts_on": "tomorrow"}, {"state": "published"},
        {"code": None}, {"description": "x" * 20_001}, {"waitlist": "perhaps"}, {"starts_on": 0}, {"starts_on": 86400.0},
        {"starts_on": "2026-09-01T00:00:00Z"}, {"starts_on": "20260901"}, {"ends_on": "9999-12-31"}, {"ends_on": "0001-01-01"},
        {"code": "\u200b"}, {"title": "\u00ad \u200b"},
    ],
)  # fmt: skip
async def test_bad_fields_are_422_and_make_nothing(lms: Lms, school: School, fields: dict[str, object]) -> None:
    code = uuid4().hex[:12]
    body = {"institution_id": school.institution["id"], "code": code, "title": "T", **fields}
    refused = await school.principal.post("/courses", body)
    assert refused.status_code == 422, refused.text
    assert await lms.sql("SELECT id FROM courses_course WHERE code = :code", code=code) == []


async def test_null_clears_what_may_be_empty(lms: Lms, school: School) -> None:
    course = await lms.make_course(school.institution["id"], capacity=3, starts_on="2026-09-01")
    path = f"/courses/{course['id']}"
    cleared = (await school.principal.patch(path, {"capacity": None, "starts_on": None})).json()
    assert (cleared["capacity"], cleared["starts_on"]) == (None, None)
    bad = await school.principal.patch(path, {"starts_on": "2026-09-02", "ends_on": "2026-09-01"})
    assert (bad.status_code, bad.json()["code"]) == (422, "ends_before_start")


async def test_an_invalid_body_for_what_nobody_may_know_is_404(lms: Lms, school: School) -> None:
    stranger = (await lms.make_school()).principal
    for caller, path, status in (
        (stranger, f"/courses/{school.course['id']}", 404),
        (await lms.admin(), f"/courses/{uuid4()}", 404),
        (school.student, f"/courses/{school.course['id']}", 403),
        (school.principal, f"/courses/{school.course['id']}", 422),
    ):
        assert (await caller.patch(path, {"capacity": "many"})).status_code == status


async def test_a_cursor_of_my_courses_outlives_a_new_one(school: School) -> None:
    for number in range(3):
        body = {"institution_id": school.institution["id"], "code": f"M{number}", "title": "Mine"}
        await school.teacher.create("/courses", body)
    page = (await school.teacher.get("/courses?mine=true&limit=2")).json()
    await school.teacher.create("/courses", {"institution_id": school.institution["id"], "code": "N", "title": "New"})
    rest = await school.teacher.get("/courses", params={"mine": "true", "limit": 2, "cursor": page["next_cursor"]})
    assert rest.status_code == 200
    assert [item["code"] for item in page["items"] + rest.json()["items"]] == ["M2", "M1", "M0", school.course["code"]]


async def test_assistants_change_sections_and_make_none(lms: Lms, school: School) -> None:
    assistant = await lms.make_user("student", school.institution["id"])
    await lms.enroll(school.course["id"], assistant, "assistant")
    path = f"/courses/{school.course['id']}/sections"
    section = await school.teacher.create(path, {"name": "Monday"})
    assert (await assistant.patch(f"{path}/{section['id']}", {"name": "Tuesday"})).status_code == 200
    assert (await assistant.post(path, {"name": "Friday"})).status_code == 403
    assert (await assistant.delete(f"{path}/{section['id']}")).status_code == 403


async def test_a_section_list_of_a_course_that_is_not_there_is_404(lms: Lms) -> None:
    assert (await (await lms.admin()).get(f"/courses/{uuid4()}/sections")).status_code == 404


async def test_a_draft_shows_no_sections_to_who_may_not_know_it(lms: Lms, school: School) -> None:
    draft = await school.principal.create(
        "/courses", {"institution_id": school.institution["id"], "code": "DRAFT", "title": "Draft"}
    )
    path = f"/courses/{draft['id']}/sections"
    assert (await school.student.get(path)).status_code == 404
    assert (await school.principal.get(path)).status_code == 200


async def test_codes_that_look_the_same_are_the_same(lms: Lms, school: School) -> None:
    """An accent can be a letter of its own, or a mark behind the letter."""
    composed, decomposed = "Caf\u00e9", "Cafe\u0301"
    body = {"institution_id": school.institution["id"], "code": decomposed, "title": decomposed}
    course = await school.principal.create("/courses", body)
    assert (course["code"], course["title"]) == (composed, composed)
    again = await school.principal.post("/courses", body | {"code": composed})
    assert (again.status_code, again.json()["code"]) == (409, "natural_key_taken")
    for q in (composed, decomposed):
        found = await school.principal.items("/courses", institution_id=school.institution["id"], q=q)
        assert [one["id"] for one in found] == [course["id"]]
