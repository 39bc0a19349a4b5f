"""`lms up`: the engines, the set-up and our four processes under one roof, and `lms status`: how they are."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import psutil

from lms_core import metrics
from lms_core.child import Child
from lms_core.datafolder import DataFolder, holder, is_free
from lms_core.engines import Engines
from lms_core.errors import StartRefused
from lms_core.forked import ForkedChild
from lms_core.mail_folder import MailFolder
from lms_core.terminal import Terminal

# In the order in which they stop, after which the engines stop.
OURS = ("api", "scheduler", "relay", "worker")
ENGINE_SETTINGS = {
    "postgres": ("LMS_DATABASE_URL", 5432),
    "redis": ("LMS_REDIS_URL", 6379),
    "s3": ("LMS_S3_ENDPOINT", 80),
}
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
READY_SECONDS = 120.0
STOP_SECONDS = 15.0
PORT_SECONDS = 2.0
LOOK_INTERVAL_SECONDS = 0.15
# In the names of settings that nobody but the started processes needs.
SECRET = re.compile("PASSWORD|SECRET|TOKEN|KEY|SMTP_URL")
ANSWER_SECONDS = 3.0
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
GOOD_LIFE_SECONDS = 60.0
CLOCK_SECONDS = 5.0


class Program(Protocol):
    """The program whose commands are our processes."""

    def preload(self) -> None:
        """Import what its commands need. Raises StartRefused."""

    def run(self, arguments: list[str]) -> int:
        """Run one command to its end; the exit code."""


@dataclass
class Process:
    """One process that is started again when it dies; `due` is when, on the monotonic clock."""

    name: str
    child: Child
    begun: float = field(default_factory=time.monotonic)
    failures: int = 0
    due: float | None = None

    def pause(self) -> float:
        """How many seconds to wait before the next start: longer with each failure in a row."""
        if time.monotonic() - self.begun > GOOD_LIFE_SECONDS:
            self.failures = 0
        self.failures += 1
        return float(min(FIRST_PAUSE_SECONDS * 2 ** (self.failures - 1), LONGEST_PAUSE_SECONDS))


class Supervisor:
    """Starts everything on one data folder, keeps it running, and stops it."""

    def __init__(self, engines: Engines, host: str, port: int, program: Program, terminal: Terminal) -> None:
        self.engines, self.folder, self.program, self.terminal = engines, engines.folder, program, terminal
        self.host, self.port = host, self.choose_port(host, port)
        visible = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        self.address = f"[{visible}]" if ":" in visible else visible
        self.url = f"http://{self.address}:{self.port}"
        self.environment: dict[str, str] = {}
        self.processes: dict[str, Process] = {}
        self.is_stopping = False
        self.mails = MailFolder(self.folder.path)

    def choose_port(self, host: str, port: int) -> int:
        """The port of the API: as asked, or the folder's own for 0; StartRefused when it is taken."""
        if port == 0 and "api_port" not in self.folder.kept:
            return self.folder.choose_port("api_port", host)
        port = port or int(self.folder.kept["api_port"])
        deadline = time.monotonic() + PORT_SECONDS
        while not is_free(host, port):
            if time.monotonic() > deadline:
                raise StartRefused(f"Port {port} on {host} is taken by {holder(port)}; stop that, or choose another.")
            time.sleep(0.05)
        return port

    def start(self, demo: bool) -> None:
        """Start everything and return when the API is ready; StartRefused when it can't be."""
        # What is there already was shown when it came.
        self.mails.new_mails()
        metrics.begin(self.folder.path / "metrics")
        embedded = [name for name, (setting, _) in ENGINE_SETTINGS.items() if not os.environ.get(setting)]
        self.environment = os.environ | {
            "LMS_DATA": str(self.folder.path),
            "LMS_SECRET_KEY": os.environ.get("LMS_SECRET_KEY") or self.folder.secret("secret_key"),
            "LMS_PUBLIC_URL": os.environ.get("LMS_PUBLIC_URL") or self.url,
        }
        titles = [self.engines.engines[name].title for name in embedded]
        with self.terminal.step(f"Starting {', '.join(titles)}" if titles else "Loading the plugins"):
            self.engines.begin(embedded)
            # Meanwhile: all that our processes import, once, so that each of them starts by a fork.
            self.program.preload()
            self.engines.wait_until_ready(embedded)
        self.environment |= self.engines.environment()
        for name in embedded:
            self.processes[name] = Process(name, self.engines.children[name])
        self.folder.write_json("environment.json", {name: self.environment[name] for name in self.reached_by()})
        said = self.set_up(demo)
        with self.terminal.step("Starting the API, the worker, the relay and the scheduler"):
            for name in OURS:
                self.processes[name] = Process(name, self.begin(name))
            self.write_status()
            self.wait_until_ready()
        self.terminal.say(f"Ready: {self.url}  docs {self.url}/docs  {said}".rstrip())

    def reached_by(self) -> list[str]:
        """The names of the settings with which `lms` commands reach this folder's system, and see it as it was started.

        Secrets that only the started processes need stay out of the file.
        """
        engines = [
            name for name in self.environment if name.startswith(("LMS_DATABASE_URL", "LMS_REDIS_URL", "LMS_S3_"))
        ]
        given = [name for name in self.environment if name.startswith("LMS_") and not SECRET.search(name)]
        return sorted({"LMS_SECRET_KEY", "LMS_PUBLIC_URL", "LMS_DATA", *engines, *given})

    def set_up(self, demo: bool) -> str:
        """Migrate, make buckets and the first super admin; what was said about that. StartRefused when it fails."""
        said = self.folder.log("setup-said")
        said.unlink(missing_ok=True)
        arguments = ["setup", "--nothing-runs", *(("--demo",) if demo else ())]
        with self.terminal.step("Preparing the database and the buckets"):
            child = self.fork(arguments, "setup", said)
            code = child.process.wait()
        if code != 0:
            raise StartRefused(self.folder.last_line("setup") or f"The set-up failed with exit code {code}.")
        lines = said.read_text().split("\n")
        # A password may stand there, which is shown once and kept nowhere.
        said.unlink()
        return "  ".join(lines).strip()

    def fork(self, arguments: list[str], name: str, output: Path | None = None) -> ForkedChild:
        """A process that runs a command of `lms`."""
        return ForkedChild(lambda: self.program.run(arguments), self.folder.log(name), self.environment, output)

    def begin(self, name: str) -> Child:
        """Start a process, without waiting until it answers."""
        if name in ENGINE_SETTINGS:
            return self.engines.start_one(name)
        arguments = ["serve", "--host", self.host, "--port", str(self.port)] if name == "api" else [name]
        return self.fork(arguments, name)

    def wait_until_ready(self) -> None:
        """Wait until the API says that it is; StartRefused when it ends instead, or takes too long."""
        deadline = time.monotonic() + READY_SECONDS
        log = self.folder.log("api")
        while not answers_ready(self.address, self.port):
            if self.processes["api"].child.exit_code() is not None:
                raise StartRefused(f"The API ended while starting: {self.folder.last_line('api')} (see {log}).")
            if time.monotonic() > deadline:
                raise StartRefused(f"The API is not ready after {READY_SECONDS:.0f} s (see {log}).")
            self.look()
            time.sleep(LOOK_INTERVAL_SECONDS)

    def watch(self) -> None:
        """Start again what dies, until a signal says to stop."""
        while not self.is_stopping:
            self.look()
            self.show_mails()
            time.sleep(LOOK_INTERVAL_SECONDS)

    def ask_to_stop(self, *_: object) -> None:
        """The signal handler. A plain flag: a second signal would wait for ever for the lock of a `threading.Event`."""
        self.is_stopping = True

    def look(self) -> None:
        """Notice what died, and start what is due."""
        for process in self.processes.values():
            if process.due is not None and time.monotonic() >= process.due:
                self.begin_again(process)
            elif process.due is None and (code := process.child.exit_code()) is not None:
                process.child.kill_remains()
                self.set_due(process, f"died (signal {-code})" if code < 0 else f"ended (exit code {code})")

    def show_mails(self) -> None:
        """What would have been sent: without a mail server the terminal is the mailbox."""
        for path, text in self.mails.new_mails():
            self.terminal.say(f"Mail, kept as {path}:")
            for line in text.splitlines():
                self.terminal.say(f"  | {line}")

    def set_due(self, process: Process, what: str) -> None:
        """Say what happened to a process, and plan its next start."""
        pause = process.pause()
        process.due = time.monotonic() + pause
        self.write_status()
        self.terminal.say(f"{process.name} {what}; it starts again in {pause:g} s")

    def begin_again(self, process: Process) -> None:
        """Start a process again; a start that is refused counts as one more failure."""
        try:
            process.child = self.begin(process.name)
        except (StartRefused, OSError, subprocess.SubprocessError) as error:
            self.set_due(process, f"did not start ({error})")
            return
        process.begun, process.due = time.monotonic(), None
        self.write_status()
        self.terminal.say(f"{process.name} runs again (pid {process.child.pid})")

    def write_status(self) -> None:
        """Tell `lms status` what runs where."""
        processes: dict[str, dict[str, int | None]] = {name: {"pid": None, "port": None} for name in OURS}
        for name, (setting, port) in ENGINE_SETTINGS.items():
            processes[name] = {"pid": None, "port": port_of(self.environment[setting], port)}
        for name, process in self.processes.items():
            processes[name]["pid"] = process.child.pid if process.child.exit_code() is None else None
        processes["api"]["port"] = self.port
        status = {
            "url": self.url,
            "processes": {name: processes[name] for name in ("api", "worker", "relay", "scheduler", *ENGINE_SETTINGS)},
            "database_url": self.environment["LMS_DATABASE_URL"],
            "redis_url": self.environment["LMS_REDIS_URL"],
            "s3_endpoint": self.environment["LMS_S3_ENDPOINT"],
            "address": self.address,
            "supervisor": {"pid": os.getpid(), "started": psutil.Process().create_time()},
        }
        self.folder.write_json("status.json", status)

    def stop(self) -> None:
        """Stop everything in order and unlock the data folder; nothing is left running."""
        for name in OURS:
            if name in self.processes:
                child = self.processes.pop(name).child
                child.ask_to_stop()
                child.finish(STOP_SECONDS)
        self.processes.clear()
        self.engines.stop()


def up(data: Path, host: str, port: int, demo: bool, program: Program) -> int:
    """Run everything on a data folder until SIGINT or SIGTERM; the exit code.

    `program` is `lms` itself. Call it in the main thread. Raises StartRefused with what to do about it.
    """
    missing = [setting for setting, _ in ENGINE_SETTINGS.values() if not os.environ.get(setting)]
    if os.environ.get("LMS_ENV") == "production" and missing:
        raise StartRefused(f"In production no engine is embedded; set {', '.join(missing)} to the ones you run.")
    terminal = Terminal()
    engines = Engines(data)
    supervisor: Supervisor | None = None
    for number in STOP_SIGNALS:
        signal.signal(number, signal.default_int_handler)
    try:
        supervisor = Supervisor(engines, host, port, program, terminal)
        supervisor.start(demo)
        for number in STOP_SIGNALS:
            signal.signal(number, supervisor.ask_to_stop)
        supervisor.watch()
    except KeyboardInterrupt:
        pass
    finally:
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        if supervisor is None:
            engines.stop()
        else:
            with terminal.step("Stopping"):
                supervisor.stop()
    return 0


def status(data: Path) -> dict[str, Any]:
    """What runs on a data folder: `url`, `processes` with pid and port, the engines' URLs, and `ready`.

    A process that doesn't run, or an engine elsewhere, has no pid. StartRefused when nothing ever ran there.
    """
    folder = DataFolder(data)
    try:
        found: dict[str, Any] = json.loads((folder.path / "status.json").read_text())
    except FileNotFoundError:
        raise StartRefused(f"Nothing ever ran in {folder.path}; run `lms up`, or name another --data.") from None
    supervisor, address = found.pop("supervisor"), found.pop("address")
    lives = False
    with contextlib.suppress(psutil.Error):
        # The clock may have been set since; the same number for another process so soon is not possible.
        lives = abs(psutil.Process(supervisor["pid"]).create_time() - supervisor["started"]) < CLOCK_SECONDS
    for process in found["processes"].values():
        if not lives or process["pid"] is None or not psutil.pid_exists(process["pid"]):
            process["pid"] = None
    found["ready"] = lives and answers_ready(address, found["processes"]["api"]["port"])
    return found


def answers_ready(address: str, port: int) -> bool:
    """Whether GET /health/ready is answered with 200 now."""
    connection = http.client.HTTPConnection(f"{address}:{port}", timeout=ANSWER_SECONDS)
    try:
        connection.request("GET", "/health/ready")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def port_of(url: str, default: int) -> int:
    """The port in a URL."""
    parts = urlsplit(url)
    return parts.port or (443 if parts.scheme == "https" else default)
