"""The figures of a run as a chart: a bar for each, from nothing to its limit and beyond, in an SVG that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from benchmarks.results import Result

ROW, LEFT, WIDTH, RIGHT, TOP = 26, 430, 420, 150, 46
HELD, FAILED, PLAIN = "#2f7d4f", "#b3402e", "#7a8794"
STYLE = "font: 13px system-ui, sans-serif; fill: #1d2730"


def draw(path: Path, results: Sequence[Result]) -> None:
    """Write those with a limit, which is the line, and those against a reference."""
    results = [one for one in results if one.limit is not None or one.unit == "of it"]
    height = TOP + ROW * len(results) + 16
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH + RIGHT} {height}" role="img">',
        f'<rect width="100%" height="100%" fill="#ffffff"/><g style="{STYLE}">',
        f'<text x="{LEFT}" y="24">each figure against its bar (the line); green holds</text>',
    ]
    for number, result in enumerate(results):
        parts += row(result, TOP + ROW * number)
    path.write_text("\n".join([*parts, "</g></svg>"]) + "\n")


def row(result: Result, y: int) -> list[str]:
    """One figure with its name, its spread and its value."""
    # Shares of a reference are seen as such; else two thirds of the width are the limit, and what is beyond it is seen.
    full = 1.0 if result.unit == "of it" else (result.limit or max(result.values) or 1.0) * 1.5
    colour = {True: HELD, False: FAILED, None: PLAIN}[result.holds]

    def at(value: float) -> float:
        return LEFT + WIDTH * min(1.0, value / full)

    middle, low, high = at(result.median), at(min(result.values)), at(max(result.values))
    shown = f"{result.median:.3g} {result.unit}"
    if result.limit is not None:
        shown += f" ({result.sense} {result.limit:g})"
    parts = [
        f'<text x="{LEFT - 10}" y="{y + 14}" text-anchor="end">{escape(result.name)}</text>',
        f'<rect x="{LEFT}" y="{y + 2}" width="{middle - LEFT:.1f}" height="{ROW - 10}" rx="2" fill="{colour}"/>',
        f'<path d="M{low:.1f} {y + 10}H{high:.1f}" stroke="#1d2730" stroke-width="1.5"/>',
        f'<text x="{LEFT + WIDTH + 8}" y="{y + 14}">{escape(shown)}</text>',
    ]
    if result.limit is not None:
        limit = at(result.limit)
        parts.append(f'<path d="M{limit:.1f} {y - 2}V{y + ROW - 5}" stroke="#1d2730" stroke-dasharray="3 2"/>')
    return parts
