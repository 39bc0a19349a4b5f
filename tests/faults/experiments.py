"""The experiments: each breaks something while clients write, mends it, and leaves the reckoning to the laboratory."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Awaitable, Callable
from uuid import uuid4

import asyncpg
import psutil
from laboratory import Laboratory

from lms_core.config import Settings
from lms_core.worker import CelerySender

Experiment = Callable[[Laboratory], Awaitable[None]]
EXPERIMENTS: dict[str, Experiment] = {}


def experiment(name: str) -> Callable[[Experiment], Experiment]:
    """Name one."""

    def known(function: Experiment) -> Experiment:
        EXPERIMENTS[name] = function
        return function

    return known


async def moment(lab: Laboratory) -> None:
    """Some time later, as the seed says."""
    await asyncio.sleep(0.2 + lab.random.random())


def killing(name: str) -> Experiment:
    """`kill -9`; `up` starts it anew."""

    async def run(lab: Laboratory) -> None:
        await moment(lab)
        lab.kill(name)

    return run


for victim in ("worker", "relay", "scheduler", "api"):
    EXPERIMENTS[f"{victim} killed"] = killing(victim)


@experiment("a child of the worker killed")
async def kill_children(lab: Laboratory) -> None:
    for _ in range(4):
        await moment(lab)
        children = lab.family("worker")[1:]
        if children:
            with_luck = lab.random.choice(children)
            try:
                with_luck.kill()
            except psutil.NoSuchProcess:
                continue


@experiment("the supervisor killed")
async def kill_supervisor(lab: Laboratory) -> None:
    await moment(lab)
    process = lab.running.process
    assert process is not None
    process.kill()
    process.wait()
    await asyncio.to_thread(lab.running.start)


@experiment("the API killed before a commit")
async def kill_before_commit(lab: Laboratory) -> None:
    """Writes wait for a row that somebody holds; what they were about to do never was."""
    connection = await asyncpg.connect(lab.engines.engines["postgres"].environment()["LMS_DATABASE_URL"])
    try:
        async with connection.transaction():
            await connection.execute("SELECT 1 FROM courses_course WHERE id = $1::uuid FOR UPDATE", lab.course)
            await asyncio.sleep(1)
            lab.kill("api")
    finally:
        await connection.close()


@experiment("the API killed after a commit")
async def kill_after_commit(lab: Laboratory) -> None:
    """As soon as the database has a page that nobody was told of."""
    for _ in range(3):
        before = (await lab.sql("SELECT count(*) FROM materials_material"))[0][0]
        while (await lab.sql("SELECT count(*) FROM materials_material"))[0][0] == before:
            await asyncio.sleep(0.005)
        lab.kill("api")
        await asyncio.sleep(2)


@experiment("Redis killed with all that it knew")
async def lose_redis(lab: Laboratory) -> None:
    await moment(lab)
    lab.kill_redis_with_its_memory()
    await moment(lab)
    lab.start_engine("redis")


@experiment("Redis frozen")
async def freeze_redis(lab: Laboratory) -> None:
    await moment(lab)
    lab.freeze("redis")
    await asyncio.sleep(8)
    lab.thaw("redis")


@experiment("Redis full")
async def fill_redis(lab: Laboratory) -> None:
    await moment(lab)
    redis_cli(lab, "CONFIG", "SET", "maxmemory", "1")
    await asyncio.sleep(6)
    redis_cli(lab, "CONFIG", "SET", "maxmemory", "0")


def redis_cli(lab: Laboratory, *words: str) -> None:
    """One command, past the proxy."""
    password = lab.engines.folder.secret("redis_password")
    with socket.create_connection(("127.0.0.1", lab.engines.port("redis")), 5) as connection:
        for command in (("AUTH", password), words):
            parts = [f"*{len(command)}\r\n", *(f"${len(word)}\r\n{word}\r\n" for word in command)]
            connection.sendall("".join(parts).encode())
            assert connection.recv(1024).startswith(b"+OK")


@experiment("Redis refused while everything starts")
async def start_without_redis(lab: Laboratory) -> None:
    await moment(lab)
    lab.proxies.become("redis", "refuses")
    for name in ("worker", "relay", "api"):
        lab.kill(name)
    await asyncio.sleep(8)
    lab.proxies.become("redis", None)


def disturbing(engine: str, fault: str, seconds: float) -> Experiment:
    """The network to an engine does something for a while."""

    async def run(lab: Laboratory) -> None:
        await moment(lab)
        lab.proxies.become(engine, fault)  # type: ignore[arg-type]
        await asyncio.sleep(seconds)
        lab.proxies.become(engine, None)

    return run


for engine, title in (("postgres", "PostgreSQL"), ("redis", "Redis"), ("s3", "the store")):
    EXPERIMENTS[f"{title} refused"] = disturbing(engine, "refuses", 5)
    EXPERIMENTS[f"{title} swallows all"] = disturbing(engine, "swallows", 8)
    EXPERIMENTS[f"{title} slow"] = disturbing(engine, "is slow", 6)
    EXPERIMENTS[f"{title} cut in the middle"] = disturbing(engine, "breaks off", 4)
EXPERIMENTS["the store full"] = disturbing("s3", "is full", 5)


@experiment("PostgreSQL restarted fast")
async def restart_postgres(lab: Laboratory) -> None:
    await moment(lab)
    lab.kill("postgres", signal.SIGINT)
    await asyncio.sleep(0.5)
    lab.start_engine("postgres")


@experiment("PostgreSQL stopped immediately")
async def stop_postgres(lab: Laboratory) -> None:
    for number in (signal.SIGQUIT, signal.SIGKILL):
        await moment(lab)
        lab.kill("postgres", number)
        await asyncio.sleep(0.5)
        lab.start_engine("postgres")


@experiment("PostgreSQL frozen for 20 s")
async def freeze_postgres(lab: Laboratory) -> None:
    await moment(lab)
    lab.freeze("postgres")
    await asyncio.sleep(20)
    lab.thaw("postgres")


@experiment("PostgreSQL out of connections")
async def take_all_connections(lab: Laboratory) -> None:
    """Somebody else takes all that are left, and ours are cut, so that they have to be made anew."""
    await moment(lab)
    url = lab.engines.engines["postgres"].environment()["LMS_DATABASE_URL"]
    taken: list[asyncpg.Connection] = []
    lab.proxies.become("postgres", "refuses")
    try:
        while len(taken) < 250:
            taken.append(await asyncpg.connect(url, timeout=5))
    except asyncpg.PostgresError:
        pass
    lab.proxies.become("postgres", None)
    await asyncio.sleep(6)
    for connection in taken:
        await connection.close()


@experiment("PostgreSQL's disk full")
async def fill_disk(lab: Laboratory) -> None:
    """Tables and the log cannot grow: it gives up, and cannot even recover, until there is room again."""
    await moment(lab)
    lab.limit_files("postgres", 64 * 1024)
    await asyncio.sleep(8)
    if lab.engines.children["postgres"].exit_code() is None:
        lab.limit_files("postgres", psutil.RLIM_INFINITY)
        await asyncio.sleep(2)
    if lab.engines.children["postgres"].exit_code() is not None:
        lab.start_engine("postgres")


@experiment("the store loses what was uploaded")
async def lose_objects(lab: Laboratory) -> None:
    """Before it could be verified: such a file is told to be missing, never ready."""
    await moment(lab)
    lab.freeze("worker")
    await asyncio.sleep(2)
    waiting = [row[0] for row in await lab.sql("SELECT id::text FROM files_file WHERE state = 'uploaded' LIMIT 2")]
    from aioboto3 import Session

    environment = lab.engines.engines["s3"].environment()
    async with Session().client(
        "s3",
        endpoint_url=environment["LMS_S3_ENDPOINT"],
        aws_access_key_id=environment["LMS_S3_ACCESS_KEY"],
        aws_secret_access_key=environment["LMS_S3_SECRET_KEY"],
        region_name="us-east-1",
    ) as store:
        buckets = [bucket["Name"] for bucket in (await store.list_buckets())["Buckets"]]
        for id in waiting:
            for bucket in buckets:
                await store.delete_object(Bucket=bucket, Key=f"incoming/{id}")
    lab.thaw("worker")
    for id in waiting:
        lab.ledger.files.pop(id, None)
        lab.ledger.gone.add(id)


@experiment("deliveries twice and in any order")
async def repeat_deliveries(lab: Laboratory) -> None:
    environment = lab.running.environment
    settings = Settings(redis_url=environment["LMS_REDIS_URL"], database_url=environment["LMS_DATABASE_URL"])
    send = CelerySender(settings)
    for _ in range(6):
        await asyncio.sleep(0.5)
        ids = [row[0] for row in await lab.sql("SELECT id FROM core_delivery ORDER BY id DESC LIMIT 60")] * 2
        lab.random.shuffle(ids)
        await asyncio.to_thread(send, ids)


@experiment("a worker meets an event that is newer than it")
async def newer_events(lab: Laboratory) -> None:
    """It waits for a worker that knows the new form, and holds nothing up."""
    event, delivery = uuid4(), uuid4()
    await lab.sql(
        'INSERT INTO core_event (id, name, payload) VALUES ($1, \'poison.taken.v1\', \'{"how": "fails", "more": 1}\')',
        event,
    )
    await lab.sql("INSERT INTO core_delivery (id, event_id, handler) VALUES ($1, $2, 'poison.take')", delivery, event)
    tried = "SELECT last_error IS NOT NULL FROM core_delivery WHERE id = $1"
    await lab.running.until("a worker has met the event", tried, delivery)
    [row] = await lab.sql("SELECT attempts, dead_at, last_error FROM core_delivery WHERE id = $1", delivery)
    assert (row["attempts"], row["dead_at"]) == (0, None)
    assert "does not know this form" in row["last_error"]
    await lab.sql("UPDATE core_delivery SET done_at = now() WHERE id = $1", delivery)


def poisoning(how: str, number: int) -> Experiment:
    """Some deliveries break whoever handles them; all of them are given up, and everything else goes on."""

    async def run(lab: Laboratory) -> None:
        ids = [uuid4() for _ in range(number)]
        for id in ids:
            await lab.sql(
                "WITH event AS (INSERT INTO core_event (id, name, payload) "
                "VALUES (gen_random_uuid(), 'poison.taken.v1', jsonb_build_object('how', $2::text)) RETURNING id) "
                "INSERT INTO core_delivery (id, event_id, handler) SELECT $1, id, 'poison.take' FROM event",
                id,
                how,
            )
        for _ in range(1200):
            await asyncio.sleep(0.5)
            # Waiting between attempts is tested elsewhere, and takes minutes. Two seconds are the least that there is.
            await lab.sql(
                "UPDATE core_delivery SET next_attempt_at = now() + interval '2 s' "
                "WHERE id = ANY($1) AND NOT in_flight AND dead_at IS NULL AND next_attempt_at > now() + interval '2 s'",
                ids,
            )
            dead = await lab.sql("SELECT count(*) FROM core_delivery WHERE id = ANY($1) AND dead_at IS NOT NULL", ids)
            if dead[0][0] == number:
                break
        else:
            raise AssertionError(f"seed {lab.seed}: the poison lives")
        await lab.sql("UPDATE core_delivery SET done_at = now() WHERE id = ANY($1)", ids)

    return run


for how, title, many in (
    ("fails", "fails", 5),
    ("dies", "kills its process", 5),
    ("eats", "eats memory", 5),
    # Each attempt takes a child of the worker for as long as a task may take.
    ("hangs", "hangs", 2),
):
    EXPERIMENTS[f"poison that {title}"] = poisoning(how, many)


def shifting_clock(name: str, seconds: float) -> Experiment:
    """One of our processes has another time than all others, for a while."""

    async def run(lab: Laboratory) -> None:
        await moment(lab)
        for shift in (seconds, 0):
            lab.set_clock(shift)
            lab.kill(name)
            await asyncio.sleep(10)
            assert lab.has_other_clock(name) is bool(shift)

    return run


for clock in ("worker", "relay", "scheduler", "api"):
    EXPERIMENTS[f"the clock of the {clock} 10 minutes ahead"] = shifting_clock(clock, 600)
    EXPERIMENTS[f"the clock of the {clock} 10 minutes behind"] = shifting_clock(clock, -600)


@experiment("2,000 clients hang up")
async def hang_up(lab: Laboratory) -> None:
    """In the middle of a request, or before its answer; no connection is left behind."""
    host, port = lab.running.url.removeprefix("http://").split(":")
    body = b'{"course_id": "%s", "kind": "page", "title": "%s"}'
    token = lab.headers["Authorization"]

    async def one(number: int) -> None:
        try:
            _, writer = await asyncio.open_connection(host, int(port))
        except OSError:
            return
        content = body % (lab.course.encode(), uuid4().hex.encode())
        request = (
            f"POST /materials HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(content)}\r\n\r\n"
        ).encode() + content
        writer.write(request[: len(request) if number % 2 else lab.random.randrange(len(request))])
        await asyncio.sleep(lab.random.random() * 0.05)
        writer.close()

    for start in range(0, 2000, 100):
        await asyncio.gather(*(one(number) for number in range(start, start + 100)))
    await asyncio.sleep(12)
    left = await lab.sql(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'lms' AND state <> 'idle' AND pid <> pg_backend_pid()"
        " AND state_change < now() - interval '5 s'"
    )
    assert left[0][0] == 0, f"seed {lab.seed}: connections are left behind"


@experiment("SIGTERM under load")
async def end_in_order(lab: Laboratory) -> None:
    """Whoever was connected gets an answer; the system starts again with everything."""
    await moment(lab)
    process = lab.running.process
    assert process is not None
    process.terminate()
    assert await asyncio.to_thread(process.wait, 60) == 0
    await asyncio.to_thread(lab.running.start)
