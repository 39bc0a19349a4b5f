"""Runs one job on one untrusted file in a limited child process, and says what came of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, overload

from lms_files.extraction_jobs import (
    DEFAULT_LIMITS,
    Derived,
    Failure,
    Inspection,
    InspectJob,
    Job,
    Limits,
    Outcome,
    ProcessJob,
    Reason,
)
from lms_files.workplaces import workplace

logger = logging.getLogger(__name__)

KINDS: dict[type[Job], str] = {InspectJob: "inspect", ProcessJob: "process"}
# Where programs and libraries are, and these compiled: else each child compiles them anew. Nothing else of our
# environment goes to the child: it has our secrets in it.
PASSED_ON = ("PATH", "PYTHONPATH", "PYTHONPYCACHEPREFIX", "LD_LIBRARY_PATH")
DETAIL_CHARACTERS = 2000
KILLED_BEFORE_BLAMED = 3
# Reasons of the child's own end: they say nothing about what an inspection asks.
ENDS = ("out_of_memory", "timeout", "crashed")


@overload
async def run_limited(job: InspectJob, limits: Limits = DEFAULT_LIMITS) -> Inspection | Failure: ...
@overload
async def run_limited(job: ProcessJob, limits: Limits = DEFAULT_LIMITS) -> Derived | Failure: ...
async def run_limited(job: Job, limits: Limits = DEFAULT_LIMITS) -> Outcome:
    """Runs the job; no file, whatever is in it, makes this raise or takes more than `limits`.

    An inspection that ends in a Failure (`out_of_memory`, `timeout`, `crashed`) has no verdict: don't take the file.
    Raises OSError if no process can be started, or there is no room for temporary files: try again later.
    Cancelling kills the child. It also dies with the thread that runs the event loop, so with a killed worker.
    """
    # The kernel kills what takes all memory, but so do people, and whatever ends a container: once proves nothing.
    for _ in range(KILLED_BEFORE_BLAMED):
        with workplace() as folder:
            exit_code = await _run_child(job, limits, Path(folder))
            outcome = await asyncio.to_thread(_outcome, job, exit_code, Path(folder))
        if exit_code != -signal.SIGKILL:
            break
    if isinstance(outcome, Failure):
        logger.info("%s of %s failed: %s %s", KINDS[type(job)], job.path.name, outcome.reason, outcome.detail)
    return outcome


async def _run_child(job: Job, limits: Limits, folder: Path) -> int | None:
    """The child's exit code, negative for a signal; None if its time was up."""
    job_path = folder / "job.json"
    description = {
        "kind": KINDS[type(job)],
        "limits": asdict(limits),
        "parent_pid": os.getpid(),
        "result_path": str(folder / "result.json"),
        **asdict(job),
    }
    job_path.write_text(json.dumps(description, default=str))
    environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    with (folder / "errors").open("wb") as errors:
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",  # The current folder is not ours to import from.
            "-m",
            "lms_files.extraction",
            str(job_path),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=errors,
            env={**environment, "LC_ALL": "C.UTF-8"},
            # A process group of its own, so that all of it can be killed.
            start_new_session=True,
        )
    try:
        return await asyncio.wait_for(child.wait(), limits.wall_seconds)
    except TimeoutError:
        return None
    finally:
        if child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            await child.wait()


def _outcome(job: Job, exit_code: int | None, folder: Path) -> Outcome:
    if exit_code != 0:
        errors = (folder / "errors").read_bytes()[-DETAIL_CHARACTERS:].decode(errors="replace")
        return Failure(_reason_of(exit_code), f"exit code {exit_code} {errors}".strip())
    result: dict[str, Any] = json.loads((folder / "result.json").read_bytes())
    if not result["ok"]:
        reason: Reason = result["reason"]
        if isinstance(job, InspectJob) and reason not in ENDS:
            return Inspection(ok=False, reason=reason)
        return Failure(reason, result["detail"][-DETAIL_CHARACTERS:])
    if isinstance(job, ProcessJob):
        pages, picture = result["pages"], result["picture"]
        return Derived(
            result["facts"],
            None if pages is None else tuple(pages),
            result["truncated"],
            # Only its name is believed: a processor that was taken over must not choose what is stored.
            None if picture is None else job.folder / Path(picture).name,
        )
    return Inspection(ok=True)


def _reason_of(exit_code: int | None) -> Reason:
    if exit_code is None or exit_code == -signal.SIGXCPU:
        return "timeout"
    # The kernel's choice when the machine runs out of memory; see KILLED_BEFORE_BLAMED.
    if exit_code == -signal.SIGKILL:
        return "out_of_memory"
    return "crashed"
