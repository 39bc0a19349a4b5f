"""Scanning for viruses: a real clamd, and servers that are none."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest
import samples
from lms_files import virus_scan
from lms_files.virus_scan import FileTooLargeToScan, ScannerAway, parse_address, ping, scan
from scanner import EICAR, PROGRAM, SIGNATURE, STREAM_LIMIT_MIB, clamd

MIB = 1024 * 1024
Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module", params=["unix", "tcp"])
def address(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a clamd listens that the tests of this module share."""
    skip_without_clamd()
    with clamd(tmp_path_factory.mktemp("clamd"), over_tcp=request.param == "tcp") as place:
        yield place


@pytest.fixture
def own_clamd(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The address and the folder of a clamd that the test may kill."""
    skip_without_clamd()
    folder = tmp_path / "clamd"
    folder.mkdir()
    with clamd(folder) as place:
        yield place, folder


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file, not written yet."""
    return tmp_path / "upload"


def skip_without_clamd() -> None:
    if PROGRAM is None:
        pytest.skip("NOT TESTED against a clamd: there is none. Install clamav-daemon (Debian), clamd (Fedora).")


def make_sparse(file: Path, size: int) -> None:
    with file.open("wb") as target:
        target.truncate(size)


@asynccontextmanager
async def server(answer: Answer) -> AsyncIterator[str]:
    """The address of something that listens, and is no clamd."""
    listening = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with listening:
        yield f"tcp:127.0.0.1:{listening.sockets[0].getsockname()[1]}"


@pytest.mark.anyio
@pytest.mark.parametrize(
    "content",
    [
        pytest.param(EICAR, id="plain"),
        pytest.param(bytes(3 * MIB - 30) + EICAR, id="over the edge of a chunk"),
        pytest.param(samples.zip_file({"folder/harmless.txt": "words", "folder/virus.txt": EICAR}), id="zip"),
        pytest.param(samples.zip_file({"inner.zip": samples.zip_file({"virus.txt": EICAR})}), id="zip in a zip"),
        pytest.param(
            samples.replaced_part(samples.docx_file(["words"]), "word/embeddings/oleObject1.bin", EICAR), id="docx"
        ),
    ],
)
async def test_infected(address: str, file: Path, content: bytes) -> None:
    file.write_bytes(content)
    assert await scan(address, file) == SIGNATURE


@pytest.mark.anyio
@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\n", id="one byte"),
        pytest.param(EICAR[:-1], id="a byte less than a virus"),
        pytest.param(os.urandom(5 * MIB), id="several chunks"),
        pytest.param(bytes(STREAM_LIMIT_MIB * MIB), id="as large as it may be"),
        pytest.param(samples.docx_file(["words"]), id="docx"),
    ],
)
async def test_clean(address: str, file: Path, content: bytes) -> None:
    file.write_bytes(content)
    assert await scan(address, file) is None


@pytest.mark.anyio
@pytest.mark.parametrize("excess", [1, MIB, 200 * MIB])
async def test_too_large(address: str, file: Path, excess: int) -> None:
    """With little too much clamd's answer is there before the end is sent, with much it closes while we write."""
    make_sparse(file, STREAM_LIMIT_MIB * MIB + excess)
    # What comes first, the answer or the end of the connection, is a race.
    for _ in range(20):
        with pytest.raises(FileTooLargeToScan):
            await scan(address, file)


@pytest.mark.anyio
async def test_many_at_a_time(address: str, tmp_path: Path) -> None:
    contents = [EICAR if number % 2 else os.urandom(MIB) for number in range(12)]
    files = [tmp_path / str(number) for number in range(len(contents))]
    for file, content in zip(files, contents, strict=True):
        file.write_bytes(content)
    names = await asyncio.gather(*(scan(address, file) for file in files))
    assert names == [None, SIGNATURE] * 6


@pytest.mark.anyio
async def test_ping(address: str) -> None:
    await ping(address)


@pytest.mark.anyio
async def test_a_missing_file_is_not_the_scanners_fault(address: str, file: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await scan(address, file)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "place", ["tcp:127.0.0.1:1", "tcp:[::1]:1", "tcp:no-such-host.invalid:3310", "unix:/no/socket"]
)
async def test_not_running(file: Path, place: str) -> None:
    file.write_bytes(EICAR)
    with pytest.raises(ScannerAway, match="connecting"):
        await scan(place, file)
    with pytest.raises(ScannerAway, match="connecting"):
        await ping(place)


@pytest.mark.anyio
@pytest.mark.parametrize("is_sent", [False, True], ids=["while sending", "while waiting"])
async def test_killed_during_a_scan(own_clamd: tuple[str, Path], file: Path, is_sent: bool) -> None:
    place, folder = own_clamd
    pid = int((folder / "clamd.pid").read_text())
    # A named pipe: the file ends when the test lets go of it.
    os.mkfifo(file)
    running = asyncio.create_task(scan(place, file))
    with await asyncio.to_thread(file.open, "wb") as pipe:
        await asyncio.to_thread(pipe.write, bytes(2 * MIB))
        async with asyncio.timeout(20):
            # What clamd has got so far.
            while not any(path.stat().st_size for path in folder.glob("clamav-*")):
                await asyncio.sleep(0.01)
        if is_sent:
            os.kill(pid, signal.SIGSTOP)
            pipe.close()
            finished, _ = await asyncio.wait([running], timeout=0.3)
            assert not finished
        os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(20):
        with pytest.raises(ScannerAway, match=r"Instead of an answer|ConnectionReset"):
            await running


@pytest.mark.anyio
async def test_a_black_hole(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_bytes(EICAR)
    monkeypatch.setattr(virus_scan, "ANSWER_SECONDS", 0.2)

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with server(swallow) as place:
        with pytest.raises(ScannerAway, match="waiting for an answer: TimeoutError"):
            await scan(place, file)
        with pytest.raises(ScannerAway, match="waiting for an answer: TimeoutError"):
            await ping(place)


@pytest.mark.anyio
async def test_an_answer_without_end(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_bytes(EICAR)
    monkeypatch.setattr(virus_scan, "ANSWER_SECONDS", 5.0)

    async def chatter(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(virus_scan.END_OF_COMMAND_OR_ANSWER)
        writer.write(b"x" * 100_000)
        with suppress(ConnectionResetError):
            # Until the other end closes.
            await reader.read()
        writer.close()

    async with server(chatter) as place:
        with pytest.raises(ScannerAway, match="Instead of an answer"):
            await scan(place, file)


@pytest.mark.anyio
@pytest.mark.skipif(sys.platform != "linux", reason="other systems answer for a server that takes nobody in")
async def test_connecting_takes_too_long(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_bytes(EICAR)
    monkeypatch.setattr(virus_scan, "CONNECT_SECONDS", 0.2)
    with socket.socket() as full, ExitStack() as waiting:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):
            before_us = waiting.enter_context(socket.socket())
            before_us.setblocking(False)
            before_us.connect_ex(full.getsockname())
        with pytest.raises(ScannerAway, match=r"connecting to .*: TimeoutError"):
            await scan(f"tcp:127.0.0.1:{full.getsockname()[1]}", file)


@pytest.mark.anyio
async def test_a_host_with_an_address_where_nobody_listens(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_bytes(b"words")

    async def find(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(virus_scan.END_OF_STREAM)
        writer.write(b"stream: Some.Virus FOUND\0")
        writer.close()

    def two_addresses(host: str, port: int, *_: int) -> list[tuple[int, int, int, str, tuple[str, int]]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", number)) for number in (1, port)]

    async with server(find) as place:
        monkeypatch.setattr(socket, "getaddrinfo", two_addresses)
        assert await scan(place, file) == "Some.Virus"


@pytest.mark.anyio
async def test_one_that_reads_nothing(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than the buffers of a connection take."""
    make_sparse(file, 100 * MIB)
    monkeypatch.setattr(virus_scan, "WRITE_SECONDS", 0.2)
    done = asyncio.Event()

    async def ignore(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await done.wait()
        writer.close()

    async with server(ignore) as place:
        try:
            with pytest.raises(ScannerAway, match="sending: TimeoutError"):
                await scan(place, file)
        finally:
            done.set()


@pytest.mark.anyio
@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"stream: OK", id="without an end"),
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n\r\n\0", id="http"),
        pytest.param(b"\xff\xfe\0", id="no text"),
        pytest.param(b"\0", id="empty"),
        pytest.param(b"OK\0", id="nearly clean"),
        pytest.param(b"stream:  FOUND\0", id="a virus without a name"),
        pytest.param(b"stream: Can't allocate memory ERROR\0", id="another error"),
        pytest.param(b"UNKNOWN COMMAND\0", id="unknown command"),
    ],
)
async def test_rubbish(file: Path, answer: bytes) -> None:
    file.write_bytes(EICAR)

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(virus_scan.END_OF_COMMAND_OR_ANSWER)
        writer.write(answer)
        writer.close()

    async with server(speak) as place:
        with pytest.raises(ScannerAway):
            await scan(place, file)
        with pytest.raises(ScannerAway):
            await ping(place)


@pytest.mark.anyio
@pytest.mark.parametrize("size", [0, 100 * MIB])
async def test_closed_at_once(file: Path, size: int) -> None:
    make_sparse(file, size)

    async def close(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with server(close) as place:
        with pytest.raises(ScannerAway):
            await scan(place, file)
        with pytest.raises(ScannerAway):
            await ping(place)


@pytest.mark.anyio
async def test_clean_is_nothing_that_was_not_read_to_its_end(file: Path) -> None:
    make_sparse(file, 100 * MIB)

    async def be_hasty(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(MIB)
        writer.write(b"stream: OK\0")
        writer.close()

    async with server(be_hasty) as place:
        with pytest.raises(ScannerAway):
            await scan(place, file)


@pytest.mark.anyio
async def test_an_answer_in_pieces(file: Path) -> None:
    file.write_bytes(b"words")

    async def stutter(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(virus_scan.END_OF_STREAM)
        for piece in (b"stream: Some.", b"Virus FOU", b"ND", b"\0"):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.02)
        writer.close()

    async with server(stutter) as place:
        assert await scan(place, file) == "Some.Virus"


def test_addresses() -> None:
    assert parse_address("unix:/run/clamav/clamd.ctl") == ("/run/clamav/clamd.ctl", None)
    assert parse_address("tcp:clamav:3310") == ("clamav", 3310)
    assert parse_address("tcp:scan-1.example.org:65535") == ("scan-1.example.org", 65535)
    assert parse_address("tcp:10.0.0.7:3310") == ("10.0.0.7", 3310)
    assert parse_address("tcp:[fe80::1]:3310") == ("fe80::1", 3310)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "unix:",
        "unix:clamd.ctl",
        "unix:/run/\0",
        "/run/clamav/clamd.ctl",
        "tcp:localhost",
        "tcp:localhost:",
        "tcp::3310",
        "tcp:localhost:0",
        "tcp:localhost:65536",
        "tcp:localhost:http",
        "tcp:localhost:3310\n",
        "tcp:a..b:3310",
        f"tcp:{'a' * 64}:3310",
        "tcp:::1:3310",
        "http://localhost:3310",
    ],
)
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(ValueError, match="is no address of a clamd"):
        parse_address(address)
