"""The door for tests: a pytest plugin with the real engines, a database for each test process, and a client.

`python3 -m lms_core test` loads it. The engines start once, in the process that pytest was started in; the test
processes get a database each, copied from one migrated template.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID, uuid4

import asyncpg
import httpx2
import pytest
from sqlalchemy import text

from lms_core.config import Settings, load_settings
from lms_core.delivery import deliver
from lms_core.engines import Engines
from lms_core.http import create_app
from lms_core.logs import configure_logs
from lms_core.migrate import upgrade
from lms_core.outbox import FIRST_IN_ORDER
from lms_core.platform import Platform, load_platform
from lms_core.setup import run_setups
from lms_core.uow import Context

ADMIN_EMAIL = "admin@example.org"
ADMIN_PASSWORD = "correct horse battery staple"
# Less than an access token lives: on a slow machine a test process may run for longer than that.
ADMIN_SECONDS = 300.0
PASSWORD = "tests need long passwords"
TEMPLATE = "lms_template"
FOLDER = "LMS_TEST_FOLDER"
REPOSITORY = Path(__file__).parent.parent

# httpx2 asks before each request whether trio is there, and Python would look for it in every folder each time.
sys.modules.setdefault("sniffio", None)  # type: ignore[arg-type]
# Until all tests are imported; see lms_core/garbage.py.
gc.disable()

_engines: list[Engines] = []
_folders: list[tempfile.TemporaryDirectory[str]] = []


def pytest_sessionstart(session: pytest.Session) -> None:
    """In the first process: engines and the template; the others inherit both through the environment."""
    if hasattr(session.config, "workerinput") or session.config.option.collectonly:
        return
    folder = tempfile.TemporaryDirectory(prefix="lms-tests-", ignore_cleanup_errors=True)
    _folders.append(folder)
    engines = Engines(Path(folder.name), durable=False)
    _engines.append(engines)
    engines.start()
    os.environ.update(engines.environment())
    os.environ.update(
        {
            "LMS_ADMIN_EMAIL": ADMIN_EMAIL,
            "LMS_ADMIN_PASSWORD": ADMIN_PASSWORD,
            "LMS_PLUGINS_FILE": str(REPOSITORY / "plugins.toml"),
            "LMS_DATA": folder.name,
            "LMS_LOG_LEVEL": "WARNING",
            FOLDER: folder.name,
        }
    )
    asyncio.run(make_template())


def pytest_collection_finish(session: pytest.Session) -> None:
    """All is imported: from now on only what tests make is looked through for garbage."""
    gc.freeze()
    gc.enable()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Stop what this process started."""
    while _engines:
        _engines.pop().stop()
    while _folders:
        _folders.pop().cleanup()


async def make_template() -> None:
    """A migrated database with its first super admin, to be copied."""
    await on_server(f'CREATE DATABASE "{TEMPLATE}"')
    platform = load_platform(settings_for(TEMPLATE))
    await upgrade(platform)
    await run_setups(platform, demo=False)


async def copy_template(database: str) -> None:
    """A database of one's own, migrated, with its first super admin."""
    await on_server(f'CREATE DATABASE "{database}" TEMPLATE "{TEMPLATE}"')


async def on_server(statement: str) -> None:
    """One statement outside of every transaction."""
    connection = await asyncpg.connect(os.environ["LMS_DATABASE_URL"])
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def settings_for(database: str, **changes: Any) -> Settings:
    """The test settings, on another database of the same server."""
    url = urlunsplit(urlsplit(os.environ["LMS_DATABASE_URL"])._replace(path=f"/{database}"))
    return load_settings().model_copy(update={"database_url": url, **changes})


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Bytes name no case: an archive that is made twice differs in its time, and all workers must find the same cases."""
    return argname if isinstance(val, bytes) else None


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """One event loop for all tests of a process, so that pools outlive a test."""
    return "asyncio", {}


@pytest.fixture(scope="session")
def database_name() -> str:
    """This test process's database."""
    return f"lms_{os.environ.get('PYTEST_XDIST_WORKER', 'main')}"


@pytest.fixture(scope="session")
def settings(database_name: str) -> Settings:
    """The settings of the application under test."""
    number = int("".join(filter(str.isdigit, database_name)) or 15) % 16
    redis_url = urlunsplit(urlsplit(os.environ["LMS_REDIS_URL"])._replace(path=f"/{number}"))
    return settings_for(database_name, redis_url=redis_url)


@pytest.fixture(scope="session")
async def database(database_name: str) -> str:
    """The copy of the template."""
    await copy_template(database_name)
    return database_name


@pytest.fixture(scope="session")
def platform(settings: Settings) -> Platform:
    """The enabled plugins."""
    configure_logs(settings)
    # Our own client's lines would be more than the system's.
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    return load_platform(settings)


@asynccontextmanager
async def application(platform: Platform) -> AsyncIterator[Lms]:
    """The application of a platform, running in this process."""
    edge: Any = create_app(platform)
    app = edge.app.app
    async with app.router.lifespan_context(app):
        context: Context = app.state.context
        while not context.database.watching:
            await asyncio.sleep(0.01)
        transport = httpx2.ASGITransport(edge, raise_app_exceptions=False)
        async with httpx2.AsyncClient(transport=transport, base_url="http://test", timeout=60) as client:
            yield Lms(client, context)


@asynccontextmanager
async def application_apart(settings: Settings) -> AsyncIterator[Lms]:
    """The enabled plugins on a database of their own, for what the rows of other tests would change."""
    configure_logs(settings)
    database = f"lms_{uuid4().hex}"
    await copy_template(database)
    async with application(load_platform(settings_for(database))) as running:
        yield running


@pytest.fixture(scope="session")
async def lms(platform: Platform, database: str) -> AsyncIterator[Lms]:
    """The application, for all tests of this process; each makes institutions of its own."""
    async with application(platform) as running:
        yield running


@pytest.fixture
async def school(lms: Lms) -> School:
    """A new institution with a principal, a teacher, a student and a published course."""
    return await lms.make_school()


@dataclass
class Caller:
    """A client that is signed in, or nobody."""

    client: httpx2.AsyncClient
    id: UUID | None = None
    email: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    async def send(self, method: str, path: str, **options: Any) -> httpx2.Response:
        """One request."""
        headers = {**self.headers, **options.pop("headers", {})}
        return await self.client.request(method, path, headers=headers, **options)

    async def get(self, path: str, **options: Any) -> httpx2.Response:
        """GET."""
        return await self.send("GET", path, **options)

    async def post(self, path: str, json: Any = None, **options: Any) -> httpx2.Response:
        """POST a JSON body."""
        return await self.send("POST", path, **({} if json is None else {"json": json}), **options)

    async def patch(self, path: str, json: Any, **options: Any) -> httpx2.Response:
        """PATCH a JSON body."""
        return await self.send("PATCH", path, json=json, **options)

    async def delete(self, path: str, **options: Any) -> httpx2.Response:
        """DELETE."""
        return await self.send("DELETE", path, **options)

    async def create(self, path: str, json: Any) -> dict[str, Any]:
        """POST what must succeed with 201."""
        answer = await self.post(path, json)
        assert answer.status_code == 201, answer.text
        created: dict[str, Any] = answer.json()
        return created

    async def items(self, path: str, **params: Any) -> list[dict[str, Any]]:
        """Every item of a list, page by page."""
        found: list[dict[str, Any]] = []
        cursor = None
        while True:
            answer = await self.get(path, params={**params, **({"cursor": cursor} if cursor else {})})
            assert answer.status_code == 200, answer.text
            found += answer.json()["items"]
            cursor = answer.json()["next_cursor"]
            if cursor is None:
                return found


@dataclass
class School:
    """An institution with people and a course."""

    institution: dict[str, Any]
    principal: Caller
    teacher: Caller
    student: Caller
    course: dict[str, Any]


class Lms:
    """The application under test, and shortcuts through its HTTP interface."""

    def __init__(self, client: httpx2.AsyncClient, context: Context) -> None:
        self.client, self.context = client, context
        self.anonymous = Caller(client)
        self.known_admin: Caller | None = None
        self.admin_since = 0.0

    async def sign_in(self, email: str, password: str = PASSWORD, id: str | None = None) -> Caller:
        """A caller with a fresh session."""
        answer = await self.client.post("/auth/login", data={"username": email, "password": password})
        assert answer.status_code == 200, answer.text
        headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
        caller = Caller(self.client, email=email, headers=headers)
        caller.id = UUID(id or (await caller.get("/users/me")).json()["id"])
        return caller

    async def admin(self) -> Caller:
        """The first super admin."""
        if self.known_admin is None or time.monotonic() - self.admin_since > ADMIN_SECONDS:
            self.known_admin, self.admin_since = await self.sign_in(ADMIN_EMAIL, ADMIN_PASSWORD), time.monotonic()
        return self.known_admin

    async def make_institution(self, parent_id: str | None = None) -> dict[str, Any]:
        """A new institution."""
        name = f"school-{uuid4().hex[:12]}"
        body = {"name": name, "slug": name, **({} if parent_id is None else {"parent_id": parent_id})}
        return await (await self.admin()).create("/institutions", body)

    async def make_user(self, role: str | None = None, institution_id: str | None = None) -> Caller:
        """A new user with a role, signed in."""
        roles = [] if role is None else [{"role": role, "institution_id": institution_id}]
        email = f"{role or 'nobody'}-{uuid4().hex[:12]}@example.org"
        body = {"email": email, "full_name": f"A {role or 'person'}", "password": PASSWORD, "roles": roles}
        user = await (await self.admin()).create("/users", body)
        return await self.sign_in(email, id=user["id"])

    async def make_course(self, institution_id: str, **fields: Any) -> dict[str, Any]:
        """A new published course."""
        admin = await self.admin()
        body = {"institution_id": institution_id, "code": uuid4().hex[:12], "title": "Biology", **fields}
        course = await admin.create("/courses", body)
        answer = await admin.patch(f"/courses/{course['id']}", {"state": "published"})
        assert answer.status_code == 200, answer.text
        published: dict[str, Any] = answer.json()
        return published

    async def enroll(self, course_id: str, user: Caller, role: str = "student") -> dict[str, Any]:
        """A new enrollment."""
        body = {"course_id": course_id, "user_id": str(user.id), "role": role}
        return await (await self.admin()).create("/enrollments", body)

    async def make_school(self) -> School:
        """An institution with a principal, and a published course with its teacher and a student."""
        institution = await self.make_institution()
        id = institution["id"]
        principal, teacher, student = [await self.make_user(role, id) for role in ("principal", "teacher", "student")]
        course = await self.make_course(id)
        await self.enroll(course["id"], teacher, "teacher")
        await self.enroll(course["id"], student)
        return School(institution, principal, teacher, student, course)

    async def until_somebody_waits(self) -> None:
        """Until a transaction waits for what another one has locked; TimeoutError after ten seconds."""
        waiting = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        async with asyncio.timeout(10):
            while not await self.sql(waiting):
                await asyncio.sleep(0.01)

    async def work_off(self) -> int:
        """Do every due delivery here and now, as workers would; how many were done."""
        done = 0
        due = text(
            "SELECT id FROM core_delivery WHERE done_at IS NULL AND dead_at IS NULL AND next_attempt_at <= now() "
            f"AND {FIRST_IN_ORDER} ORDER BY position"
        )
        while True:
            async with self.context.unit_of_work() as uow:
                ids = list((await uow.session.execute(due)).scalars())
            if not ids:
                return done
            for id in ids:
                done += await deliver(self.context, id) == "done"

    async def sql(self, statement: str, **values: Any) -> list[Any]:
        """Rows of a statement, for what HTTP does not show."""
        async with self.context.unit_of_work() as uow:
            result: Any = await uow.session.execute(text(statement), values)
            return list(result.mappings()) if result.returns_rows else []

    @asynccontextmanager
    async def counted(self) -> AsyncIterator[Counted]:
        """How many statements ran inside the block."""
        counted = Counted()
        before = self.context.database.statements
        yield counted
        counted.statements = self.context.database.statements - before


@dataclass
class Counted:
    """A number that is known at the end of a block."""

    statements: int = -1
