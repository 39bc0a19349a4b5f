"""Imports of CSV files: a plan that says row by row what would happen, a job that does it whole, and undoes it whole.

The engine knows files, plans, jobs and their progress. What a row means is the importer's, which a plugin declares. A job
is done by a worker in chunks, each in one transaction with the mark that its rows are done, so a crash at any moment
repeats nothing and loses nothing. When a chunk cannot be done, the job undoes itself.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import DateTime, Index, insert, select, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import IntegrityError
from sqlmodel import Field, SQLModel, col

from lms_core.csv_table import CellError, Column, Row, read_table
from lms_core.db import Record, new_id
from lms_core.errors import NotFound, Problem, StateConflict
from lms_core.types import Event, UploadedFiles
from lms_core.uow import UnitOfWork, constraint_name

MAX_FILE_BYTES = 16 * 1024 * 1024
PLAN_CHUNK = 1_000
MOST_ERRORS_SHOWN = 100
FREELY_DISABLED = 5
FREELY_DISABLED_SHARE = 0.1

AT_WORK = "uq_core_import_at_work"

Action = Literal["create", "update", "disable", "unchanged", "error"]
State = Literal["running", "done", "undoing", "undone", "failed"]


class Import(Record, table=True):
    """One run of an importer over one file; `scope_id` is where (an institution), None is everywhere."""

    __tablename__ = "core_import"
    __table_args__ = (
        # At most one at a time works on the same people.
        Index(
            AT_WORK,
            "importer",
            "scope_id",
            unique=True,
            postgresql_where=text("state IN ('running', 'undoing')"),
            postgresql_nulls_not_distinct=True,
        ),
    )

    importer: str
    file_id: UUID
    scope_id: UUID | None = None
    options: dict[str, Any] = Field(default_factory=dict, sa_type=JSONB)
    actor_id: UUID
    undone_by: UUID | None = None
    state: str = "running"
    rows_total: int
    rows_done: int = 0
    counts: dict[str, int] = Field(default_factory=dict, sa_type=JSONB)
    error: dict[str, Any] | None = Field(default=None, sa_type=JSONB)
    finished_at: datetime | None = Field(default=None, sa_type=DateTime(timezone=True))


class ImportRow(SQLModel, table=True):
    """One row of a job; what was done with it stands here from the transaction on that did it.

    `memo` is the importer's own, for the undo. `number` counts the rows; those that the file lacks come last.
    """

    __tablename__ = "core_import_row"

    import_id: UUID = Field(foreign_key="core_import.id", primary_key=True)
    number: int = Field(primary_key=True)
    line: int | None = None
    cells: dict[str, str] = Field(sa_type=JSONB)
    state: str = "waiting"
    action: str | None = None
    object_id: UUID | None = None
    changes: dict[str, Any] = Field(default_factory=dict, sa_type=JSONB)
    kept: list[str] = Field(default_factory=list, sa_type=JSONB)
    memo: dict[str, Any] = Field(default_factory=dict, sa_type=JSONB)
    note: str | None = None


@dataclass
class Planned:
    """What is to be done with a row.

    `changes` has `{field: {"before": …, "after": …}}`; `kept` names the fields that stay, since somebody changed them
    by hand; `memo` is what the importer wants to know again when it undoes the row.
    """

    action: Action
    object_id: UUID | None = None
    changes: dict[str, dict[str, Any]] = field(default_factory=dict)
    kept: list[str] = field(default_factory=list)
    errors: list[CellError] = field(default_factory=list)
    memo: dict[str, Any] = field(default_factory=dict)


class ImportStarted(Event, name="core.import_started.v1"):
    """A job is to be done."""

    import_id: UUID
    actor_id: UUID


class UndoRequested(Event, name="core.import_undo_requested.v1"):
    """A job is to be undone, in somebody's name; without one, since it failed."""

    import_id: UUID
    actor_id: UUID | None


class Importer(ABC):
    """What the rows of one sort of file mean. Each method does a chunk of rows in a fixed number of statements.

    `name` begins with the plugin's name. `permission` is needed on the row of kind `scope` that the job names, to
    start it, to read it and to undo it.
    """

    name: str
    permission: str
    scope: str
    columns: tuple[Column, ...]
    most_rows: int = 10_000

    @abstractmethod
    def identities(self, row: Row) -> dict[str, Hashable]:
        """By column, what no two rows of a file may share."""

    @abstractmethod
    async def plan(self, uow: UnitOfWork, job: Import, rows: Sequence[Row], hold: bool) -> list[Planned]:
        """What is to be done with each row, as the actor may do it now; writes nothing.

        With `hold`, what the plan builds on stays as it is until the transaction ends.
        """

    @abstractmethod
    async def missing(self, uow: UnitOfWork, job: Import, present: set[UUID]) -> list[UUID]:
        """What is to be disabled since the file lacks it, if the job is to do that."""

    @abstractmethod
    async def plan_missing(self, uow: UnitOfWork, job: Import, ids: Sequence[UUID], hold: bool) -> list[Planned]:
        """The same for what the file lacks."""

    @abstractmethod
    async def population(self, uow: UnitOfWork, job: Import) -> int:
        """How many there are, of whom a job may not disable too many."""

    @abstractmethod
    async def apply(self, uow: UnitOfWork, job: Import, planned: Sequence[Planned]) -> None:
        """Do it; sets `object_id` and `memo`. Raises Problem when something came in the way, which undoes the job."""

    @abstractmethod
    async def undo(self, uow: UnitOfWork, job: Import, rows: Sequence[ImportRow]) -> None:
        """Take back what was done; where somebody has changed it since, leave it and say so in `note`."""


@dataclass(frozen=True)
class Plan:
    """What an import would do: its rows with what was planned, those that the file lacks at the end."""

    rows: list[tuple[Row | None, Planned]]
    refusal: Problem | None

    def counts(self) -> dict[str, int]:
        """How many rows for each action."""
        return dict(Counter(planned.action for _, planned in self.rows))

    def shown(self) -> dict[str, Any]:
        """As a client sees it."""
        refusal = self.refusal
        return {
            "dry_run": True,
            "counts": self.counts(),
            "refused": None if refusal is None else {"code": refusal.code, "detail": refusal.detail},
            "rows": [
                {"line": None if row is None else row.line, "cells": {} if row is None else row.cells, **shown(planned)}
                for row, planned in self.rows
            ],
        }


def shown(planned: Planned) -> dict[str, Any]:
    """The parts of a plan that clients see."""
    return {name: value for name, value in asdict(planned).items() if name != "memo"}


async def make_plan(uow: UnitOfWork, importer: Importer, job: Import) -> Plan:
    """Read the file and plan every row. Raises Invalid when the file cannot be read."""
    content = await read_file(uow, job.file_id)
    rows = await asyncio.to_thread(read_table, content, importer.columns, importer.most_rows)
    mark_doubles(importer, rows)
    planned = [Planned("error", errors=row.errors) for row in rows]
    sound = [number for number, row in enumerate(rows) if not row.errors]
    for start in range(0, len(sound), PLAN_CHUNK):
        chunk = sound[start : start + PLAN_CHUNK]
        found = await importer.plan(uow, job, [rows[number] for number in chunk], hold=False)
        for number, plan in zip(chunk, found, strict=True):
            planned[number] = plan
    present = {plan.object_id for plan in planned if plan.object_id is not None}
    lacking = await importer.missing(uow, job, present)
    lost = await importer.plan_missing(uow, job, lacking, hold=False) if lacking else []
    everything: list[tuple[Row | None, Planned]] = [*zip(rows, planned, strict=True), *((None, plan) for plan in lost)]
    return Plan(everything, await refusal_of(uow, importer, job, everything))


async def read_file(uow: UnitOfWork, file_id: UUID) -> bytes:
    """The bytes that were uploaded; 409 when no enabled plugin keeps files."""
    files = uow.use_if_enabled(UploadedFiles)
    if files is None:
        raise StateConflict("files_unavailable", "No enabled plugin keeps files; switch the plugin files on.")
    return await files.read(uow, file_id, MAX_FILE_BYTES)


def mark_doubles(importer: Importer, rows: Sequence[Row]) -> None:
    """An error on each of two rows that stand for the same."""
    lines: dict[tuple[str, Hashable], list[Row]] = {}
    for row in rows:
        for column, identity in importer.identities(row).items():
            lines.setdefault((column, identity), []).append(row)
    for (column, _), same in lines.items():
        for row in same if len(same) > 1 else ():
            others = ", ".join(str(other.line) for other in same[:5] if other is not row)
            row.errors.append(CellError(column, "double", f"The same as on line {others}."))


async def refusal_of(
    uow: UnitOfWork, importer: Importer, job: Import, rows: Sequence[tuple[Row | None, Planned]]
) -> Problem | None:
    """Why a plan must not be carried out: a row is wrong, or too many people would be disabled."""
    wrong = [
        {"loc": ["file", None if row is None else row.line, error.column], "msg": error.detail, "type": error.code}
        for row, planned in rows
        for error in planned.errors
    ]
    if wrong:
        detail = f"{len(wrong)} mistakes in the file; nothing was imported."
        return Problem(422, "rows_refused", detail, errors=wrong[:MOST_ERRORS_SHOWN])
    disabled = sum(planned.action == "disable" for _, planned in rows)
    there = await importer.population(uow, job) if disabled else 0
    allowed = job.options.get("max_disabled")
    if allowed is None:
        allowed = max(FREELY_DISABLED, int(there * FREELY_DISABLED_SHARE))
    if disabled > allowed:
        return StateConflict(
            "too_many_disabled",
            f"This would disable {disabled} of {there}; nothing was imported. If it is right, say max_disabled: {disabled}.",
        )
    return None


async def start(uow: UnitOfWork, importer: Importer, job: Import, plan: Plan) -> None:
    """Store the job with its rows, for a worker. Raises what the plan is refused for, and 409 for a second at a time."""
    if plan.refusal is not None:
        raise plan.refusal
    job.rows_total = len(plan.rows)
    uow.session.add(job)
    await flush_or_refuse(uow)
    rows = [
        {
            "import_id": job.id,
            "number": number,
            "line": None if row is None else row.line,
            "cells": {} if row is None else row.cells,
            "object_id": planned.object_id if row is None else None,
        }
        for number, (row, planned) in enumerate(plan.rows, 1)
    ]
    await uow.session.execute(insert(ImportRow), rows)
    uow.emit(ImportStarted(import_id=job.id, actor_id=job.actor_id))


async def flush_or_refuse(uow: UnitOfWork) -> None:
    """Send the job to the database, where an index decides between two at a time."""
    try:
        await uow.session.flush()
    except IntegrityError as error:
        if constraint_name(error) == AT_WORK:
            raise already_at_work() from None
        raise


def already_at_work() -> StateConflict:
    """409: two at once could each undo what the other did."""
    return StateConflict("import_at_work", "Another import is at work there; wait until it is finished.")


async def request_undo(uow: UnitOfWork, id: UUID) -> Import:
    """Have a finished job taken back; 409 when it is not done, or undone already."""
    found = await uow.session.execute(select(Import).where(col(Import.id) == id).with_for_update())
    job = found.scalar_one_or_none()
    if job is None:
        raise NotFound("import", id)
    if job.state != "done":
        raise StateConflict("import_not_done", f"This import is {job.state}; only one that is done can be undone.")
    job.state, job.rows_done, job.finished_at, job.undone_by = "undoing", 0, None, uow.actor_id
    await flush_or_refuse(uow)
    uow.emit(UndoRequested(import_id=id, actor_id=uow.actor_id))
    return job


def new_import(importer: Importer, actor_id: UUID, file_id: UUID, scope_id: UUID | None, **options: Any) -> Import:
    """A job that is not stored yet."""
    return Import(
        id=new_id(), importer=importer.name, actor_id=actor_id, file_id=file_id, scope_id=scope_id, options=options,
        rows_total=0,
    )  # fmt: skip
