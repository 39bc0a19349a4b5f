"""The extraction child: its limits, its death, and what it knows."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import samples
from lms_files.content_types import DOCX, XLSX
from lms_files.extraction_jobs import Failure, Limits
from lms_files.limited import run_limited
from outcomes import failure_of_text, job_for, text_of, verdict, write


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    """A named pipe: a job that reads it runs until the test lets go, without any sleeping."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    return path


def children() -> list[psutil.Process]:
    """The extraction children of this process; it may have others, such as the engines of the test session."""
    return [child for child in psutil.Process().children() if "lms_files.extraction" in child.cmdline()]


async def gone(child: psutil.Process) -> None:
    """Until whoever waits for it knows."""
    while psutil.pid_exists(child.pid):
        await asyncio.sleep(0.01)


async def opened(pipe: Path) -> int:
    """A descriptor for writing; returns when a child has begun to read."""
    return await asyncio.to_thread(os.open, pipe, os.O_WRONLY)


@pytest.mark.anyio
async def test_memory_is_limited(tmp_path: Path) -> None:
    path = write(tmp_path, samples.docx_memory_bomb())
    assert await verdict(path, DOCX) is None
    assert await failure_of_text(path, DOCX) == "out_of_memory"


@pytest.mark.anyio
async def test_processor_time_is_limited(tmp_path: Path) -> None:
    path = write(tmp_path, samples.xlsx_processor_bomb())
    assert await failure_of_text(path, XLSX, Limits(cpu_seconds=1)) == "timeout"


@pytest.mark.anyio
async def test_time_is_limited(pipe: Path) -> None:
    assert await failure_of_text(pipe, "text/plain", Limits(wall_seconds=0.5)) == "timeout"
    assert children() == []


@pytest.mark.anyio
async def test_output_is_limited(tmp_path: Path) -> None:
    path = write(tmp_path, b"words " * 1000)
    assert await failure_of_text(path, "text/plain", Limits(output_bytes=5000)) == "too_large"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("kind", "times", "reason"), [(signal.SIGSEGV, 1, "crashed"), (signal.SIGKILL, 3, "out_of_memory")]
)
async def test_the_childs_death_is_a_failure_like_others(
    pipe: Path, kind: signal.Signals, times: int, reason: str
) -> None:
    running = asyncio.create_task(run_limited(job_for("text", pipe, "text/plain")))
    for _ in range(times):
        descriptor = await opened(pipe)
        (child,) = children()
        child.send_signal(kind)
        await gone(child)
        os.close(descriptor)
    outcome = await running
    assert isinstance(outcome, Failure)
    assert outcome.reason == reason


@pytest.mark.anyio
async def test_a_file_is_not_to_blame_for_a_child_that_somebody_killed(pipe: Path) -> None:
    running = asyncio.create_task(text_of(pipe, "text/plain"))
    descriptor = await opened(pipe)
    (child,) = children()
    child.kill()
    await gone(child)
    os.close(descriptor)
    descriptor = await opened(pipe)
    os.write(descriptor, b"words")
    os.close(descriptor)
    assert (await running).pages == ("words",)


@pytest.mark.anyio
async def test_two_run_at_the_same_time(tmp_path: Path) -> None:
    pipes = [tmp_path / "first", tmp_path / "second"]
    for path in pipes:
        os.mkfifo(path)
    running = asyncio.gather(*(text_of(path, "text/plain") for path in pipes))
    # Both children read before either gets its first word.
    descriptors = [await opened(path) for path in pipes]
    for descriptor, words in zip(descriptors, (b"one", b"two"), strict=True):
        os.write(descriptor, words)
        os.close(descriptor)
    assert [text.pages for text in await running] == [("one",), ("two",)]


@pytest.mark.anyio
async def test_cancelling_kills_the_child(pipe: Path) -> None:
    running = asyncio.create_task(run_limited(job_for("text", pipe, "text/plain")))
    descriptor = await opened(pipe)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    os.close(descriptor)
    assert children() == []


@pytest.mark.anyio
async def test_the_child_knows_no_secrets(pipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMS_SECRET_KEY", "a secret")
    running = asyncio.create_task(run_limited(job_for("text", pipe, "text/plain")))
    descriptor = await opened(pipe)
    (child,) = children()
    assert "LMS_SECRET_KEY" not in child.environ()
    assert "a secret" not in " ".join(child.cmdline())
    os.close(descriptor)
    await running


@pytest.mark.skipif(sys.platform != "linux", reason="other systems can't tie a child to its parent")
def test_the_child_dies_with_its_parent(pipe: Path) -> None:
    program = (
        "import asyncio, sys; from pathlib import Path;"
        "from lms_files.limited import run_limited; from lms_files.extraction_jobs import ProcessJob;"
        "path = Path(sys.argv[1]); function = 'lms_files.built_in_processors:text';"
        "asyncio.run(run_limited(ProcessJob(path, 'text/plain', function, path.parent)))"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(pipe)]) as worker:
        descriptor = os.open(pipe, os.O_WRONLY)
        worker.kill()
    poll = select.poll()
    poll.register(descriptor, 0)
    # An error is reported for a pipe as soon as nobody reads it any more.
    assert poll.poll(20_000) == [(descriptor, select.POLLERR)]
    os.close(descriptor)
