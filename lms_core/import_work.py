"""Doing and undoing imports in the background, in committed chunks; both go on where they stopped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from uuid import UUID

import structlog
from sqlalchemy import String, bindparam, func, select, text
from sqlalchemy.exc import IntegrityError
from sqlmodel import col

from lms_core.csv_table import Row
from lms_core.errors import Problem
from lms_core.imports import Import, Importer, ImportRow, ImportStarted, Planned, UndoRequested
from lms_core.statements import Write, as_json
from lms_core.uow import Context, UnitOfWork

log = structlog.get_logger("lms.imports")

APPLY_CHUNK = 500
# An undone creation is a deletion of its own, with some statements each.
UNDO_CHUNK = 100
STUCK_MINUTES = 5
STUCK = text(
    """
    SELECT id, state, actor_id, undone_by FROM core_import
    WHERE state IN ('running', 'undoing') AND updated_at < now() - make_interval(mins => :minutes)
    AND NOT EXISTS (
        SELECT FROM core_event e JOIN core_delivery d ON d.event_id = e.id
        WHERE e.name IN ('core.import_started.v1', 'core.import_undo_requested.v1')
        AND e.payload->>'import_id' = core_import.id::text AND d.done_at IS NULL AND d.dead_at IS NULL
    )
    """
)


MARK_DONE = Write(
    text(
        """
        UPDATE core_import_row SET state = 'done', action = done.action, object_id = done.object_id,
            changes = done.changes, kept = done.kept, memo = done.memo
        FROM json_populate_recordset(CAST(NULL AS core_import_row), CAST(:rows AS json)) done
        WHERE core_import_row.import_id = done.import_id AND core_import_row.number = done.number
        """
    ).bindparams(bindparam("rows", type_=String()))
)


class RowsInTheWay(Exception):
    """A row that was fine when the job was started cannot be done any more."""


async def run_import(context: Context, event: ImportStarted) -> None:
    """Do every row; when one cannot be done, undo the whole."""
    try:
        await in_chunks(context, event, apply_chunk)
    except (Problem, IntegrityError, RowsInTheWay) as error:
        if isinstance(error, Problem) and error.status >= 500:
            raise
        code = error.code if isinstance(error, Problem) else "in_the_way"
        detail = str(error.orig) if isinstance(error, IntegrityError) else str(error)
        log.warning("import fails and is undone", import_id=str(event.import_id), reason=detail)
        async with context.unit_of_work() as uow:
            job = await hold_job(uow, event.import_id, "running")
            if job is not None:
                job.state, job.error, job.rows_done = "undoing", {"code": code, "detail": detail[:1000]}, 0
                # As the system: whoever began may have lost the right to, which is why it failed.
                uow.emit(UndoRequested(import_id=event.import_id, actor_id=None))


async def run_undo(context: Context, event: UndoRequested) -> None:
    """Take back every row that was done, the last first; a row that cannot be is left as it is, and says why."""
    at_once = UNDO_CHUNK
    while True:
        try:
            await in_chunks(context, event, partial(undo_chunk, at_once=at_once))
            return
        except (Problem, IntegrityError) as error:
            if isinstance(error, Problem) and error.status >= 500:
                raise
            if at_once == 1:
                detail = error.detail if isinstance(error, Problem) else str(error.orig)
                if not await context.retry(partial(leave_next, import_id=event.import_id, detail=detail)):
                    # Not a row is what fails.
                    raise
            at_once = 1


async def in_chunks(
    context: Context, event: ImportStarted | UndoRequested, chunk: Callable[[UnitOfWork, UUID], Awaitable[bool]]
) -> None:
    """Repeat a chunk, in the name of whoever asked (nobody: the system) and with what they may do now, to the end.

    The audit trail and the events have the job's id where those of a request have the request's.
    """
    go_on, access = True, None
    while go_on:
        if event.actor_id is not None:
            access, _ = await context.platform.rules.load(context, event.actor_id)
        go_on = await context.retry(lambda uow: chunk(uow, event.import_id), access, str(event.import_id))


async def hold_job(uow: UnitOfWork, import_id: UUID, state: str) -> Import | None:
    """The job, locked, if it is in this state: a second worker waits here, and finds what the first has done."""
    found = await uow.session.execute(
        select(Import).where(col(Import.id) == import_id, col(Import.state) == state).with_for_update()
    )
    return found.scalar_one_or_none()


async def apply_chunk(uow: UnitOfWork, import_id: UUID) -> bool:
    """Plan the next rows anew, since much may have happened meanwhile, and do them; whether some are left."""
    job = await hold_job(uow, import_id, "running")
    if job is None:
        return False
    importer = uow.context.platform.importers[job.importer]
    rows = await next_rows(uow, job, "waiting", APPLY_CHUNK)
    if not rows:
        finish(job, "done")
        return False
    planned = await plan_again(uow, importer, job, rows)
    for row, plan in zip(rows, planned, strict=True):
        if plan.errors:
            where = f"line {row.line}" if row.line else f"{row.object_id}, which the file lacks"
            raise RowsInTheWay(f"{where}: {plan.errors[0].detail}")
    await importer.apply(uow, job, planned)
    done = [
        {
            "import_id": job.id, "number": row.number, "action": plan.action, "object_id": plan.object_id,
            "changes": plan.changes, "kept": plan.kept, "memo": plan.memo,
        }
        for row, plan in zip(rows, planned, strict=True)
    ]  # fmt: skip
    await MARK_DONE.run(uow.session, rows=as_json(done))
    job.counts = dict(Counter(job.counts) + Counter(plan.action for plan in planned))
    job.rows_done += len(rows)
    return True


async def plan_again(uow: UnitOfWork, importer: Importer, job: Import, rows: Sequence[ImportRow]) -> list[Planned]:
    """What is to be done with stored rows, those that the file lacks among them."""
    in_file = [Row(row.line, row.cells) for row in rows if row.line is not None]
    lacking = [row.object_id for row in rows if row.line is None and row.object_id is not None]
    planned = await importer.settle(uow, job, await importer.plan(uow, job, in_file, hold=True)) if in_file else []
    return [*planned, *(await importer.plan_missing(uow, job, lacking, hold=True) if lacking else [])]


async def leave_next(uow: UnitOfWork, import_id: UUID, detail: str) -> bool:
    """Go past the row whose undo failed; whether there was one."""
    job = await hold_job(uow, import_id, "undoing")
    rows = [] if job is None else await next_rows(uow, job, "done", 1)
    for row in rows:
        log.warning("a row of an import is left", import_id=str(import_id), line=row.line, reason=detail)
        row.state, row.note = "left", f"Left as it is: {detail[:1000]}"
    if job is not None:
        job.rows_done += len(rows)
    return bool(rows)


async def undo_chunk(uow: UnitOfWork, import_id: UUID, at_once: int) -> bool:
    """Take back the last rows that were done; whether some are left."""
    job = await hold_job(uow, import_id, "undoing")
    if job is None:
        return False
    rows = await next_rows(uow, job, "done", at_once)
    if not rows:
        finish(job, "undone" if job.error is None else "failed")
        return False
    await uow.context.platform.importers[job.importer].undo(uow, job, rows)
    for row in rows:
        row.state = "undone" if row.note is None else "left"
    job.rows_done += len(rows)
    return True


async def next_rows(uow: UnitOfWork, job: Import, state: str, count: int) -> list[ImportRow]:
    """Up to a chunk of the job's rows in a state: in their turn, or backwards to undo them."""
    number = col(ImportRow.number)
    chosen = select(ImportRow).where(col(ImportRow.import_id) == job.id, col(ImportRow.state) == state)
    ordered = chosen.order_by(number if state == "waiting" else number.desc()).limit(count)
    return list((await uow.session.execute(ordered)).scalars())


def finish(job: Import, state: str) -> None:
    """Nothing is left to do."""
    job.state, job.finished_at = state, func.now()  # type: ignore[assignment]


async def resume_stuck(uow: UnitOfWork) -> None:
    """Have jobs gone on with whose delivery is dead; runs on a schedule."""
    for job in (await uow.session.execute(STUCK, {"minutes": STUCK_MINUTES})).mappings():
        if job["state"] == "running":
            uow.emit(ImportStarted(import_id=job["id"], actor_id=job["actor_id"]))
        else:
            uow.emit(UndoRequested(import_id=job["id"], actor_id=job["undone_by"]))
        log.warning("import was stuck", import_id=str(job["id"]), state=job["state"])
