"""The web application: the plugins' routers, the core's own, one pure ASGI layer around all, and errors as problems."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from fastapi_offline import FastAPIOffline
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

import lms_core
from lms_core import tracing
from lms_core.audit_routes import router as audit_router
from lms_core.edge import Edge, answers
from lms_core.errors import Problem, StateConflict, Unavailable, problem_body
from lms_core.import_routes import router as import_router
from lms_core.legal_holds import router as legal_holds_router
from lms_core.lifespan import running
from lms_core.operations import router as operations_router
from lms_core.pagination import JsonBytes
from lms_core.platform import Platform, routes_of
from lms_core.problem_schema import ProblemRead
from lms_core.process_metrics import reporting
from lms_core.rate_limit import RATE_LIMIT_HEADERS, rate_limit_of
from lms_core.recycle_bin import router as recycle_bin_router
from lms_core.route_index import QuickAnswers, RouteIndex
from lms_core.routing import GuardedRoute, Router
from lms_core.session import AWAY, BUSY
from lms_core.uow import Context, is_away, is_retryable, sqlstate

log = structlog.get_logger("lms.http")

MAX_ERRORS = 50

CODES = {
    400: "bad_request",
    404: "not_found",
    405: "method_not_allowed",
    413: "body_too_large",
    415: "unsupported_media_type",
}
DETAILS = {
    400: "The request could not be read; correct it.",
    404: "There is nothing at this address.",
    405: "This address does not take this method; see the Allow header.",
}


def create_app(platform: Platform) -> ASGIApp:
    """The ASGI application of a platform."""
    context = Context.create(platform)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        tracing.start("api")
        try:
            async with running(context), reporting(context):
                context.start_watch()
                yield
        finally:
            answers.tell()
            tracing.stop()

    settings = platform.settings
    app = FastAPIOffline(
        title="LMS",
        version=lms_core.__version__,
        description="A headless learning management system. Sign in with `POST /auth/login`.",
        lifespan=lifespan,
        redirect_slashes=False,
        separate_input_output_schemas=False,
        # Its spans hold the query, its logs the errors' messages; edge.py makes the span, and /metrics has the figures.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
        generate_unique_id_function=lambda route: f"{(route.tags or ['core'])[0]}_{route.name}",
    )
    app.state.context = context
    app.state.rate_limit = rate_limit_of(settings)
    for router in (
        operations_router(),
        recycle_bin_router(platform),
        legal_holds_router(),
        audit_router(),
        import_router(),
    ):
        mount(app, router, "", "core")
    for plugin in platform.plugins:
        for router in plugin.routers:
            mount(app, router, f"{settings.api_prefix}/{plugin.name}", plugin.name)
    index = RouteIndex(app, settings.api_prefix)
    app.router.routes.insert(0, index)
    add_error_handlers(app)
    document(app)
    over_https = settings.public_url.startswith("https://")
    answering = QuickAnswers(app, index)
    if not settings.cors_origins:
        return Edge(answering, over_https)
    # Around everything, not added to the application: pages must be able to read an answer 500, too.
    return Edge(
        CORSMiddleware(
            answering,
            allow_origins=[origin.strip() for origin in settings.cors_origins.split(",")],
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=["ETag", "Link", "X-Request-ID", "Idempotent-Replayed", "Retry-After", *RATE_LIMIT_HEADERS],
        ),
        over_https,
    )


def mount(app: FastAPI, router: Router, prefix: str, tag: str) -> None:
    """Put a router's routes in front of clients."""
    for route in routes_of(router):
        route.template = prefix + route.path
    app.include_router(router, prefix=prefix, tags=[tag])


def add_error_handlers(app: FastAPI) -> None:
    """Every error leaves as application/problem+json."""
    allowed = AllowedMethods(app)

    async def problem(request: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)
        return answer(request, error)

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        errors = [
            {"loc": plain_loc(one["loc"]), "msg": one["msg"], "type": one["type"]}
            for one in error.errors()[:MAX_ERRORS]
        ]
        return answer(
            request, Problem(422, "invalid_input", "Some of the input is not valid; see `errors`.", errors=errors)
        )

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        status = error.status_code
        headers = dict(error.headers or {})
        if status == 405:
            headers["Allow"] = ", ".join(allowed.at(request.scope["path"]))
        detail = DETAILS.get(status, str(error.detail))
        return answer(request, Problem(status, CODES.get(status, f"http_{status}"), detail, headers))

    async def database(request: Request, error: Exception) -> Response:
        found = database_problem(error)
        if found.status == 500:
            log.error("request failed", path=request.scope["path"], exc_info=error)
        else:
            log.warning("request refused", path=request.scope["path"], code=found.code, reason=repr(error))
        return answer(request, found)

    app.add_exception_handler(Problem, problem)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
    for kind in (DBAPIError, PoolTimeout, asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError):
        app.add_exception_handler(kind, database)
    app.add_exception_handler(Exception, database)


def answer(request: Request, problem: Problem) -> Response:
    """A problem as bytes."""
    response = JsonBytes(problem_body(problem, request.scope.get("lms_request_id")), problem.status, problem.headers)
    response.headers["Content-Type"] = "application/problem+json"
    return response


def plain_loc(loc: Any) -> list[str | int]:
    """A place in the input; text of the caller's own (an unknown field's name) is cut to something harmless."""
    return [part if isinstance(part, int) else str(part)[:100] for part in loc]


def database_problem(error: Exception) -> Problem:
    """What an error from below means to a client; 500 only for what is our own fault."""
    state = sqlstate(error) if isinstance(error, DBAPIError) else getattr(error, "sqlstate", None)
    if isinstance(error, DBAPIError) and is_retryable(error):
        return Unavailable("Others are changing the same things right now; try again shortly.", "busy", 1)
    if isinstance(error, PoolTimeout):
        return Unavailable(BUSY, "busy", 1)
    if is_away(error):
        return Unavailable(AWAY, "database_away")
    if state is not None and state.startswith("57"):
        return Unavailable("This took too long and was stopped; ask for less, or try again.", "too_slow")
    if (state is not None and state.startswith("22")) or isinstance(error, asyncpg.DataError):
        return Problem(422, "value_out_of_range", "A value is outside of what can be stored; correct it.")
    if isinstance(error, IntegrityError):
        return StateConflict(
            "conflict", "This does not fit with what is there; read it again and correct your request."
        )
    return Problem(500, "internal_error", "Something went wrong on our side; it was logged under the request id.")


class AllowedMethods:
    """Which methods an address takes, over all routes: what `Allow` needs (RFC 9110 §10.2.1)."""

    def __init__(self, app: FastAPI) -> None:
        self.app = app
        self.known: list[tuple[Any, set[str]]] | None = None

    def at(self, path: str) -> list[str]:
        """Sorted methods."""
        if self.known is None:
            self.known = [
                (context.path_regex, set(context.methods or ()))
                for context in iter_route_contexts(self.app.routes)
                if getattr(context, "path_regex", None) is not None and getattr(context, "methods", None)
            ]
        methods = set[str]().union(*(methods for regex, methods in self.known if regex.match(path)))
        return sorted(methods | ({"HEAD"} if "GET" in methods else set()))


def document(app: FastAPI) -> None:
    """The OpenAPI document: FastAPI's, with the error answers that every operation can give."""
    original = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema:
            return app.openapi_schema
        found = original()
        schemas = found.setdefault("components", {}).setdefault("schemas", {})
        problem = ProblemRead.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas.update(problem.pop("$defs", {}))
        schemas["Problem"] = problem
        schemas.pop("HTTPValidationError", None)
        schemas.pop("ValidationError", None)
        found["components"]["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}}
        guards = {str(route.unique_id): route.original_route.guard for route in guarded_routes(app)}
        for operations in found["paths"].values():
            for method, operation in operations.items():
                complete_operation(method, operation, guards.get(operation.get("operationId", "")))
        app.openapi_schema = found
        return found

    app.openapi = openapi  # type: ignore[method-assign]


def guarded_routes(app: FastAPI) -> list[Any]:
    """Every route with a guard, as mounted."""
    return [context for context in iter_route_contexts(app.routes) if isinstance(context.original_route, GuardedRoute)]


IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Send the same key with the same body again, and the stored answer comes back",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
}


def complete_operation(method: str, operation: dict[str, Any], guard: Any) -> None:
    """Error answers, and whether the operation needs a token."""
    answers = {"422", "429", "503"}
    if guard is not None and not guard.is_public:
        operation["security"] = [{"bearer": []}]
        answers |= {"401", "403", "404"}
    if "requestBody" in operation:
        answers |= {"400", "409", "413", "415"}
    if any(parameter.get("name") == "If-Match" for parameter in operation.get("parameters", ())):
        answers |= {"409", "412"}
    names_of_parameters = {parameter["name"] for parameter in operation.get("parameters", ())}
    if "cursor" in names_of_parameters:
        answers |= {"400"}
    if method == "post" and guard is not None and not guard.is_public:
        answers |= {"409"}
        operation.setdefault("parameters", []).append(IDEMPOTENCY_KEY)
    names = {
        "400": "Malformed",
        "401": "Not signed in",
        "403": "Not allowed",
        "404": "Not found",
        "409": "Conflict",
        "412": "Stale",
        "413": "Too large",
        "415": "Unsupported media type",
        "422": "Invalid",
        "429": "Too many requests",
        "503": "Unavailable",
    }
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    for status in sorted(answers):
        operation["responses"][status] = {"description": names[status], "content": content}
