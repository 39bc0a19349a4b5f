"""What the three embedded engines have in common."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import shutil
from abc import ABC, abstractmethod
from pathlib import Path
from signal import SIGTERM, Signals
from typing import ClassVar

from lms_core.child import Child
from lms_core.datafolder import DataFolder, is_free
from lms_core.errors import StartRefused


class Engine(ABC):
    """One engine in a data folder.

    `name` is how the rest speaks of it and `title` how people do; `url_setting` names the setting that replaces it.
    `ports` are the kept ports it listens on, its main one first. With `durable=False` a power cut
    may lose data, and all is faster.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    url_setting: ClassVar[str]
    ports: ClassVar[tuple[str, ...]]
    stop_signal: ClassVar[Signals] = SIGTERM
    stop_seconds: ClassVar[float] = 10.0

    def __init__(self, folder: DataFolder, durable: bool) -> None:
        self.folder, self.durable = folder, durable
        self.log = folder.log(self.name)

    @property
    def port(self) -> int:
        """Where clients connect."""
        return self.folder.port(self.ports[0])

    def find_program(self, distribution: str, ending: str, *names: str) -> str:
        """The path of one of the engine's programs (see `find_program`); StartRefused when there is none."""
        if (found := find_program(distribution, ending, *names)) is None:
            raise StartRefused(
                f"There is no {self.title} on this machine: install the wheel {distribution}, put {names[0]} on PATH, "
                f"or set {self.url_setting} to one elsewhere."
            )
        return found

    def can_listen(self, port: int) -> bool:
        """Whether the engine could listen on one of its ports now."""
        return is_free("127.0.0.1", port)

    def tidy(self) -> None:  # noqa: B027 — most engines leave nothing
        """Remove what the engine leaves outside the data folder when it has ended."""

    @abstractmethod
    def start(self) -> Child:
        """Start the process; it does not answer yet."""

    @abstractmethod
    def answers(self) -> bool:
        """Whether it does real work for a client now."""

    @abstractmethod
    def environment(self) -> dict[str, str]:
        """The settings with which our processes reach it."""


@functools.cache
def find_program(distribution: str, ending: str, *names: str) -> str | None:
    """The path of a program: from a wheel (its file that ends with `ending`), else by name from PATH, else None.

    The wheel's package is not imported.
    """
    try:
        files = importlib.metadata.files(distribution) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    candidates = [str(Path(str(file.locate())).resolve()) for file in files if str(file).endswith(ending)]
    candidates += [path for name in names if (path := shutil.which(name))]
    for candidate in candidates:
        if os.access(candidate, os.X_OK):
            return candidate
    return None
