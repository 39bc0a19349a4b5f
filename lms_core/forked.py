"""A process of ours that is forked instead of started anew: everything is imported already, once for all of them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path

from lms_core.child import Child
from lms_core.launch import die_with_parent

POLL_SECONDS = 0.02


class ForkedProcess:
    """A child by its pid, with the few methods of `subprocess.Popen` that `Child` needs."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        if self.returncode is None:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            if ended:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code; `subprocess.TimeoutExpired` after `timeout` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
            time.sleep(POLL_SECONDS)
        return code

    def send_signal(self, number: int) -> None:
        """Nothing when it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """At once."""
        self.send_signal(signal.SIGKILL)


class ForkedChild(Child):
    """Like `Child`, for a function of this program: it runs in a session of its own and dies with this thread.

    `work` returns the exit code. What it prints goes to `output`, its errors to `log`. Make it in the main thread,
    while no other thread of ours does anything: locks that others hold would stay held in the child.
    """

    def __init__(
        self, work: Callable[[], int], log: Path, environment: Mapping[str, str], output: Path | None = None
    ) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            become(work, parent, log, environment, output or log)
        self.process = ForkedProcess(pid)
        self.pid = pid
        self.family = []


def become(work: Callable[[], int], parent: int, log: Path, environment: Mapping[str, str], output: Path) -> None:
    """The child's whole life; never returns."""
    code = 1
    try:
        os.setsid()
        die_with_parent(parent)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        for source, flags, target in (
            (Path(os.devnull), os.O_RDONLY, 0),
            (output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 1),
            (log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 2),
        ):
            opened = os.open(source, flags, 0o600)
            os.dup2(opened, target)
            os.close(opened)
        # New objects: a lock of the old ones may be held by a thread that does not exist here.
        sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
        os.environ.clear()
        os.environ.update(environment)
        code = work()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:  # noqa: BLE001 — nothing above us in this process could show it
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
