"""Structured logs: JSON lines in production, readable lines elsewhere; the ids of request and trace are in every line of a request."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec
import structlog

from lms_core.config import Settings
from lms_core.tracing import add_trace_id

REDACTED = "[redacted]"
ENCODER = msgspec.json.Encoder()
LEAST_CHARACTERS = 12
"""A shorter secret of a setting may be an ordinary word; in addresses and after its name it is taken out nevertheless."""
MARKS = ("eyj", "1.", "x-amz-", "://", "bearer ", "pass", "secret", "token", "key", "cook", "author")
"""Without one of these, in whatever case, a text holds none of the secrets below; that is much quicker to see. None holds an
`i`, whose case is not the same in every language."""
NAMED = r"(?i:(?:pass(?:word|wd|phrase)|secret|token|(?:api|access|private|secret)_?key|cookie|authorization)\w*)"
VALUE = r"(?:\\*'(?:\\.|[^'\\])*(?:'|$)|\\*\"(?:\\.|[^\"\\])*(?:\"|$)|(?i:(?:bearer|basic|digest) )?[^\s,;&'\"}\])]+)"
SECRETS = "|".join(
    (
        # An access token, as all JSON Web Tokens begin (RFC 7519), then our own: refresh, reset, invitation, sign-on.
        r"\beyJ[\w-]{10,}\.[\w-]+\.[\w-]*",
        r"\b[a-z]1\.[\w-]{40,}",
        # What signs an address of the store, and what stands before the @ of any address.
        r"(?<=X-Amz-Signature=)[^&\s\"']+",
        r"(?<=X-Amz-Credential=)[^&\s\"']+",
        r"(?<=://)[^/\s:@\"']*:[^/\s@\"']+(?=@)",
        # Whatever is called a secret, as Python, JSON, a form, a header or an environment writes it.
        rf"(?P<named>{NAMED}\\*['\"]?\s*[:=,]\s*b?){VALUE}",
        r"(?<=[Bb]earer )[\w.~+/=-]{8,}",
    )
)


OURS = frozenset({"timestamp", "level", "logger", "method", "request_id", "trace_id"})
SECRET_NAME = re.compile(r"(?i)(^|_)(password|passphrase|token|secret|secret_key|api_key|authorization|cookie)$")


class Redaction:
    """A processor of log lines: what must not be known stands as `[redacted]`, whoever wrote it: a library, a traceback."""

    def __init__(self, settings: Settings) -> None:
        # The longest first: one may begin with another.
        known = sorted(secrets_of(settings), key=len, reverse=True)
        # A search that minds no case takes five times as long as one through what has none.
        self.marks = re.compile("|".join(re.escape(mark.casefold()) for mark in (*MARKS, *known)))
        self.secret = re.compile("|".join((*map(re.escape, known), SECRETS)))

    def __call__(self, _: object, __: str, line: structlog.typing.EventDict) -> structlog.typing.EventDict:
        """The same line without secrets."""
        for name, value in line.items():
            if SECRET_NAME.search(name):
                line[name] = REDACTED
            elif name not in OURS:
                line[name] = self.without(value)
        return line

    def without(self, value: Any) -> Any:
        """A value without secrets; what is neither text nor number is written as the renderers would write it."""
        if value is None or isinstance(value, (bool, int, float)):
            return value
        text = value if isinstance(value, str) else repr(value)
        return self.secret.sub(redacted, text) if self.marks.search(text.casefold()) else value


def redacted(found: re.Match[str]) -> str:
    """What stands for a secret; its name stays."""
    return f"{found['named'] or ''}{REDACTED}"


def secrets_of(settings: Settings) -> set[str]:
    """The secrets that the settings hold, those in addresses included, as they are and as they are written there."""
    given = {settings.secret_key, settings.s3_secret_key, settings.metrics_token, settings.admin_password}
    for url in (
        settings.database_url,
        settings.database_direct_url,
        settings.database_read_url,
        settings.redis_url,
        settings.smtp_url,
    ):
        password = urlsplit(url).password or ""
        given |= {password, unquote(password)}
    return {secret for secret in given if len(secret) >= LEAST_CHARACTERS}


REQUEST_ID: ContextVar[str | None] = ContextVar("lms_request_id", default=None)
"""Of the request that is being served, for every line that is written meanwhile."""


def add_request_id(_: object, __: str, line: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """A processor of log lines: the request that they belong to."""
    request_id = REQUEST_ID.get()
    if request_id is not None:
        line.setdefault("request_id", request_id)
    return line


@dataclass(frozen=True)
class Answered:
    """One answer to a request: when it was given (seconds since 1970), how long it took (seconds), and to what."""

    at: float
    seconds: float
    method: str
    route: str
    path: str
    status: int
    request_id: str
    trace_id: str | None


class AccessLog:
    """The line of each answered request.

    No other line is written as often, and the way through the loggers costs a fifth of a quick request: as JSON, these
    go straight to where the others go, many at once.
    """

    def __init__(self) -> None:
        self.logger = structlog.get_logger("lms.access")
        self.handler: logging.StreamHandler[Any] | None = None
        self.redaction: Redaction | None = None

    def configure(self, handler: logging.StreamHandler[Any], redaction: Redaction, production: bool) -> None:
        """Where lines go."""
        self.handler, self.redaction = (handler, redaction) if production else (None, None)

    @property
    def may_wait(self) -> bool:
        """Whether lines may come a moment later: nobody looks on."""
        return self.handler is not None

    def write(self, answers: Sequence[Answered]) -> None:
        """Write their lines. As with all logs, trouble in writing them is no trouble of anything else."""
        if self.handler is None or self.redaction is None:
            for one in answers:
                self.logger.info("request", method=one.method, path=one.path, status=one.status, ms=milliseconds(one))
            return
        if not logging.getLogger("lms.access").isEnabledFor(logging.INFO):
            return
        text = ENCODER.encode_lines([self.line(one, self.redaction) for one in answers]).decode()
        with self.handler.lock or nullcontext():
            try:
                self.handler.stream.write(text)
                self.handler.flush()
            except (OSError, ValueError):
                self.handler.handleError(logging.makeLogRecord({"name": "lms.access", "msg": "requests"}))

    def line(self, one: Answered, redaction: Redaction) -> dict[str, Any]:
        """With the names that all lines have."""
        return {
            "method": one.method,
            "path": redaction.without(one.path).encode(errors="backslashreplace").decode(),
            "status": one.status,
            "ms": milliseconds(one),
            "event": "request",
            "request_id": one.request_id,
            **({} if one.trace_id is None else {"trace_id": one.trace_id}),
            "logger": "lms.access",
            "level": "info",
            "timestamp": datetime.fromtimestamp(one.at, UTC),
        }


def milliseconds(one: Answered) -> float:
    """How long it took, as people read it."""
    return round(one.seconds * 1000, 1)


access_log = AccessLog()


def configure_logs(settings: Settings) -> None:
    """Send this process's logs, the libraries' included, through structlog to standard error."""
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        add_request_id,
        add_trace_id,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.ExtraAdder(),
    ]
    renderer: structlog.types.Processor = structlog.processors.JSONRenderer()
    if not settings.production:
        plain = structlog.dev.plain_traceback
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)
    redaction = Redaction(settings)
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            redaction,
            renderer,
        ],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.log_level.upper())
    # It says with every look at a version table that it looks.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    access_log.configure(handler, redaction, settings.production)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
