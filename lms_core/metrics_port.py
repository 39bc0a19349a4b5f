"""`/metrics` of a worker, a relay or a scheduler that shares no folder with an API process: a port of its own."""

from __future__ import annotations

import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from os import environ
from pathlib import Path

from lms_core import metrics
from lms_core.config import Settings
from lms_core.errors import StartRefused
from lms_core.operators import may_see_internals


def begin(settings: Settings) -> None:
    """Let what this process forks count together; before anything counts, which begins with the platform's import."""
    if settings.metrics_port and metrics.FOLDER not in environ:
        metrics.begin(Path(tempfile.mkdtemp(prefix="lms-metrics-")))


def serve(settings: Settings) -> None:
    """Answer from now on, in a thread, to those that may read `/metrics` of the API. Raises StartRefused."""
    if not settings.metrics_port:
        return

    class Handler(BaseHTTPRequestHandler):
        """One request."""

        def do_GET(self) -> None:
            """The figures, or a refusal."""
            if self.path.partition("?")[0] != "/metrics":
                self.answer(404, b"Only /metrics is here.\n")
            elif not may_see_internals(settings, self.lowered(), self.client_address[0]):
                self.answer(403, b"This needs LMS_METRICS_TOKEN.\n")
            else:
                self.answer(200, metrics.as_text())

        def lowered(self) -> dict[str, str]:
            """The headers by names in small letters."""
            return {name.lower(): value for name, value in self.headers.items()}

        def answer(self, status: int, body: bytes) -> None:
            """As Prometheus reads it."""
            self.send_response(status)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """A scrape every few seconds is nothing to tell."""

    try:
        server = ThreadingHTTPServer(("", settings.metrics_port), Handler)
    except OSError as error:
        raise StartRefused(f"LMS_METRICS_PORT {settings.metrics_port} can't be used ({error.strerror}).") from None
    threading.Thread(target=server.serve_forever, daemon=True).start()
