"""The folder that holds everything of one installation on this machine: engines, secrets, ports, logs."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import socket
from pathlib import Path
from typing import Any

import psutil

from lms_core.errors import StartRefused

LOG_LIMIT_BYTES = 10 * 1024 * 1024
# Below the range from which Linux takes the ports of outgoing connections, so that a kept port stays free.
PORTS = range(20_000, 32_000)


class DataFolder:
    """One data folder; its kept values live in `kept.json` and `lock` is held by the one process that uses it."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.lock_file: int | None = None
        self.kept: dict[str, Any] = {}

    def lock(self) -> None:
        """Create the folder and take it for this process; StartRefused when another one has it."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            (self.path / "logs").mkdir(mode=0o700, exist_ok=True)
            self.lock_file = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise StartRefused(
                f"The data folder {self.path} is not usable ({error.strerror}); choose another with --data."
            ) from None
        try:
            fcntl.flock(self.lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(self.lock_file, 32, 0).decode() or "unknown"
            self.unlock()
            raise StartRefused(
                f"The data folder {self.path} is in use by process {owner}; stop that, or choose another with --data."
            ) from None
        os.ftruncate(self.lock_file, 0)
        os.pwrite(self.lock_file, str(os.getpid()).encode(), 0)
        self.rotate_logs()
        with contextlib.suppress(FileNotFoundError):
            self.kept = json.loads((self.path / "kept.json").read_text())

    def unlock(self) -> None:
        """Let others use the folder."""
        if self.lock_file is not None:
            os.close(self.lock_file)
            self.lock_file = None

    def keep(self, name: str, value: Any) -> None:
        """Keep a value from now on."""
        self.kept[name] = value
        self.write_json("kept.json", self.kept)

    def secret(self, name: str) -> str:
        """A random secret of 43 letters, digits, `-` and `_`, chosen once."""
        if name not in self.kept:
            self.keep(name, secrets.token_urlsafe(32))
        return str(self.kept[name])

    def port(self, name: str) -> int:
        """A port on 127.0.0.1, chosen once."""
        if name not in self.kept:
            self.choose_port(name)
        return int(self.kept[name])

    def choose_port(self, name: str, host: str = "127.0.0.1") -> int:
        """Choose a port on which nobody listens, and keep it."""
        taken = {value for value in self.kept.values() if isinstance(value, int)}
        for _ in range(1_000):
            port = secrets.choice(PORTS)
            if port not in taken and is_free(host, port):
                self.keep(name, port)
                return port
        raise StartRefused(f"No port from {PORTS.start} to {PORTS.stop} is free on {host}; stop some programs.")

    def write_json(self, name: str, value: Any) -> None:
        """Write a file that only we can read, all at once."""
        side = self.path / f"{name}.new"
        write_private(side, json.dumps(value, indent=2))
        side.replace(self.path / name)

    def log(self, name: str) -> Path:
        """The log file of a process."""
        return self.path / "logs" / f"{name}.log"

    def rotate_logs(self) -> None:
        """Set the logs aside that have grown large; of each, one older file is kept."""
        for log in (self.path / "logs").glob("*.log"):
            if log.stat().st_size > LOG_LIMIT_BYTES:
                log.replace(log.with_suffix(".log.1"))

    def last_line(self, name: str) -> str:
        """The last line of a log, for a message; empty when there is none."""
        with contextlib.suppress(OSError):
            lines = self.log(name).read_text(errors="replace").split("\n")
            return next((line.strip() for line in reversed(lines) if line.strip()), "")
        return ""


def write_private(path: Path, text: str) -> None:
    """Write a file that only we can read, and have it on disk."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen there now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as attempt:
        attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            attempt.bind((host, port))
            attempt.listen(1)
        except OSError:
            return False
    return True


def holder(port: int) -> str:
    """Who listens on a port, for a message."""
    with contextlib.suppress(psutil.Error):
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port:
                return f"process {connection.pid}" if connection.pid else "a process of another user"
    return "another program"
