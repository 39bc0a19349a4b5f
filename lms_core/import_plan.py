"""From a file to a plan, and from a plan to a job; nothing of a plan is carried out here."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError
from sqlmodel import col

from lms_core.csv_table import CellError, Row, read_table
from lms_core.errors import NotFound, Problem, StateConflict
from lms_core.imports import AT_WORK, Import, Importer, ImportRow, ImportStarted, Planned, UndoRequested
from lms_core.types import UploadedFiles
from lms_core.uow import UnitOfWork, constraint_name

MAX_FILE_BYTES = 16 * 1024 * 1024
PLAN_CHUNK = 1_000
MOST_ERRORS_SHOWN = 100
FREELY_DISABLED = 5
FREELY_DISABLED_SHARE = 0.1


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
    """The parts of a plan that clients see; spelled out, since `asdict` copies, which takes long for many rows."""
    return {
        "action": planned.action,
        "object_id": planned.object_id,
        "changes": planned.changes,
        "kept": planned.kept,
        "errors": planned.errors,
    }


async def make_plan(uow: UnitOfWork, importer: Importer, job: Import) -> Plan:
    """Read the file and plan every row. Raises Invalid when the file cannot be read."""
    content = await read_file(uow, job.file_id)
    rows = await asyncio.to_thread(read_table, content, importer.columns, importer.most_rows)
    await asyncio.to_thread(mark_doubles, importer, rows)
    planned = [Planned("error", errors=row.errors) for row in rows]
    sound = [number for number, row in enumerate(rows) if not row.errors]
    for start in range(0, len(sound), PLAN_CHUNK):
        chunk = sound[start : start + PLAN_CHUNK]
        found = await importer.plan(uow, job, [rows[number] for number in chunk], hold=False)
        for number, plan in zip(chunk, found, strict=True):
            planned[number] = plan
    mark_same(rows, planned)
    planned = await importer.settle(uow, job, planned)
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


def mark_same(rows: Sequence[Row], planned: list[Planned]) -> None:
    """An error in place of each of two plans for the same: rows that look different may say it in other words."""
    same: dict[Hashable, list[int]] = {}
    for number, plan in enumerate(planned):
        stands_for = plan.stands_for or plan.object_id
        if stands_for is not None and plan.action != "error":
            same.setdefault(stands_for, []).append(number)
    for numbers in same.values():
        for number in numbers if len(numbers) > 1 else ():
            others = ", ".join(str(rows[other].line) for other in numbers[:5] if other != number)
            first = next(iter(rows[number].cells), None)
            error = CellError(first, "double", f"Stands for the same as line {others}.")
            planned[number] = Planned("error", errors=[error])


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
        mistakes = "One mistake" if len(wrong) == 1 else f"{len(wrong)} mistakes"
        detail = f"{mistakes} in the file; nothing was imported."
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
        for number, (row, planned) in enumerate(sorted(plan.rows, key=lambda one: importer.turn(one[1])), 1)
    ]
    # In pieces, between which others have their turn.
    for first in range(0, len(rows), PLAN_CHUNK):
        await uow.session.execute(insert(ImportRow), rows[first : first + PLAN_CHUNK])
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
