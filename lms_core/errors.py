"""Errors for people: every refusal is a problem (RFC 9457) with a stable code and a sentence that helps."""

from collections.abc import Mapping
from typing import Any, Self
from uuid import UUID

TITLES = {
    400: "Bad request",
    401: "Not signed in",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    408: "Request timed out",
    409: "Conflict",
    412: "Precondition failed",
    413: "Too large",
    415: "Unsupported media type",
    422: "Invalid",
    429: "Too many requests",
    500: "Internal error",
    503: "Unavailable",
}


class StartRefused(Exception):
    """The system must not start like this; the message is one sentence that says what to do."""


class Problem(Exception):
    """A refusal: raise it anywhere under a request and the caller gets it as problem+json."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        headers: Mapping[str, str] | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail = status, code, detail
        self.headers, self.extra = dict(headers or {}), extra
        self.keeps_writes = False

    def keeping_writes(self) -> Self:
        """The same refusal, but what was written before it is committed (a revoked session stays revoked)."""
        self.keeps_writes = True
        return self


class NotFound(Problem):
    """404: it does not exist, is deleted, or the caller may not know that it exists; always the same answer."""

    def __init__(self, noun: str, id: UUID | str | None = None) -> None:
        noun = noun.rsplit(".", 1)[-1]
        super().__init__(404, f"{noun}_not_found", f"There is no such {noun.replace('_', ' ')}.")


class Forbidden(Problem):
    """403: the caller may see the thing, but not do this."""

    def __init__(self, detail: str, code: str = "forbidden") -> None:
        super().__init__(403, code, detail)


class Unauthenticated(Problem):
    """401: nobody is signed in (RFC 6750)."""

    def __init__(
        self, detail: str = "Sign in and send the access token as a bearer token.", challenge: str = "Bearer"
    ) -> None:
        super().__init__(401, "not_authenticated", detail, {"WWW-Authenticate": challenge})


class StateConflict(Problem):
    """409: the request is fine, the state of things is not."""

    def __init__(self, code: str, detail: str, **extra: Any) -> None:
        super().__init__(409, code, detail, **extra)


class Invalid(Problem):
    """422 for what a schema alone cannot know; `loc` is the path to the offending input."""

    def __init__(self, code: str, detail: str, loc: tuple[str | int, ...] = ("body",)) -> None:
        super().__init__(422, code, detail, errors=[{"loc": list(loc), "msg": detail, "type": code}])


class Unavailable(Problem):
    """503: an engine behind us is away; the work can be tried again."""

    def __init__(self, detail: str, code: str = "unavailable", retry_after: int = 2) -> None:
        super().__init__(503, code, detail, {"Retry-After": str(retry_after)})


def problem_body(problem: Problem, request_id: str | None) -> dict[str, Any]:
    """The body of a problem's answer."""
    return {
        "type": "about:blank",
        "title": TITLES.get(problem.status, "Error"),
        "status": problem.status,
        "detail": problem.detail,
        "code": problem.code,
        "request_id": request_id,
        **problem.extra,
    }
