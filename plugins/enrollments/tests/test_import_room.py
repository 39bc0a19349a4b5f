"""Room for what a file says: seats by its lines, with those that it frees, under the locks of the courses."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from enrollment_files import ask, done, parts, people, send, undo
from sqlalchemy import text

from lms_core import import_plan, import_work
from lms_core.testing import Caller, Lms, School

pytestmark = pytest.mark.anyio


async def states(school: School, course: dict[str, Any], users: list[Caller]) -> list[tuple[str, int | None]]:
    """What has become of each: the state, and the place in the line."""
    items = await school.principal.items("/enrollments", course_id=course["id"])
    found = {item["user_id"]: (item["state"], item["position"]) for item in items}
    return [found[str(user.id)] for user in users]


async def left(school: School, job: dict[str, Any]) -> list[str]:
    return [row["note"] for row in await school.principal.items(f"/imports/{job['id']}/rows", state="left")]


@pytest.mark.parametrize("at_once", [1, 500])
async def test_who_ends_leaves_the_seat_to_who_comes_wherever_they_stand(
    lms: Lms, school: School, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    """As a nightly file has it: one goes, another comes."""
    monkeypatch.setattr(import_plan, "PLAN_CHUNK", at_once)
    monkeypatch.setattr(import_work, "APPLY_CHUNK", at_once)
    course = await lms.make_course(school.institution["id"], code="FULL", capacity=1)
    section = await school.principal.create(f"/courses/{course['id']}/sections", {"name": "Monday", "capacity": 1})
    goes, comes, more = await people(lms, school, 3)
    there = {"course_id": course["id"], "user_id": str(goes.id), "role": "student", "section_id": section["id"]}
    await school.principal.create("/enrollments", there)
    before = await parts(lms, course["id"])
    rows = f"FULL,{comes.email},Monday,\nFULL,{goes.email},,dropped\n"
    too_many = await send(
        lms, school.principal, school, f"course_code,email,section,state\n{rows}FULL,{more.email},,\n"
    )
    assert [(one["loc"], one["type"]) for one in too_many.json()["errors"]] == [
        (["file", 4, "course_code"], "course_full")
    ]
    job = await done(lms, school, f"course_code,email,section,state\n{rows}")
    assert await states(school, course, [goes, comes]) == [("dropped", None), ("active", None)]
    assert (await undo(lms, school, job))["state"] == "undone"
    assert (await left(school, job), await parts(lms, course["id"])) == ([], before)


async def test_seats_go_by_the_lines_whatever_the_sections(lms: Lms, school: School) -> None:
    course = await lms.make_course(school.institution["id"], code="MIX", capacity=2, waitlist=True)
    for name in ("Monday", "Tuesday"):
        await school.principal.create(f"/courses/{course['id']}/sections", {"name": name})
    users = await people(lms, school, 4)
    sections = ("Monday", "Tuesday", "Monday", "Tuesday")
    rows = "".join(f"MIX,{user.email},{name}\n" for user, name in zip(users, sections, strict=True))
    await done(lms, school, f"course_code,email,section\n{rows}")
    expected = [("active", None), ("active", None), ("waitlisted", 1), ("waitlisted", 2)]
    assert await states(school, course, users) == expected


async def test_places_in_each_section_go_by_the_lines(lms: Lms, school: School) -> None:
    course = await lms.make_course(school.institution["id"], code="MIX")
    for name in ("Monday", "Tuesday"):
        await school.principal.create(f"/courses/{course['id']}/sections", {"name": name, "capacity": 1})
    users = await people(lms, school, 4)
    sections = ("Monday", "Tuesday", "Monday", "")
    rows = "".join(f"MIX,{user.email},{name}\n" for user, name in zip(users, sections, strict=True))
    refused = await send(lms, school.principal, school, f"course_code,email,section\n{rows}")
    assert [(one["loc"], one["type"]) for one in refused.json()["errors"]] == [(["file", 4, "section"], "section_full")]
    await done(
        lms, school, f"course_code,email,section\n{rows}".replace(f"{users[2].email},Monday", f"{users[2].email},")
    )


async def test_who_belongs_to_the_school_no_more_is_read_back(lms: Lms, school: School) -> None:
    """They take part still; nobody can be enrolled anew who does not belong to it."""
    course = await lms.make_course(school.institution["id"], code="OLD")
    user = (await people(lms, school, 1))[0]
    enrolled = await lms.enroll(course["id"], user)
    [role] = await school.principal.items(f"/users/{user.id}/roles")
    assert (await (await lms.admin()).delete(f"/users/{user.id}/roles/{role['id']}")).status_code == 202
    await lms.work_off()
    params = {"institution_id": school.institution["id"], "course_id": course["id"]}
    exported = (await school.principal.get("/enrollments/export", params=params)).text
    assert user.email in exported
    assert (await done(lms, school, exported))["counts"] == {"unchanged": 1}
    assert (await school.principal.delete(f"/enrollments/{enrolled['id']}")).status_code == 202
    refused = await send(lms, school.principal, school, exported)
    assert [(one["loc"], one["type"]) for one in refused.json()["errors"]] == [(["file", 2, "email"], "user_not_found")]


async def test_who_is_passed_over_in_the_line_leaves_no_seat(lms: Lms, school: School) -> None:
    """They kept nobody from one; the file is refused with its line, and not carried out in part."""
    course = await lms.make_course(school.institution["id"], code="LINE", capacity=1, waitlist=True)
    seated, waits, comes = await people(lms, school, 3)
    for user in (seated, waits):
        await lms.enroll(course["id"], user)
    assert (await school.principal.patch(f"/users/{waits.id}", {"is_active": False})).status_code == 200
    assert (await school.principal.patch(f"/courses/{course['id']}", {"waitlist": False})).status_code == 200
    rows = f"LINE,{waits.email},dropped\nLINE,{comes.email},\n"
    refused = await send(lms, school.principal, school, f"course_code,email,state\n{rows}")
    assert [(one["loc"], one["type"]) for one in refused.json()["errors"]] == [
        (["file", 3, "course_code"], "course_full")
    ]


async def test_the_course_is_as_it_is_under_its_lock(lms: Lms, school: School) -> None:
    """It was archived while the import waited for it."""
    course = await lms.make_course(school.institution["id"], code="LATE")
    user = (await people(lms, school, 1))[0]
    async with lms.context.unit_of_work() as uow:
        answer = await ask(lms, school.principal, school, f"course_code,email\nLATE,{user.email}\n")
        assert answer.status_code == 202, answer.text
        archive = text("UPDATE courses_course SET state = 'archived' WHERE id = :id")
        await uow.session.execute(archive, {"id": course["id"]})
        working = asyncio.create_task(lms.work_off())
        await lms.until_somebody_waits()
    await working
    job = (await school.principal.get(answer.headers["Location"])).json()
    assert job["state"] == "failed"
    assert "archived" in job["error"]["detail"]
    assert await parts(lms, course["id"]) == []


@pytest.mark.parametrize(
    ("content", "loc", "code"),
    [
        ("course_code,email\nBIO,ä@example.org\n".encode("latin-1"), ["file", 2], "csv_not_utf8"),
        (b"course_code,email\n" + b"BIO,a@example.org\n" * 10_001, ["file", 1], "too_many_rows"),
        (b'course_code,email\nBIO,"a@example.org\n', ["file", 2], "csv_broken"),
        (b"course_code,email\nBIO\n", ["file", 2, None], "wrong_number_of_cells"),
        (b"course_code,email,starts_on\nBIO,a@example.org,20260901\n", ["file", 2, "starts_on"], "invalid_day"),
    ],
)
async def test_what_is_wrong_with_a_file_is_said_with_its_place(
    lms: Lms, school: School, content: bytes, loc: list[Any], code: str
) -> None:
    answer = await send(lms, school.principal, school, content)
    assert answer.status_code == 422
    assert (loc, code) in [(one["loc"], one["type"]) for one in answer.json()["errors"]]
    assert await school.principal.items("/imports") == []


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
async def test_what_spreadsheets_write_is_read(lms: Lms, school: School, encoding: str, ends: str) -> None:
    course = await lms.make_course(school.institution["id"], code="Über;Blick")
    user = (await people(lms, school, 1))[0]
    rows = ["Course Code;E-mail".replace("E-mail", "email"), f'"Über;Blick";{user.email.upper()}', ""]
    await done(lms, school, ends.join(rows).encode(encoding))
    assert await states(school, course, [user]) == [("active", None)]
