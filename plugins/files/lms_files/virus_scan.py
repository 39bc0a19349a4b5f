"""Asks a clamd whether a file is infected, by its INSTREAM command (clamd(8))."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

CONNECT_SECONDS = 2.0
# For each chunk: a clamd that is busy takes the next one late.
WRITE_SECONDS = 30.0
# Scanning a big archive takes long.
ANSWER_SECONDS = 120.0
CHUNK_BYTES = 1024 * 1024
# The longest answer has the name of a signature in it, nothing else.
MAX_ANSWER_BYTES = 4096

END_OF_COMMAND_OR_ANSWER = b"\0"
END_OF_STREAM = bytes(4)
CLEAN = "stream: OK"
INFECTED = re.compile(r"stream: (.+) FOUND")
TOO_LARGE = "INSTREAM size limit exceeded. ERROR"

UNIX_ADDRESS = re.compile(r"unix:(/[^\0]+)")
# Parts of a name have 1 to 63 characters (RFC 1035); the address of an IPv6 host stands in brackets.
TCP_ADDRESS = re.compile(r"tcp:((?:[a-zA-Z0-9_-]{1,63}\.)*[a-zA-Z0-9_-]{1,63}|\[[0-9a-fA-F:.]+\]):([0-9]{1,5})")


class ScannerAway(Exception):
    """There is no verdict: nobody answers, or not as a clamd does; the message says what happened, for the log."""


class FileTooLargeToScan(Exception):
    """There will be no verdict: the file is larger than StreamMaxLength (clamd.conf(5)) of this clamd."""


def parse_address(address: str) -> tuple[str, int | None]:
    """The path of a Unix socket and None, or a host and its port.

    Raises ValueError for anything but `unix:/path/to/socket` and `tcp:host:port`.
    """
    if match := UNIX_ADDRESS.fullmatch(address):
        return match[1], None
    match = TCP_ADDRESS.fullmatch(address)
    if match is None or not 0 < int(match[2]) < 65536:
        raise ValueError("is no address of a clamd, such as unix:/run/clamav/clamd.ctl or tcp:localhost:3310")
    return match[1].strip("[]"), int(match[2])


async def scan(address: str, path: Path) -> str | None:
    """The name of the signature that the file matches, None if it is clean.

    clamd calls clean what it did not look at for being over its own limits, such as MaxFileSize (clamd.conf(5)).
    Raises FileTooLargeToScan; ScannerAway (try again later); ValueError for the address; OSError if the file can't be read.
    """
    with await asyncio.to_thread(path.open, "rb") as file:
        async with _connected(address) as connection:
            await _send(connection, b"zINSTREAM" + END_OF_COMMAND_OR_ANSWER)
            is_sent = await _send_file(connection, file)
            answer = await _answer(connection)
    if answer == TOO_LARGE:
        raise FileTooLargeToScan(f"{path.name} is larger than the clamd at {address} takes.")
    if match := INFECTED.fullmatch(answer):
        return match[1]
    # Whoever closes before the end has not seen all of the file.
    if answer != CLEAN or not is_sent:
        raise ScannerAway(f"The clamd at {address} answers {answer!r}.")
    return None


async def ping(address: str) -> None:
    """Returns if a clamd answers at the address; raises ScannerAway if not, ValueError for the address."""
    async with _connected(address) as connection:
        await _send(connection, b"zPING" + END_OF_COMMAND_OR_ANSWER)
        answer = await _answer(connection)
    if answer != "PONG":
        raise ScannerAway(f"The clamd at {address} answers {answer!r} to a ping.")


# Plain sockets, not asyncio's streams: when a write fails, a stream throws away what has come in and was not read.
@contextlib.asynccontextmanager
async def _connected(address: str) -> AsyncIterator[socket.socket]:
    where, port = parse_address(address)
    async with _within(CONNECT_SECONDS, f"connecting to {address}"):
        connection = await (_connect(socket.AF_UNIX, where) if port is None else _connect_tcp(where, port))
    with connection:
        yield connection


async def _connect_tcp(host: str, port: int) -> socket.socket:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    *others, last = ((family, place) for family, _, _, _, place in found)
    for family, place in others:
        # A host may have addresses where nobody listens: localhost is ::1 and 127.0.0.1.
        with contextlib.suppress(OSError):
            return await _connect(family, place)
    return await _connect(*last)


async def _connect(family: int, place: str | tuple[object, ...]) -> socket.socket:
    connection = socket.socket(family, socket.SOCK_STREAM)
    try:
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, place)
    except BaseException:
        connection.close()
        raise
    return connection


async def _send_file(connection: socket.socket, file: BinaryIO) -> bool:
    """Whether clamd took all of it; it closes early to say that there is too much, and still has to be listened to."""
    while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
        if not await _send(connection, len(chunk).to_bytes(4, "big") + chunk):
            return False
    return await _send(connection, END_OF_STREAM)


async def _send(connection: socket.socket, data: bytes) -> bool:
    """False if clamd has closed its end."""
    async with _within(WRITE_SECONDS, "sending"):
        try:
            await asyncio.get_running_loop().sock_sendall(connection, data)
        except (BrokenPipeError, ConnectionResetError):
            return False
    return True


async def _answer(connection: socket.socket) -> str:
    """What clamd says, without the NUL at its end."""
    answer = b""
    async with _within(ANSWER_SECONDS, "waiting for an answer"):
        while END_OF_COMMAND_OR_ANSWER not in answer:
            received = await asyncio.get_running_loop().sock_recv(connection, MAX_ANSWER_BYTES)
            answer += received
            if not received or len(answer) > MAX_ANSWER_BYTES:
                raise ScannerAway(f"Instead of an answer came {answer[:100]!r}.")
    return answer.partition(END_OF_COMMAND_OR_ANSWER)[0].decode(errors="replace")


@contextlib.asynccontextmanager
async def _within(seconds: float, doing: str) -> AsyncIterator[None]:
    """Time out and trouble of the network are ScannerAway."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except OSError as error:
        # A TimeoutError is one, too.
        raise ScannerAway(f"{doing}: {error!r}") from error
