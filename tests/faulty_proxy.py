"""A TCP proxy in front of a server that can be made to refuse, to swallow, to be slow, to break off, or to be full."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Literal

Fault = Literal["refuses", "swallows", "is slow", "breaks off", "is full"]

PIECE_BYTES = 64 * 1024
SLOW_SECONDS = 0.05
BROKEN_OFF_AFTER_BYTES = 100
FULL = (
    b"<Error><Code>InternalError</Code><Message>no space left</Message></Error>",
    b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/xml\r\nConnection: close\r\nContent-Length: ",
)


class Proxy:
    """Passes everything on, or does as `fault` says."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port
        self.fault: Fault | None = None
        self.address = ""
        self.open: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.open.add(writer)
        try:
            if self.fault == "refuses":
                return
            if self.fault == "is full":
                await reader.readuntil(b"\r\n\r\n")
                writer.write(FULL[1] + str(len(FULL[0])).encode() + b"\r\n\r\n" + FULL[0])
                await writer.drain()
                return
            onward_reader, onward_writer = await asyncio.open_connection(self.host, self.port)
            self.open.add(onward_writer)
            await asyncio.gather(self.pump(reader, onward_writer), self.pump(onward_reader, writer))
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            self.open.discard(writer)

    async def pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One direction."""
        passed = 0
        try:
            while piece := await reader.read(PIECE_BYTES):
                while self.fault == "swallows":
                    await asyncio.sleep(SLOW_SECONDS)
                if self.fault == "is slow":
                    await asyncio.sleep(SLOW_SECONDS)
                if self.fault == "breaks off" and passed + len(piece) > BROKEN_OFF_AFTER_BYTES:
                    break
                passed += len(piece)
                writer.write(piece)
                await writer.drain()
        finally:
            writer.close()

    def become(self, fault: Fault | None) -> None:
        """From now on; connections that are open end, but for those that a fault swallows: they hear nothing more."""
        self.fault = fault
        if fault != "swallows":
            for writer in self.open:
                writer.close()


@asynccontextmanager
async def proxy_before(host: str, port: int) -> AsyncIterator[Proxy]:
    """A proxy, until the block ends."""
    proxy = Proxy(host, port)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        proxy.become(None)
        server.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(server.wait_closed(), 1)


class Proxies:
    """Proxies in a thread of their own, for servers whose clients are other processes."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.proxies: dict[str, Proxy] = {}

    async def add(self, name: str, host: str, port: int) -> None:
        """One before a server."""
        proxy = Proxy(host, port)
        server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
        proxy.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self.proxies[name] = proxy

    def before(self, name: str, host: str, port: int) -> str:
        """Start one; where it listens, as `host:port`."""
        asyncio.run_coroutine_threadsafe(self.add(name, host, port), self.loop).result(10)
        return self.proxies[name].address

    async def end(self) -> None:
        """End every connection; a loop that is left with some complains later, in another test."""
        open_now = asyncio.all_tasks() - {asyncio.current_task()}
        for task in open_now:
            task.cancel()
        await asyncio.gather(*open_now, return_exceptions=True)

    def become(self, name: str, fault: Fault | None) -> None:
        """Break one, or mend it."""
        self.loop.call_soon_threadsafe(self.proxies[name].become, fault)


@contextmanager
def proxies() -> Iterator[Proxies]:
    """Until the block ends."""
    found = Proxies()
    thread = threading.Thread(target=found.loop.run_forever, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        asyncio.run_coroutine_threadsafe(found.end(), found.loop).result(10)
        found.loop.call_soon_threadsafe(found.loop.stop)
        thread.join(10)
        found.loop.close()
