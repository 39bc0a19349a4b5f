"""The metrics of all processes of a machine as one: each writes its own into a folder, and any of them reads all.

`prometheus_client` does so wherever PROMETHEUS_MULTIPROC_DIR names a folder before it is imported; `up` names one in
the data folder. Without, a process shows its own metrics alone.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import psutil

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
OF_PROCESS = re.compile(r"_(\d+)\.db$")


def begin(folder: Path) -> None:
    """Let this process and those that it starts keep their metrics there, and forget those of an earlier start."""
    folder.mkdir(mode=0o700, exist_ok=True)
    for left in folder.glob("*.db"):
        left.unlink()
    os.environ[FOLDER] = str(folder)


def as_text() -> bytes:
    """What Prometheus reads: of all processes that share a folder, else of this one."""
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

    folder = os.environ.get(FOLDER)
    if folder is None:
        return generate_latest()
    for file in Path(folder).glob("gauge_live*.db"):
        found = OF_PROCESS.search(file.name)
        if found is not None and not psutil.pid_exists(int(found[1])):
            # What a killed process was doing, nobody does now; what it counted stays counted.
            mark_process_dead(int(found[1]), folder)  # type: ignore[no-untyped-call]
    registry = CollectorRegistry()
    MultiProcessCollector(registry, folder)  # type: ignore[no-untyped-call]
    return generate_latest(registry)
