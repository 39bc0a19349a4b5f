"""Enrollments from files and into files: whole or not at all, back again, and unchanged on the way round."""

from __future__ import annotations

import csv
import io
from typing import Any
from uuid import uuid4

import pytest
from enrollment_files import ask, done, parts, people, send, undo
from lms_enrollments import importing

from lms_core import import_plan
from lms_core.sdk import StateConflict
from lms_core.testing import Lms, School

pytestmark = pytest.mark.anyio


async def test_a_file_enrolls_ends_and_moves_and_is_undone(lms: Lms, school: School) -> None:
    course = await lms.make_course(school.institution["id"], code="BIO", capacity=2, waitlist=True)
    section = await school.principal.create(f"/courses/{course['id']}/sections", {"name": "Monday"})
    stays, goes, comes, waits = await people(lms, school, 4)
    await lms.enroll(course["id"], stays)
    await lms.enroll(course["id"], goes)
    before = await parts(lms, course["id"])
    content = (
        "course_code,email,role,section,state\n"
        f"BIO,{stays.email},,Monday,\n"
        f"BIO,{goes.email},student,,dropped\n"
        f"BIO,{comes.email},student,Monday,active\n"
        f"BIO,{waits.email},,,\n"
        f"BIO,{school.teacher.email},teacher,,\n"
    )
    plan = (await send(lms, school.principal, school, content, dry_run=True)).json()
    assert (plan["counts"], plan["refused"]) == ({"update": 1, "disable": 1, "create": 3}, None)
    assert await parts(lms, course["id"]) == before
    job = await done(lms, school, content)
    assert job["counts"] == plan["counts"]
    found = {
        user_id: (role, state, section_id) for user_id, role, state, section_id, *_ in await parts(lms, course["id"])
    }
    assert found[stays.id] == ("student", "active", section["id"]) or str(found[stays.id][2]) == section["id"]
    assert found[goes.id][1] == "dropped"
    assert found[comes.id][1] == "active"
    assert found[waits.id][1] == "waitlisted"
    assert found[school.teacher.id][:2] == ("teacher", "active")
    assert (await done(lms, school, content))["counts"] == {"unchanged": 5}
    undone = await undo(lms, school, job)
    assert undone["state"] == "undone"
    assert await parts(lms, course["id"]) == before
    assert await school.principal.items(f"/imports/{job['id']}/rows", state="left") == []


async def test_days_of_a_file_are_set_moved_and_undone(lms: Lms, school: School) -> None:
    course = await lms.make_course(school.institution["id"], code="BIO")
    there, comes = await people(lms, school, 2)
    enrolled = await lms.enroll(course["id"], there)
    days = {"starts_on": "2026-01-01", "ends_on": "2099-06-30"}
    assert (await school.principal.patch(f"/enrollments/{enrolled['id']}", days)).status_code == 200
    before = await parts(lms, course["id"])
    # An empty cell leaves what is there.
    content = f"course_code,email,starts_on,ends_on\nBIO,{there.email},,2099-07-31\nBIO,{comes.email},2026-02-01,\n"
    job = await done(lms, school, content)
    assert job["counts"] == {"update": 1, "create": 1}
    items = await school.principal.items("/enrollments", course_id=course["id"])
    found = {item["user_id"]: (item["starts_on"], item["ends_on"]) for item in items}
    assert found == {str(there.id): ("2026-01-01", "2099-07-31"), str(comes.id): ("2026-02-01", None)}
    wrong = await send(lms, school.principal, school, f"course_code,email,ends_on\nBIO,{there.email},2025-12-31\n")
    assert [(one["loc"][2], one["type"]) for one in wrong.json()["errors"]] == [("ends_on", "ends_before_start")]
    assert (await done(lms, school, content))["counts"] == {"unchanged": 2}
    await undo(lms, school, job)
    assert await parts(lms, course["id"]) == before


@pytest.mark.parametrize(
    ("row", "column", "code"),
    [
        ("NO,{student},,,", "course_code", "course_not_found"),
        ("BIO,nobody@example.org,,,", "email", "user_not_found"),
        ("BIO,{stranger},,,", "email", "user_not_found"),
        ("BIO,{student},wizard,,", "role", "unknown_role"),
        ("BIO,{student},,Sunday,", "section", "section_not_found"),
        ("BIO,{student},,,gone", "state", "unknown_state"),
        ("BIO,{student},,,dropped", "state", "not_enrolled"),
        (",{student},,,", "course_code", "missing"),
        ("BIO,{student},,,,01.09.2026,", "starts_on", "invalid_day"),
        ("BIO,{student},,,,,2026-02-30", "ends_on", "invalid_day"),
        ("BIO,{student},,,,2026-09-01,2026-08-31", "ends_on", "ends_before_start"),
        ("BIO,{disabled},,,", "email", "user_disabled"),
        ("BIO,{student},,Full,", "section", "section_full"),
    ],
)
async def test_one_wrong_row_stops_the_whole(lms: Lms, school: School, row: str, column: str, code: str) -> None:
    course = await lms.make_course(school.institution["id"], code="BIO")
    good, other = (await people(lms, school, 1))[0], await lms.make_school()
    [disabled] = await people(lms, school, 1)
    assert (await (await lms.admin()).patch(f"/users/{disabled.id}", {"is_active": False})).status_code == 200
    await school.principal.create(f"/courses/{course['id']}/sections", {"name": "Full", "capacity": 0})
    filled = row.format(student=school.student.email, stranger=other.student.email, disabled=disabled.email)
    header = "course_code,email,role,section,state,starts_on,ends_on"
    # Shorter rows leave the days out.
    filled += "," * (header.count(",") - filled.count(","))
    answer = await send(lms, school.principal, school, f"{header}\nBIO,{good.email},,,,,\n{filled}\n")
    assert (answer.status_code, answer.json()["code"]) == (422, "rows_refused")
    assert [(one["loc"], one["type"]) for one in answer.json()["errors"]] == [(["file", 3, column], code)]
    assert await parts(lms, course["id"]) == []


async def test_a_file_overbooks_nothing(lms: Lms, school: School) -> None:
    course = await lms.make_course(school.institution["id"], code="FULL", capacity=2)
    rows = "".join(f"FULL,{one.email}\n" for one in await people(lms, school, 3))
    answer = await send(lms, school.principal, school, f"course_code,email\n{rows}")
    assert [(one["loc"][1], one["type"]) for one in answer.json()["errors"]] == [(4, "course_full")]
    assert await parts(lms, course["id"]) == []
    # The last seat goes to somebody else between the plan and the run.
    first, second, third = await people(lms, school, 3)
    content = f"course_code,email\nFULL,{first.email}\nFULL,{second.email}\n"
    job = (await ask(lms, school.principal, school, content)).json()
    await lms.enroll(course["id"], third)
    await lms.work_off()
    found = (await school.principal.get(f"/imports/{job['id']}")).json()
    assert (found["state"], found["error"]["code"]) == ("failed", "in_the_way")
    assert [row[0] for row in await parts(lms, course["id"])] == [third.id]


async def test_a_code_in_two_terms_needs_the_term(lms: Lms, school: School) -> None:
    names = {}
    for name, days in (("Spring", ("2026-01-01", "2026-06-30")), ("Autumn", ("2026-09-01", "2026-12-18"))):
        body = {"institution_id": school.institution["id"], "name": name, "starts_on": days[0], "ends_on": days[1]}
        made = await school.principal.create("/courses/terms", body)
        names[name] = await lms.make_course(school.institution["id"], code="BIO", term_id=made["id"])
    [user] = await people(lms, school, 1)
    answer = await send(lms, school.principal, school, f"course_code,email\nBIO,{user.email}\n")
    assert [one["type"] for one in answer.json()["errors"]] == ["ambiguous_course"]
    await done(lms, school, f"course_code,email,term\nBIO,{user.email},Autumn\n")
    assert await parts(lms, names["Spring"]["id"]) == []
    assert len(await parts(lms, names["Autumn"]["id"])) == 1


async def test_too_many_drops_stop_the_run(lms: Lms, school: School) -> None:
    course = await lms.make_course(school.institution["id"], code="BIO")
    students = await people(lms, school, 6)
    for one in students:
        await lms.enroll(course["id"], one)
    content = "course_code,email,state\n" + "".join(f"BIO,{one.email},dropped\n" for one in students)
    answer = await send(lms, school.principal, school, content)
    assert (answer.status_code, answer.json()["code"]) == (409, "too_many_disabled")
    job = await done(lms, school, content, options={"max_disabled": 6})
    await school.principal.patch(f"/courses/{course['id']}", {"capacity": 5})
    await undo(lms, school, job)
    states = sorted(row[2] for row in await parts(lms, course["id"]))
    assert states == ["active"] * 5 + ["dropped"]
    [left] = await school.principal.items(f"/imports/{job['id']}/rows", state="left")
    assert "seat" in left["note"]


async def test_what_is_exported_is_read_back_unchanged(lms: Lms, school: School) -> None:
    code = f'=1+"{uuid4().hex[:6]}", or so'
    course = await lms.make_course(school.institution["id"], code=code, capacity=2, waitlist=True)
    section = await school.principal.create(f"/courses/{course['id']}/sections", {"name": '-Mon; "day"'})
    one, two, three, gone = await people(lms, school, 4)
    for user in (gone, one, two, three):
        await lms.enroll(course["id"], user)
    drops = {row["user_id"]: row["id"] for row in await school.principal.items("/enrollments", course_id=course["id"])}
    await school.principal.patch(f"/enrollments/{drops[str(gone.id)]}", {"state": "dropped"})
    moved = {"section_id": section["id"], "starts_on": "2026-09-01", "ends_on": "2099-01-31"}
    await school.principal.patch(f"/enrollments/{drops[str(one.id)]}", moved)
    params = {"institution_id": school.institution["id"]}
    answer = await school.principal.get("/enrollments/export", params=params)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/csv")
    rows = list(csv.reader(io.StringIO(answer.text)))
    assert len(rows) == 1 + 4 + 2
    assert not any(cell.startswith(("=", "-", "+", "@")) for row in rows for cell in row)
    before = await parts(lms, course["id"])
    job = await done(lms, school, answer.text)
    assert job["counts"] == {"unchanged": 6}
    assert await parts(lms, course["id"]) == before
    only = await school.principal.get("/enrollments/export", params={**params, "course_id": course["id"]})
    assert len(list(csv.reader(io.StringIO(only.text)))) == 1 + 4


async def test_who_may(lms: Lms, school: School) -> None:
    other = await lms.make_school()
    params = {"institution_id": school.institution["id"]}
    for caller, status in ((school.student, 403), (school.teacher, 403), (other.principal, 404)):
        assert (await caller.get("/enrollments/export", params=params)).status_code == status
        answer = await caller.post("/enrollments/import", {"file_id": str(uuid4()), **params})
        assert answer.status_code == status


@pytest.mark.parametrize(
    "rows",
    [
        "W,{a},,,active\nW,{a},student,,active",
        "W,{a},,,active\nW,{a},student,,dropped",
        "W,{a},,,active\nW,{a},,Autumn,active",
    ],
    ids=["empty and usual role", "contradiction", "empty and named term"],
)
@pytest.mark.parametrize("enrolled", [False, True])
async def test_the_same_in_other_words_is_the_same(lms: Lms, school: School, rows: str, enrolled: bool) -> None:
    term = {
        "institution_id": school.institution["id"],
        "name": "Autumn",
        "starts_on": "2026-09-01",
        "ends_on": "2026-12-18",
    }
    made = await school.principal.create("/courses/terms", term)
    course = await lms.make_course(school.institution["id"], code="W", capacity=2, waitlist=True, term_id=made["id"])
    [user] = await people(lms, school, 1)
    if enrolled:
        await lms.enroll(course["id"], user)
    before = await parts(lms, course["id"])
    content = "course_code,email,role,term,state\n" + rows.format(a=user.email)
    answer = await send(lms, school.principal, school, content)
    assert (answer.status_code, answer.json()["code"]) == (422, "rows_refused")
    errors = [(one["loc"][1], one["type"]) for one in answer.json()["errors"]]
    assert set(errors) <= {(2, "double"), (3, "double"), (3, "not_enrolled")}
    assert errors
    assert await parts(lms, course["id"]) == before


async def test_seats_are_counted_over_the_whole_file(lms: Lms, school: School, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_plan, "PLAN_CHUNK", 2)
    await lms.make_course(school.institution["id"], code="FULL", capacity=3)
    rows = "".join(f"FULL,{one.email}\n" for one in await people(lms, school, 5))
    answer = await send(lms, school.principal, school, f"course_code,email\n{rows}", dry_run=True)
    assert answer.json()["counts"] == {"create": 3, "error": 2}


async def test_undo_does_not_overbook_a_section(lms: Lms, school: School) -> None:
    course = await lms.make_course(school.institution["id"], code="SEC")
    section = await school.principal.create(f"/courses/{course['id']}/sections", {"name": "S", "capacity": 1})
    first, second = await people(lms, school, 2)
    there = {"course_id": course["id"], "role": "student", "section_id": section["id"]}
    await school.principal.create("/enrollments", {**there, "user_id": str(first.id)})
    job = await done(lms, school, f"course_code,email,state\nSEC,{first.email},dropped\n")
    await school.principal.create("/enrollments", {**there, "user_id": str(second.id)})
    assert (await undo(lms, school, job))["state"] == "undone"
    [left] = await school.principal.items(f"/imports/{job['id']}/rows", state="left")
    assert "section is full" in left["note"]


async def test_undo_leaves_days_that_do_not_fit_any_more(lms: Lms, school: School) -> None:
    course = await lms.make_course(school.institution["id"], code="DAY")
    [user] = await people(lms, school, 1)
    body = {"course_id": course["id"], "user_id": str(user.id), "role": "student", "starts_on": "2026-09-10"}
    enrollment = await school.principal.create("/enrollments", body)
    job = await done(lms, school, f"course_code,email,starts_on\nDAY,{user.email},2026-08-01\n")
    path = f"/enrollments/{enrollment['id']}"
    assert (await school.principal.patch(path, {"ends_on": "2026-08-15"})).status_code == 200
    assert (await undo(lms, school, job))["state"] == "undone"
    [left] = await school.principal.items(f"/imports/{job['id']}/rows", state="left")
    assert "days" in left["note"]


async def test_a_row_whose_undo_fails_is_left_and_the_others_are_undone(
    lms: Lms, school: School, monkeypatch: pytest.MonkeyPatch
) -> None:
    course = await lms.make_course(school.institution["id"], code="BAD")
    users = await people(lms, school, 3)
    rows = "".join(f"BAD,{one.email}\n" for one in users)
    job = await done(lms, school, f"course_code,email\n{rows}")
    whole = importing.undo_row

    async def refuse(uow: Any, job: Any, row: Any, id: Any) -> str | None:
        if row.number == 2:
            raise StateConflict("in_the_way", "Something unforeseen is in the way.")
        return await whole(uow, job, row, id)

    monkeypatch.setattr(importing, "undo_row", refuse)
    assert (await undo(lms, school, job))["state"] == "undone"
    [left] = await school.principal.items(f"/imports/{job['id']}/rows", state="left")
    assert left["note"] == "Left as it is: Something unforeseen is in the way."
    assert [row[0] for row in await parts(lms, course["id"])] == [users[1].id]


async def test_who_may_not_appoint_teachers_does_not_by_an_undo(lms: Lms, school: School) -> None:
    course = await lms.make_course(school.institution["id"], code="APP")
    teacher = await lms.make_user("teacher", school.institution["id"])
    await lms.enroll(course["id"], teacher, "teacher")
    job = await done(lms, school, f"course_code,email,role,state\nAPP,{teacher.email},teacher,dropped\n")
    role = await school.principal.create(
        "/users/roles",
        {
            "institution_id": school.institution["id"],
            "name": f"r{uuid4().hex[:8]}",
            "permissions": ["enrollments.import", "courses.read"],
        },
    )
    clerk = await lms.make_user("student", school.institution["id"])
    given = {"role": role["name"], "institution_id": school.institution["id"]}
    await school.principal.create(f"/users/{clerk.id}/roles", given)
    assert (await clerk.post(f"/imports/{job['id']}/undo")).status_code == 202
    await lms.work_off()
    assert [row[2] for row in await parts(lms, course["id"])] == ["dropped"]


@pytest.mark.parametrize("how", ["failed", "undone"])
async def test_what_was_taken_back_does_not_come_back_with_its_course(lms: Lms, school: School, how: str) -> None:
    course = await lms.make_course(school.institution["id"], code="MID")
    users = await people(lms, school, 3)
    rows = "".join(f"MID,{one.email}\n" for one in users)
    job = await done(lms, school, f"course_code,email\n{rows}")
    path = f"/courses/{course['id']}"
    assert (await school.principal.delete(path)).status_code == 202
    if how == "undone":
        await lms.work_off()
    assert (await school.principal.post(f"/imports/{job['id']}/undo")).status_code == 202
    await lms.work_off()
    await lms.sql("UPDATE core_delivery SET next_attempt_at = now() WHERE done_at IS NULL AND dead_at IS NULL")
    await lms.work_off()
    assert (await school.principal.get(f"/imports/{job['id']}")).json()["state"] == "undone"
    assert (await school.principal.post(f"{path}/restore")).status_code == 202
    await lms.work_off()
    assert await parts(lms, course["id"]) == []
    assert (await (await lms.admin()).get(path)).status_code == 200


async def test_undo_puts_who_waited_back_into_the_line(lms: Lms, school: School) -> None:
    course = await lms.make_course(school.institution["id"], code="LINE", capacity=1, waitlist=True)
    users = await people(lms, school, 4)
    for user in users:
        await lms.enroll(course["id"], user)
    before = await parts(lms, course["id"])
    job = await done(lms, school, f"course_code,email,state\nLINE,{users[2].email},dropped\n")
    assert (await undo(lms, school, job))["state"] == "undone"
    assert await school.principal.items(f"/imports/{job['id']}/rows", state="left") == []
    assert await parts(lms, course["id"]) == before


@pytest.mark.parametrize("how", ["disabled", "archived"])
async def test_undo_brings_nobody_back_who_could_not_join(lms: Lms, school: School, how: str) -> None:
    course = await lms.make_course(school.institution["id"], code="GONE")
    [user] = await people(lms, school, 1)
    await lms.enroll(course["id"], user)
    job = await done(lms, school, f"course_code,email,state\nGONE,{user.email},dropped\n")
    if how == "disabled":
        await school.principal.patch(f"/users/{user.id}", {"is_active": False})
    else:
        await school.principal.patch(f"/courses/{course['id']}", {"state": "archived"})
    await undo(lms, school, job)
    assert [row[2] for row in await parts(lms, course["id"])] == ["dropped"]


async def test_two_courses_of_one_name_are_exported_and_read_back(lms: Lms, school: School) -> None:
    body = {"institution_id": school.institution["id"], "starts_on": "2026-09-01", "ends_on": "2026-12-18"}
    autumn = await school.principal.create("/courses/terms", {**body, "name": "Autumn"})
    other = await school.principal.create("/courses/terms", {**body, "name": "Other"})
    without = await lms.make_course(school.institution["id"], code="BIO")
    in_term = await lms.make_course(school.institution["id"], code="BIO", term_id=autumn["id"])
    orphaned = await lms.make_course(school.institution["id"], code="BIO", term_id=other["id"])
    [user] = await people(lms, school, 1)
    for course in (without, in_term, orphaned):
        await lms.enroll(course["id"], user)
    assert (await school.principal.delete(f"/courses/terms/{other['id']}")).status_code == 202
    await lms.work_off()
    answer = await school.principal.get("/enrollments/export", params={"institution_id": school.institution["id"]})
    rows = [row for row in csv.DictReader(io.StringIO(answer.text)) if row["email"] == user.email]
    assert sorted(row["course_id"] for row in rows) == sorted(["", without["id"], orphaned["id"]])
    job = await done(lms, school, answer.text)
    assert set(job["counts"]) == {"unchanged"}


async def test_who_asks_anew_is_exported_and_read_back(lms: Lms, school: School) -> None:
    course = await lms.make_course(school.institution["id"], code="ASK", self_enrollment="approval")
    await school.principal.patch(f"/courses/{course['id']}", {"state": "published"})
    await lms.enroll(course["id"], school.student)
    [enrollment] = await school.student.items("/enrollments", course_id=course["id"])
    await school.student.patch(f"/enrollments/{enrollment['id']}", {"state": "dropped"})
    asked = await school.student.create("/enrollments/self", {"course_id": course["id"]})
    assert asked["state"] == "requested"
    params = {"institution_id": school.institution["id"], "course_id": course["id"]}
    answer = await school.principal.get("/enrollments/export", params=params)
    job = await done(lms, school, answer.text)
    assert job["counts"] == {"unchanged": 1}


async def test_a_file_grants_requests_and_its_undo_lets_them_ask_again(lms: Lms, school: School) -> None:
    course = await lms.make_course(school.institution["id"], code="ASK", self_enrollment="approval", capacity=1)
    await school.principal.patch(f"/courses/{course['id']}", {"state": "published"})
    one, two = await people(lms, school, 2)
    requests = [await who.create("/enrollments/self", {"course_id": course["id"]}) for who in (one, two)]
    # Who asked first has the seat, wherever they stand in the file.
    answer = await send(lms, school.principal, school, f"course_code,email\nASK,{two.email}\nASK,{one.email}\n")
    assert [(one["loc"], one["type"]) for one in answer.json()["errors"]] == [
        (["file", 2, "course_code"], "course_full")
    ]
    job = await done(lms, school, f"course_code,email\nASK,{one.email}\n")
    assert job["counts"] == {"update": 1}
    path = f"/enrollments/{requests[0]['id']}"
    assert (await one.get(path)).json()["state"] == "active"
    assert (await undo(lms, school, job))["state"] == "undone"
    assert (await one.get(path)).json()["state"] == "requested"
    assert [row["state"] for row in await school.principal.items(f"{path}/history")] == [
        "requested",
        "active",
        "requested",
    ]


async def test_an_export_comes_in_parts_that_an_import_takes(
    lms: Lms, school: School, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing.EnrollmentImporter, "most_rows", 2)
    course = await lms.make_course(school.institution["id"], code="MANY")
    for user in await people(lms, school, 3):
        await lms.enroll(course["id"], user)
    params = {"institution_id": school.institution["id"], "course_id": course["id"]}
    first = await school.principal.get("/enrollments/export", params=params)
    assert len(first.text.splitlines()) == 1 + 2
    link = first.headers["Link"]
    assert link.endswith('; rel="next"')
    second = await school.principal.get(f"/enrollments/export{link[1 : link.index('>')]}")
    assert len(second.text.splitlines()) == 1 + 1
    assert "Link" not in second.headers


async def test_a_cell_of_a_megabyte_is_named_by_line_and_column(lms: Lms, school: School) -> None:
    content = f"course_code,email,section\nBIO,a@example.org,{'x' * 1_000_000}\n"
    answer = await send(lms, school.principal, school, content)
    assert [(one["loc"], one["type"]) for one in answer.json()["errors"]] == [(["file", 2, "section"], "cell_too_long")]


async def test_what_was_changed_by_hand_since_stays_and_says_so(lms: Lms, school: School) -> None:
    course = await lms.make_course(school.institution["id"], code="HAND")
    sections = [
        await school.principal.create(f"/courses/{course['id']}/sections", {"name": name}) for name in ("S", "T")
    ]
    users = await people(lms, school, 3)
    rows = [await lms.enroll(course["id"], user) for user in users]
    lines = "".join(f"HAND,{user.email},S,2026-01-01,2098-01-01\n" for user in users)
    job = await done(lms, school, f"course_code,email,section,starts_on,ends_on\n{lines}")
    by_hand = ({"section_id": sections[1]["id"]}, {"ends_on": "2098-06-30"})
    for row, change in zip(rows, by_hand, strict=False):
        assert (await school.principal.patch(f"/enrollments/{row['id']}", change)).status_code == 200
    assert (await undo(lms, school, job))["state"] == "undone"
    notes = {
        row["line"]: row["note"] for row in await school.principal.items(f"/imports/{job['id']}/rows", state="left")
    }
    assert notes == {
        2: "Left in the section where they are, since somebody has moved them since.",
        3: "Its days are left as they are, since others were set since.",
    }
    found = {row[0]: row[3:] for row in await parts(lms, course["id"])}
    assert [str(found[users[0].id][0]), *found[users[0].id][1:]] == [sections[1]["id"], None, None, None]
    assert [str(day) for day in found[users[1].id]] == ["None", "None", "None", "2098-06-30"]
    assert found[users[2].id] == (None, None, None, None)


async def test_who_was_let_in_to_wait_and_moved_up_asks_again_after_the_undo(lms: Lms, school: School) -> None:
    """Nobody but the line has changed it since."""
    about = {"code": "UP", "self_enrollment": "approval", "capacity": 0, "waitlist": True}
    course = await lms.make_course(school.institution["id"], **about)
    [user] = await people(lms, school, 1)
    asked = await user.create("/enrollments/self", {"course_id": course["id"]})
    job = await done(lms, school, f"course_code,email\nUP,{user.email}\n")
    assert (await school.principal.patch(f"/courses/{course['id']}", {"capacity": 1})).status_code == 200
    path = f"/enrollments/{asked['id']}"
    assert (await user.get(path)).json()["state"] == "active"
    await undo(lms, school, job)
    assert (await user.get(path)).json()["state"] == "requested"
