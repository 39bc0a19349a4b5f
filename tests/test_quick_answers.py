"""Requests that are answered without FastAPI's own way through a request: the same answers as on that way."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from fastapi import params

from lms_core.arguments import plan_of
from lms_core.edge import Edge
from lms_core.http import create_app
from lms_core.lifespan import running
from lms_core.platform import Platform
from lms_core.route_index import QuickAnswers
from lms_core.testing import Lms, School, application

ODD = (
    "",
    "limit=1",
    "limit=0",
    "limit=101",
    "limit=many",
    "limit=",
    "limit=1&limit=2",
    "limit=2&limit=many",
    "limit=%00",
    "cursor=",
    "cursor=forged",
    "{id}=",
    "{id}=nonsense",
    "{id}={some}",
    "{id}={some}&{id}=nonsense",
    "state=",
    "state=no+such+state",
    "state=active&state=draft",
    "role=teacher",
    "mine=yes",
    "mine=perhaps",
    "q=%C3%A4",
    "as_of=2026-11-29T10:00:00Z",
    "as_of=yesterday",
    "unknown=1",
    "limit=2;state=draft",
    "&&=&",
)
BODIES: tuple[tuple[bytes, dict[str, str]], ...] = (
    (b"", {}),
    (b"", {"Content-Type": "application/json"}),
    (b"{", {"Content-Type": "application/json"}),
    (b"{}", {"Content-Type": "application/json"}),
    (b"[]", {"Content-Type": "application/json"}),
    (b"null", {"Content-Type": "application/json; charset=utf-8"}),
    (b"0", {"Content-Type": "application/merge-patch+json"}),
    (b'{"no_such_field": 1}', {"Content-Type": "application/json"}),
    (b'{"title": 7, "name": [], "course_id": "nonsense"}', {"Content-Type": "application/json"}),
    (b'{"title": "\\u0000"}', {"Content-Type": "application/json"}),
    (b"{}", {"Content-Type": "text/plain"}),
    (b"{}", {"Content-Type": "text/x+json"}),
    (b"{}", {"Content-Type": "application/x/y+json"}),
    (b"{}", {}),
    (b"a=1", {"Content-Type": "application/x-www-form-urlencoded"}),
    (b"{}", {"Content-Type": "application/json", "If-Match": "x" * 2_000}),
    (b"{}", {"Content-Type": "application/json", "If-Match": '"1-x"'}),
)


@pytest.fixture
async def both(lms: Lms, platform: Platform) -> AsyncIterator[tuple[Any, httpx2.AsyncClient, httpx2.AsyncClient]]:
    """The application, a client of it, and one that goes around quick reads."""
    edge: Any = create_app(platform)
    quick = edge.app
    assert isinstance(quick, QuickAnswers)
    async with running(quick.app.state.context):
        slow = Edge(quick.app, False)
        async with (
            httpx2.AsyncClient(transport=httpx2.ASGITransport(edge, raise_app_exceptions=False), base_url="http://t") as one,
            httpx2.AsyncClient(transport=httpx2.ASGITransport(slow, raise_app_exceptions=False), base_url="http://t") as other,
        ):  # fmt: skip
            yield quick, one, other


def told(answer: httpx2.Response) -> tuple[int, dict[str, str], Any]:
    """What a client sees, without what is another one for each request."""
    headers = {name: value for name, value in answer.headers.items() if name not in ("x-request-id", "content-length")}
    is_json = bool(answer.content) and "json" in answer.headers.get("content-type", "")
    body = answer.json() if is_json else answer.text
    if isinstance(body, dict):
        body.pop("request_id", None)
    return answer.status_code, headers, body


async def test_every_list_answers_the_same_on_both_ways(
    both: tuple[Any, httpx2.AsyncClient, httpx2.AsyncClient], school: School
) -> None:
    quick, one, other = both
    paths = {
        indexed.route.template
        for routes in quick.index.routes.values()
        for indexed in routes
        if indexed.plan is not None
        and "{" not in indexed.route.template
        # These tell of the moment, or of this very process.
        and not indexed.route.template.startswith(("/health", "/metrics"))
    }
    assert len(paths) >= 15
    for number, path in enumerate(sorted(paths)):
        # Each path gets a third of them: what makes the difference is the same code for all.
        for query in ODD[number % 3 :: 3]:
            name = ("course_id", "institution_id")[number % 2]
            some = (school.course["id"], school.institution["id"])[number % 2]
            url = f"{path}?{query.format(id=name, some=some)}"
            asked = [await client.get(url, headers=school.principal.headers) for client in (one, other)]
            assert told(asked[0]) == told(asked[1]), url


async def test_a_point_answers_the_same_on_both_ways(
    both: tuple[Any, httpx2.AsyncClient, httpx2.AsyncClient], school: School
) -> None:
    _, one, other = both
    of_course = f"/courses/{school.course['id']}"
    tag = (await one.get(of_course, headers=school.student.headers)).headers["ETag"]
    for path in (
        of_course,
        f"{of_course}/",
        f"/courses/{uuid4()}",
        "/courses/nonsense",
        "/courses/%00",
        f"/{of_course}",
    ):
        for headers in (
            {},
            {"Authorization": "Bearer forged"},
            school.student.headers,
            {**school.student.headers, "If-None-Match": tag},
        ):
            for method in ("GET", "HEAD", "OPTIONS", "PUT"):
                answers = [await client.request(method, path, headers=headers) for client in (one, other)]
                assert told(answers[0]) == told(answers[1]), (method, path)


async def test_a_write_that_is_not_valid_is_answered_the_same_on_both_ways(
    both: tuple[Any, httpx2.AsyncClient, httpx2.AsyncClient], school: School
) -> None:
    """Of things that do not exist, or with nothing that could be made: what would change something is asked once only."""
    quick, one, other = both
    asked = 0
    routes = {
        (method, indexed.route.template): indexed.plan is not None
        for (method, _, _), some in quick.index.routes.items()
        for indexed in some
        # Those of a caller's own session would end it.
        if method != "GET" and not indexed.route.template.startswith("/auth")
    }
    assert sum(routes.values()) > len(routes) * 0.8
    for number, (method, template) in enumerate(sorted(routes)):
        path = re.sub(r"{\w+}", str(uuid4()), template)
        for body, headers in BODIES[number % 2 :: 2]:
            sent = {**school.principal.headers, **headers}
            answer, again = [await client.request(method, path, content=body, headers=sent) for client in (one, other)]
            if answer.status_code >= 400:
                assert told(answer) == told(again), (method, path, body)
                asked += 1
    assert asked > len(routes) * 5


async def test_one_request_counts_once_for_the_rate_limit(lms: Lms, school: School) -> None:
    """Also where it is not valid, and goes both ways."""
    platform = lms.context.platform
    before = platform.settings
    platform.settings = before.model_copy(update={"rate_limit": "100/hour"})
    try:
        async with application(platform) as running:
            sent = {"json": {"code": 1}, "headers": school.principal.headers}
            answers = [await running.client.post("/courses", **sent) for _ in range(3)]
    finally:
        platform.settings = before
    left = [int(answer.headers["RateLimit-Remaining"]) for answer in answers]
    assert [answer.status_code for answer in answers] == [422] * 3
    assert left == [left[0], left[0] - 1, left[0] - 2]


async def test_what_a_read_raises_is_answered_as_ever(
    both: tuple[Any, httpx2.AsyncClient, httpx2.AsyncClient], school: School, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: Any, **__: Any) -> Any:
        raise KeyError("our own fault")

    _, one, other = both
    monkeypatch.setattr("lms_core.pagination.Point.get", fail)
    path = f"/courses/{school.course['id']}"
    answers = [await client.get(path, headers=school.student.headers) for client in (one, other)]
    assert told(answers[0]) == told(answers[1])
    assert answers[0].status_code == 500


def test_what_takes_more_than_simple_values_is_left_to_fastapi(platform: Platform) -> None:
    """A form, a file, a cookie or an answer that FastAPI has to make: no plan."""
    edge: Any = create_app(platform)
    planned = 0
    for routes in edge.app.index.routes.values():
        for indexed in routes:
            dependant = indexed.route.dependant
            assert plan_of(dependant) == indexed.plan
            if indexed.plan is not None:
                planned += 1
                assert not dependant.cookie_params
                assert not any(isinstance(one.field_info, params.Form) for one in dependant.body_params)
    assert planned > 100
