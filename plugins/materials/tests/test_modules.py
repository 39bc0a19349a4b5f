"""Modules and their order, schedules, prerequisites and what is locked, history, kinds of other plugins, what may be written."""

from __future__ import annotations

import asyncio
import random
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from browser import finish
from lms_materials import bodies, revisions, service
from lms_materials.contracts import MaterialKind
from pydantic import BaseModel

from lms_core.platform import add_extension
from lms_core.testing import Caller, Lms, School


def at(**offset: float) -> str:
    """A moment from now."""
    return (datetime.now(UTC) + timedelta(**offset)).isoformat()


async def make_module(school: School, title: str = "Cells", **fields: Any) -> dict[str, Any]:
    return await school.teacher.create(
        "/materials/modules", {"course_id": school.course["id"], "title": title, **fields}
    )


async def make_page(school: School, title: str = "Page", **fields: Any) -> dict[str, Any]:
    body = {"course_id": school.course["id"], "kind": "page", "title": title, "body": "Words", "published": True}
    return await school.teacher.create("/materials", {**body, **fields})


async def shown(caller: Caller, material: dict[str, Any]) -> dict[str, Any]:
    answer = await caller.get(f"/materials/{material['id']}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def titles(school: School, path: str = "/materials", **filters: Any) -> list[str]:
    return [one["title"] for one in await school.teacher.items(path, course_id=school.course["id"], **filters)]


# Order


async def test_what_is_new_comes_last(school: School) -> None:
    for title in ("A", "B", "C"):
        await make_module(school, title)
        await make_page(school, title)
    assert await titles(school) == ["A", "B", "C"]
    assert await titles(school, "/materials/modules") == ["A", "B", "C"]


async def test_moving_changes_nothing_else(lms: Lms, school: School) -> None:
    made = {title: await make_page(school, title) for title in "ABCDE"}
    others = {one["id"]: one["version"] for one in await lms.sql("SELECT id, version FROM materials_material")}
    moved = await school.teacher.post(f"/materials/{made['E']['id']}/move", {"after_id": made["A"]["id"]})
    assert moved.status_code == 200, moved.text
    assert await titles(school) == ["A", "E", "B", "C", "D"]
    await school.teacher.post(f"/materials/{made['C']['id']}/move", {"after_id": None})
    assert await titles(school) == ["C", "A", "E", "B", "D"]
    after = {one["id"]: one["version"] for one in await lms.sql("SELECT id, version FROM materials_material")}
    changed = {str(id) for id, version in after.items() if others[id] != version}
    assert changed == {made["E"]["id"], made["C"]["id"]}


async def test_a_gap_without_a_number_left(lms: Lms, school: School) -> None:
    made = [await make_page(school, str(number), position=0) for number in range(4)]
    expected = ["0", "1", "2", "3"]
    # Neighbours with one number, as here, and neighbours between whose numbers there is none.
    for places in ((0, 0, 0, 0), (0, 5e-324, 1, 2), (1, 1.0000000000000002, 1.0000000000000004, 7)):
        for row, place in zip(expected, places, strict=True):
            id = made[int(row)]["id"]
            await lms.sql("UPDATE materials_material SET position = :place WHERE id = :id", id=id, place=place)
        assert await titles(school) == expected
        answer = await school.teacher.post(f"/materials/{made[3]['id']}/move", {"after_id": made[0]["id"]})
        assert answer.status_code == 200, answer.text
        expected.remove("3")
        expected.insert(expected.index("0") + 1, "3")
        assert await titles(school) == expected
        for _ in range(4):
            row = random.Random(5).choice(expected[2:])
            await school.teacher.post(f"/materials/{made[int(row)]['id']}/move", {"after_id": None})
            expected.remove(row)
            expected.insert(0, row)
        assert await titles(school) == expected
        expected = sorted(expected)
        for row in reversed(expected):
            await school.teacher.post(f"/materials/{made[int(row)]['id']}/move", {"after_id": None})
        assert await titles(school) == expected


async def test_moves_at_the_same_time(school: School) -> None:
    made = [await make_page(school, str(number)) for number in range(5)]
    moves = [
        school.teacher.post(f"/materials/{one['id']}/move", {"after_id": made[0]["id"]})
        for one in made[1:]
        for _ in "ab"
    ]
    assert {answer.status_code for answer in await asyncio.gather(*moves)} == {200}
    places = [one["position"] for one in await school.teacher.items("/materials", course_id=school.course["id"])]
    assert len(set(places)) == 5


async def test_into_another_module(lms: Lms, school: School) -> None:
    module, other = await make_module(school), await make_module(school, "Other")
    page = await make_page(school, module_id=module["id"])
    assert await titles(school, module_id=module["id"]) == ["Page"]
    beside = await make_page(school, "Beside", module_id=other["id"])
    path = f"/materials/{page['id']}/move"
    moved = await school.teacher.post(path, {"module_id": other["id"], "after_id": beside["id"]})
    assert moved.json()["module_id"] == other["id"]
    assert await titles(school, module_id=other["id"]) == ["Beside", "Page"]
    elsewhere = await (foreign := await lms.make_school()).teacher.create(
        "/materials/modules", {"course_id": foreign.course["id"], "title": "X"}
    )
    for body, code in (
        ({"module_id": elsewhere["id"], "after_id": None}, "module_not_found"),
        ({"after_id": elsewhere["id"]}, "material_not_found"),
    ):
        answer = await school.teacher.post(path, body)
        assert (answer.status_code, answer.json()["code"]) == (404, code)
    itself = await school.teacher.post(path, {"after_id": page["id"]})
    assert (itself.status_code, itself.json()["errors"][0]["type"]) == (422, "after_itself")


async def test_a_module_takes_what_is_in_it(lms: Lms, school: School) -> None:
    module = await make_module(school)
    page, gone = [await make_page(school, title, module_id=module["id"]) for title in ("Stays", "Gone before")]
    await school.teacher.delete(f"/materials/{gone['id']}")
    before = await school.teacher.get(f"/materials/{page['id']}")
    deleted = await school.teacher.delete(f"/materials/modules/{module['id']}")
    assert deleted.status_code == 202, deleted.text
    await lms.work_off()
    assert (await school.student.get(f"/materials/{page['id']}")).status_code == 404
    assert (await school.teacher.get(f"/deletions/{deleted.json()['id']}")).json()["counts"] == {
        "materials.material": 1, "materials.module": 1,
    }  # fmt: skip
    await school.teacher.post(f"/materials/modules/{module['id']}/restore")
    await lms.work_off()
    restored = (await school.teacher.get(f"/materials/{page['id']}")).json()
    assert {**restored, "updated_at": ""} == {**before.json(), "updated_at": ""}
    assert (await school.teacher.get(f"/materials/{gone['id']}")).status_code == 404


# What students see, and when


async def test_a_module_that_is_not_published_hides_what_is_in_it(school: School) -> None:
    module = await make_module(school, published=False)
    page = await make_page(school, module_id=module["id"])
    assert (await school.student.get(f"/materials/{page['id']}")).status_code == 404
    assert (await school.student.get(f"/materials/modules/{module['id']}")).status_code == 404
    await school.teacher.patch(f"/materials/modules/{module['id']}", {"published": True})
    assert (await shown(school.student, page))["body"] == "Words"


async def test_something_publishes_itself(lms: Lms, school: School) -> None:
    page = await make_page(school, published=False, publish_at=at(hours=1))
    assert (await school.student.get(f"/materials/{page['id']}")).status_code == 404
    assert (await shown(school.teacher, page))["published"] is False
    await lms.sql("UPDATE materials_material SET publish_at = now() WHERE id = :id", id=page["id"])
    # By the clock, before any worker has looked.
    assert (await shown(school.student, page))["published"] is True
    async with lms.context.unit_of_work() as uow:
        await service.publish_due(uow)
    rows = await lms.sql("SELECT published FROM materials_material WHERE id = :id", id=page["id"])
    assert rows[0]["published"] is True
    events = await lms.sql(
        "SELECT count(*) AS n FROM core_event WHERE name = 'materials.material_published.v1' AND payload ->> 'material_id' = :id",
        id=page["id"],
    )
    assert events[0]["n"] == 1
    hidden = (await school.teacher.patch(f"/materials/{page['id']}", {"published": False})).json()
    assert (hidden["published"], hidden["publish_at"]) == (False, None)
    assert (await school.student.get(f"/materials/{page['id']}")).status_code == 404


async def test_until_it_is_unlocked_the_title_is_all(lms: Lms, school: School) -> None:
    file = await finish(lms, school.teacher, b"Secret words", "text/plain", "a.txt", course_id=school.course["id"])
    module = await make_module(school, unlock_at=at(days=2))
    page = await make_page(school, module_id=module["id"], unlock_at=at(days=1))
    document = await make_page(
        school, kind="document", body="", file_id=file["id"], module_id=module["id"], title="Document"
    )
    found = await shown(school.student, page)
    assert (found["title"], found["body"], found["url"]) == ("Page", "", None)
    assert found["locked"]["requires"] == []
    assert abs(
        datetime.fromisoformat(found["locked"]["unlock_at"]) - datetime.fromisoformat(module["unlock_at"])
    ) < timedelta(seconds=1)
    assert (await shown(school.student, document))["file_id"] is None
    assert (await school.student.get(f"/files/{file['id']}/download")).status_code == 404
    for words in ("words", "secret"):
        assert await school.student.items("/materials/search", q=words, course_id=school.course["id"]) == []
    assert (await shown(school.teacher, page))["locked"] is None
    await lms.work_off()
    assert await school.student.items("/materials/search", q="secret", course_id=school.course["id"]) == []
    await school.teacher.patch(f"/materials/modules/{module['id']}", {"unlock_at": None})
    assert (await school.student.get(f"/files/{file['id']}/download")).status_code == 200
    assert (await shown(school.student, document))["locked"] is None
    assert len(await school.student.items("/materials/search", q="secret", course_id=school.course["id"])) == 1
    assert (await shown(school.student, page))["locked"] is not None


async def test_prerequisites(lms: Lms, school: School) -> None:
    first, hidden = await make_page(school, "First"), await make_page(school, "Draft", published=False)
    essay = await make_page(school, "Essay", kind="assignment", assignment={"points": 5}, body="")
    last = await make_page(school, "Last", requires=[first["id"], essay["id"], hidden["id"]])
    assert sorted(last["requires"]) == sorted([first["id"], essay["id"], hidden["id"]])
    assert (await shown(school.student, last))["requires"] == []
    found = await shown(school.student, last)
    assert (found["body"], [one["title"] for one in found["locked"]["requires"]]) == ("", ["First", "Essay"])
    locked = await make_page(
        school, "Locked essay", kind="assignment", assignment={"points": 5}, requires=[first["id"]]
    )
    refused = await school.student.post(f"/materials/{locked['id']}/submissions", {"body": "x"})
    assert (refused.status_code, refused.json()["code"]) == (409, "material_locked")
    for material, code in ((last, "material_locked"), (essay, "completed_by_submission")):
        answer = await school.student.send("PUT", f"/materials/{material['id']}/completion")
        assert (answer.status_code, answer.json()["code"]) == (409, code)
    done = f"/materials/{first['id']}/completion"
    for _ in range(2):
        assert (await school.student.send("PUT", done)).status_code == 204
    assert (await shown(school.student, first))["completed"] is True
    assert [one["title"] for one in (await shown(school.student, last))["locked"]["requires"]] == ["Essay"]
    await school.student.create(f"/materials/{essay['id']}/submissions", {"body": "x"})
    assert ((await shown(school.student, last))["locked"], (await shown(school.student, last))["body"]) == (
        None,
        "Words",
    )
    assert (await school.student.delete(done)).status_code == 204
    assert (await shown(school.student, last))["locked"] is not None
    # A deleted one stands in nobody's way, and does again when it comes back.
    await school.teacher.delete(f"/materials/{first['id']}")
    assert (await shown(school.student, last))["locked"] is None
    await school.teacher.post(f"/materials/{first['id']}/restore")
    await lms.work_off()
    assert (await shown(school.student, last))["locked"] is not None


async def test_circles_are_refused(lms: Lms, school: School) -> None:
    a = await make_page(school, "A")
    b = await make_page(school, "B", requires=[a["id"]])
    c = await make_page(school, "C", requires=[b["id"]])
    for ids in ([c["id"]], [a["id"]], [b["id"]]):
        answer = await school.teacher.patch(f"/materials/{a['id']}", {"requires": ids})
        assert (answer.status_code, answer.json()["code"]) == (422, "cyclic_prerequisites")
    assert (await shown(school.teacher, a))["requires"] == []
    foreign = await lms.make_school()
    theirs = await make_page(foreign)
    answer = await school.teacher.patch(f"/materials/{a['id']}", {"requires": [theirs["id"]]})
    assert (answer.status_code, answer.json()["code"]) == (404, "material_not_found")
    assert (await school.teacher.patch(f"/materials/{c['id']}", {"requires": []})).json()["requires"] == []


async def test_a_circle_by_two_at_once(school: School) -> None:
    for _ in range(3):
        a, b = await make_page(school, "A"), await make_page(school, "B")
        answers = await asyncio.gather(
            school.teacher.patch(f"/materials/{a['id']}", {"requires": [b["id"]]}),
            school.teacher.patch(f"/materials/{b['id']}", {"requires": [a["id"]]}),
        )
        assert sorted(answer.status_code for answer in answers) == [200, 422]


# History


async def test_history_and_the_way_back(school: School) -> None:
    page = await make_page(school, body="One\nTwo\nThree")
    path = f"/materials/{page['id']}"
    await school.teacher.patch(path, {"body": "One\n2\nThree", "title": "New"})
    await school.teacher.patch(path, {"position": 5})
    found = await school.teacher.items(f"{path}/revisions")
    assert [(one["number"], one["title"], one["actor_id"]) for one in found] == [
        (2, "New", str(school.teacher.id)), (1, "Page", str(school.teacher.id)),
    ]  # fmt: skip
    difference = (await school.teacher.get(f"{path}/revisions/{found[0]['id']}/diff")).json()
    assert (difference["number"], difference["since"], difference["changed"]) == (2, 1, ["title", "body"])
    assert difference["body_diff"] == "@@ -1,3 +1,3 @@\n One\n-Two\n+2\n Three"
    first = (await school.teacher.get(f"{path}/revisions/{found[1]['id']}/diff")).json()
    assert (first["since"], first["body_diff"]) == (None, "@@ -0,0 +1,3 @@\n+One\n+Two\n+Three")
    reverted = await school.teacher.post(f"{path}/revisions/{found[1]['id']}/revert")
    assert (reverted.json()["title"], reverted.json()["body"]) == ("Page", "One\nTwo\nThree")
    assert len(await school.teacher.items(f"{path}/revisions")) == 3
    other = await make_page(school)
    foreign = await school.teacher.post(f"/materials/{other['id']}/revisions/{found[0]['id']}/revert")
    assert (foreign.status_code, foreign.json()["code"]) == (404, "revision_not_found")


def test_the_effort_of_a_diff_is_bounded() -> None:
    old, new = "\n".join("ab" * 60_000), "\n".join("ba" * 60_000)
    assert revisions.diff(old, new).startswith("@@")
    assert revisions.diff("a\nb\nc", "a\nc") == "@@ -1,3 +1,2 @@\n a\n-b\n c"
    assert revisions.diff("same", "same") == ""


# What may be written


RUNS = [
    "<script>alert(1)</script>", "a <img src=x onerror=alert(1)> b", "<a href='javascript:alert(1)'>x</a>", "<iframe src=x>",
    "<svg onload=alert(1)>", "<div onclick=alert(1)\n\nx>", "<b style='x'>a</b>", "<ScRiPt src=x>", "text\n\n<object data=x>",
    "<a href='java&#115;cript:alert(1)'>x</a>", "<form action=x>", '<div title=="><img src=x onerror=alert(1)>">',
    '<div title=\u00a0"><img src=x onerror=alert(1)>">', "<!--><img src=x onerror=alert(1)>-->", "<!-- --!><img src=x onerror=alert(1)>-->",
    "<![CDATA[><img src=x onerror=alert(1)>]]>", "[x](javascript:alert(1))", "[x](javascript&colon;alert(1))", "[x](java&Tab;script:alert(1))",
    "[x]: javascript:alert(1)", "<javascript:alert(1)>", "[x](vbscript:a)", "[x](data:text/html;base64,PHNj)", "</p><img/onerror=alert(1) src=x>",
    "`code` <script>x</script>", "```\ncode\n```\n<script>x</script>", "<div>\n`<script>alert(1)</script>`\n</div>",
    "```a`b\n<script>x</script>", "```\ncode\n   ```\n<script>x</script>", "```\ncode\n```~~~\n```\n<script>x</script>",
    "<a href=\"`\"><img src=x onerror=alert(1)>``", "<p oncontentvisibilityautostatechange=x>", "<p onbounce = x>", "<p\nonfinish=x>",
    "  ```\n```\n<script>x</script>", "- a\n\n  ```\n<script>x</script>", "> ```\n```\n<script>x</script>", "<b>x</b>\n```\nsafe\n\n```\n<script>x</script>",
    "<!--\n\n```\n-->\n<script>x</script>", "# a `b\n`<script>x</script>", "\\`<script>x</script>`", "```\rcode\r```\r<script>x</script>",
    "````\n```\n````\n<script>x</script>", "``` x\n\x0c```\n```\n<script>x</script>",
]  # fmt: skip
RESTS = [
    "`<script>` starts a script", "```html\n<script>alert(1)</script>\n```", "a < b and c > d", "<b>bold</b> <br> <kbd>x</kbd>",
    "```\n<script>", "<details><summary>More</summary>\n\nText\n\n</details>", "<!-- a comment -->", "<a href='https://x.example'>x</a>",
    "1 <2", "<img src='https://x.example/a.png' alt='A'>", '<p class="note">x</p>', "<https://example.org>", "    indented",
    "List<String> x = new List<>();", "vector<int> v;", "if a<b and c>d", "JavaScript: The Good Parts", "<b>x</b> and once = 3", "~~~\n<svg onload=x>\n~~~",
    "A `<script>` and a ``<p onclick=x> with ` `` in it", "# Title\n```html\n<form>\n\n<input>\n```\nText `<form>`", "a\n\n<p class=x>y</p>\n\none = 1",
    "~~~ ` ~~~\n<svg>\n````\n~~~~", "```\r\n<svg>\r\n```\r\n",
]  # fmt: skip


@pytest.mark.parametrize("body", RUNS)
async def test_markdown_in_which_something_could_run(school: School, body: str) -> None:
    about = {"course_id": school.course["id"], "kind": "page", "title": "P", "body": body}
    answer = await school.teacher.post("/materials", about)
    assert (answer.status_code, answer.json()["code"]) == (422, "html_not_allowed"), answer.text
    page = await make_page(school)
    assert (await school.teacher.patch(f"/materials/{page['id']}", {"body": body})).status_code == 422
    assert (await shown(school.teacher, page))["body"] == "Words"
    cleaned = await school.teacher.patch(f"/materials/{page['id']}", {"body": body, "body_format": "html"})
    assert cleaned.status_code == 200, cleaned.text
    for bad in ("script", "onerror", "onload", "onclick", "iframe", "svg", "style", "<form", "object"):
        assert f"<{bad}" not in cleaned.json()["body"].lower(), cleaned.json()["body"]
        assert not re.search(rf"<[^>]*[ /]{bad}=", cleaned.json()["body"].lower()), cleaned.json()["body"]


@pytest.mark.parametrize("body", RESTS)
async def test_markdown_that_is_harmless(school: School, body: str) -> None:
    assert (await make_page(school, body=body))["body"] == body


async def test_what_students_write_is_looked_at_too(school: School) -> None:
    essay = await make_page(school, "Essay", kind="assignment", assignment={"points": 5})
    answer = await school.student.post(f"/materials/{essay['id']}/submissions", {"body": "<script>x</script>"})
    assert (answer.status_code, answer.json()["code"]) == (422, "html_not_allowed")
    assert await school.student.items(f"/materials/{essay['id']}/submissions") == []


@pytest.mark.parametrize("field", ["unlock_at", "publish_at"])
@pytest.mark.parametrize("moment", ["9999-12-31T23:59:59.999999Z", "0001-01-01T00:00:00Z", "3000-01-01T00:00:00Z"])
async def test_no_moment_is_beyond_all_calendars(school: School, field: str, moment: str) -> None:
    """The last of Python is infinity in PostgreSQL, which has no date, so that what is locked for ever would look open."""
    page = await make_page(school)
    answer = await school.teacher.patch(f"/materials/{page['id']}", {field: moment})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")


async def test_html_is_as_deep_as_can_be_cleaned_in_time(school: School) -> None:
    page = await make_page(school, "Deep")
    for body in ("<b><div>" * 30_000, "<nobr><div></x>" * 5_000, "<a><p>" * 10_000):
        answer = await school.teacher.patch(f"/materials/{page['id']}", {"body": body, "body_format": "html"})
        assert (answer.status_code, answer.json()["code"]) == (422, "html_too_deep")
    flat = "<p>a<br><b>b</b>" * 3_000
    answer = await school.teacher.patch(f"/materials/{page['id']}", {"body": flat, "body_format": "html"})
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    "piece",
    [
        "![",
        "[a](b",
        "**a",
        "*a ",
        "[",
        "`",
        "``` ",
        "<",
        "<a ",
        "&#",
        "```\n",
        "](javascript",
        "on",
        "` ",
        "`a`",
        "\n \n",
    ],
)
def test_the_longest_text_of_one_thing_is_looked_at(piece: str) -> None:
    """In the square of its length it would take minutes, in which nobody else is served."""
    body = piece * (256_000 // len(piece))
    assert bodies.cleaned(body, "markdown") == body


# Kinds of other plugins


class Video(BaseModel):
    seconds: int


async def test_a_plugin_adds_a_kind(lms: Lms, school: School) -> None:
    kind = MaterialKind("video", "A film", Video, lambda content: f"a film of {content['seconds']} seconds")
    if not any(found.name == "video" for found in lms.context.platform.extensions_of(MaterialKind)):
        add_extension(lms.context.platform, "videos", kind)
    made = await make_page(school, kind="video", content={"seconds": 90}, body="")
    assert (made["kind"], made["content"]) == ("video", {"seconds": 90})
    body = {"course_id": school.course["id"], "kind": "video", "title": "V"}
    for content in ({"seconds": "many"}, {}, None):
        answer = await school.teacher.post("/materials", {**body, "content": content})
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["loc"][:2] == ["body", "content"]
    changed = await school.teacher.patch(f"/materials/{made['id']}", {"content": {"seconds": 91}})
    assert changed.json()["content"] == {"seconds": 91}
    page = await school.teacher.post("/materials", {**body, "kind": "page", "content": {"a": 1}})
    assert page.status_code == 422
    unknown = await school.teacher.post("/materials", {**body, "kind": "quiz"})
    assert (unknown.status_code, unknown.json()["code"]) == (422, "unknown_kind")
    await lms.work_off()
    [hit] = await school.student.items("/materials/search", q="film seconds", course_id=school.course["id"])
    assert hit["material_id"] == made["id"]
