"""The URLs of imports: how far they are, what they did row by row, and the undo."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import Query, Response
from pydantic import BaseModel, ConfigDict
from sqlalchemy import ARRAY, Uuid, and_, any_, bindparam, false, func, or_, select, true
from sqlmodel import col

from lms_core.conditions import exists_for_each
from lms_core.import_plan import make_plan, request_undo, start
from lms_core.imports import Action, Import, Importer, ImportRow, State
from lms_core.pagination import JsonBytes, Listing, Page, PageParams, Point
from lms_core.permissions import Filter
from lms_core.routing import Router, Uow, signed_in
from lms_core.uow import UnitOfWork

REASON = "whoever may import there reads and undoes what was imported"


class ImportRead(BaseModel):
    """A job. `rows_done` of `rows_total` are done or, while it is `undoing`, taken back.

    `failed`: a row could not be done, `error` says which and why, and what was done before it was taken back; rows that
    somebody has changed meanwhile are `left`.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": "0199f0c2-b6c1-7d0c-9d5c-3a4c5b6a7f80",
                "importer": "users.users",
                "file_id": "0199f0c2-b6c1-7d0c-9d5c-3a4c5b6a7f81",
                "scope_id": "0199f0c2-b6c1-7d0c-9d5c-3a4c5b6a7f82",
                "actor_id": "0199f0c2-b6c1-7d0c-9d5c-3a4c5b6a7f83",
                "undone_by": None,
                "options": {"mode": "merge"},
                "state": "running",
                "rows_total": 1200,
                "rows_done": 500,
                "counts": {"create": 480, "update": 20},
                "error": None,
                "created_at": "2026-09-01T08:00:00Z",
                "finished_at": None,
            }
        }
    )

    id: UUID
    importer: str
    file_id: UUID
    scope_id: UUID | None
    actor_id: UUID
    undone_by: UUID | None
    options: dict[str, Any]
    state: State
    rows_total: int
    rows_done: int
    counts: dict[str, int]
    error: dict[str, str] | None
    created_at: datetime
    finished_at: datetime | None


class ImportRowRead(BaseModel):
    """What was done with one row; without a line it stands for what the file lacks.

    `kept` names fields that somebody had changed by hand; `left`, with a `note`, is what the undo could not take back.
    """

    number: int
    line: int | None
    cells: dict[str, str]
    state: str
    action: str | None
    object_id: UUID | None
    changes: dict[str, Any]
    kept: list[str]
    note: str | None


class CellErrorRead(BaseModel):
    """What is wrong with a cell, or with the whole row when `column` is null."""

    column: str | None
    code: str
    detail: str


class PlannedRowRead(BaseModel):
    """What would be done with one row; without a line it stands for what the file lacks."""

    line: int | None
    cells: dict[str, str]
    action: Action
    object_id: UUID | None
    changes: dict[str, Any]
    kept: list[str]
    errors: list[CellErrorRead]


class ImportPlanRead(BaseModel):
    """What an import would do; `refused` says why it would do nothing."""

    dry_run: bool
    counts: dict[str, int]
    refused: dict[str, str] | None
    rows: list[PlannedRowRead]


def where_actor_may_import(uow: UnitOfWork) -> Filter:
    """Jobs of an importer whose permission the actor has on what the job names; all of them for a super admin."""
    if uow.access.everywhere:
        return Filter("everywhere", {}, lambda entity: true())
    platform = uow.context.platform
    parameters: dict[str, Any] = {}
    parts = []
    for importer in platform.importers.values():
        model = uow.model(importer.scope)
        rule = platform.rules.rule_for(model, importer.permission)
        permitted = platform.rules.any_of(uow.access, model, [rule], f"import_{importer.name.replace('.', '_')}_")
        if not permitted.never:
            parameters |= permitted.parameters
            parts.append((importer.name, model, permitted))

    def write(job: Any) -> Any:
        found = []
        for name, model, permitted in parts:
            may = exists_for_each(col(model.id) == job.scope_id, permitted.write(model))
            found.append(and_(job.importer == name, may))
        return or_(false(), *found)

    def write_for_many(job: Any) -> Any:
        found = []
        for name, model, permitted in parts:
            ids = select(col(model.id)).where(permitted.write_list(model)).scalar_subquery()
            found.append(and_(job.importer == name, job.scope_id == any_(func.array(ids, type_=ARRAY(Uuid())))))
        return or_(false(), *found)

    shape = ("imports", tuple((name, permitted.shape) for name, _, permitted in parts))
    return Filter(shape, parameters, write, not parts, write_for_many, gathers=True)


IMPORTS = Listing(
    Import,
    ImportRead,
    filters={
        "importer": col(Import.importer) == bindparam("importer"),
        "state": col(Import.state) == bindparam("state"),
    },
    readable=where_actor_may_import,
)
IMPORT = Point(Import, ImportRead, readable=where_actor_may_import)
ROWS = Listing(
    ImportRow,  # type: ignore[arg-type]
    ImportRowRead,
    filters={
        "import_id": col(ImportRow.import_id) == bindparam("import_id"),
        "action": col(ImportRow.action) == bindparam("action"),
        "state": col(ImportRow.state) == bindparam("state"),
    },
    order=(col(ImportRow.number),),
    descending=False,
    readable=lambda uow: Filter("rows", {}, lambda entity: true()),
)


async def answer_import(uow: UnitOfWork, importer: Importer, job: Import, dry_run: bool) -> Response:
    """What an importer's own route answers: 200 with the plan, or 202 with the job that carries it out."""
    plan = await make_plan(uow, importer, job)
    if dry_run:
        return JsonBytes(plan.shown())
    await start(uow, importer, job, plan)
    answer = await IMPORT.after_write(uow, job.id, 202)
    answer.headers["Location"] = f"/imports/{job.id}"
    return answer


def router() -> Router:
    """`/imports`."""
    router = Router()

    @router.get("/imports", response_model=Page[ImportRead], dependencies=[signed_in(REASON)])
    async def list_imports(
        uow: Uow,
        params: PageParams,
        importer: Annotated[str | None, Query(max_length=100, description="Such as `users.users`")] = None,
        state: State | None = None,
    ) -> Response:
        """The imports of where you may import, newest first."""
        return await IMPORTS.page(uow, params, importer=importer, state=state)

    @router.get("/imports/{import_id}", response_model=ImportRead, dependencies=[signed_in(REASON)])
    async def get_import(uow: Uow, import_id: UUID) -> Response:
        """How far an import is."""
        return await IMPORT.get(uow, import_id)

    @router.get("/imports/{import_id}/rows", response_model=Page[ImportRowRead], dependencies=[signed_in(REASON)])
    async def list_import_rows(
        uow: Uow,
        import_id: UUID,
        params: PageParams,
        action: Annotated[str | None, Query(max_length=20, description="`create`, `update`, `disable`…")] = None,
        state: Annotated[str | None, Query(max_length=20, description="`done`, `undone`, `left`…")] = None,
    ) -> Response:
        """What an import did, row by row."""
        await IMPORT.get(uow, import_id)
        return await ROWS.page(uow, params, import_id=import_id, action=action, state=state)

    @router.post(
        "/imports/{import_id}/undo", status_code=202, response_model=ImportRead, dependencies=[signed_in(REASON)]
    )
    async def undo_import(uow: Uow, import_id: UUID) -> Response:
        """Take a whole import back: what it made is deleted, what it changed is as before, unless changed since."""
        await IMPORT.get(uow, import_id)
        await request_undo(uow, import_id)
        return await IMPORT.after_write(uow, import_id, 202)

    return router
