"""A program that runs under this one and cannot outlive it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, Protocol

import psutil

Identity = Literal["same", "namespace", "nobody"]

LAUNCH = Path(__file__).with_name("launch.py")


def launched(command: Sequence[str], identity: Identity = "same") -> list[str]:
    """The command that becomes `command` and is killed when the calling thread ends (see launch.py).

    The thread counts, not the process: run it from the main thread.
    """
    return [sys.executable, "-I", "-S", str(LAUNCH), str(os.getpid()), identity, *command]


class Process(Protocol):
    """What a child needs of the process behind it."""

    def poll(self) -> int | None:
        """The exit code, None while it runs."""

    def wait(self, timeout: float | None = None) -> int:
        """The exit code; `subprocess.TimeoutExpired` when it takes too long."""

    def send_signal(self, sig: int) -> None:
        """Nothing when it has ended."""

    def kill(self) -> None:
        """SIGKILL."""


class Child:
    """A running program in a session of its own; what it prints is appended to `log`.

    `pid` is the program's own. `environment` replaces ours; `folder` is where it runs. Make it in the main thread.
    """

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
        identity: Identity = "same",
    ) -> None:
        self.process: Process
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                launched(command, identity),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=folder,
                start_new_session=True,
            )
        self.pid = self.process.pid
        self.family: list[psutil.Process] = []

    def exit_code(self) -> int | None:
        """None while it runs; negative when a signal ended it."""
        return self.process.poll()

    def ask_to_stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send the signal on which the program stops in order."""
        with contextlib.suppress(psutil.Error):
            self.family = psutil.Process(self.pid).children(recursive=True)
        self.process.send_signal(number)

    def finish(self, seconds: float) -> None:
        """Wait at most `seconds` for the end, then kill the program; kill whatever it left behind in any case."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.kill_remains()
        self.process.wait()

    def kill_remains(self) -> None:
        """Kill what is left of the program's process group, and of the descendants that it had when asked to stop."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        for process in self.family:
            with contextlib.suppress(psutil.Error):
                process.kill()
