"""A whole system with a proxy before each engine, clients that write down what was acknowledged, and the reckoning.

The engines are the laboratory's own, so that it can kill, freeze and restart them; `lms up` runs the rest on them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import httpx2
import psutil
from browser import send_form
from faulty_proxy import Proxies, proxies
from installed import write_plugin
from invariants import INVARIANTS
from running import REPOSITORY, System, system

from lms_core.engines import NAMES, Engines
from lms_core.testing import Caller

REST_SECONDS = 180.0
RETRY_SECONDS = 90.0
CLIENTS = 6
LONG_SECONDS = 30.0
PATIENT_SECONDS = 5.0
SEATS = 10

POISON = '''
import asyncio
import os

from lms_core.sdk import Event, Handler, PluginInfo, hookimpl

plugin = PluginInfo("poison", "Breaks the process that handles its events")


class Taken(Event, name="poison.taken.v1"):
    """How to break it."""

    how: str


async def take(context, event):
    if event.how == "dies":
        os.kill(os.getpid(), 9)
    if event.how == "eats":
        eaten = []
        while True:
            eaten.append(bytearray(64 * 1024 * 1024))
    if event.how == "hangs":
        await asyncio.sleep(3600)
    raise ValueError("planted")


@hookimpl
def lms_handlers():
    return [Handler("poison.take", Taken, take, transactional=False)]
'''


# Our processes are forked from the one that supervises them.
CLOCK = """
import datetime
import os
import pathlib

import time_machine

FOLDER = pathlib.Path(__file__).parent
shifted = []


def shift():
    seconds = float((FOLDER / "clock").read_text())
    # The children of a process that was shifted have its clock.
    if seconds and not shifted:
        shifted.append(time_machine.travel(datetime.timedelta(seconds=seconds), tick=True))
        shifted[0].start()
        (FOLDER / f"shifted-{os.getpid()}").touch()


os.register_at_fork(after_in_child=shift)
"""


@dataclass
class Ledger:
    """What clients were told, and what they cannot know because no answer came."""

    pages: dict[str, str] = field(default_factory=dict)
    """Title of each page whose creation was acknowledged, and its id."""
    tried: set[str] = field(default_factory=set)
    state: dict[str, str] = field(default_factory=dict)
    """Of a page: `alive` or `dead`, as the last answer about it said; absent while that is not known."""
    enrolled: dict[str, str] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    """Files whose bytes the laboratory took away."""
    answers: int = 0
    refused: int = 0
    lost_answers: int = 0


class Laboratory:
    """The system, its engines and its proxies; `break` them, while clients write, and reckon up."""

    def __init__(self, folder: Path, engines: Engines, before: Proxies, running: System, seed: int) -> None:
        self.folder, self.engines, self.proxies, self.running = folder, engines, before, running
        self.random, self.seed = random.Random(seed), seed
        self.course = self.school = ""
        self.headers: dict[str, str] = {}
        self.ledger = Ledger()

    # What can be broken

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """A signal to one of our processes, or to an engine."""
        pid = self.engines.pid(name) if name in NAMES else self.running.status()["processes"][name]["pid"]
        assert pid is not None
        os.kill(pid, number)

    def family(self, name: str) -> list[psutil.Process]:
        """An engine's, or one of our processes', with all that it started."""
        pid = self.engines.pid(name) if name in NAMES else self.running.status()["processes"][name]["pid"]
        first = psutil.Process(pid)
        return [first, *first.children(recursive=True)]

    def freeze(self, name: str) -> None:
        """SIGSTOP to all of it."""
        for process in self.family(name):
            process.suspend()

    def thaw(self, name: str) -> None:
        """SIGCONT."""
        for process in self.family(name):
            process.resume()

    def limit_files(self, name: str, most: int) -> None:
        """How many bytes a file of an engine may have: as on a full disk it can go on, but not grow."""
        for process in self.family(name):
            # One that serves a client ends with it.
            with contextlib.suppress(psutil.NoSuchProcess):
                process.rlimit(psutil.RLIMIT_FSIZE, (most, psutil.RLIM_INFINITY))

    def set_clock(self, seconds: float) -> None:
        """How far ahead the clock is of those of our processes that start from now on."""
        (self.folder / "installed" / "clock").write_text(str(seconds))

    def has_other_clock(self, name: str) -> bool:
        """Whether the clock of one of our processes was set when it started."""
        return (self.folder / "installed" / f"shifted-{self.family(name)[0].pid}").exists()

    def start_engine(self, name: str) -> None:
        """Again, after it ended."""
        self.engines.children[name].finish(10)
        self.engines.start_one(name)
        self.engines.wait_until_ready([name])

    def kill_redis_with_its_memory(self) -> None:
        """As when a broker without a disk is replaced."""
        self.kill("redis")
        self.engines.children["redis"].finish(10)
        shutil.rmtree(self.engines.folder.path / "redis" / "appendonlydir", ignore_errors=True)

    async def sql(self, statement: str, *arguments: Any) -> list[Any]:
        """Straight from the database, past its proxy, as soon as it has recovered."""
        url, until = self.engines.engines["postgres"].environment()["LMS_DATABASE_URL"], time.monotonic() + REST_SECONDS
        while True:
            try:
                connection = await asyncpg.connect(url)
                break
            except (OSError, asyncpg.CannotConnectNowError):
                if time.monotonic() > until:
                    raise
                await asyncio.sleep(0.2)
        try:
            return list(await connection.fetch(statement, *arguments))
        finally:
            await connection.close()

    # Clients

    async def furnish(self) -> None:
        """A school with a course of few seats."""
        async with self.client() as client:
            admin = await self.running.admin(client)
            self.headers = admin.headers
            school = await admin.create("/institutions", {"name": "School", "slug": f"s{uuid4().hex[:8]}"})
            body = {"institution_id": school["id"], "code": "LAB", "title": "Lab", "capacity": SEATS, "waitlist": True}
            self.school, self.course = school["id"], (await admin.create("/courses", body))["id"]
            published = await admin.patch(f"/courses/{self.course}", {"state": "published"})
            assert published.status_code == 200, published.text

    def client(self) -> httpx2.AsyncClient:
        """A new one, patient for a while."""
        return httpx2.AsyncClient(base_url=self.running.url, timeout=15, verify=False)

    async def load(self, happening: asyncio.Future[None], seconds: float) -> None:
        """Clients that write while something happens and a little longer, and insist on each write until it is done."""
        until = time.monotonic() + seconds
        await asyncio.gather(*(self.write(happening, until) for _ in range(CLIENTS)))
        await happening

    async def write(self, happening: asyncio.Future[None], until: float) -> None:
        """One client."""
        while time.monotonic() < until or not happening.done():
            if time.monotonic() > until + LONG_SECONDS:
                # What takes minutes would pile up more work than is done meanwhile.
                await asyncio.sleep(PATIENT_SECONDS)
            await self.random.choice((self.make_page, self.make_page, self.turn_page, self.enroll, self.hand_in))()

    async def insist(self, method: str, path: str, body: Any = None) -> httpx2.Response | None:
        """Send, with one idempotency key, until an answer comes that is none of trouble; None when none ever does."""
        key, until = uuid4().hex, time.monotonic() + RETRY_SECONDS
        while time.monotonic() < until:
            try:
                async with self.client() as client:
                    caller = Caller(client, headers=self.headers)
                    options = {} if body is None else {"json": body}
                    answer = await caller.send(method, path, headers={"Idempotency-Key": key}, **options)
            except httpx2.TransportError:
                self.ledger.lost_answers += 1
                await asyncio.sleep(0.2)
                continue
            self.ledger.answers += 1
            if answer.status_code == 401:
                await self.sign_in()
            elif (answer.status_code < 500 and answer.status_code != 409) or (
                answer.status_code == 409 and answer.json()["code"] != "idempotency_in_progress"
            ):
                return answer
            else:
                assert answer.status_code in (409, 503), self.told_of(answer)
                self.ledger.refused += 1
            await asyncio.sleep(0.2)
        return None

    def told_of(self, answer: httpx2.Response) -> str:
        """An answer that should not be, and what the API's log says about it."""
        log = (self.running.data / "logs" / "api.log").read_text(errors="replace")
        begins = log.find(answer.headers.get("X-Request-ID", "no request"))
        return f"seed {self.seed}: {answer.text}\n{log[max(0, begins - 500) : begins + 8_000] if begins >= 0 else ''}"

    async def sign_in(self) -> None:
        """Anew: the token is too old, or its key was not to be had."""
        async with self.client() as client:
            self.headers = (await self.running.admin(client)).headers

    async def make_page(self) -> None:
        """A page, whose title is known nowhere else."""
        title = uuid4().hex
        self.ledger.tried.add(title)
        body = {"course_id": self.course, "kind": "page", "title": title, "body": "Words"}
        answer = await self.insist("POST", "/materials", body)
        if answer is not None:
            assert answer.status_code == 201, answer.text
            self.ledger.pages[title] = answer.json()["id"]
            self.ledger.state[title] = "alive"

    async def turn_page(self) -> None:
        """Delete a page, or bring it back; nobody else touches it meanwhile."""
        if not self.ledger.state:
            return
        title = self.random.choice(list(self.ledger.state))
        state, path = self.ledger.state.pop(title), f"/materials/{self.ledger.pages[title]}"
        if state == "alive":
            answer = await self.insist("DELETE", path)
            ends, done = "dead", (202, 404)
        else:
            answer = await self.insist("POST", f"{path}/restore")
            ends, done = "alive", (202, 409)
        if answer is not None:
            assert answer.status_code in done, answer.text
            # 404: an earlier try was done, and its answer lost; or it is not back yet from an earlier restore.
            if answer.status_code != 404:
                self.ledger.state[title] = ends

    async def enroll(self) -> None:
        """Somebody new."""
        body = {"email": f"{uuid4().hex}@example.org", "full_name": "Somebody"}
        user = await self.insist("POST", "/users", body)
        if user is None:
            return
        assert user.status_code in (201, 409), user.text
        if user.status_code == 201:
            part = {"course_id": self.course, "user_id": user.json()["id"], "role": "student"}
            answer = await self.insist("POST", "/enrollments", part)
            if answer is not None:
                assert answer.status_code in (200, 201), answer.text
                self.ledger.enrolled[user.json()["id"]] = answer.json()["id"]

    async def hand_in(self) -> None:
        """A small file, straight to the store."""
        content = f"Words {uuid4().hex}".encode()
        body = {"filename": "a.txt", "content_type": "text/plain", "size": len(content), "course_id": self.course}
        requested = await self.insist("POST", "/files", body)
        if requested is None or requested.status_code != 201:
            return
        try:
            sent = await send_form(requested.json()["upload"], content)
        except httpx2.TransportError:
            return
        if sent.status_code == 204:
            completed = await self.insist("POST", f"/files/{requested.json()['id']}/complete")
            if completed is not None and completed.status_code == 202:
                self.ledger.files[requested.json()["id"]] = content

    # The reckoning

    async def rest(self) -> float:
        """Until all work is done; how many seconds it took."""
        begun = time.monotonic()
        open_work = "SELECT count(*) FROM core_delivery WHERE done_at IS NULL AND dead_at IS NULL"
        # Schedules bring new work all the time; what was there when this began has to go.
        last = (await self.sql("SELECT coalesce(max(position), 0) FROM core_delivery"))[0][0]
        while time.monotonic() - begun < REST_SECONDS:
            if (await self.sql(f"{open_work} AND position <= $1", last))[0][0] == 0:
                return time.monotonic() - begun
            await asyncio.sleep(0.2)
        left = await self.sql(
            "SELECT handler, attempts, in_flight, at_work, last_error, next_attempt_at - now() FROM core_delivery "
            "WHERE done_at IS NULL AND dead_at IS NULL"
        )
        raise AssertionError(f"seed {self.seed}: work is left after {REST_SECONDS:.0f} s: {left}")

    async def reckon(self) -> dict[str, Any]:
        """Nothing that was acknowledged is lost, nothing is there twice, and every invariant holds."""
        rested = await self.rest()
        ledger = self.ledger
        rows = await self.sql(
            "SELECT title, id::text, is_deleted FROM materials_material WHERE course_id = $1", self.course
        )
        found: dict[str, list[tuple[str, bool]]] = {}
        for title, id, is_deleted in rows:
            found.setdefault(title, []).append((id, is_deleted))
        lost = [title for title, id in ledger.pages.items() if id not in [one for one, _ in found.get(title, [])]]
        doubled = [title for title, ones in found.items() if len(ones) > 1]
        wrong = [title for title, state in ledger.state.items() if found[title][0][1] is not (state == "dead")]
        enrolled = await self.sql(
            "SELECT user_id::text, count(*) FROM enrollments_enrollment WHERE course_id = $1 GROUP BY 1", self.course
        )
        enrolled_once = {row[0]: row[1] for row in enrolled}
        lost += [user for user in ledger.enrolled if user not in enrolled_once]
        doubled += [user for user, number in enrolled_once.items() if number > 1]
        files = await self.sql("SELECT id::text, state, reason FROM files_file")
        states = {row[0]: (row[1], row[2]) for row in files}
        lost += [f"file {id}: {states.get(id)}" for id in ledger.files if states.get(id) != ("ready", None)]
        if lost or doubled or wrong:
            raise AssertionError(f"seed {self.seed}: lost {lost}, doubled {doubled}, in another state {wrong}")
        for name, statement in INVARIANTS.items():
            if rows := await self.sql(statement):
                raise AssertionError(f"seed {self.seed}: {name}: {rows[:5]}")
        return {
            "acknowledged": len(ledger.pages) + len(ledger.enrolled) + len(ledger.files),
            "refused": ledger.refused,
            "answers lost": ledger.lost_answers,
            "seconds until all was done": round(rested, 1),
            "lost": len(lost),
            "doubled": len(doubled),
        }


@contextmanager
def laboratory(folder: Path, seed: int, **more: str) -> Iterator[Laboratory]:
    """A system on engines of its own, each behind a proxy."""
    engines = Engines(folder / "engines")
    engines.start()
    installed = folder / "installed"
    installed.mkdir()
    write_plugin(installed, "poison", POISON)
    (installed / "sitecustomize.py").write_text(CLOCK)
    (installed / "clock").write_text("0")
    enabled = (REPOSITORY / "plugins.toml").read_text() + "\n[plugins.poison]\nenabled = true\n"
    (installed / "plugins.toml").write_text(enabled)
    try:
        with proxies() as before:
            environment = engines.environment()
            direct = environment["LMS_S3_ENDPOINT"]
            for name, setting in (
                ("postgres", "LMS_DATABASE_URL"),
                ("redis", "LMS_REDIS_URL"),
                ("s3", "LMS_S3_ENDPOINT"),
            ):
                environment[setting] = through(before, name, environment[setting])
            environment |= {
                "LMS_S3_PUBLIC_ENDPOINT": direct,
                "PYTHONPATH": str(installed),
                "LMS_PLUGINS_FILE": str(installed / "plugins.toml"),
                "LMS_TASK_SECONDS": "15",
                **more,
            }
            with system(folder / "data", **environment) as running:
                yield Laboratory(folder, engines, before, running, seed)
    finally:
        engines.stop()


def through(before: Proxies, name: str, url: str) -> str:
    """The same URL, by way of a proxy."""
    parts = urlsplit(url)
    address = before.before(name, str(parts.hostname), int(parts.port or 0))
    user, at, _ = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user}{at}{address}"))
