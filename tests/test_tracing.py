"""Traces of a running system, as a collector gets them: one from a request through its events to their handlers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import httpx2
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from running import REPOSITORY, free_port, system

from lms_core.testing import ADMIN_PASSWORD
from lms_core.tracing import SWITCHES

pytestmark = pytest.mark.anyio
CALLERS_TRACE, CALLERS_SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
CALLER = {"traceparent": f"00-{CALLERS_TRACE}-{CALLERS_SPAN}-01"}
RESTORED = (
    "SELECT count(*) > 0 AND bool_and(d.done_at IS NOT NULL) FROM core_delivery d "
    "JOIN core_event e ON e.id = d.event_id WHERE e.name = 'core.restored.v1' AND e.payload->>'id' = $1"
)


TRIED = "SELECT count(*) > 0 FROM core_delivery WHERE handler = 'auth.send_reset' AND last_error IS NOT NULL"


class Collector:
    """What takes OTLP over HTTP, and keeps it."""

    def __init__(self) -> None:
        self.received: list[bytes] = []
        received = self.received

        class Answer(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                received.append(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def spans(self) -> list[tuple[str, Span]]:
        """Each with the service that made it."""
        return [
            (service, span)
            for body in self.received
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans
            for service in [attributes(resource.resource)["service.name"]]
            for scope in resource.scope_spans
            for span in scope.spans
        ]


def attributes(holder: object) -> dict[str, str]:
    return {
        one.key: str(getattr(one.value, one.value.WhichOneof("value") or ""))
        for one in holder.attributes  # type: ignore[attr-defined]
    }


@contextmanager
def collecting() -> Iterator[Collector]:
    collector = Collector()
    Thread(target=collector.server.serve_forever, daemon=True).start()
    try:
        yield collector
    finally:
        collector.server.shutdown()
        collector.server.server_close()


async def test_one_trace_from_a_request_through_events_to_handlers(tmp_path: Path) -> None:
    # The exporters would wait for ten minutes, so what arrives was sent when the processes ended.
    with collecting() as collector:
        variables = {SWITCHES[0]: collector.url, "OTEL_BSP_SCHEDULE_DELAY": "600000", "LMS_LOG_LEVEL": "INFO"}
        nobody = {"LMS_SMTP_URL": f"smtp+plain://127.0.0.1:{free_port()}", "LMS_MAIL_FROM": "lms@example.org"}
        with system(tmp_path / "data", **variables, **nobody) as running:
            async with httpx2.AsyncClient(base_url=running.url, timeout=30) as client:
                admin = await running.admin(client)
                school = await admin.create("/institutions", {"name": "School", "slug": "school"})
                course = await admin.create(
                    "/courses", {"institution_id": school["id"], "code": "BIO", "title": "Biology"}
                )
                email, password = "somebody@example.org", "a password that nobody else has"
                await admin.create("/users", {"email": email, "full_name": "Somebody", "password": password})
                assert (await client.post("/auth/password-reset", json={"email": email})).status_code == 202
                path = f"/courses/{course['id']}"
                assert (await admin.delete(path, params={"reason": "words-of-theirs"})).status_code == 202
                assert (await admin.post(f"{path}/restore", headers=CALLER)).status_code == 202
                await running.until("what follows a restore is done", RESTORED, course["id"])
                await running.until("the mail was tried", TRIED)
            assert running.stop() == 0
            logs = (running.data / "logs" / "api.log").read_text()

    spans = collector.spans()
    assert {service for service, _ in spans} == {"lms-api", "lms-worker"}
    in_trace = {span.name: (service, span) for service, span in spans if span.trace_id.hex() == CALLERS_TRACE}
    service, request = in_trace["POST /courses/{course_id}/restore"]
    assert (service, request.kind) == ("lms-api", Span.SPAN_KIND_SERVER)
    assert request.parent_span_id.hex() == CALLERS_SPAN
    found = attributes(request)
    assert found.pop("lms.request_id")
    assert found == {
        "http.request.method": "POST",
        "http.route": "/courses/{course_id}/restore",
        "http.response.status_code": "202",
    }
    service, restore = in_trace["core.restore"]
    assert (service, restore.kind) == ("lms-worker", Span.SPAN_KIND_CONSUMER)
    assert restore.parent_span_id == request.span_id
    assert attributes(restore)["lms.attempt"] == "1"
    for name in ("enrollments.balance_restored", "materials.share_restored_file"):
        assert in_trace[name][1].parent_span_id == restore.span_id
    assert f"trace_id={CALLERS_TRACE}" in logs

    [deletion] = [span for _, span in spans if span.name == "DELETE /courses/{course_id}"]
    [cascade] = [span for _, span in spans if span.name == "core.cascade" and span.trace_id == deletion.trace_id]
    assert cascade.parent_span_id == deletion.span_id

    [asked] = [span for _, span in spans if span.name == "POST /auth/password-reset"]
    tries = [span for _, span in spans if span.name == "auth.send_reset"]
    assert {span.parent_span_id for span in tries} == {asked.span_id}
    for span in tries:
        assert span.status.code == Status.STATUS_CODE_ERROR
        assert attributes(span)["error.type"] == "lms_core.errors.Unavailable"
        assert (span.status.message, list(span.events)) == ("", [])

    everything = b"".join(collector.received)
    token = admin.headers["Authorization"].removeprefix("Bearer ")
    for secret in (token, ADMIN_PASSWORD, password, email, "words-of-theirs"):
        assert secret.encode() not in everything


def test_without_the_variable_neither_spans_nor_exporters_are_imported() -> None:
    # redis-py imports the metrics of the SDK where it is installed, whether anybody wants them or not.
    program = (
        "import sys; from lms_core import tracing; from lms_core.cli import CommandLine\n"
        "CommandLine().preload(); tracing.start('api'); tracing.stop()\n"
        "print([name for name in sys.modules if name.startswith(('opentelemetry.sdk.trace', 'opentelemetry.exporter'))])"
    )
    variables = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    done = subprocess.run(
        [sys.executable, "-c", program], env=variables, cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
