"""Importing users: what is planned is what is done, whole or not at all, and can be taken back whole."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
from browser import finish

from lms_core import import_work
from lms_core.import_work import apply_chunk, run_import
from lms_core.imports import ImportStarted
from lms_core.testing import Caller, Lms, School

pytestmark = pytest.mark.anyio


def address() -> str:
    return f"{uuid4().hex[:16]}@example.org"


def csv_of(*rows: dict[str, str]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row))
    return "\n".join([",".join(names), *(",".join(row.get(name, "") for name in names) for row in rows)]) + "\n"


def person(email: str | None = None, name: str = "Ada", **cells: str) -> dict[str, str]:
    return {"email": email or address(), "full_name": name, **cells}


async def send(lms: Lms, caller: Caller, content: str, dry_run: bool = False, **options: Any) -> httpx2.Response:
    """Upload a file and import it; a job is worked off."""
    file = await finish(lms, caller, content.encode(), "text/csv", "people.csv")
    assert file["state"] == "ready", file
    answer = await caller.post("/users/import", {"file_id": file["id"], **options}, params={"dry_run": dry_run})
    await lms.work_off()
    return answer


async def done(lms: Lms, caller: Caller, *rows: dict[str, str], **options: Any) -> dict[str, Any]:
    """The job, which must have been done."""
    answer = await send(lms, caller, csv_of(*rows), **options)
    assert answer.status_code == 202, answer.text
    job: dict[str, Any] = (await caller.get(answer.headers["Location"])).json()
    assert (job["state"], job["rows_done"], job["error"]) == ("done", job["rows_total"], None)
    return job


async def undo(lms: Lms, caller: Caller, job: dict[str, Any]) -> dict[str, Any]:
    answer = await caller.post(f"/imports/{job['id']}/undo")
    assert answer.status_code == 202, answer.text
    await lms.work_off()
    found: dict[str, Any] = (await caller.get(f"/imports/{job['id']}")).json()
    return found


async def user_of(lms: Lms, email: str) -> dict[str, Any] | None:
    found = await (await lms.admin()).items("/users", email=email)
    return found[0] if found else None


async def people_of(lms: Lms, school: School) -> list[Any]:
    """All of a school, as the database has them, to compare before and after."""
    statement = """
        SELECT u.id, u.email, u.email_key, u.full_name, u.is_active, u.is_deleted,
            (SELECT array_agg(g.role ORDER BY g.role) FROM users_grant g WHERE g.user_id = u.id AND NOT g.is_deleted),
            (SELECT said::text FROM users_imported i WHERE i.user_id = u.id AND i.institution_id = :place),
            (SELECT external_id FROM users_imported i WHERE i.user_id = u.id AND i.institution_id = :place)
        FROM users_user u WHERE u.id IN (SELECT user_id FROM users_grant WHERE institution_id = :place)
        AND NOT u.is_deleted ORDER BY u.id
    """
    rows = await lms.sql(statement, place=UUID(school.institution["id"]))
    return [tuple(row.values()) for row in rows]


async def test_a_dry_run_says_what_the_run_does(lms: Lms, school: School) -> None:
    known = person(external_id="1")
    await done(lms, school.principal, known, person(external_id="2", name="Bob"))
    rows = [{**known, "full_name": "Ada Lovelace"}, person(name="Grace", role="teacher", external_id="3")]
    before = await people_of(lms, school)
    answer = await send(lms, school.principal, csv_of(*rows), dry_run=True)
    assert answer.status_code == 200, answer.text
    plan = answer.json()
    assert await people_of(lms, school) == before
    assert await school.principal.items("/imports", state="running") == []
    assert (plan["counts"], plan["refused"]) == ({"update": 1, "create": 1}, None)
    changed, made = plan["rows"]
    assert changed["changes"] == {"full_name": {"before": "Ada", "after": "Ada Lovelace"}}
    assert (made["line"], made["action"], made["changes"]["role"]["after"]) == (3, "create", "teacher")
    job = await done(lms, school.principal, *rows)
    assert job["counts"] == plan["counts"]
    told = await school.principal.items(f"/imports/{job['id']}/rows")
    assert [row["changes"] for row in told] == [row["changes"] for row in plan["rows"]]
    assert [row["action"] for row in told] == ["update", "create"]
    teacher = await user_of(lms, rows[1]["email"])
    assert teacher is not None
    roles = await school.principal.items(f"/users/{teacher['id']}/roles")
    assert [(role["role"], role["institution_id"]) for role in roles] == [("teacher", school.institution["id"])]


async def test_the_same_file_again_changes_nothing(lms: Lms, school: School) -> None:
    rows = [person(external_id=str(number), is_active="true") for number in range(3)]
    await done(lms, school.principal, *rows)
    before = await people_of(lms, school)
    assert (await done(lms, school.principal, *rows))["counts"] == {"unchanged": 3}
    assert await people_of(lms, school) == before


async def test_an_address_changes_with_the_number_that_stays(lms: Lms, school: School) -> None:
    old, new = person(external_id="7"), person(external_id="7")
    await done(lms, school.principal, old)
    user = await user_of(lms, old["email"])
    assert (await done(lms, school.principal, new))["counts"] == {"update": 1}
    assert await user_of(lms, old["email"]) is None
    assert (await user_of(lms, new["email"]) or {})["id"] == (user or {})["id"]


async def test_what_people_changed_by_hand_stays(lms: Lms, school: School) -> None:
    row = person(external_id="9")
    await done(lms, school.principal, row)
    user = await user_of(lms, row["email"])
    assert user is not None
    assert (await school.principal.patch(f"/users/{user['id']}", {"full_name": "By Hand"})).status_code == 200
    job = await done(lms, school.principal, {**row, "full_name": "By File"})
    assert job["counts"] == {"unchanged": 1}
    [told] = await school.principal.items(f"/imports/{job['id']}/rows")
    assert told["kept"] == ["full_name"]
    assert (await user_of(lms, row["email"]) or {})["full_name"] == "By Hand"
    job = await done(lms, school.principal, {**row, "full_name": "By File"}, override_edited=True)
    assert job["counts"] == {"update": 1}
    assert (await user_of(lms, row["email"]) or {})["full_name"] == "By File"
    # What no import has ever set was set by hand, too.
    job = await done(lms, school.principal, person(school.student.email, "Renamed"))
    assert job["counts"] == {"unchanged": 1}


@pytest.mark.parametrize(
    ("wrong", "column", "code"),
    [
        ({"email": "nobody"}, "email", "invalid_email"),
        ({"full_name": ""}, "full_name", "missing"),
        ({"full_name": "x" * 301}, "full_name", "cell_too_long"),
        ({"role": "principal"}, "role", "forbidden"),
        ({"role": "super_admin"}, "role", "unknown_role"),
        ({"role": "wizard"}, "role", "unknown_role"),
        ({"is_active": "perhaps"}, "is_active", "not_true_or_false"),
    ],
)
async def test_one_wrong_row_stops_the_whole(
    lms: Lms, school: School, wrong: dict[str, str], column: str, code: str
) -> None:
    good, bad = person(role="student", is_active="true"), {**person(role="student", is_active="true"), **wrong}
    content = csv_of(good, bad)
    plan = (await send(lms, school.principal, content, dry_run=True)).json()
    assert plan["counts"] == {"create": 1, "error": 1}
    assert plan["refused"]["code"] == "rows_refused"
    answer = await send(lms, school.principal, content)
    assert (answer.status_code, answer.json()["code"]) == (422, "rows_refused")
    [error] = answer.json()["errors"]
    assert (error["loc"], error["type"]) == (["file", 3, column], code)
    assert await user_of(lms, good["email"]) is None


async def test_the_same_person_twice_is_told_on_both_lines(lms: Lms, school: School) -> None:
    email = address()
    rows = [person(email, external_id="1"), person(external_id="2"), person(email.upper(), external_id="2")]
    answer = await send(lms, school.principal, csv_of(*rows))
    errors = {(error["loc"][1], error["loc"][2]) for error in answer.json()["errors"]}
    assert errors == {(2, "email"), (4, "email"), (3, "external_id"), (4, "external_id")}


async def test_people_of_others_are_neither_changed_nor_told(lms: Lms, school: School) -> None:
    other = await lms.make_school()
    content = csv_of(person(other.student.email, "Taken Over"))
    answer = await send(lms, school.principal, content, override_edited=True)
    assert [error["type"] for error in answer.json()["errors"]] == ["address_taken"]
    same_rank = csv_of(person(school.principal.email, "Myself", is_active="false"))
    assert (await send(lms, school.principal, same_rank, override_edited=True)).json()["code"] == "rows_refused"
    shared = await lms.make_user("student", school.institution["id"])
    await (await lms.admin()).create(
        f"/users/{shared.id}/roles", {"role": "student", "institution_id": other.institution["id"]}
    )
    locked_out = csv_of(person(shared.email, "A student", is_active="false"))
    answer = await send(lms, school.principal, locked_out, override_edited=True)
    assert [error["type"] for error in answer.json()["errors"]] == ["forbidden"]


async def test_who_may_not_import_there_cannot(lms: Lms, school: School) -> None:
    other = await lms.make_school()
    file = await finish(lms, school.principal, csv_of(person()).encode(), "text/csv", "people.csv")
    body = {"file_id": file["id"], "institution_id": other.institution["id"]}
    assert (await school.principal.post("/users/import", body)).status_code == 404
    assert (await school.teacher.post("/users/import", {"file_id": file["id"]})).status_code == 403
    assert (await other.principal.post("/users/import", {"file_id": file["id"]})).status_code == 404
    job = await done(lms, school.principal, person())
    for path in (f"/imports/{job['id']}", f"/imports/{job['id']}/rows"):
        assert (await other.principal.get(path)).status_code == 404
        assert (await school.teacher.get(path)).status_code == 404
    assert (await other.principal.post(f"/imports/{job['id']}/undo")).status_code == 404
    assert await other.principal.items("/imports") == []
    assert [found["id"] for found in await school.principal.items("/imports")] == [job["id"]]


async def test_a_file_that_is_no_csv_or_not_there(lms: Lms, school: School) -> None:
    answer = await send(lms, school.principal, "email;name\na@example.org;Ada\n")
    assert (answer.status_code, answer.json()["code"]) == (422, "unknown_column")
    assert answer.json()["errors"][0]["loc"] == ["file", 1]
    answer = await school.principal.post("/users/import", {"file_id": str(uuid4())})
    assert (answer.status_code, answer.json()["code"]) == (404, "file_not_found")


async def test_sync_disables_who_is_gone_and_lets_in_who_is_back(lms: Lms, school: School) -> None:
    stays, goes = person(external_id="1"), person(external_id="2")
    await done(lms, school.principal, stays, goes)
    job = await done(lms, school.principal, stays, mode="sync")
    assert job["counts"] == {"unchanged": 1, "disable": 1}
    assert (await user_of(lms, goes["email"]) or {})["is_active"] is False
    # People who never came by an import are nobody's business.
    assert (await school.principal.get(f"/users/{school.student.id}")).json()["is_active"] is True
    job = await done(lms, school.principal, stays, goes, mode="sync")
    assert job["counts"] == {"unchanged": 1, "update": 1}
    assert (await user_of(lms, goes["email"]) or {})["is_active"] is True


async def test_who_was_let_in_again_by_hand_stays(lms: Lms, school: School) -> None:
    stays, goes = person(external_id="1"), person(external_id="2")
    await done(lms, school.principal, stays, goes)
    await done(lms, school.principal, stays, mode="sync")
    user = await user_of(lms, goes["email"]) or {}
    assert (await school.principal.patch(f"/users/{user['id']}", {"is_active": True})).status_code == 200
    assert (await done(lms, school.principal, stays, mode="sync"))["counts"] == {"unchanged": 2}
    assert (await user_of(lms, goes["email"]) or {})["is_active"] is True


async def test_too_many_to_be_disabled_stop_the_run(lms: Lms, school: School) -> None:
    rows = [person(external_id=str(number)) for number in range(7)]
    await done(lms, school.principal, *rows)
    plan = (await send(lms, school.principal, csv_of(rows[0]), dry_run=True, mode="sync")).json()
    assert (plan["counts"]["disable"], plan["refused"]["code"]) == (6, "too_many_disabled")
    before = await people_of(lms, school)
    answer = await send(lms, school.principal, csv_of(rows[0]), mode="sync")
    assert (answer.status_code, answer.json()["code"]) == (409, "too_many_disabled")
    assert await people_of(lms, school) == before
    job = await done(lms, school.principal, rows[0], mode="sync", max_disabled=6)
    assert job["counts"] == {"unchanged": 1, "disable": 6}


async def test_undo_leaves_everything_as_it_was(lms: Lms, school: School) -> None:
    kept, changed, gone = person(external_id="1"), person(external_id="2"), person(external_id="3")
    await done(lms, school.principal, kept, changed, gone)
    before = await people_of(lms, school)
    new = person(external_id="4", role="teacher")
    rows = [kept, {**changed, "email": address(), "full_name": "Changed", "role": "teacher"}, new]
    job = await done(lms, school.principal, *rows, mode="sync")
    assert job["counts"] == {"unchanged": 1, "update": 1, "create": 1, "disable": 1}
    assert await people_of(lms, school) != before
    undone = await undo(lms, school.principal, job)
    assert (undone["state"], undone["error"]) == ("undone", None)
    assert await people_of(lms, school) == before
    again = await school.principal.post(f"/imports/{job['id']}/undo")
    assert (again.status_code, again.json()["code"]) == (409, "import_not_done")
    # The new one is in the recycle bin, and the file can be imported again.
    bin_ = await school.principal.items("/deletions", kind="users.user", state="deleted")
    assert "Ada" in [deletion["root"]["label"] for deletion in bin_]
    assert (await done(lms, school.principal, new))["counts"] == {"create": 1}


async def test_undo_leaves_what_was_changed_since(lms: Lms, school: School) -> None:
    row = person(external_id="1")
    await done(lms, school.principal, row)
    moved = {**row, "email": address(), "full_name": "By File"}
    job = await done(lms, school.principal, moved)
    user = await user_of(lms, moved["email"]) or {}
    await school.principal.patch(f"/users/{user['id']}", {"full_name": "By Hand"})
    taken = await lms.make_user("student", school.institution["id"])
    answer = await (await lms.admin()).patch(f"/users/{taken.id}", {"email": row["email"]})
    assert answer.status_code == 200
    await undo(lms, school.principal, job)
    [told] = await school.principal.items(f"/imports/{job['id']}/rows", state="left")
    assert "full_name" in told["note"]
    assert "email" in told["note"]
    after = (await school.principal.get(f"/users/{user['id']}")).json()
    assert (after["full_name"], after["email"]) == ("By Hand", moved["email"])


async def test_undo_deletes_nobody_who_has_risen_above(lms: Lms, school: School) -> None:
    row = person()
    job = await done(lms, school.principal, row)
    user = await user_of(lms, row["email"]) or {}
    role = {"role": "principal", "institution_id": school.institution["id"]}
    await (await lms.admin()).create(f"/users/{user['id']}/roles", role)
    await undo(lms, school.principal, job)
    [told] = await school.principal.items(f"/imports/{job['id']}/rows", state="left")
    assert told["note"]
    assert await user_of(lms, row["email"]) is not None


async def test_what_comes_in_the_way_undoes_the_whole(
    lms: Lms, school: School, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_work, "APPLY_CHUNK", 50)
    rows = [person(external_id=str(number)) for number in range(60)]
    before = await people_of(lms, school)
    file = await finish(lms, school.principal, csv_of(*rows).encode(), "text/csv", "people.csv")
    answer = await school.principal.post("/users/import", {"file_id": file["id"]})
    assert answer.status_code == 202
    # Before a worker comes to the second chunk, somebody else takes an address of it.
    taken = await lms.make_user()
    changed = await (await lms.admin()).patch(f"/users/{taken.id}", {"email": rows[-1]["email"]})
    assert changed.status_code == 200
    await lms.work_off()
    job = (await school.principal.get(f"/imports/{answer.json()['id']}")).json()
    assert (job["state"], job["error"]["code"]) == ("failed", "in_the_way")
    assert await school.principal.items(f"/imports/{job['id']}/rows", state="left") == []
    assert "line 61" in job["error"]["detail"]
    assert await people_of(lms, school) == before


async def test_who_loses_the_right_meanwhile_leaves_nothing_behind(
    lms: Lms, school: School, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_work, "APPLY_CHUNK", 50)
    rows = [person(external_id=str(number)) for number in range(70)]
    before = await people_of(lms, school)
    file = await finish(lms, school.principal, csv_of(*rows).encode(), "text/csv", "people.csv")
    job = (await school.principal.post("/users/import", {"file_id": file["id"]})).json()
    access, _ = await lms.context.platform.rules.load(lms.context, school.principal.id)
    async with lms.context.unit_of_work(access) as uow:
        assert await apply_chunk(uow, UUID(job["id"]))
    [role] = await (await lms.admin()).items(f"/users/{school.principal.id}/roles")
    assert (await (await lms.admin()).delete(f"/users/{school.principal.id}/roles/{role['id']}")).status_code == 202
    await lms.work_off()
    found = (await (await lms.admin()).get(f"/imports/{job['id']}")).json()
    assert (found["state"], found["counts"]["create"]) == ("failed", 50)
    assert await (await lms.admin()).items(f"/imports/{job['id']}/rows", state="left") == []
    assert [row for row in await people_of(lms, school) if row[0] != school.principal.id] == [
        row for row in before if row[0] != school.principal.id
    ]


async def test_one_import_at_a_time(lms: Lms, school: School) -> None:
    content = csv_of(person(external_id="1"), person(external_id="2"))
    file = await finish(lms, school.principal, content.encode(), "text/csv", "people.csv")
    body = {"file_id": file["id"]}
    answers = await asyncio.gather(*(school.principal.post("/users/import", body) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [202] + [409] * 7
    assert {answer.json()["code"] for answer in answers if answer.status_code == 409} == {"import_at_work"}
    await lms.work_off()
    assert len(await school.principal.items("/imports")) == 1


async def test_a_second_worker_repeats_nothing(lms: Lms, school: School) -> None:
    rows = [person(external_id=str(number)) for number in range(700)]
    file = await finish(lms, school.principal, csv_of(*rows).encode(), "text/csv", "people.csv")
    answer = await school.principal.post("/users/import", {"file_id": file["id"]})
    event = ImportStarted(import_id=answer.json()["id"], actor_id=school.principal.id)
    await asyncio.gather(*(run_import(lms.context, event) for _ in range(3)))
    job = (await school.principal.get(f"/imports/{answer.json()['id']}")).json()
    assert (job["state"], job["rows_done"], job["counts"]) == ("done", 700, {"create": 700})
    await lms.work_off()


async def test_new_users_are_invited(lms: Lms, school: School) -> None:
    row, out = person(), person(is_active="false")
    await done(lms, school.principal, row, out, invite=True)
    for email, count in ((row["email"], 1), (out["email"], 0)):
        user = await user_of(lms, email) or {}
        found = await lms.sql("SELECT 1 FROM auth_invitation WHERE user_id = :id", id=user["id"])
        assert len(found) == count


async def test_a_super_admin_imports_without_an_institution(lms: Lms, school: School) -> None:
    admin, row = await lms.admin(), person()
    await done(lms, admin, row)
    user = await user_of(lms, row["email"]) or {}
    assert await admin.items(f"/users/{user['id']}/roles") == []
    answer = await send(lms, admin, csv_of(person(role="student")))
    assert [error["type"] for error in answer.json()["errors"]] == ["institution_required"]
    assert all(job["scope_id"] is not None for job in await school.principal.items("/imports"))


async def test_who_may_import_at_two_places_names_one(lms: Lms, school: School) -> None:
    other = await lms.make_institution()
    role = {"role": "principal", "institution_id": other["id"]}
    await (await lms.admin()).create(f"/users/{school.principal.id}/roles", role)
    answer = await send(lms, school.principal, csv_of(person()))
    assert (answer.status_code, answer.json()["code"]) == (422, "institution_required")
    await done(lms, school.principal, person(), institution_id=other["id"])


async def test_the_trail_knows_the_import(lms: Lms, school: School) -> None:
    row = person()
    job = await done(lms, school.principal, row)
    user = await user_of(lms, row["email"]) or {}
    [entry] = await school.principal.items("/audit", kind="users.user", object_id=user["id"])
    assert (entry["action"], entry["actor_id"], entry["request_id"]) == ("created", str(school.principal.id), job["id"])


async def test_two_rows_for_one_person_are_told(lms: Lms, school: School) -> None:
    first = person(external_id="1")
    await done(lms, school.principal, first)
    before = await people_of(lms, school)
    moved = person(external_id="1")
    answer = await send(lms, school.principal, csv_of(moved, {**person(first["email"], "Bob"), "external_id": ""}))
    assert (answer.status_code, answer.json()["code"]) == (422, "rows_refused")
    assert [(one["loc"][1], one["type"]) for one in answer.json()["errors"]] == [(2, "double"), (3, "double")]
    assert await people_of(lms, school) == before


async def test_undo_takes_only_the_role_that_the_import_gave(lms: Lms, school: School) -> None:
    row = person()
    await done(lms, school.principal, row)
    job = await done(lms, school.principal, {**row, "role": "teacher"})
    user = await user_of(lms, row["email"]) or {}
    grants = f"/users/{user['id']}/roles"
    [given] = [one for one in await school.principal.items(grants) if one["role"] == "teacher"]
    assert (await school.principal.delete(f"{grants}/{given['id']}")).status_code == 202
    anew = await school.principal.create(grants, {"role": "teacher", "institution_id": school.institution["id"]})
    await undo(lms, school.principal, job)
    assert anew["id"] in [one["id"] for one in await school.principal.items(grants)]
    [told] = await school.principal.items(f"/imports/{job['id']}/rows", state="left")
    assert "role" in told["note"]


async def test_undo_keeps_what_a_later_import_remembers(lms: Lms, school: School) -> None:
    user = await lms.make_user("student", school.institution["id"])
    job = await done(lms, school.principal, person(user.email, "By File"), override_edited=True)
    await done(lms, school.principal, person(user.email, "By File", external_id="77"))
    await undo(lms, school.principal, job)
    plan = await send(lms, school.principal, csv_of(person(external_id="77")), dry_run=True)
    assert [row["object_id"] for row in plan.json()["rows"]] == [str(user.id)]


async def test_names_end_no_line(lms: Lms, school: School) -> None:
    for name in ("N,\n\nYour account is blocked", "A\u0085B", "A\u202eB"):
        answer = await school.principal.post("/users", {"email": address(), "full_name": name})
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input"), name
    answer = await send(lms, school.principal, csv_of(person(name="A\u0085B")))
    assert [one["type"] for one in answer.json()["errors"]] == ["control_character"]
