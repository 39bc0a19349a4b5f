"""Routes and their guards: who may call is decided before anything in the request is looked at.

The order of answers is the same for every route: 401, then 400 for a malformed body, then 404 for what the caller
may not know, 403, and 422 last. The route also owns the unit of work: it commits before the answer leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Query, Request, Response, params
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from lms_core import idempotency
from lms_core.access_cache import load_access
from lms_core.deletion import PREVIEW_ANSWERS, DeletionRead
from lms_core.errors import Forbidden, NotFound, Problem, StartRefused, Unauthenticated
from lms_core.inputs import parse_json, read_body
from lms_core.pagination import with_304
from lms_core.permissions import Access
from lms_core.restoring import may_restore
from lms_core.uow import TRIES, Context, UnitOfWork, is_retryable, pause

ANONYMOUS = Access(None)
INVALID_TOKEN = 'Bearer error="invalid_token"'
UNCOUNTED = frozenset({"/health", "/health/live", "/health/ready", "/metrics"})
"""No rate limit: whoever watches over us must not be refused because others from its address ask a lot."""
JSON_BODY_METHODS = ("POST", "PUT", "PATCH", "DELETE")
FAILED = "lms_failed"
"""In the scope: what a quick answer raised, so that it is answered like everything that a route raises."""
COUNTED = "lms_counted"
"""In the scope, where a request has been counted for its rate limit: it may take a second way (route_index.py)."""
Handle = Callable[[Request], Coroutine[Any, Any, Response]]


@dataclass(frozen=True)
class Guard:
    """What a route demands of its caller. Made by `requires`, `reads`, `signed_in` and `public`."""

    permission: str | None = None
    on: str | None = None
    place: str = ""
    parameter: str = ""
    reason: str = ""
    is_public: bool = False

    def __call__(self) -> None:
        """Nothing: the route runs the guard itself, before FastAPI parses the request."""


def requires(
    permission: str, *, on: str | None = None, path: str = "", query: str = "", body: str = ""
) -> params.Depends:
    """The caller needs a permission on the object that a path, query or body parameter names.

    `on` is its kind (`course`, or `courses.course`). Without `on`, the permission is needed somewhere, and the
    service decides on what.
    """
    places = [(place, name) for place, name in (("path", path), ("query", query), ("body", body)) if name]
    if (on is None) != (not places) or len(places) > 1:
        raise ValueError("Say on what kind, and name exactly one parameter that holds its id.")
    place, parameter = places[0] if places else ("", "")
    return params.Depends(Guard(permission, on, place, parameter))


def reads(permission: str, *, on: str | None = None, path: str = "") -> params.Depends:
    """Whoever is signed in may ask; what they may not read by the permission and its rules, the SQL leaves out.

    `on` and `path` are for writes of which the service decides (a restore, a change of one's own): an invalid body for
    something that the caller may not know is then 404, not 422.
    """
    return params.Depends(Guard(permission, on, "path" if path else "", path, reason="reads"))


def signed_in(reason: str) -> params.Depends:
    """Whoever is signed in, since it concerns only the caller; `reason` says what."""
    return params.Depends(Guard(reason=reason))


def public(reason: str) -> params.Depends:
    """Everybody; `reason` says why that is right."""
    return params.Depends(Guard(reason=reason, is_public=True))


async def current_unit_of_work(request: Request) -> UnitOfWork:
    """The dependency behind `Uow`."""
    uow: UnitOfWork = request.scope["lms_uow"]
    return uow


Uow = Annotated[UnitOfWork, Depends(current_unit_of_work)]
IfMatch = Annotated[
    str | None, Header(alias="If-Match", max_length=1000, description="The ETag that your change is based on")
]


async def only_preview(
    request: Request,
    dry_run: Annotated[bool, Query(description="Say with 200 what would happen, and change nothing")] = False,
) -> None:
    """A dependency of every route that answers with a deletion."""
    request.scope["lms_uow"].dry_run = dry_run


async def reason_given(
    request: Request,
    reason: Annotated[str | None, Query(max_length=1_000, description="Why; the recycle bin shows it")] = None,
) -> None:
    """A dependency of every route that deletes."""
    request.scope["lms_uow"].reason = reason


class GuardedRoute(APIRoute):
    """A route that declares its guard among its dependencies."""

    guard: Guard | None
    template: str

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        dependencies = list(options.pop("dependencies", None) or [])
        guards = [one.dependency for one in dependencies if isinstance(one.dependency, Guard)]
        if len(guards) > 1:
            raise StartRefused(f"The route {path} declares {len(guards)} guards; keep one.")
        self.guard = guards[0] if guards else None
        self.template = path
        options["dependencies"] = [one for one in dependencies if not isinstance(one.dependency, Guard)]
        super().__init__(path, endpoint, **options)

    def get_route_handler(self) -> Handle:
        """What FastAPI makes of the endpoint, with everything of ours around it."""
        inner = super().get_route_handler()

        async def handle(request: Request) -> Response:
            return await self.answer(request, inner)

        return handle

    async def answer(self, request: Request, inner: Handle) -> Response:
        """Guard, unit of work, idempotency and retries around `inner`, which calls the endpoint."""
        if (failed := request.scope.pop(FAILED, None)) is not None:
            raise failed
        guard = self.guard
        if guard is None:
            raise RuntimeError(f"The route {self.path} has no guard.")
        request.scope["lms_template"] = self.template
        context: Context = request.app.state.context
        try:
            access = ANONYMOUS if guard.is_public else await authenticate(context, request)
        except Unauthenticated:
            await self.count(request, ANONYMOUS)
            raise
        await self.count(request, access)
        refuse_unusable_text(request)
        if request.method not in JSON_BODY_METHODS:
            decided = await check_guard(guard, context, access, request, None)
            response = await self.run(request, context, access, inner, None if decided else guard, None)
            return with_304(response, request.headers.get("if-none-match"))
        body = await self.parse_body(request)
        decided = await check_guard(guard, context, access, request, body)
        async with context.turns.of(access.actor_id):
            return await self.run(request, context, access, inner, None if decided else guard, body)

    async def count(self, request: Request, access: Access) -> None:
        """Count the request once for its caller's rate limit, where there is one; 429 for one too many."""
        limit = None if self.template in UNCOUNTED else request.app.state.rate_limit
        if limit is not None and COUNTED not in request.scope:
            request.scope[COUNTED] = True
            request.scope["lms_headers"].update(await limit.count(request, access))

    async def parse_body(self, request: Request) -> Any:
        """The JSON body, parsed strictly and kept where FastAPI looks for it; None for a form or no body."""
        body = await read_body(request)
        request._body = body
        content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        takes_form = self.body_field is not None and isinstance(self.body_field.field_info, params.Form)
        if takes_form:
            if body and content_type not in ("application/x-www-form-urlencoded", "multipart/form-data"):
                raise unsupported("application/x-www-form-urlencoded")
            return None
        if not body:
            return None
        if self.body_field is None:
            return None
        kind, _, form = content_type.partition("/")
        is_some_json = kind == "application" and form.endswith("+json") and "/" not in form
        if content_type != "application/json" and not is_some_json:
            raise unsupported("application/json")
        request._json = parse_json(body)
        return request._json

    async def run(
        self, request: Request, context: Context, access: Access, inner: Handle, undecided: Guard | None, body: Any
    ) -> Response:
        """Run the endpoint in a unit of work; again, when the database asks for it."""
        for attempt in range(TRIES):
            client = request.scope.get("client")
            address = None if client is None else client[0]
            arrived = request.scope.get("lms_arrived", request.scope["lms_started"])
            uow = UnitOfWork(context, access, request.scope.get("lms_request_id"), address, arrived)
            request.scope["lms_uow"] = uow
            try:
                return await run_once(request, uow, inner)
            except RequestValidationError:
                guard = undecided or self.guard
                if guard is not None and guard.reason == "reads":
                    await refuse_unknown(guard, uow, named_id(guard, request, body))
                elif undecided is not None:
                    await check_on_object(undecided, context, access, named_id(undecided, request, body))
                raise
            except DBAPIError as error:
                if not is_retryable(error) or attempt + 1 == TRIES:
                    raise
            except PoolTimeout:
                if attempt + 1 == TRIES:
                    raise
            finally:
                await uow.close()
            await pause(attempt)
        raise AssertionError("unreachable: the last attempt returns or raises")


async def run_once(request: Request, uow: UnitOfWork, inner: Handle) -> Response:
    """One attempt, with the caller's idempotency key honoured; commits before it returns."""
    key = idempotency.requested_key(request) if request.method == "POST" and uow.access.actor_id else None
    if key is not None and (replayed := await idempotency.replay(uow, request, key)) is not None:
        return replayed
    try:
        response = await inner(request)
    except Problem as problem:
        if problem.keeps_writes:
            await uow.commit()
        raise
    if uow.dry_run:
        return response
    if key is not None:
        await idempotency.remember(uow, request, key, response)
    await uow.commit()
    return response


def unsupported(expected: str) -> Problem:
    """415."""
    return Problem(415, "unsupported_media_type", f"Send the body as {expected}, with that Content-Type.")


def refuse_unusable_text(request: Request) -> None:
    """422 for NUL in the path or the query: no text of ours has it, and PostgreSQL would refuse it later."""
    if b"%00" in request.scope["query_string"] or "\0" in request.scope["path"]:
        raise Problem(
            422,
            "invalid_input",
            "The URL contains NUL; remove it.",
            errors=[{"loc": ["query"], "msg": "NUL is not allowed.", "type": "unstorable_text"}],
        )


async def authenticate(context: Context, request: Request) -> Access:
    """The caller's access; 401 when nobody is signed in."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated()
    access = await load_access(context, token)
    if access is None:
        raise Unauthenticated(
            "The access token is not valid, or not any more; refresh it or sign in again.", INVALID_TOKEN
        )
    return access


def named_id(guard: Guard, request: Request, body: Any) -> UUID | None:
    """The id that the guard's parameter holds, or None when it is absent or no UUID: validation will say so."""
    source: Any = body
    if guard.place != "body":
        source = request.query_params if guard.place == "query" else request.path_params
    value = source.get(guard.parameter) if hasattr(source, "get") else None
    try:
        return UUID(value) if isinstance(value, str) else None
    except ValueError:
        return None


async def check_guard(guard: Guard, context: Context, access: Access, request: Request, body: Any) -> bool:
    """Raise 403 or 404; False when the held roles alone say yes, so that existence is left for the service.

    A write locks what it touches and answers 404 by that; asking here as well would cost a round trip.
    """
    if guard.permission is None or guard.reason == "reads":
        return True
    if guard.on is None:
        if not access.holds_anywhere(guard.permission):
            raise forbidden(guard.permission)
        return True
    id = named_id(guard, request, body)
    if id is None:
        if not access.holds_anywhere(guard.permission):
            raise forbidden(guard.permission)
        return True
    kind = context.platform.kinds.of_noun(guard.on)
    scope = access.scope(guard.permission, kind.name)
    # Only a write may leave existence to the service, whose locks find out; a list under something dead would be empty.
    is_write = request.method != "GET"
    if is_write and not kind.stands_for_person and (scope.everywhere or id in scope.ids.get(kind.name, ())):
        return False
    await check_on_object(guard, context, access, id)
    return True


async def check_on_object(guard: Guard, context: Context, access: Access, id: UUID | None) -> None:
    """Ask the database: 404 when the caller may not know the object, 403 when they may not do this to it."""
    if id is None or guard.on is None or guard.permission is None:
        return
    kind = context.platform.kinds.of_noun(guard.on)
    known, allowed = await context.platform.rules.check(context.database, access, guard.permission, kind.model, id)
    if not known and not allowed:
        raise NotFound(kind.name, id)
    if not allowed:
        raise forbidden(guard.permission)


async def refuse_unknown(guard: Guard, uow: UnitOfWork, id: UUID | None) -> None:
    """404 for a row that the caller may neither read while it lives nor bring back."""
    if guard.on is None or id is None:
        return
    kind = uow.context.platform.kinds.of_noun(guard.on)
    if not await uow.knows(kind.model, id) and not await may_restore(uow, kind, id):
        raise NotFound(kind.name, id)


def forbidden(permission: str) -> Forbidden:
    """403 that names what is missing."""
    return Forbidden(f"This needs the permission {permission}, which you do not have here.")


class Router(APIRouter):
    """A plugin's router; its routes are guarded. The core mounts it at `/<plugin>`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(route_class=GuardedRoute, redirect_slashes=False, **options)

    def add_api_route(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        """Every route that answers with a new deletion, or with one that is undone, takes `?dry_run=true`."""
        if options.get("response_model") is DeletionRead and options.get("methods") != ["GET"]:
            asked = [Depends(only_preview)]
            if not path.endswith("/restore"):
                asked.append(Depends(reason_given))
            options["dependencies"] = [*(options.get("dependencies") or ()), *asked]
            options["responses"] = {**(options.get("responses") or {}), **PREVIEW_ANSWERS}
            options["status_code"] = 202
        super().add_api_route(path, endpoint, **options)
