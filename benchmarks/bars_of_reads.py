"""The bars of reads: lists and points against the references, many routes, deep pages, search."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from statistics import median

import asyncpg

from benchmarks import data, search, tutorial
from benchmarks.load import Asked, Sample, bearer, drive, one, together
from benchmarks.raw import TOKEN
from benchmarks.results import Result, ratios
from benchmarks.system import Served, System
from lms_core.pagination import seal_cursor

MILLION, MANY, FEW = 1_000_000, 100_000, 1_000
TEXTS = 100_000
CONNECTIONS = 16
SECONDS, TURNS = 1.5, 4
WARM_SECONDS = 1.0


Measure = Callable[[float], Sample]
"""Asks for so many seconds."""


def asking(system: System, served: Served, asked: list[Asked]) -> Measure:
    """The requests one after the other and again from the start."""
    requests = [each.on(served.url) for each in asked]
    pids = {"process": served.pid, "PostgreSQL": system.pid("postgres")}

    def measure(seconds: float) -> Sample:
        return drive(served.url, lambda n: requests[n % len(requests)], asked[0].good, seconds, CONNECTIONS, pids)

    return measure


def interleaved(arms: dict[str, Measure], rounds: int) -> dict[str, list[Sample]]:
    """All arms in short turns, now from the first to the last and now back, so that what else happens meets each alike."""
    for measure in arms.values():
        measure(WARM_SECONDS)
    found: dict[str, list[Sample]] = {name: [] for name in arms}
    for _ in range(rounds):
        turns: dict[str, list[Sample]] = {name: [] for name in arms}
        for number in range(TURNS):
            for name in list(arms) if number % 2 else reversed(arms):
                turns[name].append(arms[name](SECONDS / TURNS))
        for name, samples in turns.items():
            found[name].append(together(samples))
    return found


def against(
    bar: str, name: str, ours: list[Sample], theirs: list[Sample], limit: float | None, **details: float
) -> list[Result]:
    """Throughput against a reference, and the CPU of the process that answers."""
    cpu = [one.cpu_ms("process") for one in ours]
    of_theirs = [one.cpu_ms("process") for one in theirs]
    throughput = ratios([one.per_second for one in ours], [one.per_second for one in theirs])
    shown = {
        "ms": median(cpu),
        "of the reference": median(of_theirs),
        "PostgreSQL ms": median(one.cpu_ms("PostgreSQL") for one in ours),
        "per second": median(one.per_second for one in ours),
        **details,
    }
    return [
        Result(bar, f"{name}, throughput", throughput, "of it", ">=" if limit else "", limit, shown),
        Result(bar, f"{name}, CPU of the process", ratios(of_theirs, cpu), "of it"),
    ]


def reads(system: System, rounds: int) -> list[Result]:
    """`GET /courses?limit=50` and `GET /courses/{id}` at a million, against raw and as tutorials do it."""
    database = system.sized(MILLION)
    ours = system.serve("api", system.sized(MILLION))
    raw = system.reference("raw", "raw:create", system.sized(MILLION))
    taught = system.reference("tutorial", "tutorial:create", system.sized(MILLION))
    somebody = asyncio.run(data.ids(system.database_url(database), "user", 1, 1))[0]
    courses = asyncio.run(data.ids(system.database_url(database), "course", MILLION - 999, MILLION))
    tokens = {ours: bearer(system.token(ours.url)), raw: bearer(TOKEN), taught: bearer(tutorial.token_of(somebody))}
    results = []
    for name, paths in (
        ("list of 50", ["/courses?limit=50"]),
        ("point", [f"/courses/{id}" for id in courses]),
    ):
        asked = {served: [Asked("GET", path, tokens[served]) for path in paths] for served in tokens}
        if name == "list of 50":
            asked[raw] = [Asked("GET", "/courses", tokens[raw])]
        samples = interleaved({each.url: asking(system, each, asked[each]) for each in tokens}, rounds)
        statements = system.statements_of(ours, database, asked[ours][:20])
        found = {served: samples[served.url] for served in tokens}
        results += against("reads", f"{name} against raw", found[ours], found[raw], 0.45, statements=statements)
        results += against("reads", f"{name}, the tutorial's way against raw", found[taught], found[raw], None)
    return results


def routes(system: System, rounds: int) -> list[Result]:
    """What 80 more routes in other plugins cost every request."""
    ours = system.serve("api", system.sized(MILLION))
    more = system.reference("more routes", "more_routes:create", system.sized(MILLION))
    path = "/courses?limit=1"
    arms = {
        each.url: asking(system, each, [Asked("GET", path, bearer(system.token(each.url)))]) for each in (ours, more)
    }
    samples = interleaved(arms, rounds)
    cpu = ratios(
        [one.cpu_ms("process") for one in samples[more.url]], [one.cpu_ms("process") for one in samples[ours.url]]
    )
    return [Result("routes", "80 more routes, CPU of a request", cpu, "times", "<=", 1.25)]


def pages(system: System, rounds: int) -> list[Result]:
    """Page 10,000 against page 1 at a million, and page 1 at a million against page 1 of fewer."""
    large, small = system.serve("api", system.sized(MILLION)), system.serve("small api", system.sized(MANY))
    smallest = system.serve("smallest api", system.sized(FEW))
    token = {each: bearer(system.token(each.url)) for each in (large, small, smallest)}
    first = Asked("GET", "/courses?limit=50", token[large])
    [middle] = asyncio.run(data.ids(system.database_url(system.sized(MILLION)), "course", MILLION // 2, MILLION // 2))
    cursor = seal_cursor(system.cursor_key(), "Course?", [middle])
    arms = {
        "page 1": asking(system, large, [first]),
        "page 10,000": asking(system, large, [Asked("GET", f"/courses?limit=50&cursor={cursor}", token[large])]),
        "page 1 of fewer": asking(system, small, [Asked("GET", "/courses?limit=50", token[small])]),
        "page 1 of few": asking(system, smallest, [Asked("GET", "/courses?limit=50", token[smallest])]),
    }
    samples = interleaved(arms, rounds)

    def cost(name: str) -> list[float]:
        return [one.cpu_ms("process") + one.cpu_ms("PostgreSQL") for one in samples[name]]

    return [
        Result("pages", "page 10,000 against page 1 at 1 M, CPU", ratios(cost("page 10,000"), cost("page 1")), "times", "<=", 1.2),
        Result("pages", "page 1 at 1 M against 100 k, CPU", ratios(cost("page 1"), cost("page 1 of fewer")), "times", "<=", 1.4),
        Result("pages", "page 1 at 1 M against 1 k, CPU", ratios(cost("page 1"), cost("page 1 of few")), "times"),
    ]  # fmt: skip


def searches(system: System, rounds: int) -> list[Result]:
    """The commonest word against a middling one, among 100,000 texts, for who may read them all."""

    async def fill(url: str) -> None:
        connection = await asyncpg.connect(url)
        await search.fill(connection, TEXTS)
        await connection.close()

    served = system.serve("search api", system.made("texts", fill))
    token = bearer(system.token(served.url))
    arms = {
        name: asking(system, served, [Asked("GET", f"/materials/search?q={search.TERMS[name]}", token)])
        for name in ("commonest", "middling", "rare")
    }
    # The first of all reads from the disk; several at once would be told that they have waited long enough.
    one(served.url, Asked("GET", f"/materials/search?q={search.TERMS['commonest']}", token))
    samples = interleaved(arms, rounds)
    cost = {
        name: [one.cpu_ms("process") + one.cpu_ms("PostgreSQL") for one in found] for name, found in samples.items()
    }
    ms = {name: found[0] for name, found in cost.items()}
    against_middling = ratios(cost["commonest"], cost["middling"])
    return [Result("search", "the commonest word against a middling one, CPU", against_middling, "times", "<=", 2, ms)]
