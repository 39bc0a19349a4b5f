"""The audit trail: every change leaves one entry, written with it, readable for some and changeable for nobody."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from lms_courses.models import Course
from lms_users.models import Grant, Imported, User
from samples_of_kinds import SAMPLES
from sqlalchemy.exc import DBAPIError

from lms_core.audit import HIDDEN, LONGEST_TEXT
from lms_core.db import Record, Table, new_id
from lms_core.errors import StateConflict
from lms_core.kinds import kind_name
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


async def stored(lms: Lms, table: str, id: Any) -> dict[str, Any]:
    [row] = await lms.sql(f"SELECT * FROM {table} WHERE id = :id", id=id)
    return {name: value for name, value in row.items() if name not in {"id", "user_id", "created_at", "updated_at"}}


async def test_many_rows_at_once_are_kept_and_told_like_each_by_itself(lms: Lms, school: School) -> None:
    people = [(await lms.make_user()).id for _ in range(2)]
    course = {
        "institution_id": UUID(school.institution["id"]), "capacity": None, "starts_on": date(2027, 2, 28),
        "state": "draft", "waitlist": False, "self_enrollment": "closed",
    }  # fmt: skip
    rows: dict[type[Record], list[dict[str, Any]]] = {
        Course: [
            {**course, "code": uuid4().hex, "title": '"Quoted" \\ and ünï', "description": "x" * (LONGEST_TEXT + 1)}
            for _ in range(2)
        ],
        Grant: [
            {
                "user_id": person, "role": "teacher", "institution_id": course["institution_id"],
                "expires_at": datetime(2030, 1, 1, 12, 30, 0, 123456, UTC), "role_id": None,
            }
            for person in people
        ],
        Imported: [
            {
                "user_id": person, "institution_id": course["institution_id"], "external_id": None,
                "said": {"ü": None, "number": 2**60, "list": [1.5, True]},
            }
            for person in people
        ],
    }  # fmt: skip
    for model, (one, other) in rows.items():
        one["id"], other["id"] = new_id(), new_id()
        table = str(model.__tablename__)
        async with lms.context.unit_of_work() as uow:
            uow.session.add(model(**one))
            await uow.flush()
            await uow.add_all(model, [other])
        kept = [await stored(lms, table, each["id"]) for each in (one, other)]
        if model is Course:
            assert kept[0].pop("code") != kept[1].pop("code")
        assert kept[0] == kept[1]
        if not issubclass(model, Table):
            continue
        [first], [second] = [await trail(lms, kind_name(model), str(each["id"])) for each in (one, other)]
        assert (first["action"], second["action"]) == ("created", "created")
        differ = {"code", "user_id"}
        assert {name: change for name, change in first["changes"].items() if name not in differ} == {
            name: change for name, change in second["changes"].items() if name not in differ
        }
        assert first["changes"].keys() == second["changes"].keys()


async def test_many_rows_at_once_are_refused_whole(lms: Lms, school: School) -> None:
    def row(key: str) -> dict[str, Any]:
        return {"id": new_id(), "email": key, "email_key": key, "full_name": "Ada", "is_active": True}

    taken = f"{uuid4().hex}@example.org"
    with pytest.raises(StateConflict) as refused:
        async with lms.context.unit_of_work() as uow:
            await uow.add_all(User, [row(taken), row(taken)])
    assert refused.value.code == "natural_key_taken"
    with pytest.raises(ValueError, match="same columns"):
        async with lms.context.unit_of_work() as uow:
            await uow.add_all(User, [row(taken), {**row("b"), "version": 2}])
    assert await lms.sql("SELECT FROM users_user WHERE email_key = :key", key=taken) == []
