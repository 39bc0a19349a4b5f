"""Traces with OpenTelemetry, once OTEL_EXPORTER_OTLP_ENDPOINT says where to: a span of each request and of each handler.

The context travels as one W3C `traceparent`: from the caller's header, by the row of an event, to its handlers. Spans hold
templates, names and numbers, never what somebody sent: no path, no query, no body, no message of an error.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from importlib.metadata import PackageNotFoundError, version
from uuid import UUID

import structlog
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Span, SpanKind, StatusCode, Tracer, format_trace_id
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

import lms_core
from lms_core.errors import StartRefused

SWITCHES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
EXPORTER = "opentelemetry-exporter-otlp-proto-http"
# Less than `up` and container engines wait for a process to end; a collector that is away must not hold it up.
LAST_WORDS_SECONDS = 5.0
TRACE_CONTEXT = TraceContextTextMapPropagator()
NO_SPAN = nullcontext(INVALID_SPAN)

tracer: Tracer | None = None
"""None until `start`, and for good when nobody asked for traces: then nothing here costs anything."""


def is_wanted() -> bool:
    """Whether the environment says where traces go."""
    return any(os.environ.get(name) for name in SWITCHES)


def refuse_without_exporter() -> None:
    """Raise StartRefused when traces are wanted and the extra is not installed."""
    if not is_wanted():
        return
    try:
        version(EXPORTER)
    except PackageNotFoundError:
        raise StartRefused(
            f"{SWITCHES[0]} asks for traces, which need the extra `tracing`; install lms-core[tracing], or unset it."
        ) from None


def start(process: str) -> None:
    """Make spans from now on, if they are wanted. In the process itself, not before a fork: the exporter is a thread.

    All else stands in the standard variables, which the SDK reads; without OTEL_SERVICE_NAME the service is `lms-<process>`.
    """
    global tracer
    if not is_wanted():
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    ours = Resource({SERVICE_NAME: f"lms-{process}", SERVICE_VERSION: lms_core.__version__})
    named = ours.merge(OTELResourceDetector().detect())
    # Processes of ours end without atexit (forked.py).
    provider = TracerProvider(resource=Resource.create(named.attributes), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    tracer = provider.get_tracer("lms_core", lms_core.__version__)


def stop() -> None:
    """Send the spans that are left; give up after a few seconds."""
    shutdown = getattr(trace.get_tracer_provider(), "shutdown", None)
    if tracer is not None and shutdown is not None:
        sending = threading.Thread(target=shutdown, daemon=True)
        sending.start()
        sending.join(LAST_WORDS_SECONDS)


def traceparent() -> str | None:
    """The current span, as it is kept in a row or sent in a header; None without one."""
    if tracer is None:
        return None
    carrier: dict[str, str] = {}
    TRACE_CONTEXT.inject(carrier)
    return carrier.get("traceparent")


def context_of(traceparent: str | None) -> Context:
    """What goes on where `traceparent` came from; a new trace when there is none, or it is malformed."""
    return TRACE_CONTEXT.extract({} if traceparent is None else {"traceparent": traceparent})


def span_of_request(
    method: str, headers: Iterable[tuple[bytes, bytes]], request_id: str
) -> AbstractContextManager[Span]:
    """A span around a request, in the caller's trace if the caller has one."""
    if tracer is None:
        return NO_SPAN
    given = next((value.decode("latin-1") for name, value in headers if name == b"traceparent"), None)
    return tracer.start_as_current_span(
        method,
        context_of(given),
        SpanKind.SERVER,
        {"http.request.method": method, "lms.request_id": request_id},
        record_exception=False,
        set_status_on_exception=False,
    )


def answered(span: Span, method: str, route: str, status: int) -> None:
    """What is known of a request only at its end."""
    if span.is_recording():
        span.update_name(f"{method} {route}")
        span.set_attributes({"http.route": route, "http.response.status_code": status})
        if status >= 500:
            span.set_status(StatusCode.ERROR)


def span_of_handler(
    handler: str, delivery_id: UUID, attempt: int, traceparent: str | None
) -> AbstractContextManager[Span]:
    """A span around one attempt of a handler, below whatever stated the event."""
    if tracer is None:
        return NO_SPAN
    return tracer.start_as_current_span(
        handler,
        context_of(traceparent),
        SpanKind.CONSUMER,
        {"lms.delivery": str(delivery_id), "lms.attempt": attempt},
        record_exception=False,
        set_status_on_exception=False,
    )


def failed(span: Span, error: BaseException) -> None:
    """The error's type; its message may quote what somebody sent."""
    if span.is_recording():
        span.set_attribute("error.type", f"{type(error).__module__}.{type(error).__qualname__}")
        span.set_status(StatusCode.ERROR)


def current_trace_id() -> str | None:
    """Of what goes on now; None without traces."""
    if tracer is None:
        return None
    context = trace.get_current_span().get_span_context()
    return format_trace_id(context.trace_id) if context.is_valid else None


def add_trace_id(_: object, __: str, line: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """A processor of log lines: the trace that they belong to."""
    trace_id = current_trace_id()
    if trace_id is not None:
        line["trace_id"] = trace_id
    return line
