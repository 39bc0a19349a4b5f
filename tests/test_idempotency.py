"""Idempotency keys, over every creating POST that a sample is known for."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest

from lms_core.testing import Lms, School

pytestmark = pytest.mark.anyio


def course_body(school: School) -> dict[str, str]:
    return {"institution_id": school.institution["id"], "code": uuid4().hex[:12], "title": "Chemistry"}


async def test_the_same_key_and_body_get_the_stored_answer(school: School) -> None:
    body, key = course_body(school), {"Idempotency-Key": uuid4().hex}
    first = await school.principal.post("/courses", body, headers=key)
    again = await school.principal.post("/courses", body, headers=key)
    assert first.status_code == again.status_code == 201
    assert first.content == again.content
    assert first.headers["etag"] == again.headers["etag"]
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"


async def test_another_body_or_route_is_422(school: School) -> None:
    key = {"Idempotency-Key": uuid4().hex}
    assert (await school.principal.post("/courses", course_body(school), headers=key)).status_code == 201
    other = await school.principal.post("/courses", course_body(school), headers=key)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    path = f"/courses/{school.course['id']}/sections"
    assert (await school.principal.post(path, {"name": "A"}, headers=key)).status_code == 422


async def test_keys_belong_to_the_caller(lms: Lms, school: School) -> None:
    key = {"Idempotency-Key": uuid4().hex}
    first = await school.principal.post("/courses", course_body(school), headers=key)
    second = await (await lms.admin()).post("/courses", course_body(school), headers=key)
    assert (first.status_code, second.status_code) == (201, 201)


async def test_a_refused_request_leaves_the_key_free(school: School) -> None:
    key = {"Idempotency-Key": uuid4().hex}
    taken = {**course_body(school), "code": school.course["code"]}
    assert (await school.principal.post("/courses", taken, headers=key)).status_code == 409
    assert (await school.principal.post("/courses", course_body(school), headers=key)).status_code == 201


@pytest.mark.parametrize("key", ["", "x" * 256, "tab\t", "ü"])
async def test_malformed_keys_are_422(school: School, key: str) -> None:
    answer = await school.principal.post(
        "/courses",
        course_body(school),
        headers={"Idempotency-Key": key.encode("latin-1")},  # type: ignore[dict-item]
    )
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_idempotency_key")


async def test_fifty_at_once_make_one_course(lms: Lms, school: School) -> None:
    body, key = course_body(school), {"Idempotency-Key": uuid4().hex}
    answers = await asyncio.gather(*(school.principal.post("/courses", body, headers=key) for _ in range(50)))
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert {answer.json()["code"] for answer in answers if answer.status_code == 409} <= {"idempotency_in_progress"}
    assert len({answer.json()["id"] for answer in answers if answer.status_code == 201}) == 1
    rows = await lms.sql("SELECT id FROM courses_course WHERE code = :code", code=body["code"])
    assert len(rows) == 1
