"""Figures of a run: how they are compared with their bars, shown, kept as JSON and compared with an earlier run."""

from __future__ import annotations

import json
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import psutil


@dataclass
class Result:
    """One figure over several rounds, and what it has to be: at least (`>=`) or at most (`<=`) its bar."""

    bar: str
    name: str
    values: list[float]
    unit: str = ""
    sense: Literal[">=", "<=", ""] = ""
    limit: float | None = None
    details: dict[str, float] = field(default_factory=dict)

    @property
    def median(self) -> float:
        """Of the rounds."""
        return statistics.median(self.values)

    @property
    def holds(self) -> bool | None:
        """Whether it meets its bar; None when it has none."""
        if self.limit is None:
            return None
        return self.median >= self.limit if self.sense == ">=" else self.median <= self.limit

    def line(self) -> str:
        """For the terminal."""
        spread = f"{min(self.values):.3g} to {max(self.values):.3g}" if len(self.values) > 1 else ""
        bar = "" if self.limit is None else f"{self.sense} {self.limit:g}"
        verdict = {None: "", True: "holds", False: "FAILS"}[self.holds]
        more = ", ".join(f"{name} {value:.3g}" for name, value in self.details.items())
        return f"{self.bar:10} {self.name:58} {self.median:8.3g} {self.unit:9} {spread:18} {bar:8} {verdict:6} {more}"


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Round by round."""
    return [one / other for one, other in zip(ours, theirs, strict=True)]


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": psutil.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 1024**3, 1),
        "processor": platform.processor() or platform.machine(),
        "python": platform.python_version(),
    }


def save(path: Path, results: Sequence[Result]) -> None:
    """As JSON."""
    shown = [{**asdict(result), "median": result.median, "holds": result.holds} for result in results]
    path.write_text(json.dumps({"machine": machine(), "results": shown}, indent=2) + "\n")


def compare(path: Path, results: Sequence[Result]) -> list[str]:
    """Lines about what changed since an earlier run."""
    earlier = {(one["bar"], one["name"]): one["median"] for one in json.loads(path.read_text())["results"]}
    lines = []
    for result in results:
        before = earlier.get((result.bar, result.name))
        if before:
            change = (result.median / before - 1) * 100
            lines.append(f"{result.bar:10} {result.name:58} {before:8.3g} -> {result.median:8.3g}  {change:+.0f} %")
    return lines
