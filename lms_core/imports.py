"""Imports of CSV files: a plan that says row by row what would happen, a job that does it whole, and undoes it whole.

The engine knows files, plans, jobs and their progress. What a row means is the importer's, which a plugin declares. A job
is done by a worker in chunks, each in one transaction with the mark that its rows are done, so a crash at any moment
repeats nothing and loses nothing. When a chunk cannot be done, the job undoes itself.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import DateTime, Index, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

from lms_core.csv_table import CellError, Column, Row
from lms_core.db import Record, new_id
from lms_core.types import Event
from lms_core.uow import UnitOfWork

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
        Index("ix_core_import_state", "state", "id"),
        Index("ix_core_import_importer", "importer", "id"),
        Index("ix_core_import_scope_id", "scope_id", "id"),
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
    __table_args__ = (
        Index("ix_core_import_row_object_id", "object_id", postgresql_where=text("object_id IS NOT NULL")),
    )

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
    by hand; `memo` is what the importer wants to know again when it undoes the row. `stands_for` is what no other row
    of the file may stand for; without it the object is.
    """

    action: Action
    object_id: UUID | None = None
    changes: dict[str, dict[str, Any]] = field(default_factory=dict)
    kept: list[str] = field(default_factory=list)
    errors: list[CellError] = field(default_factory=list)
    memo: dict[str, Any] = field(default_factory=dict)
    stands_for: Hashable = None


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

    async def settle(self, uow: UnitOfWork, job: Import, planned: Sequence[Planned]) -> list[Planned]:
        """The plans of all rows looked at together, where one may take what another needs; errors in place of some."""
        return list(planned)

    def turn(self, plan: Planned) -> tuple[int | str, ...]:
        """By what rows are sorted before they are carried out; by the lines of the file where it is the same."""
        return ()

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
        """Take back what was done; where somebody has changed it since, leave it and say so in `note`.

        What raises a Problem, or breaks a constraint, is asked for again row by row, and left where it does so again.
        """


def new_import(importer: Importer, actor_id: UUID, file_id: UUID, scope_id: UUID | None, **options: Any) -> Import:
    """A job that is not stored yet."""
    return Import(
        id=new_id(), importer=importer.name, actor_id=actor_id, file_id=file_id, scope_id=scope_id, options=options,
        rows_total=0,
    )  # fmt: skip
