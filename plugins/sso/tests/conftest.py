"""Two providers for the tests: a certified one that is not ours, and one of ours that lies as a test wants."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from lms_sso.settings import SsoSettings
from lms_sso.sign_in import redirect_uri
from providers import FRONT_END, Liar

from lms_core.testing import Lms

PROVIDER = Path(__file__).parent / "provider"


def without_node(reason: str) -> None:
    """Loudly: single sign-on is then not tested against anybody else's provider."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{reason}, and CI must have it.")
    pytest.skip(f"NOT TESTED against a certified provider: {reason}. Install Node 20 with npm.")


@pytest.fixture(scope="session")
def oidc_command() -> list[str]:
    """How to start oidc-provider, which is installed once."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        without_node("there is no Node here")
    assert node is not None
    assert npm is not None
    with (PROVIDER / "package-lock.json").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (PROVIDER / "node_modules" / "oidc-provider").is_dir():
            command = [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
            found = subprocess.run(command, cwd=PROVIDER, capture_output=True, text=True, timeout=300, check=False)
            if found.returncode != 0:
                without_node(f"npm cannot install oidc-provider ({found.stderr.strip()[-200:]})")
    return [node, str(PROVIDER / "provider.mjs")]


@pytest.fixture(scope="session")
def oidc(oidc_command: list[str], lms: Lms) -> Iterator[str]:
    """The issuer of a running oidc-provider."""
    process = subprocess.Popen(
        [*oidc_command, redirect_uri(lms.context)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    yield process.stdout.readline().strip()
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.fixture
def liar() -> Iterator[Liar]:
    """A fresh one."""
    liar = Liar()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            body = self.rfile.read(length).decode()
            path = urlsplit(self.path).path
            liar.asked.append((path, body, dict(self.headers)))
            status, answer = liar.find(path)
            content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            if status == 302:
                self.send_header("Location", f"{liar.issuer}/elsewhere")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET  # noqa: N815

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    liar.issuer = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield liar
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def reachable(lms: Lms, monkeypatch: pytest.MonkeyPatch) -> None:
    """The providers are on this machine, and there is one front end."""
    monkeypatch.setattr(lms.context.platform.plugin_settings(SsoSettings), "private_providers", True)
    monkeypatch.setattr(lms.context.settings, "cors_origins", FRONT_END)
