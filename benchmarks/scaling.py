"""What saturates first when the API grows from 1 to 64 processes before one PostgreSQL: a model, and its tables.

    python benchmarks/scaling.py [--write docs/scaling.md]

prints the tables of docs/scaling.md as Markdown, or puts them into it; it measures nothing, and needs nothing but Python. Everything that was
measured elsewhere, or is assumed, stands in `REQUESTS` and `FIGURES` with where it comes from: change it there.

The model is a network of stations with a number of servers each. Many people who know nothing of each other ask, so
requests arrive at random (Poisson). A station shares itself among all who are there, as an event loop and an operating
system do, so the time in it depends on the mean of what it is asked for, and on nothing else of it:

    time = work × (1 + C / (servers × (1 - load)))       C: the chance that all servers are at work (Erlang's formula)

A simulation of single requests checks the formula at a few points, and gives the slow ones among them.
"""

from __future__ import annotations

import heapq
import math
import random
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path

SIZING = "lms bench sizes, the median of three runs"
ASSUMED = "assumed"


@dataclass(frozen=True)
class Request:
    """What one request costs. Milliseconds are CPU of one core."""

    share: float
    """Of all requests of a school day, in percent; assumed, all of them."""
    api: float
    database: float
    statements: int
    source: str
    replica: bool = False
    """Whether a replica may answer it. Then all of it: what is decided stands in the cache of the process."""
    commits: int = 0
    notifies: int = 0
    """Commits that wake others: those with a delivery, or that change what somebody may do."""
    deliveries: int = 0
    token: bool = True
    """Whether it has an access token, whose owner the process may know from before."""


REQUESTS: dict[str, Request] = {
    "read a course": Request(25, 0.46, 0.1, 1, SIZING, replica=True),
    "list 50 courses": Request(20, 0.9, 0.42, 1, SIZING, replica=True),
    "list a course's 20 materials": Request(15, 1.1, 0.98, 1, SIZING, replica=True),
    "read a page of 2 KiB": Request(20, 0.48, 0.43, 1, SIZING, replica=True),
    "search a course": Request(5, 1.2, 11.7, 1, SIZING, replica=True),
    "hand in an essay": Request(2, 6.3, 5.2, 11, SIZING, commits=1),
    "change something small": Request(2, 2.3, 0.76, 10, f"{SIZING}, as creating a course", commits=1),
    "change a material": Request(
        0.5, 2.3, 0.76, 10, f"{SIZING}, as creating a course", commits=1, notifies=1, deliveries=1
    ),
    "ask for an upload": Request(0.5, 6.2, 1.9, 10, SIZING, commits=2, notifies=1, deliveries=2),
    "sign in": Request(0.5, 36.5, 0.79, 6, SIZING, commits=1, token=False),
    "refresh a session": Request(4.5, 3.0, 0.6, 4, ASSUMED, commits=1, token=False),
    "others": Request(5, 1.5, 0.5, 1, ASSUMED, replica=True),
}
"""Each with its share in a school day. Update the milliseconds from what `lms bench sizes` prints."""


@dataclass(frozen=True)
class Figure:
    """A number of the system that belongs to no sort of request."""

    value: float
    unit: str
    source: str


FIGURES: dict[str, Figure] = {
    "Redis, for a request's rate limit": Figure(0.015, "ms of CPU", ASSUMED),
    "PgBouncer, for a statement": Figure(0.02, "ms of CPU", ASSUMED),
    "network, for a statement": Figure(0.3, "ms", "assumed: two machines in one data centre"),
    "flush of the write-ahead log": Figure(
        1.0, "ms", "assumed: a good disk of a cloud; docs/scaling.md says how to measure yours"
    ),
    "log of a commit": Figure(4.0, "KiB", "assumed: row, event, audit entry, and their indexes"),
    "log that the disk takes": Figure(100.0, "MiB/s", ASSUMED),
    "a commit that wakes, before and after its flush": Figure(0.15, "ms", "benchmarks/notify.py"),
    "the wake-up of one listener": Figure(0.016, "ms of PostgreSQL's CPU", "benchmarks/notify.py"),
    "a caller whom the process does not know, in the API": Figure(1.75, "ms of CPU", SIZING),
    "a caller whom the process does not know, in PostgreSQL": Figure(0.75, "ms of CPU", SIZING),
    "statements for such a caller": Figure(3, "", "docs/statements.md"),
    "callers that a process remembers": Figure(20_000, "", "lms_core/access_cache.py"),
    "life of a token": Figure(600, "s", "auth.access_token_minutes"),
    "one person asks every": Figure(30, "s", "assumed, as in docs/operations.md"),
    "a delivery, in a worker": Figure(26.0, "ms of CPU", "lms bench worker, a delete's cascade"),
    "a delivery, in PostgreSQL": Figure(3.0, "ms of CPU", ASSUMED),
    "a delivery, in the relay": Figure(0.5, "ms of CPU", ASSUMED),
    "part of a write's time in the API within its transaction": Figure(0.7, "", ASSUMED),
}
FLUSH = "flush of the write-ahead log"
NOT_KNOWN = "a caller whom the process does not know, in "
WRITE_POOL, READ_POOLS, WATCH = 10, 20, 1
"""Connections of an API process: LMS_DATABASE_POOL, twice LMS_READ_POOL, and the one that listens."""
WORKER_CONNECTIONS, FEW_OTHERS = 3, 12
"""A worker's child at work; the relay, the scheduler, an administrator, and what PostgreSQL keeps for itself."""
PER_CORE = 4
"""Connections that PgBouncer opens for each core of PostgreSQL."""
PROCESSES, CORES, REPLICAS = (1, 2, 4, 8, 16, 32, 64), (4, 8, 16, 32), (0, 1, 2, 4)
USUAL_LOAD, SIZED_LOAD = 0.7, 0.6


def figure(name: str) -> float:
    """The value of a figure."""
    return FIGURES[name].value


@dataclass(frozen=True)
class System:
    """What is there of each thing."""

    processes: int
    cores: int
    replicas: int = 0
    workers: int = 4
    pooler: bool = False
    same_process: bool = False
    """Whether the proxy sends a token to the same process each time; else to any."""

    @property
    def children(self) -> int:
        """Deliveries that are at work at once: LMS_WORKER_PROCESSES is 2."""
        return self.workers * 2


@dataclass(frozen=True)
class Station:
    """`copies` times so many servers; a request goes to any copy. What waits for nobody adds no time to a request."""

    name: str
    servers: int
    copies: int = 1
    asked_for: bool = True


def stations_of(system: System) -> dict[str, Station]:
    """All that may saturate, by name."""
    found = [
        Station("API", 1, system.processes),
        Station("PostgreSQL", system.cores),
        Station("replicas", system.cores, system.replicas),
        Station("NOTIFY lock", 1),
        Station("log", 1),
        Station("PgBouncer", 1, int(system.pooler)),
        Station("Redis", 1),
        Station("workers", system.children, asked_for=False),
        Station("relay", 1, asked_for=False),
    ]
    return {station.name: station for station in found if station.copies}


def not_known(system: System, rate: float) -> float:
    """The part of the requests with a token (so many a second) whose process has to ask who that is."""
    interval, callers = figure("one person asks every"), rate * figure("one person asks every")
    spread = 1 if system.same_process else system.processes
    # Requests that one token makes to one process: the first of them is from a stranger.
    of_token = figure("life of a token") / interval / spread
    first = (1 - math.exp(-of_token)) / of_token
    # The process forgets the oldest when it knows too many.
    seen = callers / system.processes * spread
    return max(first, 1 - figure("callers that a process remembers") / seen)


def work_of(request: Request, system: System, strange: float) -> dict[str, float]:
    """Milliseconds that a request asks of each station, when this part of all callers is not known."""
    strange = strange if request.token else 0
    elsewhere = request.replica and system.replicas > 0
    listeners = system.processes + 1
    background = request.deliveries * figure("a delivery, in PostgreSQL") + request.notifies * listeners * figure(
        "the wake-up of one listener"
    )
    asking = strange * figure("statements for such a caller")
    through = (0 if elsewhere else request.statements) + asking
    commits = request.commits + 3 * request.deliveries
    return {
        "API": request.api + strange * figure(NOT_KNOWN + "the API"),
        # Who somebody is, and what they may do, is never asked of a replica.
        "PostgreSQL": (0 if elsewhere else request.database) + strange * figure(NOT_KNOWN + "PostgreSQL") + background,
        "replicas": request.database if elsewhere else 0,
        # A commit that wakes others holds one lock of the whole server until its log is on the disk.
        "NOTIFY lock": request.notifies * (figure(FLUSH) + figure("a commit that wakes, before and after its flush")),
        "log": commits * figure("log of a commit") / 1024 / figure("log that the disk takes") * 1000,
        "PgBouncer": through * figure("PgBouncer, for a statement"),
        "Redis": figure("Redis, for a request's rate limit"),
        "workers": request.deliveries * figure("a delivery, in a worker"),
        "relay": request.deliveries * figure("a delivery, in the relay"),
    }


def away_of(request: Request) -> float:
    """Milliseconds of a request for which nobody queues: the network, and the flush, which commits share."""
    alone = max(0, request.commits - request.notifies)
    return request.statements * figure("network, for a statement") + alone * figure(FLUSH)


def all_at_work(servers: int, load: float) -> float:
    """The chance that all servers of a station are at work (Erlang C)."""
    offered, term, total = servers * load, 1.0, 0.0
    for number in range(servers):
        total += term
        term *= offered / (number + 1)
    waiting = term / (1 - load)
    return waiting / (total + waiting)


def slower(station: Station, load: float) -> float:
    """How many times longer than its work something stays in a station with this load."""
    return math.inf if load >= 1 else 1 + all_at_work(station.servers, load) / (station.servers * (1 - load))


@dataclass
class Outcome:
    """A system under so many requests a second."""

    system: System
    rates: Mapping[str, float]
    requests: Mapping[str, Request]
    loads: dict[str, float] = field(default_factory=dict)
    strange: float = 0.0
    """The part of the callers whom the process does not know."""

    def __post_init__(self) -> None:
        self.strange = not_known(
            self.system, sum(rate for name, rate in self.rates.items() if self.requests[name].token)
        )
        for station in stations_of(self.system).values():
            asked = sum(rate * self.work(name)[station.name] for name, rate in self.rates.items())
            self.loads[station.name] = asked / 1000 / (station.servers * station.copies)

    @property
    def total(self) -> float:
        """Requests a second."""
        return sum(self.rates.values())

    @property
    def first(self) -> str:
        """The station that saturates first."""
        return max(self.loads, key=lambda name: self.loads[name])

    @property
    def busiest(self) -> float:
        """Its load."""
        return self.loads[self.first]

    def work(self, name: str) -> dict[str, float]:
        """What a request of this sort asks of each station."""
        return work_of(self.requests[name], self.system, self.strange)

    def at(self, load: float) -> Outcome:
        """The same mix, so that the first station has this load."""
        # More people make more strangers, so that nothing grows in proportion; but nothing shrinks either.
        low, high = 0.0, 1.0
        while self.times(high).busiest < load:
            low, high = high, high * 2
        for _ in range(40):
            middle = (low + high) / 2
            low, high = (middle, high) if self.times(middle).busiest < load else (low, middle)
        return self.times(low)

    def times(self, factor: float) -> Outcome:
        """The same mix, so many times as often."""
        return Outcome(self.system, {name: rate * factor for name, rate in self.rates.items()}, self.requests)

    def time_in(self, name: str, stations: tuple[str, ...] | None = None) -> float:
        """Milliseconds that a request of this sort spends in some stations; in all, and between them, when none are named."""
        work, total = self.work(name), 0.0
        for station in stations_of(self.system).values():
            if station.asked_for and (stations is None or station.name in stations):
                total += work[station.name] * slower(station, self.loads[station.name])
        return total + (away_of(self.requests[name]) if stations is None else 0)

    @property
    def mean_time(self) -> float:
        """Milliseconds of a request, on average."""
        return sum(rate * self.time_in(name) for name, rate in self.rates.items()) / self.total

    @property
    def connections_in_use(self) -> tuple[float, float]:
        """To the first server, for writes (held for a transaction) and for reads (held for a statement)."""
        writes = reads = 0.0
        for name, rate in self.rates.items():
            request = self.requests[name]
            held = self.time_in(name, ("PostgreSQL", "NOTIFY lock", "log", "PgBouncer")) + away_of(request)
            if request.commits:
                part = figure("part of a write's time in the API within its transaction")
                writes += rate / 1000 * (held + part * self.time_in(name, ("API",)))
            elif not (request.replica and self.system.replicas):
                reads += rate / 1000 * held
        return writes, reads


def school_day(system: System, requests: Mapping[str, Request] = REQUESTS) -> Outcome:
    """One hundred requests a second of the mix of a school day."""
    return Outcome(system, {name: request.share for name, request in requests.items()}, requests)


# The check: single requests, one after the other through the stations.


class Shared:
    """A station in the simulation. Whoever is in it gets the same part of its servers."""

    def __init__(self, servers: int) -> None:
        self.servers, self.given, self.at = servers, 0.0, 0.0
        self.inside: list[tuple[float, int]] = []
        self.turn = 0
        """Whoever comes or goes changes when the next one is done."""

    def advance(self, now: float) -> None:
        """What everybody was given until now."""
        if self.inside:
            self.given += (now - self.at) * min(1.0, self.servers / len(self.inside))
        self.at = now

    def next_end(self) -> float:
        """When the first of those inside is done."""
        return self.at + (self.inside[0][0] - self.given) / min(1.0, self.servers / len(self.inside))


def simulated(outcome: Outcome, requests: int, seed: int = 1) -> list[float]:
    """How many milliseconds each of so many requests took, the first fifth left out."""
    chance, number = random.Random(seed), count()
    stations = {name: one for name, one in stations_of(outcome.system).items() if one.asked_for}
    shared = {(name, copy): Shared(one.servers) for name, one in stations.items() for copy in range(one.copies)}
    names, weights = list(outcome.rates), list(outcome.rates.values())
    begun: dict[int, float] = {}
    routes: dict[int, Iterator[tuple[tuple[str, int] | None, float]]] = {}
    events: list[tuple[float, int, str, tuple[str, int] | int]] = []
    took: list[float] = []

    def route(name: str) -> Iterator[tuple[tuple[str, int] | None, float]]:
        """Half of the API's work, then all else, then the other half in the same process."""
        copies = {one: chance.randrange(station.copies) for one, station in stations.items()}
        work = outcome.work(name)
        yield ("API", copies["API"]), work["API"] / 2
        for one in stations:
            if one != "API" and work[one] > 0:
                yield (one, copies[one]), work[one]
        yield None, away_of(outcome.requests[name])
        yield ("API", copies["API"]), work["API"] / 2

    def expect(key: tuple[str, int], now: float) -> None:
        station = shared[key]
        station.turn = next(number)
        if station.inside:
            heapq.heappush(events, (max(now, station.next_end()), station.turn, "end", key))

    def go_on(one: int, now: float) -> None:
        step = next(routes[one], None)
        if step is None:
            took.append(now - begun.pop(one))
            del routes[one]
        elif step[0] is None:
            heapq.heappush(events, (now + step[1], next(number), "away", one))
        else:
            station = shared[step[0]]
            station.advance(now)
            heapq.heappush(station.inside, (station.given + step[1], one))
            expect(step[0], now)

    heapq.heappush(events, (0.0, next(number), "arrive", 0))
    arrived = 0
    while len(took) < requests:
        now, turn, what, which = heapq.heappop(events)
        if what == "arrive":
            arrived += 1
            begun[arrived], routes[arrived] = now, route(chance.choices(names, weights)[0])
            heapq.heappush(events, (now + chance.expovariate(outcome.total / 1000), next(number), "arrive", 0))
            go_on(arrived, now)
        elif isinstance(which, int):
            go_on(which, now)
        elif shared[which].turn == turn:
            shared[which].advance(now)
            _, done = heapq.heappop(shared[which].inside)
            expect(which, now)
            go_on(done, now)
    return took[len(took) // 5 :]


# The tables.


TABLES: dict[str, str] = {}
"""What was made so far, by title."""


def table(title: str, head: list[str], rows: list[list[str]]) -> None:
    """One table as Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    TABLES[title] = "".join(f"| {' | '.join(line)} |\n" for line in lines)


def write_into(document: Path) -> None:
    """Put each table right below the heading with its title, in the place of the one that was there."""
    text = document.read_text()
    for title, made in TABLES.items():
        heading = f"### {title}\n\n"
        if heading not in text:
            raise SystemExit(f"{document} has no heading: {title}")
        before, after = text.split(heading)
        text = before + heading + made + re.sub(r"\A(\|[^\n]*\n)*", "", after)
    document.write_text(text)


def rounded(value: float) -> str:
    """Two digits that mean something."""
    if value < 10:
        return f"{value:.1f}"
    digits = len(str(int(value))) - 2
    return f"{round(value, -digits):,.0f}"


def percent(value: float) -> str:
    """A load."""
    return f"{value * 100:.0f} %" if value >= 0.005 else "0"


def print_inputs() -> None:
    """What goes in."""
    table(
        "What a request costs",
        ["request", "of a day", "API ms", "PostgreSQL ms", "statements", "replica", "NOTIFY", "deliveries", "from"],
        [
            [
                name,
                f"{one.share:g} %",
                f"{one.api:g}",
                f"{one.database:g}",
                str(one.statements),
                "yes" if one.replica else "",
                str(one.notifies or ""),
                str(one.deliveries or ""),
                one.source,
            ]
            for name, one in REQUESTS.items()
        ],
    )
    table(
        "What else goes in",
        ["figure", "value", "from"],
        [[name, f"{one.value:g} {one.unit}".strip(), one.source] for name, one in FIGURES.items()],
    )


def print_growth(title: str, requests: Mapping[str, Request], same_process: bool) -> None:
    """How far more processes go, without a replica and with some."""
    shapes = [(cores, 0) for cores in CORES] + [(16, replicas) for replicas in REPLICAS if replicas]
    head = [
        "API processes",
        *(f"{cores} cores" + (f", {n} replicas" if n > 1 else ", 1 replica" if n else "") for cores, n in shapes),
    ]
    rows = []
    for processes in PROCESSES:
        cells = [str(processes)]
        for cores, replicas in shapes:
            system = System(processes, cores, replicas, same_process=same_process)
            outcome = school_day(system, requests).at(1.0)
            cells.append(f"{rounded(outcome.total)}/s {outcome.first}")
        rows.append(cells)
    table(title, head, rows)


def print_strangers() -> None:
    """How many callers a process has to ask about."""
    rows = []
    for processes in PROCESSES:
        any_process, same = (
            school_day(System(processes, 32, 2, same_process=same)).at(USUAL_LOAD) for same in (False, True)
        )
        rows.append(
            [
                str(processes),
                f"{rounded(any_process.total)}/s",
                percent(any_process.strange),
                f"{rounded(same.total)}/s",
                percent(same.strange),
            ]
        )
    table(
        "Requests from callers whom the process does not know (PostgreSQL with 32 cores, 2 replicas, 70 % load)",
        ["API processes", "any process: requests", "not known", "the same process: requests", "not known"],
        rows,
    )


def print_loads(system: System) -> None:
    """How busy everything is when the first thing is full, and how long requests take before that."""
    names = list(stations_of(system))
    rows = []
    for processes in PROCESSES:
        outcome = school_day(replace(system, processes=processes))
        full, usual = outcome.at(1.0), outcome.at(USUAL_LOAD)
        rows.append(
            [str(processes), f"{rounded(full.total)}/s", full.first]
            + [percent(full.loads[name]) for name in names]
            + [f"{usual.mean_time:.1f} ms", f"{usual.time_in('read a course'):.1f} ms"]
        )
    beside = f"{system.replicas} replicas of the same size" if system.replicas else "no replica"
    table(
        f"How busy everything is when the first thing is full: PostgreSQL with {system.cores} cores, {beside}",
        ["API processes", "requests", "full first", *names, "a request at 70 % of that", "a course at 70 %"],
        rows,
    )


def print_connections() -> None:
    """What is opened, and what is used."""
    rows = []
    for processes in PROCESSES:
        system = System(processes, 16)
        busy = school_day(system).at(USUAL_LOAD)
        writes, reads = busy.connections_in_use
        opened = processes * (WRITE_POOL + READ_POOLS + WATCH) + system.children * WORKER_CONNECTIONS + FEW_OTHERS
        pooled = PER_CORE * system.cores + processes * WATCH + FEW_OTHERS
        clients = processes * (WRITE_POOL + READ_POOLS) + system.children * WORKER_CONNECTIONS
        pooler = school_day(replace(system, pooler=True)).at(USUAL_LOAD).loads["PgBouncer"]
        in_use = f"{writes:.0f} + {reads:.0f}"
        rows.append([str(processes), str(opened), in_use, str(clients), str(pooled), percent(pooler)])
    table(
        "Connections (PostgreSQL with 16 cores, no replica)",
        [
            "API processes",
            "opened at most, without PgBouncer",
            "at work at 70 %: writes + reads",
            "clients of PgBouncer",
            "PostgreSQL's connections with PgBouncer",
            "its core at 70 %",
        ],
        rows,
    )
    most = [
        [str(limit), str(max(0, (limit - 8 * WORKER_CONNECTIONS - FEW_OTHERS) // (WRITE_POOL + READ_POOLS + WATCH)))]
        for limit in (100, 200, 400, 800)
    ]
    table("How many API processes fit without PgBouncer", ["max_connections", "API processes"], most)


def print_notify() -> None:
    """The one lock that every commit with a delivery takes."""
    share = sum(one.share * one.notifies for one in REQUESTS.values()) / 100
    rows = []
    for flush in (0.1, 0.5, 1.0, 2.0, 5.0):
        most = 1000 / (flush + figure("a commit that wakes, before and after its flush"))
        rows.append([f"{flush:g} ms", f"{rounded(most)}/s", f"{rounded(most / share)}/s"])
    table(
        "Commits that wake somebody go one by one",
        [
            "until a commit is on the disk, and on a synchronous replica",
            "such commits",
            f"requests of the day, {share * 100:g} % of them such",
        ],
        rows,
    )


# The district of docs/operations.md.

READS = 6_700.0
DISTRICT: dict[str, float] = {
    "sign in": 177,
    "read a course": READS * 0.4,
    "list 50 courses": READS * 0.2,
    "list a course's 20 materials": READS * 0.2,
    "read a page of 2 KiB": READS * 0.15,
    "search a course": READS * 0.05,
    "hand in an essay": 17,
    "ask for an upload": 1,
    # 60,000 teachers who change a material each hour, and the same again of what is small.
    "change a material": 17,
    "change something small": 17,
    # 200,000 at work, each of whom gets a new token every 10 minutes.
    "refresh a session": 333,
}
"""Requests a second of each sort at the busiest time of a million students."""


def print_district() -> None:
    """What a million students need at their busiest."""
    needs: list[dict[str, float]] = []
    for same_process in (False, True):
        # Of one core each, so that a load is a number of cores; strangers depend on the processes alone.
        outcome = Outcome(System(32, 1, 1, 1, True, same_process), DISTRICT, REQUESTS)
        stations = stations_of(outcome.system)
        needs.append(
            {name: load * stations[name].servers * stations[name].copies for name, load in outcome.loads.items()}
        )
        needs[-1]["all"] = needs[-1]["PostgreSQL"] + needs[-1]["replicas"]
        needs[-1]["strange"] = outcome.strange
    what = {
        "API": "API processes, a core each",
        "all": "one PostgreSQL for all, cores",
        "PostgreSQL": "the first PostgreSQL beside replicas, cores",
        "replicas": "replicas, cores of all together",
        "PgBouncer": "PgBouncer, cores",
        "workers": "processes of workers, of which each worker has two",
        "relay": "relay, cores",
        "Redis": "Redis, cores",
    }
    asked = f"{sum(DISTRICT.values()):,.0f}/s"
    rows = [
        ["requests", asked, "", asked, ""],
        ["callers not known", *(cell for need in needs for cell in (percent(need["strange"]), ""))],
    ]
    for name, title in what.items():
        rows.append(
            [
                title,
                *(cell for need in needs for cell in (f"{need[name]:.1f}", str(math.ceil(need[name] / SIZED_LOAD)))),
            ]
        )
    rows.append(
        ["the lock of commits that wake", *(cell for need in needs for cell in (percent(need["NOTIFY lock"]), ""))]
    )
    table(
        "A million students at their busiest",
        ["", "any process: at work", "to have, at 60 % load", "the same process: at work", "to have, at 60 % load"],
        rows,
    )
    rows = []
    for system in (
        System(32, 32),
        System(48, 64),
        System(48, 16, 2, pooler=True),
        System(32, 16, 1, pooler=True, same_process=True),
        System(32, 16, 2, pooler=True, same_process=True),
        System(32, 8, 4, pooler=True, same_process=True),
    ):
        outcome = Outcome(system, DISTRICT, REQUESTS)
        late = outcome.loads[outcome.first] >= 1
        process = "the same process" if system.same_process else "any process"
        writes, reads = outcome.connections_in_use
        rows.append(
            [
                f"{system.processes} API processes, {process}, PostgreSQL {system.cores} cores, {system.replicas} replicas",
                f"{outcome.first}, {percent(outcome.loads[outcome.first])}",
                percent(outcome.loads["PostgreSQL"]),
                *(
                    ("too much",) * 3
                    if late
                    else (
                        f"{outcome.mean_time:.1f} ms",
                        f"{part_within(simulated(outcome, 50_000), 0.95):.0f} ms",
                        f"{writes:.0f} + {reads:.0f}",
                    )
                ),
            ]
        )
    head = ["system", "busiest", "first PostgreSQL", "a request", "19 of 20 within", "connections at work there"]
    table("The million in a few systems", head, rows)


STUDENTS, TEACHERS, SCHOOL_DAYS, KEPT_SCHOOL_DAYS = 1_000_000, 60_000, 180, 22
SUBMISSIONS = 200 * STUDENTS
"""In a year; one for each student and school day, and a few more."""
CHANGES = 1_000 * TEACHERS
"""What teachers make and change in a year."""
UPLOADS = SUBMISSIONS // 20


@dataclass(frozen=True)
class Grows:
    """A table that grows with what people do."""

    rows: float
    """In a year."""
    kilobytes: float
    """Of a row with its indexes."""
    how: str
    kept: str = "for ever"
    there: float = 1.0
    """The part of a year's rows that is there at once."""


KEPT = KEPT_SCHOOL_DAYS / SCHOOL_DAYS
GROWING: dict[str, Grows] = {
    "core_audit_entry": Grows(
        1.5 * SUBMISSIONS + 10 * STUDENTS + CHANGES, 0.6, "1.5 for each submission, 10 for each student, each change"
    ),
    "materials_submission": Grows(SUBMISSIONS, 2.0, "200 for each student, with 1.5 kB of text"),
    "core_event": Grows(SUBMISSIONS + 10 * STUDENTS + CHANGES + UPLOADS, 0.4, "one for each write", "30 days", KEPT),
    "core_delivery": Grows(CHANGES + 2 * UPLOADS, 0.4, "changes of materials; two for each upload", "30 days", KEPT),
    "enrollments_enrollment": Grows(8 * STUDENTS, 0.3, "8 courses for each student"),
    "enrollments_period": Grows(8 * STUDENTS, 0.4, "the same"),
}
"""Bytes of a row from `lms bench sizes`, but for submissions, which are as long as people write; rows assumed."""


def print_growing() -> None:
    """Which tables become large."""
    rows = [
        [
            f"`{name}`",
            f"{one.rows / 1e6:,.0f} million",
            one.how,
            f"{one.kilobytes:g} kB",
            one.kept,
            f"{one.rows * one.there / 1e6:,.0f} million, {one.rows * one.there * one.kilobytes / 1e6:,.0f} GB",
        ]
        for name, one in GROWING.items()
    ]
    table(
        "Rows of a million students",
        ["table", "rows a year", "where they come from", "a row", "kept", "there after a year"],
        rows,
    )


def part_within(took: list[float], part: float) -> float:
    """How many milliseconds that part of the requests took at most."""
    return sorted(took)[int(len(took) * part)]


def print_check() -> None:
    """The formula beside the simulation."""
    rows = []
    for system, load, requests in (
        (System(1, 4), 0.7, 20_000),
        (System(4, 4), 0.7, 50_000),
        (System(16, 16), 0.7, 150_000),
        (System(16, 8, 2), 0.9, 250_000),
    ):
        outcome = school_day(system).at(load)
        took = simulated(outcome, requests)
        rows.append(
            [
                f"{system.processes} API processes, {system.cores} cores, {system.replicas} replicas, {percent(load)}",
                f"{outcome.mean_time:.1f} ms",
                f"{sum(took) / len(took):.1f} ms",
                f"{part_within(took, 0.5):.1f} ms",
                f"{part_within(took, 0.95):.0f} ms",
            ]
        )
    table(
        "The formula and the simulation",
        ["system", "formula, mean", "simulated mean", "half within", "19 of 20 within"],
        rows,
    )


def main() -> None:
    """All tables."""
    print_inputs()
    print_growth("Requests a second at most, and what is full then: any process for any caller", REQUESTS, False)
    print_growth("The same, when the proxy sends a token to the same process each time", REQUESTS, True)
    without = {**REQUESTS, "hand in an essay": replace(REQUESTS["hand in an essay"], share=0)}
    print_growth("The same again, while nobody hands in", without, True)
    print_strangers()
    print_loads(System(1, 16, same_process=True))
    print_loads(System(1, 16, 2, same_process=True))
    print_connections()
    print_notify()
    print_district()
    print_growing()
    print_check()
    if sys.argv[1:2] == ["--write"]:
        write_into(Path(sys.argv[2]))
    else:
        print("\n".join(f"### {title}\n\n{made}" for title, made in TABLES.items()))


if __name__ == "__main__":
    main()
