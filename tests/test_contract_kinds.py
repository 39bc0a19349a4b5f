"""What every kind promises: reading, changing, deleting and restoring work the same way everywhere."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from typing import Any
from uuid import uuid4

import pytest
from samples_of_kinds import SAMPLES, Sample
from sqlalchemy.dialects import postgresql
from sqlmodel import col, select

from lms_core.testing import Lms, School

pytestmark = pytest.mark.anyio
kinds = pytest.mark.parametrize("kind", SAMPLES)
# What links two things is made and deleted, not changed, and read in a list.
LINKS = (
    "users.grant",
    "users.guardianship",
    "sso.domain",
    "groups.membership",
    "groups.course_role",
    "materials.submission",
)
patched = pytest.mark.parametrize("kind", [kind for kind in SAMPLES if kind not in LINKS])


def id_of(sample: Sample) -> str:
    return sample.path.rsplit("/", 1)[1]


async def ids_in_list(sample: Sample) -> list[str]:
    return [item["id"] for item in await sample.owner.items(sample.list_path)]


async def row(lms: Lms, sample: Sample) -> dict[str, Any]:
    found = await lms.sql(f"SELECT * FROM {sample.kind.replace('.', '_')} WHERE id = :id", id=id_of(sample))
    return dict(found[0])


async def test_every_kind_has_a_sample(lms: Lms) -> None:
    assert set(lms.context.platform.kinds.by_name) == set(SAMPLES)


@patched
async def test_reading_answers_with_an_etag_and_304(lms: Lms, school: School, kind: str) -> None:
    sample = await SAMPLES[kind](lms, school)
    first = await sample.owner.get(sample.path)
    assert first.status_code == 200, first.text
    assert first.headers["etag"].startswith('"')
    again = await sample.owner.get(sample.path, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert id_of(sample) in await ids_in_list(sample)


async def heard(lms: Lms) -> None:
    """Every announcement so far has arrived: one that comes late makes this process forget whom it knows."""
    last, arrived = f"user:{uuid4()}", asyncio.Event()
    database = lms.context.database
    database.listeners.append(lambda topic: arrived.set() if topic == last else None)
    await lms.sql("SELECT pg_notify('lms_access', :last)", last=last)
    await asyncio.wait_for(arrived.wait(), 10)
    database.listeners.pop()


@patched
async def test_a_read_and_a_list_take_one_statement_when_the_caller_is_known(
    lms: Lms, school: School, kind: str
) -> None:
    sample = await SAMPLES[kind](lms, school)
    await heard(lms)
    await sample.owner.get(sample.path)
    async with lms.counted() as point:
        assert (await sample.owner.get(sample.path)).status_code == 200
    expected = 1
    assert point.statements == expected
    async with lms.counted() as listing:
        assert (await sample.owner.get(sample.list_path)).status_code == 200
    # A list in a path first makes sure that what the path names is there.
    nested = sample.list_path.count("/") > 2
    assert listing.statements == expected + nested


@patched
async def test_if_match_decides_between_two_writers(lms: Lms, school: School, kind: str) -> None:
    sample = await SAMPLES[kind](lms, school)
    tag = (await sample.owner.get(sample.path)).headers["etag"]
    body = sample.change
    first = await sample.owner.patch(sample.path, body, headers={"If-Match": tag})
    assert first.status_code == 200, first.text
    if kind == "enrollments.enrollment":
        # Taking away a section that is not there changes nothing, so the tag stays good.
        stale = '"999.x"'
    else:
        assert first.headers["etag"] != tag
        stale = tag
    refused = await sample.owner.patch(sample.path, body, headers={"If-Match": stale})
    assert (refused.status_code, refused.json()["code"]) == (412, "precondition_failed")
    refused = await sample.owner.delete(sample.path, headers={"If-Match": stale})
    assert refused.status_code == 412
    read = await sample.owner.get(sample.path)
    assert read.headers["etag"] == first.headers["etag"]
    assert (await sample.owner.patch(sample.path, body)).status_code == 200


@kinds
async def test_delete_and_restore_bring_back_exactly_the_same(lms: Lms, school: School, kind: str) -> None:
    sample = await SAMPLES[kind](lms, school)
    before = await row(lms, sample)
    deleted = await sample.owner.delete(sample.path)
    assert deleted.status_code == 202, deleted.text
    deletion = deleted.json()
    assert deletion["root"]["kind"] == kind
    assert deletion["root"]["id"] == id_of(sample)
    assert deletion["state"] == "cascading"
    # Gone at once, whatever the cascade has done so far.
    if kind not in LINKS:
        assert (await sample.owner.get(sample.path)).status_code == 404
    assert id_of(sample) not in await ids_in_list(sample)
    again = await sample.owner.delete(sample.path)
    assert (again.status_code, again.json()["code"]) == (404, f"{kind.split('.')[1]}_not_found")
    await lms.work_off()
    shown = (await sample.owner.get(f"/deletions/{deletion['id']}")).json()
    assert shown["state"] == "deleted"
    assert shown["counts"][kind] == 1
    assert deletion["id"] in [item["id"] for item in await sample.owner.items("/deletions", kind=kind)]
    dead = await row(lms, sample)
    assert {**dead, "is_deleted": False, "deletion_id": None} == {
        **before, "version": before["version"] + 1, "updated_at": dead["updated_at"],
    }  # fmt: skip

    preview = await sample.owner.post(f"{sample.path}/restore?dry_run=true")
    assert preview.status_code == 200, preview.text
    assert preview.json()["conflicts"] == []
    assert preview.json()["counts"] == shown["counts"]
    restored = await sample.owner.post(f"{sample.path}/restore")
    assert restored.status_code == 202, restored.text
    await lms.work_off()
    after = await row(lms, sample)
    assert after == {**before, "version": before["version"] + 2, "updated_at": after["updated_at"]}
    assert (await sample.owner.get(f"/deletions/{deletion['id']}")).json()["state"] == "restored"
    assert id_of(sample) in await ids_in_list(sample)
    refused = await sample.owner.post(f"{sample.path}/restore")
    assert (refused.status_code, refused.json()["code"]) == (409, "not_deleted")


@kinds
async def test_strangers_get_the_answer_of_a_random_id(lms: Lms, school: School, kind: str) -> None:
    sample = await SAMPLES[kind](lms, school)
    stranger = (await lms.make_school()).principal
    random = sample.path.replace(id_of(sample), str(uuid4()))
    for method, suffix, body in (
        ("GET", "", None), ("PATCH", "", sample.change), ("DELETE", "", None), ("POST", "/restore", None),
        ("PATCH", "", {"no_such_field": 1}), ("POST", "/restore", {"no_such_field": 1}),
    ):  # fmt: skip
        if kind in LINKS and method in ("GET", "PATCH"):
            continue
        options = {} if body is None else {"json": body}
        known = await stranger.send(method, sample.path + suffix, **options)
        unknown = await stranger.send(method, random + suffix, **options)
        assert known.status_code == 404, (method, known.text)
        assert {**known.json(), "request_id": ""} == {**unknown.json(), "request_id": ""}
    listing = await stranger.get(sample.list_path)
    assert listing.status_code == (404 if "{" in sample.list_path or sample.list_path.count("/") > 2 else 200)
    if listing.status_code == 200:
        assert id_of(sample) not in [item["id"] for item in await stranger.items(sample.list_path)]


@kinds
async def test_only_those_who_may_restore_see_the_deletion(lms: Lms, school: School, kind: str) -> None:
    sample = await SAMPLES[kind](lms, school)
    deletion = (await sample.owner.delete(sample.path)).json()
    await lms.work_off()
    for caller in (school.student, (await lms.make_school()).principal):
        assert (await caller.get(f"/deletions/{deletion['id']}")).status_code == 404
        assert deletion["id"] not in [item["id"] for item in await caller.items("/deletions")]
        refused = await caller.post(f"{sample.path}/restore")
        assert refused.status_code in (403, 404), refused.text
        assert (await row(lms, sample))["is_deleted"]


def listed_in(statement: Any) -> Counter[str]:
    """How often each table (by its alias, where it has one) stands in a FROM of a statement or of a select inside it."""
    sql = str(statement.compile(dialect=postgresql.dialect()))
    clauses = re.findall(
        r"\bFROM ((?:[a-z_]+(?: AS [a-z_0-9]+)?(?:, | LEFT OUTER JOIN | JOIN | ON [^\n]*? JOIN )?)+)", sql
    )
    tables = [table for clause in clauses for table in re.split(r", | (?:LEFT OUTER )?JOIN ", clause)]
    return Counter(table.strip().rpartition(" AS ")[2] for table in tables)


async def test_conditions_of_reading_speak_of_the_row_that_is_read(lms: Lms) -> None:
    rules = lms.context.platform.rules
    for kind in lms.context.platform.kinds.by_name.values():
        name = kind.model.__table__.name  # type: ignore[attr-defined]
        for rule in rules.reading(kind.model):
            if rule.where is not None:
                listed = listed_in(select(col(kind.model.id)).where(rule.where))
                assert listed[name] == 1, (kind.name, rule.permission)
                # An alias that is listed twice belongs to a select that has lost the one around it (but the walk up the
                # institutions is written out wherever a day is asked for).
                twice = [alias for alias, times in listed.items() if alias[-1].isdigit() and times > 1]
                assert [alias for alias in twice if not alias.startswith("institutions_")] == [], kind.name


async def test_role_sources_list_each_table_once(lms: Lms) -> None:
    for source in lms.context.platform.rules.sources:
        listed = listed_in(source.statement)
        own = [table.name for table in source.statement.get_final_froms() if hasattr(table, "name")]
        assert [name for name in own if listed[name] > 1] == [], source.name
