"""Finds the route of a request at once, however many plugins there are, and answers simple requests at once, too.

FastAPI (since 0.137) asks every included router for every request, twice, and each of them its routes one after the other;
its own layers and its look at every parameter take longer than a read. Here only those routes are asked that can have the
path at all. Whatever is not simple, not valid or not there goes on to FastAPI, which knows what to say.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from re import Pattern

from fastapi import FastAPI, Request, Response
from fastapi.routing import iter_route_contexts, request_response
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lms_core.arguments import WHOLE, Plan, plan_of
from lms_core.routing import FAILED, GuardedRoute

Place = tuple[str, str, int]


@dataclass(frozen=True)
class Indexed:
    """One route, as mounted."""

    regex: Pattern[str]
    route: GuardedRoute
    serve: ASGIApp
    plan: Plan | None


class RouteIndex(BaseRoute):
    """One route that stands for all guarded ones, before all others in the application.

    Made when every router is mounted.
    """

    def __init__(self, app: FastAPI, prefix: str) -> None:
        self.prefix = prefix
        self.routes: dict[Place, list[Indexed]] = defaultdict(list)
        for context in iter_route_contexts(app.routes):
            route, path, regex = context.original_route, context.path or "", context.path_regex
            # A parameter at the start, or one that takes several segments, can stand for any place.
            if not isinstance(route, GuardedRoute) or regex is None or path.startswith("/{") or ":path}" in path:
                continue
            indexed = Indexed(regex, route, request_response(route.get_route_handler()), plan_of(route.dependant))
            for method in context.methods or ():
                self.routes[self.place_of(method, path)].append(indexed)

    def place_of(self, method: str, path: str) -> Place:
        """What tells most routes apart: the method, the first segment behind the prefix, and how many there are."""
        return method, path.removeprefix(self.prefix).partition("/")[2].partition("/")[0], path.count("/")

    def find(self, scope: Scope) -> tuple[Indexed, dict[str, str]] | None:
        """The route, and what stands in the path."""
        path = scope["path"]
        if scope["type"] == "http" and path.startswith("/"):
            for indexed in self.routes.get(self.place_of(scope["method"], path), ()):
                if found := indexed.regex.match(path):
                    return indexed, found.groupdict()
        return None

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Full with the route's parameters, or none."""
        found = self.find(scope)
        if found is None:
            return Match.NONE, {}
        indexed, parameters = found
        chosen = {"route": indexed.route, "endpoint": indexed.route.endpoint, "path_params": parameters}
        return Match.FULL, {**chosen, "lms_serve": indexed.serve}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the route that was found."""
        await scope["lms_serve"](scope, receive, send)


class QuickAnswers:
    """Answers requests all of whose arguments are simple and valid, and leaves the rest to the application."""

    def __init__(self, app: FastAPI, index: RouteIndex) -> None:
        self.app, self.index = app, index

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        found = self.index.find(scope) if scope["type"] == "http" else None
        if found is None or found[0].plan is None:
            await self.app(scope, receive, send)
            return
        indexed, plan = found[0], found[0].plan
        scope["path_params"], scope["app"] = found[1], self.app
        request = Request(scope, receive, send)

        async def endpoint(request: Request) -> Response:
            query = request.query_params if scope["query_string"] else {}
            body = {WHOLE: getattr(request, "_json", None)}
            values = plan.all_values((found[1], query, request.headers, body))
            if values is None:
                raise NotSimple
            answer: Response = await plan.called(request, iter(values))
            return answer

        try:
            response = await indexed.route.answer(request, endpoint)
        except NotSimple:
            await self.app(scope, heard_again(request), send)
        except Exception as error:  # noqa: BLE001 - the application's handlers say what it means.
            scope[FAILED] = error
            await self.app(scope, receive, send)
        else:
            await response(scope, receive, send)


class NotSimple(Exception):
    """A request that is not valid, or not simple. Nothing was done for it."""


def heard_again(request: Request) -> Receive:
    """What the request's client has sent, whose body was read already where it has one."""
    body = getattr(request, "_body", None)
    if body is None:
        return request.receive

    async def receive() -> Message:
        nonlocal body
        if body is None:
            return await request.receive()
        message, body = {"type": "http.request", "body": body, "more_body": False}, None
        return message

    return receive
