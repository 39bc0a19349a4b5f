"""Whether memory stays flat: a whole system under a light mix of reads, writes and background work, for an hour.

    python -m benchmarks.soak [MINUTES]

Prints what the API, the worker, the relay and the scheduler have for themselves every few minutes, as a Markdown table.
"""

from __future__ import annotations

import sys
import time

from benchmarks.bars_of_work import Bench
from benchmarks.load import Asked, Connection, bearer, memory_of, posted
from benchmarks.system import System, unique

MINUTES = 60.0
PAUSE_SECONDS = 0.05
LOOKS = 12
PROCESSES = ("api", "worker", "relay", "scheduler")


def round_of_requests(bench: Bench, connection: Connection, school: str) -> int:
    """What a school does: a course comes, gets a page, is read, listed, searched, changed and deleted."""
    token = bench.token
    course = bench.post("/courses", {"institution_id": school, "code": unique(), "title": f"Course {unique()}"})["id"]
    page = {"course_id": course, "kind": "page", "title": unique(), "body": f"Words {unique()}.", "published": True}
    material = bench.post("/materials", page)["id"]
    asked = [
        Asked("GET", f"/courses/{course}", token),
        Asked("GET", "/courses?limit=50", token),
        Asked("GET", f"/materials/{material}", token),
        Asked("GET", f"/materials?course_id={course}", token),
        Asked("GET", f"/materials/search?q={unique()}", token),
        posted(f"/courses/{course}", {"title": unique()}, token, 200, "PATCH"),
        Asked("DELETE", f"/courses/{course}", token, good=202),
    ]
    for each in asked:
        bench.timed(connection, each)
        time.sleep(PAUSE_SECONDS)
    return len(asked) + 2


def run(minutes: float) -> None:
    """Until the time is over."""
    with System() as system:
        bench = Bench(system)
        school = bench.post("/institutions", {"name": "School", "slug": f"s{unique()}"})["id"]
        connection = Connection(bench.url)
        print("| minutes | requests | " + " | ".join(f"{name}, MiB" for name in PROCESSES) + " |")
        print("| --- |" + " --- |" * (len(PROCESSES) + 1), flush=True)
        began, requests, looks = time.monotonic(), 0, 0
        while (passed := (time.monotonic() - began) / 60) < minutes or looks <= LOOKS:
            bench.token = bearer(system.token(system.url))
            if passed >= looks * minutes / LOOKS:
                looks += 1
                memory = " | ".join(f"{memory_of(system.pid(name)):.0f}" for name in PROCESSES)
                print(f"| {passed:.0f} | {requests} | {memory} |", flush=True)
            requests += round_of_requests(bench, connection, school)


if __name__ == "__main__":
    run(float(sys.argv[1]) if len(sys.argv) > 1 else MINUTES)
