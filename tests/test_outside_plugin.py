"""A plugin in a package outside of the repository: about fifty lines join routes, tables, permissions and cascades."""

from __future__ import annotations

import shutil
from pathlib import Path

import httpx2
import pytest
from installed import environment, install, lms
from running import REPOSITORY, served

from lms_core.testing import ADMIN_EMAIL, ADMIN_PASSWORD, Caller, copy_template, settings_for
from lms_core.testing import Lms as Application

pytestmark = pytest.mark.anyio
SOURCE = Path(__file__).parent / "announcements" / "lms_announcements"


async def test_it_joins_without_any_change_elsewhere(tmp_path: Path) -> None:
    database = "lms_outside"
    await copy_template(database)
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
            staying = await application.make_school()
            stays = await staying.teacher.create(
                "/announcements", {"course_id": staying.course["id"], "text": "Stays."}
            )
    off = environment(
        tmp_path, (REPOSITORY / "plugins.toml").read_text(), LMS_DATABASE_URL=variables["LMS_DATABASE_URL"]
    )
    assert lms(off, "db", "upgrade").stdout.strip() == "Nothing to do."
    # Removed altogether: its package is gone, its table stays, and its neighbours notice nothing.
    away = tmp_path / "away"
    away.mkdir()
    for installed in tmp_path.glob("lms_announcements*"):
        shutil.move(installed, away)
    path = f"/courses/{staying.course['id']}"
    with served(off) as url:
        async with httpx2.AsyncClient(base_url=url, timeout=30) as client:
            teacher = Caller(client, headers=staying.teacher.headers)
            assert (await teacher.get("/announcements")).status_code == 404
            assert (await teacher.patch(path, {"title": "Without it"})).status_code == 200
            principal = Caller(client, headers=staying.principal.headers)
            gone = await principal.create(
                "/courses", {"institution_id": staying.institution["id"], "code": "G", "title": "G"}
            )
            assert (await principal.delete(f"/courses/{gone['id']}")).status_code == 202
            assert (await client.get("/health/ready")).status_code == 200
    # And back, with what was written there.
    for installed in away.iterdir():
        shutil.move(installed, tmp_path)
    on = environment(tmp_path, toml, LMS_DATABASE_URL=variables["LMS_DATABASE_URL"])
    assert lms(on, "db", "upgrade").stdout.strip() == "Nothing to do."
    with served(on) as url:
        async with httpx2.AsyncClient(base_url=url, timeout=30) as client:
            teacher = Caller(client, headers=staying.teacher.headers)
            [back] = await teacher.items("/announcements", course_id=staying.course["id"])
            assert (back["id"], back["text"]) == (stays["id"], "Stays.")
            assert (await teacher.get(path)).json()["title"] == "Without it"
