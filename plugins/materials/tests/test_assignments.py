"""An assignment's life through HTTP: dates and extensions, drafts and attempts, grades and when they are seen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import samples
from browser import finish, send_form, upload
from lms_materials import submissions

from lms_core import routing
from lms_core.testing import Caller, Lms, School


def at(**offset: float) -> str:
    """A moment from now."""
    return (datetime.now(UTC) + timedelta(**offset)).isoformat()


async def make_assignment(school: School, **fields: Any) -> dict[str, Any]:
    """A published one of 20 points."""
    about = {
        name: fields.pop(name) for name in list(fields) if name in ("published", "requires", "unlock_at", "audience")
    }
    return await school.teacher.create(
        "/materials",
        {
            "course_id": school.course["id"], "kind": "assignment", "title": "Essay", "published": True,
            "assignment": {"points": 20, **fields}, **about,
        },
    )  # fmt: skip


async def make_students(lms: Lms, school: School, number: int) -> list[Caller]:
    """More students of the course."""
    students = [await lms.make_user("student", school.institution["id"]) for _ in range(number)]
    for student in students:
        await lms.enroll(school.course["id"], student)
    return students


async def hand_in(caller: Caller, assignment: dict[str, Any], **data: Any) -> dict[str, Any]:
    return await caller.create(f"/materials/{assignment['id']}/submissions", data or {"body": "Cells are small."})


async def refused(caller: Caller, assignment: dict[str, Any], **data: Any) -> tuple[int, str]:
    answer = await caller.post(f"/materials/{assignment['id']}/submissions", data or {"body": "Cells are small."})
    return answer.status_code, answer.json()["code"]


async def grade(caller: Caller, submission: dict[str, Any], points: float | None, **more: Any) -> dict[str, Any]:
    answer = await caller.send(
        "PUT", f"/materials/submissions/{submission['id']}/grade", json={"points": points, **more}
    )
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def backdate(lms: Lms, submission: dict[str, Any], moment: datetime) -> None:
    await lms.sql("UPDATE materials_submission SET submitted_at = :at WHERE id = :id", at=moment, id=submission["id"])


async def test_an_assignment_says_what_it_asks_for(school: School) -> None:
    made = await make_assignment(
        school, due_at="2126-10-01T10:00:00+02:00", attempts=3, late_policy={"deduct_percent": 10}
    )
    shown = (await school.student.get(f"/materials/{made['id']}")).json()
    assert shown["assignment"] == {
        "points": 20.0, "extra_credit": False, "opens_at": None, "due_at": "2126-10-01T08:00:00.000000Z",
        "closes_at": None, "timezone": school.institution["timezone"], "attempts": 3,
        "late_policy": {
            "grace_minutes": 0, "per": "day", "deduct_percent": 10, "cap_percent": 100, "floor_percent": 0
        },
        "grades_held": False, "grades_release_at": None,
        "yours": {"due_at": "2126-10-01T08:00:00.000000Z", "closes_at": None, "attempts": 3},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("assignment", "code"),
    [
        ({"points": -1}, "invalid_input"),
        ({"points": "5"}, "invalid_input"),
        ({"points": True}, "invalid_input"),
        ({"points": 1.005}, "invalid_input"),
        ({"points": 10**9}, "invalid_input"),
        ({}, "invalid_input"),
        ({"points": 5, "attempts": 0}, "invalid_input"),
        ({"points": 5, "due_at": "2126-01-01T00:00:00"}, "invalid_input"),
        ({"points": 5, "late_policy": {"deduct_percent": 101}}, "invalid_input"),
        ({"points": 5, "late_policy": {"per": "week"}}, "invalid_input"),
        ({"points": 5, "due_at": at(days=2), "closes_at": at(days=1)}, "dates_in_wrong_order"),
        ({"points": 5, "opens_at": at(days=2), "due_at": at(days=1)}, "dates_in_wrong_order"),
        ({"points": 5, "opens_at": at(days=2), "closes_at": at(days=1)}, "dates_in_wrong_order"),
    ],
)
async def test_what_is_no_assignment(school: School, assignment: dict[str, Any], code: str) -> None:
    body = {"course_id": school.course["id"], "kind": "assignment", "title": "E", "assignment": assignment}
    answer = await school.teacher.post("/materials", body)
    assert (answer.status_code, answer.json()["code"]) == (422, code), answer.text
    page = await school.teacher.post("/materials", {**body, "kind": "page", "assignment": {"points": 5}})
    assert page.status_code == 422


async def test_handing_in_takes_few_statements(lms: Lms, school: School) -> None:
    made = await make_assignment(school)
    await hand_in(school.student, made)
    async with lms.counted() as counted:
        await hand_in(school.student, made)
    # The guard and whether it is known; then held, one's turn, how one stands, enrolled, stored, read, the events.
    assert counted.statements == 2 + 7


async def test_attempts_are_kept(lms: Lms, school: School) -> None:
    made = await make_assignment(school, attempts=2)
    first = await hand_in(school.student, made, body="One")
    assert (first["attempt"], first["state"], first["late"], first["grade"]) == (1, "submitted", False, None)
    assert first["user_id"] == str(school.student.id)
    assert len(first["receipt"]) == 64
    second = await hand_in(school.student, made, body="Two", urls=["https://example.org/mine"])
    assert (second["attempt"], second["urls"]) == (2, ["https://example.org/mine"])
    assert await refused(school.student, made) == (409, "no_attempts_left")
    own = await school.student.items(f"/materials/{made['id']}/submissions")
    assert [(one["attempt"], one["body"]) for one in own] == [(2, "Two"), (1, "One")]
    assert own[1] == first
    assert await school.teacher.items(f"/materials/{made['id']}/submissions") == own


async def test_a_draft_is_the_students_alone(school: School) -> None:
    made = await make_assignment(school)
    path = f"/materials/{made['id']}/submissions"
    saved = await school.student.send("PUT", f"{path}/draft", json={"body": "So far"})
    assert (saved.status_code, saved.json()["state"], saved.json()["receipt"]) == (200, "draft", None)
    again = (await school.student.send("PUT", f"{path}/draft", json={"body": "Further"})).json()
    assert (again["id"], again["body"]) == (saved.json()["id"], "Further")
    for caller in (school.teacher, school.principal):
        assert await caller.items(path) == []
        assert (await caller.get(f"/materials/submissions/{again['id']}")).status_code == 404
    draft = await school.teacher.send("PUT", f"/materials/submissions/{again['id']}/grade", json={"points": 1})
    assert draft.status_code == 404
    as_it_is = await make_assignment(school)
    assert await refused(school.student, as_it_is, urls=[]) == (422, "nothing_to_hand_in")
    await school.student.send("PUT", f"/materials/{as_it_is['id']}/submissions/draft", json={"body": "All of it"})
    whole = await school.student.post(f"/materials/{as_it_is['id']}/submissions", {})
    assert (whole.status_code, whole.json()["body"], whole.json()["state"]) == (201, "All of it", "submitted")
    nothing = await school.student.post(f"/materials/{as_it_is['id']}/submissions", {})
    assert (nothing.status_code, nothing.json()["code"]) == (422, "nothing_to_hand_in")
    assert len(await school.student.items(f"/materials/{as_it_is['id']}/submissions")) == 1
    submitted = await hand_in(school.student, made, body="Done")
    assert (submitted["id"], submitted["attempt"], submitted["body"]) == (again["id"], 1, "Done")
    assert len(await school.student.items(path)) == 1


async def test_who_hands_in(lms: Lms, school: School) -> None:
    made = await make_assignment(school)
    other = await lms.make_school()
    for caller in (school.teacher, school.principal, await lms.admin()):
        assert await refused(caller, made) == (403, "forbidden")
    assert await refused(other.student, made) == (404, "material_not_found")
    draft = await make_assignment(school, published=False)
    assert await refused(school.student, draft) == (404, "material_not_found")
    page = await school.teacher.create(
        "/materials", {"course_id": school.course["id"], "kind": "page", "title": "P", "published": True}
    )
    assert await refused(school.student, page) == (409, "not_an_assignment")


async def test_students_see_their_own_alone(lms: Lms, school: School) -> None:
    made = await make_assignment(school)
    [other] = await make_students(lms, school, 1)
    theirs, mine = await hand_in(other, made), await hand_in(school.student, made)
    assert [one["id"] for one in await school.student.items(f"/materials/{made['id']}/submissions")] == [mine["id"]]
    assert (await school.student.get(f"/materials/submissions/{theirs['id']}")).status_code == 404
    narrowed = await school.student.items(f"/materials/{made['id']}/submissions", user_id=other.id)
    assert narrowed == []


async def test_dates_decide(lms: Lms, school: School) -> None:
    early = await make_assignment(school, opens_at=at(hours=1))
    assert await refused(school.student, early) == (409, "not_open_yet")
    over = await make_assignment(school, due_at=at(hours=-2), closes_at=at(hours=-1))
    assert await refused(school.student, over) == (409, "submissions_closed")
    saved = await school.student.send("PUT", f"/materials/{over['id']}/submissions/draft", json={"body": "x"})
    assert saved.json()["code"] == "submissions_closed"
    late = await hand_in(school.student, await make_assignment(school, due_at=at(hours=-1)))
    assert late["late"] is True
    graceful = await make_assignment(school, due_at=at(minutes=-5), late_policy={"grace_minutes": 10})
    assert (await hand_in(school.student, graceful))["late"] is False


async def test_the_clock_of_the_database_decides_under_load(lms: Lms, school: School) -> None:
    people = await make_students(lms, school, 10)
    made = await make_assignment(school)
    await lms.sql(
        "UPDATE materials_assignment SET closes_at = now() + interval '400 milliseconds' WHERE material_id = :id",
        id=made["id"],
    )

    async def try_until_closed(caller: Caller) -> set[int]:
        answers = set()
        while 409 not in answers:
            answers.add((await caller.post(f"/materials/{made['id']}/submissions", {"body": "x"})).status_code)
        return answers

    answers = await asyncio.gather(*map(try_until_closed, people))
    assert set.union(*answers) == {201, 409}
    late = await lms.sql(
        """
        SELECT count(*) AS n, count(*) FILTER (WHERE submitted_at > closes_at) AS after
        FROM materials_submission JOIN materials_assignment USING (material_id) WHERE material_id = :id
        """,
        id=made["id"],
    )
    assert late[0]["n"] > 0
    assert late[0]["after"] == 0


async def test_the_same_student_twenty_times_at_once(lms: Lms, school: School) -> None:
    made = await make_assignment(school, attempts=5)
    path = f"/materials/{made['id']}/submissions"
    answers = await asyncio.gather(*(school.student.post(path, {"body": str(n)}) for n in range(20)))
    assert sorted(answer.status_code for answer in answers) == [201] * 5 + [409] * 15
    assert [one["attempt"] for one in await school.student.items(path)] == [5, 4, 3, 2, 1]


async def test_points_are_not_lowered_below_grades(lms: Lms, school: School) -> None:
    made = await make_assignment(school, points=20)
    submission = await hand_in(school.student, made)
    path = f"/materials/submissions/{submission['id']}"
    assert (await school.teacher.send("PUT", f"{path}/grade", json={"points": 18})).status_code == 200
    answer = await school.teacher.patch(f"/materials/{made['id']}", {"assignment": {"points": 10}})
    assert (answer.status_code, answer.json()["code"]) == (409, "grades_above_points")
    # It may come back.
    assert (await school.teacher.delete(path)).status_code in (202, 403)
    answer = await school.teacher.patch(f"/materials/{made['id']}", {"assignment": {"points": 10}})
    assert (answer.status_code, answer.json()["code"]) == (409, "grades_above_points")
    more = await school.teacher.patch(f"/materials/{made['id']}", {"assignment": {"points": 10, "extra_credit": True}})
    assert more.status_code == 200, more.text
    answer = await school.teacher.patch(f"/materials/{made['id']}", {"assignment": {"extra_credit": False}})
    assert (answer.status_code, answer.json()["code"]) == (409, "grades_above_points")


async def test_extensions(lms: Lms, school: School) -> None:
    made = await make_assignment(school, due_at=at(hours=-3), closes_at=at(hours=-2), attempts=1)
    path = f"/materials/{made['id']}/extensions"
    assert await refused(school.student, made) == (409, "submissions_closed")
    given = await school.teacher.create(path, {"user_id": str(school.student.id), "days": 2, "reason": "ill"})
    again = await school.teacher.post(path, {"user_id": str(school.student.id), "days": 3})
    assert (again.status_code, again.json()["code"]) == (409, "natural_key_taken")
    assert (await hand_in(school.student, made))["late"] is False
    assert await refused(school.student, made) == (409, "no_attempts_left")
    more = await school.teacher.patch(f"/materials/extensions/{given['id']}", {"more_attempts": 1})
    assert more.status_code == 200, more.text
    yours = (await school.student.get(f"/materials/{made['id']}")).json()["assignment"]["yours"]
    assert yours["attempts"] == 2
    assert yours["due_at"] > made["assignment"]["due_at"]
    await hand_in(school.student, made)
    for caller in (school.student, school.principal):
        expected = 403 if caller is school.student else 200
        assert (await caller.get(path)).status_code == expected
    assert (await school.student.get(f"/materials/extensions/{given['id']}")).status_code == 404
    assert (await school.teacher.delete(f"/materials/extensions/{given['id']}")).status_code == 202
    # What was handed in while it held stays in time; whoever hands in now is late.
    [last, first] = await school.student.items(f"/materials/{made['id']}/submissions")
    assert (last["late"], first["late"]) == (False, False)
    yours = (await school.student.get(f"/materials/{made['id']}")).json()["assignment"]["yours"]
    assert yours["due_at"] == made["assignment"]["due_at"]
    assert (await school.teacher.post(f"/materials/extensions/{given['id']}/restore")).status_code == 202
    await lms.work_off()
    assert (await school.student.get(f"/materials/submissions/{last['id']}")).json()["late"] is False


async def test_extensions_of_sections_and_groups(lms: Lms, school: School) -> None:
    made = await make_assignment(school, due_at=at(hours=-1))
    section = await school.teacher.create(f"/courses/{school.course['id']}/sections", {"name": "A"})
    group = await school.teacher.create("/groups", {"course_id": school.course["id"], "name": "G"})
    path = f"/materials/{made['id']}/extensions"
    await school.teacher.create(path, {"section_id": section["id"], "days": 1})
    await school.teacher.create(path, {"group_id": group["id"], "days": 2})
    [outside, inside, both] = await make_students(lms, school, 3)
    for person in (inside, both):
        [enrollment] = await school.teacher.items("/enrollments", course_id=school.course["id"], user_id=person.id)
        answer = await school.teacher.patch(f"/enrollments/{enrollment['id']}", {"section_id": section["id"]})
        assert answer.status_code == 200, answer.text
    await school.teacher.create(f"/groups/{group['id']}/members", {"user_id": str(both.id)})
    dates = [
        (await person.get(f"/materials/{made['id']}")).json()["assignment"]["yours"]["due_at"]
        for person in (outside, inside, both)
    ]
    base = datetime.fromisoformat(made["assignment"]["due_at"])
    days = [round((datetime.fromisoformat(date) - base) / timedelta(days=1)) for date in dates]
    assert days == [0, 1, 2]
    stranger = (await lms.make_school()).student
    for body in ({"user_id": str(stranger.id), "days": 1}, {"section_id": group["id"], "days": 1}):
        assert (await school.teacher.post(path, body)).status_code == 404
    nothing = await school.teacher.post(path, {"user_id": str(inside.id)})
    assert nothing.status_code == 422


async def test_files_are_handed_in_for_good(lms: Lms, school: School) -> None:
    made = await make_assignment(school)
    file = await finish(lms, school.student, b"My essay", "text/plain", "essay.txt", course_id=school.course["id"])
    theirs = await finish(lms, school.teacher, b"Another", "text/plain", "b.txt", course_id=school.course["id"])
    assert await refused(school.student, made, file_ids=[theirs["id"]]) == (404, "file_not_found")
    submitted = await hand_in(school.student, made, file_ids=[file["id"]])
    assert submitted["files"] == [{"id": file["id"], "filename": "essay.txt"}]
    path = f"/files/{file['id']}"
    for method, place, body in (
        ("PATCH", path, {"filename": "other.txt"}),
        ("DELETE", path, None),
        ("POST", f"{path}/versions", {"content_type": "text/plain", "size": 3}),
    ):
        answer = await school.student.send(method, place, **({} if body is None else {"json": body}))
        assert (answer.status_code, answer.json()["code"]) == (409, "file_handed_in"), (method, answer.text)
    assert (await school.teacher.get(f"{path}/download")).status_code == 200
    [other] = await make_students(lms, school, 1)
    assert (await other.get(path)).status_code == 404


async def test_a_version_under_way_does_not_change_what_was_handed_in(lms: Lms, school: School) -> None:
    made = await make_assignment(school)
    file = await finish(lms, school.student, b"Before", "text/plain", "essay.txt", course_id=school.course["id"])
    body = {"content_type": "text/plain", "size": 5}
    version = await school.student.create(f"/files/{file['id']}/versions", body)
    await hand_in(school.student, made, file_ids=[file["id"]])
    assert (await send_form(version["upload"], b"After")).status_code == 204
    assert (await school.student.post(f"/files/{version['id']}/complete")).status_code == 202
    await lms.work_off()
    now = (await school.student.get(f"/files/{version['id']}")).json()
    assert (now["state"], now["reason"]) == ("rejected", "handed_in")
    assert (await school.student.get(f"/files/{file['id']}")).json()["sha256"] == file["sha256"]


async def test_a_version_is_not_handed_in(lms: Lms, school: School) -> None:
    made = await make_assignment(school)
    file = await finish(lms, school.student, b"Before", "text/plain", "essay.txt", course_id=school.course["id"])
    version = await school.student.create(f"/files/{file['id']}/versions", {"content_type": "text/plain", "size": 5})
    assert (await send_form(version["upload"], b"After")).status_code == 204
    await school.student.post(f"/files/{version['id']}/complete")
    await lms.work_off()
    assert await refused(school.student, made, file_ids=[version["id"]]) == (404, "file_not_found")


async def test_a_draft_is_404_for_others_whatever_they_ask(school: School) -> None:
    made = await make_assignment(school)
    saved = await school.student.send("PUT", f"/materials/{made['id']}/submissions/draft", json={"body": "x"})
    path = f"/materials/submissions/{saved.json()['id']}"
    for caller in (school.teacher, school.principal):
        assert (await caller.get(f"{path}/grades")).status_code == 404
    stale = {"If-Match": '"9-x"'}
    assert (await school.principal.send("DELETE", path, headers=stale)).status_code == 404
    assert (await school.principal.post(f"{path}/restore")).status_code == 404


async def test_what_was_in_time_stays_in_time(lms: Lms, school: School) -> None:
    made = await make_assignment(school, due_at=at(hours=-1), late_policy={"deduct_percent": 20})
    section = await school.teacher.create(f"/courses/{school.course['id']}/sections", {"name": "A"})
    enrolled = await school.teacher.items("/enrollments", course_id=school.course["id"], user_id=school.student.id)
    [mine] = [one for one in enrolled if one["user_id"] == str(school.student.id)]
    await school.teacher.patch(f"/enrollments/{mine['id']}", {"section_id": section["id"]})
    await school.teacher.create(f"/materials/{made['id']}/extensions", {"section_id": section["id"], "days": 1})
    submitted = await hand_in(school.student, made)
    await grade(school.teacher, submitted, 20)
    answer = await school.teacher.patch(f"/enrollments/{mine['id']}", {"state": "completed"})
    assert answer.status_code == 200, answer.text
    found = (await school.teacher.get(f"/materials/submissions/{submitted['id']}")).json()
    assert (found["late"], found["grade"]["final_points"]) == (False, 20.0)
    [student] = await school.teacher.items("/materials/grades", course_id=school.course["id"])
    assert student["grades"][0]["final_points"] == 20.0


async def test_dates_beyond_all_years(school: School) -> None:
    for date in ("9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z"):
        body = {
            "course_id": school.course["id"],
            "kind": "assignment",
            "title": "E",
            "assignment": {"points": 5, "due_at": date},
        }
        assert (await school.teacher.post("/materials", body)).status_code == 422


async def make_assignment_that_closes(lms: Lms, school: School) -> dict[str, Any]:
    """In four seconds: what is sent at once arrives before, also on a machine that has much else to do."""
    made = await make_assignment(school)
    await lms.sql(
        "UPDATE materials_assignment SET closes_at = now() + interval '4 seconds' WHERE material_id = :id RETURNING points",
        id=made["id"],
    )
    return made


async def until_closed(lms: Lms, made: dict[str, Any]) -> None:
    """Wait until the database's clock says so."""
    statement = "SELECT closes_at < clock_timestamp() AS closed FROM materials_assignment WHERE material_id = :id"
    while not (await lms.sql(statement, id=made["id"]))[0]["closed"]:
        await asyncio.sleep(0.1)


@pytest.mark.parametrize("place", [(routing, "authenticate"), (routing, "check_guard"), (submissions, "standing_of")])
async def test_waiting_here_is_not_the_students_fault(
    lms: Lms, school: School, monkeypatch: pytest.MonkeyPatch, place: tuple[Any, str]
) -> None:
    made = await make_assignment_that_closes(lms, school)
    enough = getattr(*place)

    async def held_up(*arguments: Any) -> Any:
        await until_closed(lms, made)
        return await enough(*arguments)

    monkeypatch.setattr(*place, held_up)
    submitted = await hand_in(school.student, made)
    rows = await lms.sql(
        "SELECT submitted_at < closes_at AS in_time FROM materials_submission JOIN materials_assignment "
        "USING (material_id) WHERE id = :id",
        id=submitted["id"],
    )
    assert rows[0]["in_time"] is True
    assert await refused(school.student, made) == (409, "submissions_closed")


async def test_what_comes_bit_by_bit_has_come_when_it_is_whole(lms: Lms, school: School) -> None:
    made = await make_assignment_that_closes(lms, school)

    async def bits() -> AsyncIterator[bytes]:
        yield b'{"body": '
        await until_closed(lms, made)
        yield b'"x"}'

    answer = await school.student.send(
        "POST",
        f"/materials/{made['id']}/submissions",
        content=bits(),
        headers={"Content-Type": "application/json"},
    )
    assert (answer.status_code, answer.json()["code"]) == (409, "submissions_closed")


async def test_a_later_attempt_is_not_submitted_before_an_earlier_one(lms: Lms, school: School) -> None:
    made = await make_assignment(school)
    await asyncio.gather(*(hand_in(school.student, made) for _ in range(8)))
    found = await school.student.items(f"/materials/{made['id']}/submissions")
    times = [one["submitted_at"] for one in found]
    assert times == sorted(times, reverse=True)


async def test_a_file_on_its_way_is_taken(lms: Lms, school: School) -> None:
    made = await make_assignment(school)
    requested = await school.student.create(
        "/files",
        {"filename": "a.txt", "content_type": "text/plain", "size": 5, "course_id": school.course["id"]},
    )
    assert await refused(school.student, made, file_ids=[requested["id"]]) == (409, "file_not_ready")
    file = await upload(school.student, b"Words", "text/plain", "a.txt", course_id=school.course["id"])
    assert len((await hand_in(school.student, made, file_ids=[file["id"]]))["files"]) == 1


async def test_grades(lms: Lms, school: School) -> None:
    made = await make_assignment(school)
    submitted = await hand_in(school.student, made)
    path = f"/materials/submissions/{submitted['id']}"
    graded = await grade(school.teacher, submitted, 15.5, feedback="Good")
    found = graded["grade"]
    assert (found["points"], found["final_points"], found["penalty"]) == (15.5, 15.5, None)
    assert (found["feedback"], found["graded_by"]) == ("Good", str(school.teacher.id))
    assert found["released_at"] == found["graded_at"]
    assert (await school.student.get(path)).json()["grade"] == found
    await grade(school.teacher, submitted, 15.5, feedback="Good")
    await grade(school.teacher, submitted, 17, feedback="Better", reason="I had overlooked a page")
    history = await school.teacher.items(f"{path}/grades")
    assert [(one["points"], one["reason"]) for one in history] == [(17.0, "I had overlooked a page"), (15.5, "")]
    assert (await school.student.get(f"{path}/grades")).status_code == 403
    await grade(school.teacher, submitted, None)
    assert (await school.student.get(path)).json()["grade"] is None
    assert len(await school.teacher.items(f"{path}/grades")) == 3
    for caller, status in ((school.student, 403), (school.principal, 403), ((await lms.make_school()).teacher, 404)):
        assert (await caller.send("PUT", f"{path}/grade", json={"points": 1})).status_code == status


@pytest.mark.parametrize("points", [20.01, -1, 10**9, "5", True, 1.001])
async def test_points_out_of_range(school: School, points: Any) -> None:
    submitted = await hand_in(school.student, await make_assignment(school))
    path = f"/materials/submissions/{submitted['id']}/grade"
    assert (await school.teacher.send("PUT", path, json={"points": points})).status_code == 422
    for raw in ('{"points": NaN}', '{"points": Infinity}', '{"points": 1e999}'):
        answer = await school.teacher.send("PUT", path, content=raw, headers={"Content-Type": "application/json"})
        assert answer.status_code in (400, 422), raw
    assert (await school.teacher.get(f"/materials/submissions/{submitted['id']}")).json()["grade"] is None


async def test_extra_credit(school: School) -> None:
    submitted = await hand_in(school.student, await make_assignment(school, extra_credit=True))
    assert (await grade(school.teacher, submitted, 25))["grade"]["points"] == 25.0


async def test_unreleased_grades_leave_no_trace(lms: Lms, school: School) -> None:
    made = await make_assignment(school, grades_held=True)
    submitted = await hand_in(school.student, made)
    path, course = f"/materials/submissions/{submitted['id']}", {"course_id": school.course["id"]}
    before = await school.student.get(path)
    await grade(school.teacher, submitted, 12)
    after = await school.student.get(path)
    assert (after.content, after.headers["ETag"]) == (before.content, before.headers["ETag"])
    assert (await school.student.items("/materials/grades", **course))[0]["grades"] == []
    assert (await school.teacher.get(path)).json()["grade"]["released_at"] is None
    released = await school.teacher.patch(
        f"/materials/{made['id']}", {"assignment": {"grades_release_at": at(hours=1)}}
    )
    assert released.status_code == 200, released.text
    assert (await school.student.get(path)).json()["grade"] is None
    await lms.sql("UPDATE materials_assignment SET grades_release_at = now() WHERE material_id = :id", id=made["id"])
    assert (await school.student.get(path)).json()["grade"]["points"] == 12.0
    assert (await school.student.items("/materials/grades", **course))[0]["grades"][0]["points"] == 12.0


async def test_grades_that_are_let_go_were_not_seen_before(school: School) -> None:
    made = await make_assignment(school, grades_held=True)
    submitted = await hand_in(school.student, made)
    given = (await grade(school.teacher, submitted, 12))["grade"]
    answer = await school.teacher.patch(f"/materials/{made['id']}", {"assignment": {"grades_held": False}})
    assert answer.status_code == 200, answer.text
    shown = (await school.student.get(f"/materials/submissions/{submitted['id']}")).json()["grade"]
    assert given["released_at"] is None
    assert shown["released_at"] > shown["graded_at"] == given["graded_at"]


async def test_a_document_shows_nothing_that_a_student_hands_in(lms: Lms, school: School) -> None:
    made = await make_assignment(school)
    file = await finish(lms, school.student, samples.pdf(["Private"]), course_id=school.course["id"])
    body = {"file_ids": [file["id"]]}
    saved = await school.student.send("PUT", f"/materials/{made['id']}/submissions/draft", json=body)
    assert saved.status_code == 200, saved.text
    about = {"course_id": school.course["id"], "kind": "document", "title": "D", "published": True}
    answer = await school.teacher.post("/materials", {**about, "file_id": file["id"]})
    assert (answer.status_code, answer.json()["code"]) == (409, "file_of_a_student")


async def test_being_late_is_explained(lms: Lms, school: School) -> None:
    policy = {"per": "day", "deduct_percent": 10, "floor_percent": 30}
    made = await make_assignment(school, due_at="2026-10-24T21:59:00Z", late_policy=policy)
    submitted = await hand_in(school.student, made)
    await grade(school.teacher, submitted, 18)
    # The clocks go back on the 25th in Berlin, so that this day has 25 hours.
    for moment, units, final in (
        (datetime(2026, 10, 24, 21, 59, tzinfo=UTC), None, 18.0),
        (datetime(2026, 10, 24, 22, 0, tzinfo=UTC), 1, 16.0),
        (datetime(2026, 10, 25, 22, 59, tzinfo=UTC), 1, 16.0),
        (datetime(2026, 10, 25, 23, 0, tzinfo=UTC), 2, 14.0),
        (datetime(2026, 12, 1, tzinfo=UTC), 38, 6.0),
    ):
        await lms.sql(
            "UPDATE institutions_institution SET timezone = 'Europe/Berlin' WHERE id = :id", id=school.institution["id"]
        )
        await backdate(lms, submitted, moment)
        found = (await school.student.get(f"/materials/submissions/{submitted['id']}")).json()
        assert found["late"] is (units is not None)
        assert (found["grade"]["points"], found["grade"]["final_points"]) == (18.0, final)
        penalty = found["grade"]["penalty"]
        assert (None if penalty is None else penalty["units"]) == units
    assert "30 % are kept" in penalty["explanation"]
    [student] = await school.student.items("/materials/grades", course_id=school.course["id"])
    assert (student["grades"][0]["late"], student["grades"][0]["final_points"]) == (True, 6.0)


async def test_the_grades_of_a_course(lms: Lms, school: School) -> None:
    [other] = await make_students(lms, school, 1)
    first, second = await make_assignment(school), await make_assignment(school)
    await grade(school.teacher, await hand_in(school.student, first), 5)
    await grade(school.teacher, await hand_in(school.student, first), 7)
    await hand_in(school.student, first)
    await grade(school.teacher, await hand_in(other, second), 9)
    path, course = "/materials/grades", {"course_id": school.course["id"]}
    found = {one["user_id"]: one["grades"] for one in await school.teacher.items(path, **course)}
    mine = found[str(school.student.id)]
    assert [(one["material_id"], one["attempt"], one["points"]) for one in mine] == [(first["id"], 2, 7.0)]
    assert [one["points"] for one in found[str(other.id)]] == [9.0]
    assert await school.principal.items(path, **course) == await school.teacher.items(path, **course)
    assert [one["user_id"] for one in await school.student.items(path, **course)] == [str(school.student.id)]
    async with lms.counted() as counted:
        await school.teacher.items(path, **course)
    assert counted.statements == 1
    assert await (await lms.make_school()).teacher.items(path, **course) == []
