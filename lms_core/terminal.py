"""What a person sees while the system starts and runs."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from rich.console import Console


class PatientConsole(Console):
    """A console that falls silent when nobody reads it any more; rich's own would end the program."""

    def on_broken_pipe(self) -> None:
        """Say nothing from now on."""
        self.quiet = True


class Terminal:
    """Lines on standard output; on a real terminal also a mark that turns while a step takes its time."""

    def __init__(self) -> None:
        self.console = PatientConsole(markup=False, highlight=False, emoji=False)

    def say(self, line: str) -> None:
        """One line, never broken."""
        self.console.print(line, soft_wrap=True)

    @contextlib.contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Say what begins and, when it is done, how long it took."""
        begun = time.monotonic()
        if self.console.is_terminal:
            with self.console.status(what):
                yield
        else:
            self.say(f"{what} …")
            yield
        self.say(f"{what}: done in {time.monotonic() - begun:.1f} s")
