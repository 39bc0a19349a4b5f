"""A clamd of the test's own, whose only signature is that of the EICAR test file."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# An ordinary user's PATH often leaves out where distributions put it.
PROGRAM = shutil.which("clamd") or shutil.which("clamd", path=os.pathsep.join(("/usr/sbin", "/usr/local/sbin")))
# In pieces, so that no scanner takes our own source for a virus (https://www.eicar.org/download-anti-malware-testfile/).
EICAR = rb"X5O!P%@AP[4\PZX54(P^)7CC)7}$" + b"EICAR-STANDARD" + b"-ANTIVIRUS" + b"-TEST-FILE!$H+H*"
# clamd adds UNOFFICIAL to the names of signatures that ClamAV's makers have not signed.
SIGNATURE = "Test.Eicar.UNOFFICIAL"
STREAM_LIMIT_MIB = 8
START_SECONDS = 30.0
STOP_SECONDS = 10.0


@contextmanager
def clamd(folder: Path, over_tcp: bool = False) -> Iterator[str]:
    """Its address, for as long as it runs; everything of it is in the folder, and its pid in `clamd.pid` there.

    The folder's path must be short: that of a Unix socket has 107 characters at most. Debian's AppArmor profile wants it in /tmp.
    """
    if PROGRAM is None:
        raise FileNotFoundError("There is no clamd on this machine.")
    place = ("127.0.0.1", _free_port()) if over_tcp else str(folder / "socket")
    config, output = _written_config(folder, place), folder / "output"
    with output.open("wb") as file:
        process = subprocess.Popen([PROGRAM, f"--config-file={config}"], stdout=file, stderr=file)
    try:
        _wait_until_it_answers(process, place, output)
        yield f"unix:{place}" if isinstance(place, str) else f"tcp:{place[0]}:{place[1]}"
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _written_config(folder: Path, place: str | tuple[str, int]) -> Path:
    database = folder / "database"
    database.mkdir()
    # Name, any type of file, anywhere in it, the bytes (https://docs.clamav.net/manual/Signatures/ExtendedSignatures.html).
    (database / "test.ndb").write_text(f"{SIGNATURE.removesuffix('.UNOFFICIAL')}:0:*:{EICAR.hex()}\n")
    listen = f"LocalSocket {place}" if isinstance(place, str) else f"TCPAddr {place[0]}\nTCPSocket {place[1]}"
    config = folder / "clamd.conf"
    # Without `User` it stays who it is, which is root or not.
    config.write_text(
        f"""Foreground yes
{listen}
DatabaseDirectory {database}
TemporaryDirectory {folder}
LogFile {folder / "log"}
PidFile {folder / "clamd.pid"}
StreamMaxLength {STREAM_LIMIT_MIB}M
"""
    )
    return config


def _wait_until_it_answers(process: subprocess.Popen[bytes], place: str | tuple[str, int], output: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not _answers(place):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"clamd does not start: {output.read_text(errors='replace')[-2000:]}")
        time.sleep(0.02)


def _answers(place: str | tuple[str, int]) -> bool:
    with socket.socket(socket.AF_UNIX if isinstance(place, str) else socket.AF_INET) as connection:
        connection.settimeout(START_SECONDS)
        try:
            connection.connect(place)
            connection.sendall(b"zPING\0")
            return connection.recv(100) == b"PONG\0"
        except OSError:
            return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
