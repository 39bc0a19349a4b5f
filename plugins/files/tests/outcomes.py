"""Runs a job that has to end in a certain way, and returns what the test asks about."""

from __future__ import annotations

from pathlib import Path

from lms_files.extraction_jobs import Derived, Failure, Inspection, InspectJob, Limits, ProcessJob
from lms_files.limited import run_limited


def write(folder: Path, content: bytes) -> Path:
    """A file without an extension, as downloads have none."""
    path = folder / "upload"
    path.write_bytes(content)
    return path


def job_for(name: str, path: Path, content_type: str) -> ProcessJob:
    """One of the built-in processors; pictures go beside the file."""
    return ProcessJob(path, content_type, f"lms_files.built_in_processors:{name}", path.parent)


async def text_of(path: Path, content_type: str, limits: Limits | None = None) -> Derived:
    """The text, when there has to be one."""
    outcome = await run_limited(job_for("text", path, content_type), limits or Limits())
    assert isinstance(outcome, Derived), outcome
    return outcome


async def verdict(path: Path, content_type: str, limits: Limits | None = None) -> str | None:
    """The reason why the file is refused, None if it is taken."""
    outcome = await run_limited(InspectJob(path, content_type), limits or Limits())
    assert isinstance(outcome, Inspection), outcome
    assert outcome.ok == (outcome.reason is None)
    return outcome.reason


async def failure_of_text(path: Path, content_type: str, limits: Limits | None = None) -> str:
    """The reason why there is no text."""
    outcome = await run_limited(job_for("text", path, content_type), limits or Limits())
    assert isinstance(outcome, Failure), outcome
    return outcome.reason
