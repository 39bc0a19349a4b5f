"""A plugin in a package outside of the repository: about fifty lines join routes, tables, permissions and cascades."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
from installed import REPOSITORY, environment, install, lms

from lms_core.testing import ADMIN_EMAIL, ADMIN_PASSWORD, TEMPLATE, Caller, on_server, settings_for
from lms_core.testing import Lms as Application

pytestmark = pytest.mark.anyio
SOURCE = Path(__file__).parent / "announcements" / "lms_announcements"


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


@contextmanager
def served(variables: dict[str, str]) -> Iterator[str]:
    """`lms serve`, until the block ends."""
    port = free_port()
    command = [sys.executable, "-m", "lms_core.cli", "serve", "--port", str(port)]
    process = subprocess.Popen(command, env=variables, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            assert process.poll() is None, process.stderr.read() if process.stderr else ""
            try:
                if httpx2.get(f"{url}/health/ready").status_code == 200:
                    break
            except httpx2.TransportError:
                time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(30)


async def test_it_joins_without_any_change_elsewhere(tmp_path: Path) -> None:
    database = "lms_outside"
    await on_server(f'CREATE DATABASE "{database}" TEMPLATE "{TEMPLATE}"')
    install(SOURCE, tmp_path, "announcements")
    toml = (REPOSITORY / "plugins.toml").read_text() + "\n[plugins.announcements]\nenabled = true\n"
    variables = environment(tmp_path, toml, LMS_DATABASE_URL=settings_for(database).database_url)
    for arguments in (("db", "revision", "announcements", "first"), ("db", "upgrade")):
        result = lms(variables, *arguments)
        assert result.returncode == 0, result.stderr
    assert "announcements_0001 (at head)" in lms(variables, "db", "status").stdout
    with served(variables) as url:
        async with httpx2.AsyncClient(base_url=url, timeout=30) as client:
            application = Application(client, None)  # type: ignore[arg-type]
            application.known_admin = await application.sign_in(ADMIN_EMAIL, ADMIN_PASSWORD)
            school = await application.make_school()
            body = {"course_id": school.course["id"], "text": "The test is on Friday."}
            assert (await school.student.post("/announcements", body)).status_code == 403
            made = await school.teacher.create("/announcements", body)
            own = {"course_id": school.course["id"]}
            assert [item["id"] for item in await school.student.items("/announcements", **own)] == [made["id"]]
            stranger: Caller = (await application.make_school()).teacher
            assert await stranger.items("/announcements", **own) == []
            assert (await stranger.delete(f"/announcements/{made['id']}")).status_code == 404
            # A HEAD through a real server leaves the connection good for the next request.
            for _ in range(3):
                assert (await client.head("/health/live")).status_code == 200
            names = [plugin["name"] for plugin in await school.student.items("/plugins")]
            assert "announcements" in names
            await school.principal.delete(f"/courses/{school.course['id']}")
            assert await school.teacher.items("/announcements", **own) == []
            document = (await client.get("/openapi.json")).json()
            assert document["paths"]["/announcements"]["post"]["operationId"] == "announcements_create"
    switched_off = environment(
        tmp_path, (REPOSITORY / "plugins.toml").read_text(), LMS_DATABASE_URL=variables["LMS_DATABASE_URL"]
    )
    assert lms(switched_off, "db", "upgrade").stdout.strip() == "Nothing to do."
