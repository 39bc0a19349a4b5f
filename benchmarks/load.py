"""A load that costs little itself: many connections in one thread, HTTP/1.1 as bytes; and what processes used meanwhile."""

from __future__ import annotations

import json
import selectors
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urlsplit

import psutil

READ_AT_ONCE = 262_144
END_OF_HEAD = b"\r\n\r\n"
LENGTH = b"content-length:"


@dataclass(frozen=True)
class Asked:
    """One request, and the status that is right for it."""

    method: str
    path: str
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    good: int = 200

    def written(self, host: str) -> bytes:
        """The bytes of it, on a connection that stays open."""
        lines = [f"{self.method} {self.path} HTTP/1.1", f"Host: {host}", f"Content-Length: {len(self.body)}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        return "\r\n".join([*lines, "", ""]).encode() + self.body

    def on(self, url: str) -> bytes:
        """The bytes of it for a server."""
        return self.written(urlsplit(url).netloc)


def bearer(token: str) -> dict[str, str]:
    """The header of who is signed in."""
    return {"Authorization": f"Bearer {token}"}


def posted(path: str, body: object, headers: dict[str, str], good: int = 201, method: str = "POST") -> Asked:
    """A request with a JSON body."""
    return Asked(method, path, {**headers, "Content-Type": "application/json"}, json.dumps(body).encode(), good)


def signing_in(email: str, password: str) -> Asked:
    """A login."""
    form = urlencode({"username": email, "password": password}).encode()
    return Asked("POST", "/auth/login", {"Content-Type": "application/x-www-form-urlencoded"}, form)


class Connection:
    """One connection that is always waiting for an answer."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.socket = socket.create_connection((parts.hostname or "", parts.port or 80))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer, self.awaited, self.begun, self.good = b"", 0, 0.0, b""

    def send(self, request: bytes, good: int) -> None:
        """Ask; `good` is the status that is right."""
        self.buffer, self.awaited, self.good = b"", 0, str(good).encode()
        self.begun = time.perf_counter()
        self.socket.sendall(request)

    def answer(self) -> bytes | None:
        """The body once it is here. Raises AssertionError for another status than the right one."""
        received = self.socket.recv(READ_AT_ONCE)
        assert received, "The server hung up."
        self.buffer = self.buffer + received if self.buffer else received
        if not self.awaited:
            end = self.buffer.find(END_OF_HEAD)
            if end < 0:
                return None
            head = self.buffer[:end].lower()
            at = head.find(LENGTH)
            length = int(head[at + len(LENGTH) :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            self.awaited = end + len(END_OF_HEAD) + length
        if len(self.buffer) < self.awaited:
            return None
        body = self.buffer.split(END_OF_HEAD, 1)[1]
        assert self.buffer[9:12] == self.good, self.buffer[:300] + body[:300]
        return body


@dataclass
class Sample:
    """What was seen in one round of one arm."""

    requests: int
    seconds: float
    latencies: list[float]
    cpu: dict[str, float]

    @property
    def per_second(self) -> float:
        """Requests per second."""
        return self.requests / self.seconds

    def cpu_ms(self, process: str) -> float:
        """Milliseconds of CPU that a process spent on each request."""
        return self.cpu[process] / self.requests * 1000

    def at(self, share: float) -> float:
        """The latency in milliseconds that this share of the requests did not exceed."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000


def together(samples: Sequence[Sample]) -> Sample:
    """Several turns as one."""
    return Sample(
        sum(one.requests for one in samples),
        sum(one.seconds for one in samples),
        [latency for one in samples for latency in one.latencies],
        {name: sum(one.cpu[name] for one in samples) for name in samples[0].cpu},
    )


def one(url: str, asked: Asked) -> Any:
    """One request that must succeed, and its JSON."""
    connection = Connection(url)
    connection.send(asked.on(url), asked.good)
    while (body := connection.answer()) is None:
        pass
    connection.socket.close()
    return json.loads(body) if body else None


def drive(
    url: str, make: Callable[[int], bytes], good: int, seconds: float, connections: int, pids: dict[str, int]
) -> Sample:
    """Keep so many requests under way for some seconds; `make` gives the bytes of the n-th."""
    selector = selectors.DefaultSelector()
    number = 0
    latencies: list[float] = []
    before = {name: cpu_of(pid) for name, pid in pids.items()}
    opened = [Connection(url) for _ in range(connections)]
    started = time.perf_counter()
    end = started + seconds
    for connection in opened:
        selector.register(connection.socket, selectors.EVENT_READ, connection)
        connection.send(make(number), good)
        number += 1
    waiting = connections
    while waiting:
        for key, _ in selector.select():
            connection = key.data
            if connection.answer() is None:
                continue
            now = time.perf_counter()
            latencies.append(now - connection.begun)
            if now < end:
                connection.send(make(number), good)
                number += 1
            else:
                selector.unregister(connection.socket)
                waiting -= 1
    elapsed = time.perf_counter() - started
    for connection in opened:
        connection.socket.close()
    cpu = {name: cpu_of(pid) - before[name] for name, pid in pids.items()}
    return Sample(len(latencies), elapsed, latencies, cpu)


def cpu_of(pid: int) -> float:
    """Seconds of CPU of a process and all its children, those that ended included."""
    total = 0.0
    process = psutil.Process(pid)
    for each in (process, *process.children(recursive=True)):
        try:
            times = each.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    ended = process.cpu_times()
    return total + ended.children_user + ended.children_system


def memory_of(pid: int) -> float:
    """MiB that a process and its children have for themselves."""
    process = psutil.Process(pid)
    return sum(each.memory_full_info().uss for each in (process, *process.children(recursive=True))) / 1024**2
