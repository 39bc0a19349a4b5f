"""The one ASGI layer around everything: request ids, HEAD, security headers, metrics, traces and the access log."""

from __future__ import annotations

import asyncio
import re
import time
from collections import defaultdict

import structlog
from prometheus_client import Counter, Gauge, Histogram
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lms_core import tracing
from lms_core.db import new_id
from lms_core.logs import REQUEST_ID, Answered, access_log

log = structlog.get_logger("lms.access")

VALID_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
REQUESTS = Counter("lms_http_requests_total", "Requests", ["method", "route", "status"])
DURATION = Histogram(
    "lms_http_request_duration_seconds",
    "Duration of requests",
    ["method", "route"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
IN_FLIGHT = Gauge("lms_http_requests_in_flight", "Requests being served", multiprocess_mode="livesum")
SECURITY_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
]
"""What browsers are told (OWASP's REST security cheat sheet)."""
HTTPS_ONLY = [(b"strict-transport-security", b"max-age=31536000")]
NO_FRAMES = b"frame-ancestors 'none'"
HTML = (b"content-type", b"text/html; charset=utf-8")
"""As Starlette sends pages. Those with the API's documents run scripts; nothing else may."""
MOMENT_SECONDS = 0.05
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Edge:
    """Pure ASGI, since BaseHTTPMiddleware costs more than all of this together."""

    def __init__(self, app: ASGIApp, over_https: bool) -> None:
        self.app = app
        told = [*SECURITY_HEADERS, *(HTTPS_ONLY if over_https else [])]
        self.of_pages = [*told, (b"content-security-policy", NO_FRAMES)]
        self.of_data = [*told, (b"content-security-policy", b"default-src 'none'; " + NO_FRAMES)]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = requested_id(scope) or new_id().hex
        scope["lms_request_id"] = request_id
        method = scope["method"]
        labelled = method if method in METHODS else "other"
        is_head = method == "HEAD"
        if is_head:
            # A copy: the server looks at its own scope to know that a HEAD's answer has no body.
            scope = {**scope, "method": "GET"}
        status = 500
        started = scope["lms_started"] = time.monotonic()
        # What the answer to this request says, whoever gives it.
        always: dict[str, str] = {"X-Request-ID": request_id}
        scope["lms_headers"] = always

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                more = self.of_pages if HTML in message["headers"] else self.of_data
                own = [(name.lower().encode(), value.encode()) for name, value in always.items()]
                message["headers"] = [*message["headers"], *more, *own]
            elif is_head and message["type"] == "http.response.body":
                message = {"type": "http.response.body", "body": b"", "more_body": message.get("more_body", False)}
            await send(message)

        answers.begin()
        outside = REQUEST_ID.set(request_id)
        with tracing.span_of_request(labelled, scope["headers"], request_id) as span:
            try:
                await self.app(scope, receive, send_with_headers)
            except ClientDisconnect:
                status = 499
            except Exception as error:
                tracing.failed(span, error)
                log.exception("request failed", method=method, path=scope["path"])
            finally:
                elapsed = time.monotonic() - started
                route = scope.get("lms_template", "other")
                tracing.answered(span, labelled, route, status)
                trace_id = tracing.current_trace_id()
                answers.add(Answered(time.time(), elapsed, method, route, scope["path"], status, request_id, trace_id))
                REQUEST_ID.reset(outside)


class Answers:
    """What operators are told of each answer: counters, durations, and a line of the log.

    It is told of many at once, a moment later: one by one, between requests, it took a fifth of a quick read. A process
    that is killed takes the lines of that moment with it.
    """

    def __init__(self) -> None:
        self.in_flight = 0
        self.waiting: list[Answered] = []
        self.is_due = False

    def begin(self) -> None:
        """A request is being served."""
        self.in_flight += 1
        self.be_due()

    def add(self, answer: Answered) -> None:
        """It was answered; told of at once where lines are for people's eyes."""
        self.in_flight -= 1
        self.waiting.append(answer)
        if access_log.may_wait:
            self.be_due()
        else:
            self.tell()

    def be_due(self) -> None:
        """Tell in a moment."""
        if not self.is_due:
            self.is_due = True
            asyncio.get_running_loop().call_later(MOMENT_SECONDS, self.tell)

    def tell(self) -> None:
        """Tell of all that waits."""
        self.is_due = False
        IN_FLIGHT.set(self.in_flight)
        told, self.waiting = self.waiting, []
        alike: dict[tuple[str, str, str], list[Answered]] = defaultdict(list)
        for one in told:
            alike[one.method if one.method in METHODS else "other", one.route, str(one.status)].append(one)
        for (method, route, status), answered in alike.items():
            REQUESTS.labels(method, route, status).inc(len(answered))
            duration = DURATION.labels(method, route)
            for one in answered:
                duration.observe(one.seconds)
        if told:
            access_log.write(told)


answers = Answers()


def requested_id(scope: Scope) -> str | None:
    """The caller's request id, if it is well formed."""
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            text = value.decode("latin-1")
            return text if VALID_REQUEST_ID.fullmatch(text) else None
    return None
