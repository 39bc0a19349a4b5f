"""The audit trail: every change leaves one entry, written with it, readable for some and changeable for nobody."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from lms_users.models import User
from samples_of_kinds import SAMPLES
from sqlalchemy.exc import DBAPIError

from lms_core.audit import HIDDEN, LONGEST_TEXT
from lms_core.db import new_id
from lms_core.errors import StateConflict
from lms_core.testing import Lms, School

pytestmark = pytest.mark.anyio


async def trail(lms: Lms, kind: str, object_id: str, **filters: Any) -> list[dict[str, Any]]:
    admin = await lms.admin()
    return list(reversed(await admin.items("/audit", kind=kind, object_id=object_id, **filters)))


@pytest.mark.parametrize("kind", SAMPLES)
async def test_every_kind_leaves_a_trail(lms: Lms, school: School, kind: str) -> None:
    sample = await SAMPLES[kind](lms, school)
    id = sample.path.rsplit("/", 1)[1]
    if sample.change and kind != "enrollments.enrollment":
        assert (await sample.owner.patch(sample.path, sample.change)).status_code == 200
    assert (await sample.owner.delete(sample.path)).status_code == 202
    await lms.work_off()
    assert (await sample.owner.post(f"{sample.path}/restore")).status_code == 202
    await lms.work_off()
    entries = await trail(lms, kind, id)
    actions = [entry["action"] for entry in entries]
    assert actions[0] == "created"
    assert actions[-2:] == ["deleted", "restored"]
    assert all(entry["request_id"] for entry in entries), entries
    by_owner = [entry for entry in entries if entry["action"] in ("deleted", "restored")]
    assert {entry["actor_id"] for entry in by_owner} == {str(sample.owner.id)}
    assert entries[0]["changes"]
    if sample.change and kind != "enrollments.enrollment":
        changed = next(
            entry
            for entry in entries
            if entry["action"] == "changed" and sample.change.keys() <= entry["changes"].keys()
        )
        for name, value in sample.change.items():
            assert changed["changes"][name]["after"] == value
            assert changed["changes"][name]["before"] != value
        assert changed["address"]


async def test_a_refused_change_leaves_nothing(lms: Lms, school: School) -> None:
    path = f"/courses/{school.course['id']}"
    before = await trail(lms, "courses.course", school.course["id"])
    assert (await school.student.patch(path, {"title": "Mine"})).status_code == 403
    assert (await school.principal.patch(path, {"title": "Stale"}, headers={"If-Match": '"0-0"'})).status_code == 412
    assert (await school.principal.patch(path, {"capacity": -1})).status_code == 422
    assert await trail(lms, "courses.course", school.course["id"]) == before


async def test_nothing_changed_leaves_nothing(lms: Lms, school: School) -> None:
    before = await trail(lms, "courses.course", school.course["id"])
    same = await school.principal.patch(f"/courses/{school.course['id']}", {"title": school.course["title"]})
    assert same.status_code == 200
    assert await trail(lms, "courses.course", school.course["id"]) == before


async def test_secrets_are_never_shown_and_long_texts_are_cut(lms: Lms, school: School) -> None:
    body = {"email": f"{uuid4().hex}@example.org", "full_name": "A", "password": "a secret that nobody reads"}
    user = await (await lms.admin()).create("/users", body)
    entries = await trail(lms, "users.user", user["id"])
    assert [entry["action"] for entry in entries] == ["created", "password_changed"]
    assert "secret" not in str(entries)
    assert "argon2" not in str(entries)
    text = "word " * LONGEST_TEXT
    page = {"course_id": school.course["id"], "kind": "page", "title": "Long", "body": text}
    material = await school.teacher.create("/materials", page)
    created = (await trail(lms, "materials.material", material["id"]))[0]
    assert len(created["changes"]["body"]["after"]) == LONGEST_TEXT + 1


async def test_columns_that_are_secret_are_hidden(lms: Lms, monkeypatch: pytest.MonkeyPatch, school: School) -> None:
    model = lms.context.platform.kinds.by_name["courses.course"].model
    monkeypatch.setattr(model, "secret_columns", ("title",))
    assert (await school.principal.patch(f"/courses/{school.course['id']}", {"title": "Other"})).status_code == 200
    last = (await trail(lms, "courses.course", school.course["id"]))[-1]
    assert last["changes"] == {"title": {"before": HIDDEN, "after": HIDDEN}}


async def test_who_reads_it(lms: Lms, school: School) -> None:
    query = {"kind": "courses.course", "object_id": school.course["id"]}
    assert (await school.principal.get("/audit", params=query)).status_code == 200
    assert (await school.teacher.get("/audit", params=query)).status_code == 403
    assert (await school.student.get("/audit", params=query)).status_code == 403
    assert (await school.principal.get("/audit")).status_code == 403
    unknown = await school.principal.get("/audit", params={**query, "kind": "no.such"})
    assert (unknown.status_code, unknown.json()["code"]) == (422, "unknown_kind")
    other = await lms.make_school()
    foreign = await other.principal.get("/audit", params=query)
    random = await other.principal.get("/audit", params={**query, "object_id": str(uuid4())})
    assert foreign.status_code == random.status_code == 404
    assert foreign.json()["code"] == random.json()["code"] == "course_not_found"


async def test_filters(lms: Lms, school: School) -> None:
    id = school.course["id"]
    await school.teacher.patch(f"/courses/{id}", {"title": "By the teacher"})
    by_teacher = await trail(lms, "courses.course", id, actor_id=str(school.teacher.id))
    assert [entry["changes"]["title"]["after"] for entry in by_teacher] == ["By the teacher"]
    assert len(await trail(lms, "courses.course", id, action="created")) == 1
    moment = by_teacher[0]["created_at"]
    assert by_teacher[0] in await trail(lms, "courses.course", id, since=moment)
    assert by_teacher[0] not in await trail(lms, "courses.course", id, until=moment)


async def test_nobody_changes_an_entry(lms: Lms, school: School) -> None:
    for statement in (
        "UPDATE core_audit_entry SET action = 'nothing'",
        "DELETE FROM core_audit_entry",
        "TRUNCATE core_audit_entry",
    ):
        with pytest.raises(DBAPIError, match="append-only"):
            await lms.sql(statement)


async def test_bulk_enrollments_and_promotions_are_told_one_by_one(lms: Lms, school: School) -> None:
    course = await lms.make_course(school.institution["id"], capacity=1, waitlist=True)
    people = [await lms.make_user("student", school.institution["id"]) for _ in range(2)]
    body = {"course_id": course["id"], "role": "student", "user_ids": [str(person.id) for person in people]}
    results = (await school.principal.post("/enrollments/bulk", body)).json()["results"]
    for result in results:
        entries = await trail(lms, "enrollments.enrollment", result["enrollment_id"])
        assert [entry["action"] for entry in entries] == ["created"]
        assert entries[0]["actor_id"] == str(school.principal.id)
    await school.principal.patch(f"/enrollments/{results[0]['enrollment_id']}", {"state": "dropped"})
    promoted = (await trail(lms, "enrollments.enrollment", results[1]["enrollment_id"]))[-1]
    assert promoted["changes"]["state"] == {"before": "waitlisted", "after": "active"}


async def test_many_rows_at_once_are_told_like_each_by_itself(lms: Lms, school: School) -> None:
    def row(text: str) -> dict[str, Any]:
        key = f"{uuid4().hex}@example.org"
        return {"id": new_id(), "email": f"{text}{key}", "email_key": key, "full_name": text, "is_active": False}

    texts = ['"Quoted" \\ and ünï', "x" * (LONGEST_TEXT // 4)]
    by_itself, at_once = [row(text) for text in texts], [row(text) for text in texts]
    async with lms.context.unit_of_work() as uow:
        for each in by_itself:
            await uow.add(User(**each))
        await uow.add_all(User, at_once)
    for one, other in zip(by_itself, at_once, strict=True):
        stored = [await lms.sql("SELECT * FROM users_user WHERE id = :id", id=each["id"]) for each in (one, other)]
        kept = [
            {name: rows[0][name] for name in rows[0] if name not in {"id", "email", "email_key"}} for rows in stored
        ]
        assert kept[0] == kept[1]
        assert stored[1][0]["email"] == other["email"]
        [first], [second] = [await trail(lms, "users.user", str(each["id"])) for each in (one, other)]
        assert first["changes"].keys() == second["changes"].keys()
        assert second["changes"]["email"] == {"before": None, "after": other["email"]}
        assert first["changes"]["full_name"] == second["changes"]["full_name"]
        assert (first["action"], second["action"]) == ("created", "created")
    with pytest.raises(StateConflict) as refused:
        async with lms.context.unit_of_work() as uow:
            await uow.add_all(User, [row("new"), {**at_once[0], "id": new_id()}])
    assert refused.value.code == "natural_key_taken"
