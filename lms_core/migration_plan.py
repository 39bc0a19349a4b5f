"""What an upgrade would run: each statement with the locks that it takes, how large those tables are, and who waits."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass

from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import Script
from sqlalchemy import Connection, text

from lms_core.migrate import Phase, phase_of, positions, with_connection
from lms_core.platform import Platform

STEPS = ("BEGIN", "COMMIT", "SET", "RESET")
NAME = r"(?:IF (?:NOT )?EXISTS )?(?:ONLY )?(?:\"?\w+\"?\.)?\"?(\w+)\"?"
WAITING = {
    "ROW EXCLUSIVE": "writers of the same rows wait until it is done",
    "SHARE UPDATE EXCLUSIVE": "nobody waits",
    "SHARE": "writers wait",
    "SHARE ROW EXCLUSIVE": "writers wait",
    "ACCESS EXCLUSIVE": "readers and writers wait",
}
"""Who waits for a table lock while it is held (PostgreSQL's documentation, "Explicit Locking"), the weakest first."""
LOCKS = [
    (rf"CREATE (?:UNIQUE )?INDEX CONCURRENTLY .*?\bON {NAME}", "SHARE UPDATE EXCLUSIVE"),
    (rf"CREATE (?:UNIQUE )?INDEX .*?\bON {NAME}", "SHARE"),
    (rf"CREATE (?:OR REPLACE )?(?:CONSTRAINT )?TRIGGER .*?\bON {NAME}", "SHARE ROW EXCLUSIVE"),
    (rf"DROP TRIGGER .*?\bON {NAME}", "ACCESS EXCLUSIVE"),
    (rf"ALTER TABLE {NAME} VALIDATE CONSTRAINT", "SHARE UPDATE EXCLUSIVE"),
    (rf"ALTER TABLE {NAME} ADD (?:CONSTRAINT \S+ )?FOREIGN KEY", "SHARE ROW EXCLUSIVE"),
    (rf"ALTER TABLE {NAME}", "ACCESS EXCLUSIVE"),
    (rf"(?:DROP TABLE|TRUNCATE(?: TABLE)?|LOCK(?: TABLE)?) {NAME}", "ACCESS EXCLUSIVE"),
    (rf"(?:UPDATE|INSERT INTO|DELETE FROM) {NAME}", "ROW EXCLUSIVE"),
]
"""What a statement begins with, and the lock that it takes on the table that it names; the first that fits counts."""
INDEX_OF = "SELECT indrelid::regclass::text FROM pg_index WHERE indexrelid = to_regclass(:name)"
HARMLESS = re.compile(
    "CREATE (TABLE|(OR REPLACE )?FUNCTION|EXTENSION|SEQUENCE|TYPE)|COMMENT|SELECT|DROP FUNCTION", re.IGNORECASE
)
"""What takes no lock on a table that is there, but for the tables that a new one refers to."""
DROPPED_INDEX = re.compile(rf"DROP INDEX (CONCURRENTLY )?{NAME}", re.IGNORECASE)
REFERENCES = re.compile(rf"\bREFERENCES {NAME}", re.IGNORECASE)
READS_ALL = re.compile(
    r"ALTER COLUMN \w+ (SET NOT NULL|TYPE)|GENERATED ALWAYS AS|ADD (CONSTRAINT \w+ )?(FOREIGN KEY|CHECK)(?!.*NOT VALID)",
    re.IGNORECASE | re.DOTALL,
)
"""What reads, or writes anew, every row of the table while it holds its lock."""
ROWS = "SELECT greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = to_regclass(:name)"


@dataclass(frozen=True)
class Lock:
    """A lock that a statement takes on a table."""

    table: str
    mode: str

    @property
    def waiting(self) -> str:
        """Who waits meanwhile."""
        return WAITING[self.mode]


@dataclass(frozen=True)
class Step:
    """One migration that an upgrade would run."""

    revision: str
    title: str
    phase: Phase
    statements: list[str]


def statements_of(script: Script) -> list[str]:
    """The SQL of one migration. It must not read the database: what to do is known before it runs."""
    written = io.StringIO()
    context = MigrationContext.configure(
        dialect_name="postgresql", opts={"as_sql": True, "output_buffer": written, "literal_binds": True}
    )
    with Operations.context(context):
        script.module.upgrade()
    found = (one.strip() for one in split_statements(written.getvalue()))
    return [one for one in found if one and one.split()[0].upper() not in STEPS]


def split_statements(sql: str) -> Iterator[str]:
    """A script's statements; a semicolon inside a function's body (between two `$$`) ends none."""
    begin, quoted = 0, False
    for found in re.finditer(r"\$\$|;\s*(?:\n|$)", sql):
        if found[0] == "$$":
            quoted = not quoted
        elif not quoted:
            yield sql[begin : found.start()]
            begin = found.end()
    yield sql[begin:]


def locks_of(statement: str, table_of_index: dict[str, str] | None = None) -> list[Lock]:
    """The locks that a statement takes on tables that are there already, by the tables' names."""
    statement = " ".join(statement.split())
    found = []
    if dropped := DROPPED_INDEX.match(statement):
        table = (table_of_index or {}).get(dropped[2])
        if table:
            found.append(Lock(table, "SHARE UPDATE EXCLUSIVE" if dropped[1] else "ACCESS EXCLUSIVE"))
    for pattern, mode in LOCKS:
        if match := re.match(pattern, statement, re.IGNORECASE):
            found.append(Lock(match[1], mode))
            break
    if re.match("CREATE TABLE|ALTER TABLE", statement, re.IGNORECASE):
        found += [Lock(table, "SHARE ROW EXCLUSIVE") for table in dict.fromkeys(REFERENCES.findall(statement))]
    return found


async def plan(platform: Platform) -> list[Step]:
    """The migrations that are left, in the order in which `lms db upgrade` runs them."""
    return [
        Step(script.revision, str(script.doc).splitlines()[0], phase_of(script), statements_of(script))
        for position in await positions(platform)
        for script in position.pending
    ]


async def describe(platform: Platform, with_sql: bool) -> list[str]:
    """The plan, for people: phases, locks with the rows of their tables, and who waits."""
    steps = await plan(platform)

    def look(connection: Connection) -> list[str]:
        lines = []
        for step in steps:
            lines.append(f"{step.revision} ({step.phase}): {step.title}")
            for statement in step.statements:
                lines += [f"    {line}" for line in statement.splitlines()] if with_sql else []
                lines += [f"  {line}" for line in described_locks(connection, statement)]
        return lines

    found: list[str] = await with_connection(platform.settings.direct_url, look)
    return found


def described_locks(connection: Connection, statement: str) -> list[str]:
    """A line for each lock on a table that is there."""
    tables = {}
    if dropped := DROPPED_INDEX.match(statement):
        table = connection.scalar(text(INDEX_OF), {"name": dropped[2]})
        tables = {dropped[2]: table} if table else {}
    locks, lines = locks_of(statement, tables), []
    if not locks and not tables and not HARMLESS.match(statement) and not DROPPED_INDEX.match(statement):
        lines.append(f"unknown lock, read it: {' '.join(statement.split())[:80]}")
    for lock in locks:
        rows = connection.scalar(text(ROWS), {"name": lock.table})
        if rows is not None:
            reading = ", reads all of it" if READS_ALL.search(statement) else ""
            lines.append(f"{lock.mode} on {lock.table} (about {rows} rows){reading}: {lock.waiting}")
    return lines
