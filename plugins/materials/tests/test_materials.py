"""Materials, their files and the search over both, through HTTP and the real store."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import samples
from browser import browsing, finish

from lms_core.testing import Caller, Lms, School

pytestmark = pytest.mark.anyio
PAGES = ["Cells are small.", "The mitochondria is the powerhouse of the cell.", "Ribosomes make proteins."]


async def upload(lms: Lms, caller: Caller, course: str, name: str, content_type: str, content: bytes) -> dict[str, Any]:
    """As a browser does it: request, multipart/form-data to the store, complete."""
    body = {"filename": name, "content_type": content_type, "size": len(content), "course_id": course}
    made = await caller.create("/files", body)
    form = made["upload"]
    async with browsing() as browser:
        sent = await browser.post(form["url"], data=form["fields"], files={"file": (name, content)})
    assert sent.status_code in (200, 201, 204), sent.text
    assert (await caller.post(f"/files/{made['id']}/complete")).status_code == 202
    await lms.work_off()
    ready = (await caller.get(f"/files/{made['id']}")).json()
    assert ready["state"] == "ready", ready
    return dict(ready)


async def page(caller: Caller, course: str, title: str, **fields: Any) -> dict[str, Any]:
    body = {"course_id": course, "kind": "page", "title": title, "published": True, **fields}
    return await caller.create("/materials", body)


async def document(lms: Lms, school: School, **fields: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    course = school.course["id"]
    file = await upload(lms, school.teacher, course, "cells.pdf", "application/pdf", samples.pdf(PAGES))
    body = {"kind": "document", "file_id": file["id"], "published": True, **fields}
    made = await page(school.teacher, course, "Handout", **body)
    await lms.work_off()
    return made, file


async def hits(caller: Caller, q: str, **filters: str) -> list[str]:
    return [item["material_id"] for item in await caller.items("/materials/search", q=q, **filters)]


async def test_a_documents_words_are_found_by_those_who_may_read_it(lms: Lms, school: School) -> None:
    made, _ = await document(lms, school)
    outside = await lms.make_user("student", school.institution["id"])
    stranger = (await lms.make_school()).teacher
    for caller in (school.student, school.teacher, school.principal):
        assert await hits(caller, "mitochondria") == [made["id"]]
    for caller in (outside, stranger):
        assert await hits(caller, "mitochondria") == []
        assert (await caller.get(f"/materials/{made['id']}")).status_code == 404
    found = (await school.student.items("/materials/search", q="mitochondria"))[0]
    assert found["page"] == 2
    assert "«mitochondria»" in found["snippet"]
    assert found["title"] == "Handout"
    assert found["rank"] > 0


@pytest.mark.parametrize("kind", ["docx", "text"])
async def test_other_documents_are_found_too(lms: Lms, school: School, kind: str) -> None:
    name, content_type, content = {
        "docx": (
            "a.docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
            samples.docx_file(["Chlorophyll is green."]),
        ),
        "text": ("a.txt", "text/plain", b"Chlorophyll is green."),
    }[kind]  # fmt: skip
    file = await upload(lms, school.teacher, school.course["id"], name, content_type, content)
    body = {"kind": "document", "file_id": file["id"]}
    made = await page(school.teacher, school.course["id"], "Leaves", **body)
    await lms.work_off()
    assert await hits(school.student, "chlorophyll") == [made["id"]]


async def test_the_title_counts_more_than_the_body(lms: Lms, school: School) -> None:
    course = school.course["id"]
    low = await page(school.teacher, course, "Other", body="osmosis")
    high = await page(school.teacher, course, "Osmosis", body="nothing")
    draft = await page(school.teacher, course, "Osmosis draft", published=False)
    await lms.work_off()
    assert await hits(school.student, "osmosis") == [high["id"], low["id"]]
    assert set(await hits(school.teacher, "osmosis")) == {high["id"], low["id"], draft["id"]}
    answer = await school.student.get("/materials/search", params={"q": "osmosis", "limit": 1})
    assert answer.json()["next_cursor"]
    assert len(await school.student.items("/materials/search", q="osmosis", limit="1")) == 2
    assert await hits(school.student, "osmosis", course_id=(await lms.make_school()).course["id"]) == []


async def test_search_follows_changes(lms: Lms, school: School) -> None:
    made = await page(school.teacher, school.course["id"], "Meiosis")
    await lms.work_off()
    assert await hits(school.student, "meiosis") == [made["id"]]
    await school.teacher.patch(f"/materials/{made['id']}", {"title": "Mitosis"})
    await lms.work_off()
    assert await hits(school.student, "meiosis") == []
    assert await hits(school.student, "mitosis") == [made["id"]]


@pytest.mark.parametrize("q", ["'", '"', "a & | !", "(((", "\\", ":*", "%", "x" * 300, "ü", "𝕏", "the", "-", "or or"])
async def test_no_words_break_the_search(lms: Lms, school: School, q: str) -> None:
    assert (await school.student.get("/materials/search", params={"q": q})).status_code == 200


async def test_a_deleted_course_hides_everything_at_once_and_restore_brings_it_back(lms: Lms, school: School) -> None:
    made, file = await document(lms, school)
    early = await page(school.teacher, school.course["id"], "Early mitochondria")
    await lms.work_off()
    await school.teacher.delete(f"/materials/{early['id']}")
    await lms.work_off()
    paths = [f"/materials/{made['id']}", f"/files/{file['id']}", f"/files/{file['id']}/download"]
    before = [(await school.student.get(path)).status_code for path in paths]
    assert before == [200, 200, 200]
    course = f"/courses/{school.course['id']}"
    deletion = (await school.principal.delete(course)).json()
    # No delivery was worked off yet: hiding does not wait for the cascade.
    assert [(await school.student.get(path)).status_code for path in [*paths, course]] == [404] * 4
    assert await hits(school.student, "mitochondria") == []
    assert await school.student.items("/enrollments") == []
    await lms.work_off()
    counts = (await school.principal.get(f"/deletions/{deletion['id']}")).json()["counts"]
    assert counts == {
        "courses.course": 1, "materials.material": 1, "files.file": 1, "enrollments.enrollment": 2,
    }  # fmt: skip
    await school.principal.post(f"{course}/restore")
    await lms.work_off()
    assert [(await school.student.get(path)).status_code for path in [*paths, course]] == [200] * 4
    assert await hits(school.student, "mitochondria") == [made["id"]]
    assert (await school.student.get(f"/materials/{early['id']}")).status_code == 404


async def test_a_deleted_file_takes_its_words_but_not_its_material(lms: Lms, school: School) -> None:
    made, file = await document(lms, school)
    await school.teacher.delete(f"/files/{file['id']}")
    assert (await school.student.get(f"/materials/{made['id']}")).status_code == 200
    assert (await school.student.get(f"/files/{file['id']}/download")).status_code == 404
    assert await hits(school.student, "mitochondria") == []
    assert await hits(school.student, "handout") == [made["id"]]
    assert (await school.teacher.patch(f"/materials/{made['id']}", {"published": False})).status_code == 200
    await school.teacher.post(f"/files/{file['id']}/restore")
    await lms.work_off()
    # What happened to the material meanwhile counts: it is a draft now, and so is its file.
    assert (await school.student.get(f"/files/{file['id']}")).status_code == 404
    await school.teacher.patch(f"/materials/{made['id']}", {"published": True})
    assert (await school.student.get(f"/files/{file['id']}/download")).status_code == 200
    assert await hits(school.student, "mitochondria") == [made["id"]]


async def test_the_file_of_a_draft_is_for_staff(lms: Lms, school: School) -> None:
    made, file = await document(lms, school, published=False)
    assert (await school.student.get(f"/files/{file['id']}")).status_code == 404
    await school.teacher.patch(f"/materials/{made['id']}", {"published": True})
    assert (await school.student.get(f"/files/{file['id']}")).status_code == 200
    await school.teacher.delete(f"/materials/{made['id']}")
    assert (await school.student.get(f"/files/{file['id']}")).status_code == 404
    await school.teacher.post(f"/materials/{made['id']}/restore")
    await lms.work_off()
    assert (await school.student.get(f"/files/{file['id']}")).status_code == 200


async def test_a_file_of_another_course_is_not_found(lms: Lms, school: School) -> None:
    _, file = await document(lms, school)
    other = await lms.make_course(school.institution["id"])
    body = {"course_id": other["id"], "kind": "document", "title": "X", "file_id": file["id"]}
    answer = await school.principal.post("/materials", body)
    assert (answer.status_code, answer.json()["code"]) == (404, "file_not_found")


async def test_an_exam_is_kept_from_the_class_until_its_material_shows_it(lms: Lms, school: School) -> None:
    course = {"course_id": school.course["id"]}
    file = await finish(lms, school.teacher, samples.pdf(["Exam"]), shared=False, **course)
    assert (await school.student.get(f"/files/{file['id']}")).status_code == 404
    made = await school.teacher.create(
        "/materials", {**course, "kind": "document", "title": "Exam", "file_id": file["id"]}
    )
    assert (await school.student.get(f"/files/{file['id']}")).status_code == 404
    await school.teacher.patch(f"/materials/{made['id']}", {"published": True})
    assert (await school.student.get(f"/files/{file['id']}")).status_code == 200
    # It is nothing for those who only hand in.
    own = await finish(lms, school.student, samples.pdf(["Mine"]), shared=True, **course)
    classmate = await lms.make_user("student", school.institution["id"])
    await lms.enroll(school.course["id"], classmate)
    assert (await classmate.get(f"/files/{own['id']}")).status_code == 404


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "document"}, {"kind": "link"}, {"kind": "link", "url": "javascript:alert(1)"}, {"kind": "quiz"},
        {"kind": "page", "url": "https://example.org"}, {"kind": "page", "body": "ü" * 140_000},
        {"kind": "page", "position": -(2**40)}, {"kind": "page", "position": 2**40},
    ],
)  # fmt: skip
async def test_bad_fields_are_422(school: School, fields: dict[str, Any]) -> None:
    body = {"course_id": school.course["id"], "title": "X", **fields}
    assert (await school.teacher.post("/materials", body)).status_code == 422


async def test_who_makes_and_changes(lms: Lms, school: School) -> None:
    assistant = await lms.make_user("student", school.institution["id"])
    await lms.enroll(school.course["id"], assistant, "assistant")
    made = await page(school.teacher, school.course["id"], "Cells")
    path, body = f"/materials/{made['id']}", {"course_id": school.course["id"], "kind": "page", "title": "X"}
    assert (await school.student.post("/materials", body)).status_code == 403
    assert (await school.student.patch(path, {"title": "X"})).status_code == 403
    assert (await assistant.post("/materials", body)).status_code == 403
    assert (await assistant.patch(path, {"title": "X"})).status_code == 200
    assert (await assistant.delete(path)).status_code == 403
    assert (await school.teacher.delete(path)).status_code == 202


async def test_lists_are_in_the_order_of_positions(school: School) -> None:
    course = school.course["id"]
    for title, position in (("Third", 3), ("First", 1), ("Second", 2), ("Also second", 2)):
        await page(school.teacher, course, title, position=position)
    found = await school.student.items("/materials", course_id=course, limit="1")
    assert [item["title"] for item in found] == ["First", "Second", "Also second", "Third"]


async def test_two_materials_that_show_one_file_change_at_once(lms: Lms, school: School) -> None:
    first, file = await document(lms, school)
    second = await page(school.teacher, school.course["id"], "Again", kind="document", file_id=file["id"])
    for _ in range(10):
        await asyncio.gather(
            school.teacher.patch(f"/materials/{first['id']}", {"published": False}),
            school.teacher.patch(f"/materials/{second['id']}", {"published": True}),
        )
        assert (await school.student.get(f"/files/{file['id']}")).status_code == 200
        first, second = second, first
