"""What every route promises, read off the OpenAPI document: guards, errors, pages and documentation."""

from __future__ import annotations

import json
import re
from typing import Any
from uuid import uuid4

import pytest
from mounted import routes_of
from samples_of_kinds import IMPORT

from lms_core.sdk import Input
from lms_core.testing import Lms, School

pytestmark = pytest.mark.anyio


async def operations(lms: Lms) -> list[tuple[str, str, dict[str, Any]]]:
    document = (await lms.client.get("/openapi.json")).json()
    return [(method.upper(), path, found) for path, item in document["paths"].items() for method, found in item.items()]


def with_random_ids(path: str) -> str:
    return re.sub(r"\{\w+\}", lambda _: str(uuid4()), path)


def guard_of(lms: Lms, method: str, path: str) -> Any:
    return next(
        route.original_route.guard for route in routes_of(lms) if route.path == path and method in route.methods
    )


async def test_nobody_gets_anything_without_a_token(lms: Lms) -> None:
    guarded = 0
    for method, path, _ in await operations(lms):
        if guard_of(lms, method, path).is_public:
            continue
        guarded += 1
        # A malformed body and an id that is none must not be looked at before the caller is known.
        for target in (with_random_ids(path), re.sub(r"\{\w+\}", "no-uuid", path)):
            answer = await lms.client.request(
                method, target, content=b'{"broken', headers={"Content-Type": "application/json"}
            )
            assert answer.status_code == 401, (method, path, answer.text)
            assert answer.headers["www-authenticate"] == "Bearer"
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["code"] == "not_authenticated"
    assert guarded > 30


def integers_of(schema: Any) -> list[dict[str, Any]]:
    """The whole numbers anywhere in one of pydantic's core schemas."""
    if isinstance(schema, list | tuple):
        return [found for one in schema for found in integers_of(one)]
    if not isinstance(schema, dict):
        return []
    own = [schema] if schema.get("type") == "int" else []
    return own + [found for one in schema.values() for found in integers_of(one)]


def subclasses_of(model: type[Any]) -> list[type[Any]]:
    """All of them, near and far."""
    return [found for one in model.__subclasses__() for found in (one, *subclasses_of(one))]


def test_numbers_are_numbers(lms: Lms) -> None:
    """`true` is not 1, and "5" is text, in whatever a client sends."""
    inputs = subclasses_of(Input)
    assert sum(len(integers_of(model.__pydantic_core_schema__)) for model in inputs) > 5
    for model in inputs:
        assert all(found.get("strict") for found in integers_of(model.__pydantic_core_schema__)), model


async def test_ids_that_are_none_are_422(lms: Lms) -> None:
    admin = await lms.admin()
    for method, path, _ in await operations(lms):
        if "{" in path and not guard_of(lms, method, path).is_public:
            answer = await admin.send(method, re.sub(r"\{\w+\}", "no-uuid", path))
            assert answer.status_code == 422, (method, path, answer.text)


BAD_BODIES = {
    "malformed": (b'{"a": ', 400, "malformed_json"),
    "not UTF-8": (b'{"a": "\xff"}', 400, "malformed_json"),
    "NaN": (b'{"a": NaN}', 400, "malformed_json"),
    "too deep": (b"[" * 33 + b"]" * 33, 400, "json_too_deep"),
    "as deep as may be": (b"[" * 32 + b"]" * 32, 422, "invalid_input"),
    "far too deep": (b"[" * 100_000, 400, None),
    "NUL": (json.dumps({"a": "x\0y"}).encode(), 422, "invalid_input"),
    "lone surrogate": (b'{"a": "\\ud800"}', 422, "invalid_input"),
    "huge integer": (b'{"a": 99999999999999999999999999}', 422, "invalid_input"),
    "infinite float": (b'{"a": 1e999}', 422, "invalid_input"),
    "unknown field": (b'{"no_such_field": 1}', 422, "invalid_input"),
    "a list": (b"[]", 422, "invalid_input"),
    "too large": (b'{"a": "' + b"x" * (1024 * 1024) + b'"}', 413, "body_too_large"),
}


@pytest.mark.parametrize("name", BAD_BODIES)
async def test_bad_bodies_are_refused_everywhere(lms: Lms, school: School, name: str) -> None:
    content, status, code = BAD_BODIES[name]
    admin = await lms.admin()
    tried = 0
    for method, path, operation in await operations(lms):
        body = operation.get("requestBody", {})
        if "application/json" not in body.get("content", {}) or guard_of(lms, method, path).is_public:
            continue
        if status == 422 and not body.get("required"):
            continue
        tried += 1
        answer = await admin.send(
            method, with_random_ids(path), content=content, headers={"Content-Type": "application/json"}
        )
        # A path that names nothing may be answered before the body is looked at, but never by a 500.
        assert answer.status_code in (status, 404), (method, path, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"
        if answer.status_code == status and code is not None:
            assert answer.json()["code"] == code
        assert "x\0y" not in answer.text
    assert tried > 8


async def test_other_media_types_are_415(lms: Lms, school: School) -> None:
    admin = await lms.admin()
    for method, path, operation in await operations(lms):
        if operation.get("requestBody", {}).get("required") and not guard_of(lms, method, path).is_public:
            answer = await admin.send(
                method, with_random_ids(path), content=b"a=b", headers={"Content-Type": "text/plain"}
            )
            assert answer.status_code == 415, (method, path, answer.text)


async def test_lists_are_pages(lms: Lms, school: School) -> None:
    admin = await lms.admin()
    job = {"id": str(uuid4()), "scope_id": school.institution["id"], "actor_id": admin.id, "object_id": str(uuid4())}
    await lms.sql(IMPORT, **job)
    enrolled = (await admin.items("/enrollments", user_id=str(school.student.id)))[0]["id"]
    group = await school.teacher.create("/groups", {"course_id": school.course["id"], "name": "Red team"})
    file = await admin.create("/files", {"filename": "a.txt", "content_type": "text/plain", "size": 5})
    asked = {"course_id": school.course["id"], "kind": "assignment", "title": "E", "assignment": {"points": 5}}
    assignment = (await school.teacher.create("/materials", {**asked, "published": True}))["id"]
    submission = await school.student.create(f"/materials/{assignment}/submissions", {"body": "Words"})
    known = {
        "file_id": file["id"],
        "group_id": group["id"],
        "user_id": school.student.id,
        "course_id": school.course["id"],
        "material_id": assignment,
        "submission_id": submission["id"],
        "import_id": job["id"],
        "enrollment_id": enrolled,
    }
    required_of = {
        "/materials/search": {"q": "words"},
        "/materials/grades": {"course_id": school.course["id"]},
        "/users/permitted": {"permission": "courses.edit", "on": f"course:{school.course['id']}"},
    }
    lists = 0
    for method, path, operation in await operations(lms):
        names = {parameter["name"] for parameter in operation.get("parameters", ())}
        if method != "GET" or "cursor" not in names:
            continue
        lists += 1
        target = re.sub(r"\{(\w+)\}", lambda found: str(known[found[1]]), path)
        required = required_of.get(path, {})
        page = await admin.get(target, params={"limit": 1, **required})
        assert page.status_code == 200, (path, page.text)
        assert set(page.json()) == {"items", "next_cursor"}
        for limit in ("0", "101", "-1", "many", "1e3", "99999999999999999999"):
            assert (await admin.get(target, params={"limit": limit, **required})).status_code == 422, (path, limit)
        for cursor in ("x", "ÿ", "a" * 40, "%00", "a" * 1001):
            answer = await admin.get(target, params={"cursor": cursor, **required})
            assert answer.status_code in (400, 422), (path, cursor, answer.text)
        if cursor := page.json()["next_cursor"]:
            assert cursor == cursor.lower()
            assert re.fullmatch(r"[a-z0-9._~-]+", cursor)
            assert page.headers["link"].endswith('rel="next"')
            edited = ("b" if cursor[0] == "a" else "a") + cursor[1:]
            refused = await admin.get(target, params={"cursor": edited, **required})
            assert (refused.status_code, refused.json()["code"]) == (400, "invalid_cursor")
    assert lists >= 8


async def test_every_operation_is_documented(lms: Lms) -> None:
    plugins = {plugin.name for plugin in lms.context.platform.plugins}
    seen = set()
    for method, path, operation in await operations(lms):
        first = path.split("/")[1]
        owner = first if first in plugins else "core"
        assert operation["tags"] == [owner], path
        assert operation["operationId"].startswith(f"{owner}_")
        assert operation["operationId"] not in seen
        seen.add(operation["operationId"])
        assert operation["summary"], (method, path)
        assert operation.get("description"), (method, path)
        assert "422" in operation["responses"]
        for name in re.findall(r"\{(\w+)\}", path):
            assert name.endswith("_id"), path
        if not guard_of(lms, method, path).is_public:
            assert {"401", "403", "404"} <= set(operation["responses"])


async def test_unknown_paths_and_methods_are_problems_before_any_sign_in(lms: Lms) -> None:
    missing = await lms.client.get("/no/such/thing")
    assert (missing.status_code, missing.json()["code"]) == (404, "not_found")
    assert (await lms.client.get("/courses/")).status_code == 404
    for method, path, _ in await operations(lms):
        answer = await lms.client.request("PUT" if method != "PUT" else "TRACE", with_random_ids(path))
        if answer.status_code == 401:
            continue
        assert answer.status_code == 405, (path, answer.text)
        assert method in answer.headers["allow"].split(", ")
        assert answer.headers["content-type"] == "application/problem+json"


async def test_request_ids_are_taken_when_well_formed(lms: Lms) -> None:
    taken = await lms.client.get("/health/live", headers={"X-Request-ID": "abc-1.2_3"})
    assert taken.headers["x-request-id"] == "abc-1.2_3"
    for bad in ("has space", "x" * 129, "ü", ""):
        made = await lms.client.get("/health/live", headers={"X-Request-ID": bad.encode("latin-1")})
        assert made.headers["x-request-id"] != bad
        assert re.fullmatch(r"[A-Za-z0-9._-]{1,128}", made.headers["x-request-id"])


async def test_head_is_get_without_a_body(lms: Lms, school: School) -> None:
    path = f"/courses/{school.course['id']}"
    read, head = await school.student.get(path), await school.student.send("HEAD", path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["etag"] == read.headers["etag"]
    assert head.headers["content-length"] == read.headers["content-length"]


async def test_the_documentation_needs_no_internet(lms: Lms) -> None:
    for path in ("/docs", "/redoc"):
        page = await lms.client.get(path)
        assert page.status_code == 200
        for address in re.findall(r'(?:src|href)="([^"]+)"', page.text):
            assert address.startswith("/"), (path, address)
            assert (await lms.client.get(address)).status_code == 200
