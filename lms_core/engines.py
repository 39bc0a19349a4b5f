"""The embedded engines: PostgreSQL, Valkey and SeaweedFS from wheels or PATH, on one data folder."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lms_core.child import Child
from lms_core.datafolder import DataFolder
from lms_core.engine import Engine
from lms_core.engine_postgres import Postgres
from lms_core.engine_redis import Redis
from lms_core.engine_s3 import S3
from lms_core.errors import StartRefused

START_SECONDS = 60.0
PORT_SECONDS = 2.0

# PostgreSQL last: while it creates its files, the others get going.
ENGINES: tuple[type[Engine], ...] = (S3, Redis, Postgres)
NAMES = ("postgres", "redis", "s3")


@dataclass(frozen=True)
class Running:
    """An engine that was started: `postgres`, `redis` or `s3`, its pid, and the port for clients."""

    name: str
    pid: int
    port: int


class Engines:
    """The engines of one data folder, which stays locked until `stop`.

    Ports and passwords are chosen once. `durable=False` is for tests: a power cut may then lose data, a killed engine
    still loses nothing. Use it from the
    main thread; the engines are killed when the thread that started them ends, however it ends.
    Raises StartRefused when another process uses the folder.
    """

    def __init__(self, data: Path, durable: bool = True) -> None:
        self.folder = DataFolder(data)
        self.folder.lock()
        self.engines = {engine.name: engine(self.folder, durable) for engine in ENGINES}
        self.children: dict[str, Child] = {}

    def start(self, names: Iterable[str] = NAMES) -> None:
        """Start these engines at once and wait until each really answers; StartRefused when one does not."""
        self.begin(names)
        self.wait_until_ready(names)

    def begin(self, names: Iterable[str] = NAMES) -> None:
        """Start these engines, without waiting for their answers."""
        for name in names:
            self.free_ports(self.engines[name])
            self.start_one(name)

    def free_ports(self, engine: Engine) -> None:
        """Choose another port where a stranger took a kept one; an earlier engine gets a moment to let go of it."""
        deadline = time.monotonic() + PORT_SECONDS
        for port in engine.ports:
            while not engine.can_listen(self.folder.port(port)):
                if time.monotonic() > deadline:
                    self.folder.choose_port(port)
                time.sleep(0.02)

    def start_one(self, name: str) -> Child:
        """Start an engine, again on the same port, without waiting for its first answer."""
        self.children[name] = self.engines[name].start()
        return self.children[name]

    def wait_until_ready(self, names: Iterable[str]) -> None:
        """Wait until each really answers; StartRefused when one ends instead, or after a minute."""
        waiting = list(names)
        deadline = time.monotonic() + START_SECONDS
        while waiting:
            for name in list(waiting):
                engine = self.engines[name]
                if engine.answers():
                    waiting.remove(name)
                elif not self.is_alive(name):
                    raise StartRefused(
                        f"{engine.title} ended while starting: {self.folder.last_line(name)} (see {engine.log})."
                    )
                elif time.monotonic() > deadline:
                    raise StartRefused(f"{engine.title} gave no answer in {START_SECONDS:.0f} s (see {engine.log}).")
            time.sleep(0.03)

    def environment(self) -> dict[str, str]:
        """The settings with which our processes reach the engines that were started."""
        return {key: value for name in self.children for key, value in self.engines[name].environment().items()}

    def running(self) -> list[Running]:
        """The engines that were started and live."""
        return [
            Running(name, child.pid, self.engines[name].port)
            for name, child in self.children.items()
            if child.exit_code() is None
        ]

    def is_alive(self, name: str) -> bool:
        """Whether an engine's process runs; it may be stuck all the same."""
        return name in self.children and self.children[name].exit_code() is None

    def pid(self, name: str) -> int | None:
        """The pid of an engine's own process, None when it does not run."""
        return self.children[name].pid if self.is_alive(name) else None

    def port(self, name: str) -> int:
        """The port for clients."""
        return self.engines[name].port

    def stop(self) -> None:
        """Stop all engines in order, kill those that take too long, and unlock the data folder."""
        for name, child in self.children.items():
            child.ask_to_stop(self.engines[name].stop_signal)
        for name, child in self.children.items():
            child.finish(self.engines[name].stop_seconds)
            self.engines[name].tidy()
        self.children.clear()
        self.folder.unlock()
