"""`lms bench`: measures every bar of docs/performance.md on engines and data of its own, and says which hold."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from benchmarks import bars_of_reads, bars_of_work, bars_of_writes, profiles, sizing
from benchmarks.chart import draw
from benchmarks.results import Result, compare, save
from benchmarks.system import System

BARS: dict[str, Callable[[System, int], list[Result]]] = {
    "reads": bars_of_reads.reads,
    "routes": bars_of_reads.routes,
    "pages": bars_of_reads.pages,
    "search": bars_of_reads.searches,
    "enroll": bars_of_writes.enroll,
    "bulk": bars_of_writes.bulk,
    "logins": bars_of_writes.logins,
    "deletion": bars_of_work.deletion,
    "events": bars_of_work.events,
    "imports": bars_of_work.imports,
    "worker": bars_of_work.worker,
    "start": bars_of_work.start,
    "sizes": sizing.sizes,
}

app = typer.Typer(pretty_exceptions_enable=False)


@app.command()
def bench(
    bars: Annotated[list[str] | None, typer.Argument(help=f"Which: {', '.join(BARS)}; all without")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="How often each arm has its turn")] = 5,
    kept: Annotated[Path | None, typer.Option("--data", help="A folder that keeps the data for the next run")] = None,
    profiled: Annotated[
        str | None,
        typer.Option(
            "--profile",
            help="A path such as /courses?limit=50, or 'POST /enrollments': show where its time goes, and no bars",
        ),
    ] = None,
    chart: Annotated[Path | None, typer.Option(help="Where to draw the figures, as SVG")] = None,
    to: Annotated[Path | None, typer.Option("--json", help="Where to write the figures")] = None,
    earlier: Annotated[Path | None, typer.Option("--compare", help="Figures of an earlier run")] = None,
) -> None:
    """Measure, and exit with 1 when a bar does not hold."""
    chosen = bars or list(BARS)
    unknown = set(chosen) - set(BARS)
    if unknown:
        raise typer.BadParameter(f"There is no bar {', '.join(sorted(unknown))}; there are {', '.join(BARS)}.")
    if profiled is not None and not profiled.startswith("/") and profiled != "POST /enrollments":
        raise typer.BadParameter("Give a path that is read, such as /courses?limit=50, or 'POST /enrollments'.")
    # So that whoever stops it stops all that it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    results: list[Result] = []
    started = time.perf_counter()
    with System(kept) as system:
        if profiled is not None:
            profiles.show(system, profiled)
            raise typer.Exit
        for name in chosen:
            found = BARS[name](system, rounds)
            results += found
            for result in found:
                print(result.line(), flush=True)
            if to is not None:
                save(to, results)
    print(f"({time.perf_counter() - started:.0f} s)", file=sys.stderr)
    if chart is not None:
        draw(chart, results)
    if earlier is not None:
        print("\n".join(compare(earlier, results)))
    raise typer.Exit(any(result.holds is False for result in results))


if __name__ == "__main__":
    app()
