"""What students hand in: drafts, and attempts that are kept as they were; the database's clock decides what is in time."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from fastapi import Response
from lms_enrollments.contracts import Roster
from lms_files.contracts import FILE, FileLibrary
from lms_users.contracts import is_some_ward
from sqlalchemy import (
    JSON,
    ColumnElement,
    Float,
    Interval,
    Text,
    Uuid,
    bindparam,
    case,
    cast,
    column,
    exists,
    func,
    null,
    select,
    table,
    true,
)
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.orm import aliased
from sqlmodel import col, delete

from lms_core.sdk import (
    ACTOR_ID,
    Forbidden,
    Guarded,
    Invalid,
    Listing,
    NotFound,
    Paging,
    Point,
    Read,
    RestoreRequest,
    StateConflict,
    UnitOfWork,
    among,
    restore,
)
from lms_core.sdk import delete as delete_row
from lms_materials import bodies, deadlines, visibility
from lms_materials.assignment_schemas import SubmissionInput, SubmissionRead
from lms_materials.contracts import MATERIAL, SUBMISSION, SubmissionMade
from lms_materials.late_policy import LatePolicy, is_late, penalty
from lms_materials.models import Assignment, Grade, Material, Submission, SubmittedFile
from lms_materials.sql_json import NONE_OF_THEM, in_json

FILES = table("files_file", column("id", Uuid()), column("filename", Text()), column("sha256", Text()))


def of_material(build: Any) -> Any:
    """Something about the assignment of a submission, as a column."""
    material = aliased(Material)
    chosen = select(build(material)).where(col(material.id) == col(Submission.material_id))
    return chosen.correlate_except(material).scalar_subquery()


def files_column() -> Any:
    """The files, in their order, deleted ones too: they were handed in."""
    submitted = aliased(SubmittedFile)
    one = func.json_build_object("id", FILES.c.id, "filename", FILES.c.filename)
    return (
        select(func.coalesce(func.json_agg(aggregate_order_by(one, col(submitted.number))), NONE_OF_THEM))
        .where(col(submitted.submission_id) == col(Submission.id), FILES.c.id == col(submitted.file_id))
        .correlate(Submission)
        .scalar_subquery()
    )


def is_released(assignment: Any) -> ColumnElement[bool]:
    """A condition: students see the grades of an assignment."""
    on_date = assignment.grades_release_at
    return case((on_date.is_not(None), on_date <= func.now()), else_=~assignment.grades_held)


def is_last(grade: Any) -> ColumnElement[bool]:
    """A condition: no later grade of its submission takes this one's place."""
    later = aliased(Grade)
    replaced = exists().where(col(later.submission_id) == grade.submission_id, col(later.number) > grade.number)
    return ~replaced.correlate_except(later)


def grade_column(released_only: bool) -> Any:
    """The grade that counts, as JSON; NULL without one."""
    grade, assignment = aliased(Grade), aliased(Assignment)
    shown_at = func.coalesce(col(assignment.grades_release_at), col(assignment.grades_shown_at))
    released_at = func.greatest(col(grade.created_at), shown_at)
    shown = func.json_build_object(
        "points",
        cast(col(grade.points), Float()),
        "feedback",
        col(grade.feedback),
        "graded_by",
        col(grade.graded_by),
        "graded_at",
        in_json(col(grade.created_at)),
        "released_at",
        case((is_released(assignment), in_json(released_at)), else_=null()),
        type_=JSON(),
    )
    chosen = select(shown).where(
        col(grade.submission_id) == col(Submission.id),
        col(grade.points).is_not(None),
        is_last(grade),
        col(assignment.material_id) == col(Submission.material_id),
    )
    if released_only:
        chosen = chosen.where(is_released(assignment))
    return chosen.correlate(Submission).scalar_subquery()


def made(row: dict[str, Any]) -> dict[str, Any]:
    """A submission as clients see it: whether it was late, and what that takes, is decided here."""
    terms, grade = row.pop("terms"), row["grade"]
    policy = LatePolicy.model_validate(terms["late_policy"])
    due_at = None if terms["due_at"] is None else datetime.fromisoformat(terms["due_at"])
    submitted_at = row["submitted_at"]
    row["due_at"] = due_at
    row["late"] = submitted_at is not None and is_late(policy, due_at, submitted_at)
    if grade is not None:
        row["grade"] = with_penalty(grade, policy, terms, due_at, submitted_at)
    return {name: row[name] for name in SubmissionRead.model_fields}


def with_penalty(
    grade: dict[str, Any], policy: LatePolicy, terms: dict[str, Any], due_at: datetime | None, submitted_at: datetime
) -> dict[str, Any]:
    """A grade, and what being late takes of it."""
    points, possible = Decimal(str(grade["points"])), Decimal(str(terms["points"]))
    taken = penalty(policy, points, possible, due_at, submitted_at, ZoneInfo(terms["zone"]))
    shown = None
    if taken is not None:
        shown = {
            "unit": taken.unit,
            "units": taken.units,
            "points": float(taken.points),
            "explanation": taken.explanation,
        }
    final = points if taken is None else taken.final_points
    return {**grade, "points": float(points), "final_points": float(final), "penalty": shown}


COLUMNS = {
    **{
        name: col(getattr(Submission, name))
        for name in (
            "id",
            "material_id",
            "user_id",
            "attempt",
            "state",
            "submitted_at",
            "body",
            "urls",
            "receipt",
            "created_at",
        )
    },
    "files": files_column(),
    "terms": of_material(lambda material: deadlines.terms(material, col(Submission.user_id), col(Submission.due_at))),
    "grade": Guarded("materials.read_submissions", grade_column(False), grade_column(True)),
}
SUBMISSIONS = Listing(
    Submission,
    SubmissionRead,
    columns=COLUMNS,
    filters={
        "material_id": col(Submission.material_id) == bindparam("material_id"),
        "user_id": col(Submission.user_id) == bindparam("user_id"),
    },
    made=made,
)
SUBMISSION_POINT = Point(Submission, SubmissionRead, columns=COLUMNS, made=made)


async def list_of(uow: UnitOfWork, params: Paging, material_id: UUID, user_id: UUID | None) -> Response:
    """What was handed in for an assignment that the caller may know."""
    await uow.require_known(MATERIAL, material_id)
    return await SUBMISSIONS.page(uow, params, material_id=material_id, user_id=user_id)


@dataclass(frozen=True)
class Standing:
    """How a student stands with an assignment at this moment, by the database's clock."""

    now: datetime
    course_id: UUID
    kind: str
    is_locked: bool
    opens_at: datetime | None
    due_at: datetime | None
    closes_at: datetime | None
    attempts: int | None
    attempts_made: int
    last_submitted_at: datetime | None
    draft_id: UUID | None


async def hand_in(uow: UnitOfWork, material_id: UUID, data: SubmissionInput) -> Response:
    """A new attempt: what is given, or the draft as it is when nothing is."""
    submission, standing, file_ids = await take(uow, material_id, data if data.model_fields_set else None)
    # Of two that waited, the one that came later may have had its turn before.
    submitted_at = max(standing.now, standing.last_submitted_at or standing.now)
    submission.state, submission.submitted_at, submission.due_at = "submitted", submitted_at, standing.due_at
    if not (submission.body.strip() or submission.urls or file_ids):
        raise Invalid("nothing_to_hand_in", "There is no text, no file and no link in it; add what is to be handed in.")
    submission.receipt = receipt_of(submission, await sealed(uow, file_ids))
    await uow.use(FileLibrary).keep(uow, file_ids)
    await uow.flush()
    uow.emit(
        SubmissionMade(
            submission_id=submission.id,
            material_id=material_id,
            user_id=submission.user_id,
            attempt=submission.attempt,
        )
    )
    return await SUBMISSION_POINT.after_write(uow, submission.id, 201)


async def save_draft(uow: UnitOfWork, material_id: UUID, data: SubmissionInput) -> Response:
    """Keep what a student has so far; there is one draft at most."""
    submission, _, _ = await take(uow, material_id, data)
    return await SUBMISSION_POINT.after_write(uow, submission.id)


async def take(
    uow: UnitOfWork, material_id: UUID, data: SubmissionInput | None
) -> tuple[Submission, Standing, list[UUID]]:
    """The draft with this content (None: as it is) and its files, made when there is none; one request of a student at a time.

    It waits to be flushed. Raises Forbidden for who is no student there, StateConflict when nothing can be handed in now.
    """
    body = "" if data is None else bodies.cleaned(data.body, "markdown")
    await uow.require_known(MATERIAL, material_id)
    await uow.hold(MATERIAL, material_id)
    # Two of the same student's requests take turns; other students are not held up.
    await uow.alone(f"submission:{material_id}:{uow.actor_id}")
    standing = await standing_of(uow, material_id)
    if not await uow.use(Roster).is_active(uow, standing.course_id, uow.actor_id, "student"):
        raise Forbidden("Only students who are enrolled in the course hand something in.")
    refuse_unless_open(standing)
    submission = None
    if standing.draft_id is not None:
        submission = await uow.session.get_one(Submission, standing.draft_id)
    had = [] if submission is None else await file_ids_of(uow, submission.id)
    wanted = had if data is None else data.file_ids
    await own_files(uow, standing.course_id, wanted)
    if submission is None:
        submission = Submission(
            material_id=material_id, user_id=uow.actor_id, attempt=standing.attempts_made + 1, state="draft"
        )
        uow.session.add(submission)
    if data is not None:
        submission.body, submission.urls = body, data.urls
    if wanted != had:
        await uow.flush()
        await uow.session.execute(delete(SubmittedFile).where(col(SubmittedFile.submission_id) == submission.id))
        uow.session.add_all(
            SubmittedFile(submission_id=submission.id, file_id=id, number=number) for number, id in enumerate(wanted)
        )
    return submission, standing, wanted


async def remove(uow: UnitOfWork, id: UUID, if_match: str | None) -> Response:
    """Delete what was handed in; a draft is its student's alone, and 404 for everybody else."""
    await refuse_draft(uow, id)
    return await delete_row(uow, Submission, id, if_match)


async def refuse_draft(uow: UnitOfWork, id: UUID) -> None:
    """404 for a draft, whatever else would be answered: that there is one is its student's business."""
    state = (
        await uow.session.execute(select(col(Submission.state)).where(col(Submission.id) == id))
    ).scalar_one_or_none()
    if state == "draft":
        raise NotFound(SUBMISSION, id)


async def bring_back(uow: UnitOfWork, id: UUID, request: RestoreRequest | None) -> Response:
    """Restore what was handed in."""
    await refuse_draft(uow, id)
    return await restore(uow, Submission, id, request)


def standing_read() -> Read:
    """Everything that decides, read at once."""
    assignment, more = aliased(Assignment), deadlines.generous(Material, ACTOR_ID)
    own = deadlines.yours(assignment, more)
    earlier, draft = aliased(Submission), aliased(Submission)
    before = (
        select(
            func.coalesce(func.max(col(earlier.attempt)), 0).label("number"),
            func.max(col(earlier.submitted_at)).label("last_submitted_at"),
        )
        .where(
            col(earlier.material_id) == col(Material.id),
            col(earlier.user_id) == ACTOR_ID,
            col(earlier.state) == "submitted",
        )
        .correlate(Material)
        .lateral()
    )
    drafted = select(col(draft.id)).where(
        col(draft.material_id) == col(Material.id), col(draft.user_id) == ACTOR_ID, col(draft.state) == "draft"
    )
    return Read(
        select(
            (func.clock_timestamp() - bindparam("waited", type_=Interval())).label("now"),
            col(Material.course_id).label("course_id"),
            col(Material.kind).label("kind"),
            visibility.is_locked(Material).label("is_locked"),
            col(assignment.opens_at).label("opens_at"),
            own["due_at"].label("due_at"),
            own["closes_at"].label("closes_at"),
            own["attempts"].label("attempts"),
            before.c.number.label("attempts_made"),
            before.c.last_submitted_at.label("last_submitted_at"),
            drafted.correlate(Material).scalar_subquery().label("draft_id"),
        )
        .select_from(Material)
        .outerjoin(assignment, col(assignment.material_id) == col(Material.id))
        .join(more, true())
        .join(before, true())
        .where(col(Material.id) == bindparam("material_id", type_=Uuid())),
        plan_once=True,
    )


STANDING = standing_read()


async def standing_of(uow: UnitOfWork, material_id: UUID) -> Standing:
    """How the caller stands now: the database's clock less what the request has waited here."""
    waited = timedelta(seconds=time.monotonic() - uow.arrived)
    row = await STANDING.one(uow.session, material_id=material_id, actor_id=uow.actor_id, waited=waited)
    if row is None:
        raise NotFound(MATERIAL, material_id)
    return Standing(**row)


def refuse_unless_open(standing: Standing) -> None:
    """409, with a reason, when nothing can be handed in now."""
    if standing.kind != "assignment":
        raise StateConflict("not_an_assignment", "Nothing is handed in here; this is no assignment.")
    if standing.is_locked:
        raise StateConflict("material_locked", "This is locked; its `locked` says what has to be done before.")
    if standing.opens_at is not None and standing.now < standing.opens_at:
        raise StateConflict("not_open_yet", "This has not opened yet; `assignment.opens_at` says when it does.")
    if standing.closes_at is not None and standing.now > standing.closes_at:
        raise StateConflict("submissions_closed", "This has closed; ask whoever teaches for an extension.")
    if standing.attempts is not None and standing.attempts_made >= standing.attempts:
        raise StateConflict("no_attempts_left", f"All {standing.attempts} attempts were made.")


async def own_files(uow: UnitOfWork, course_id: UUID, ids: list[UUID]) -> None:
    """Hold files that the student uploaded to the course; 404 for others, 409 while one has not arrived."""
    if not ids:
        return
    library = uow.use(FileLibrary)
    await library.lock(uow, ids)
    known = await library.known_among(uow, ids)
    for id in ids:
        file = known.get(id)
        # A version changes places with its file; what is handed in stays what it is.
        is_own = file is not None and file.owner_id == uow.actor_id and file.replaces_id is None
        if file is None or file.course_id != course_id or not is_own:
            raise NotFound(FILE, id)
        if file.state not in ("uploaded", "verifying", "ready"):
            raise StateConflict("file_not_ready", f"The file {file.filename} is {file.state}; upload it first.")


async def file_ids_of(uow: UnitOfWork, submission_id: UUID) -> list[UUID]:
    """The files of a draft, in their order."""
    rows = select(col(SubmittedFile.file_id)).where(col(SubmittedFile.submission_id) == submission_id)
    return list((await uow.session.execute(rows.order_by(col(SubmittedFile.number)))).scalars())


async def sealed(uow: UnitOfWork, ids: list[UUID]) -> list[tuple[UUID, str, str | None]]:
    """Files with their names and, where they are verified, SHA-256, in the order of the ids."""
    if not ids:
        return []
    rows = await uow.session.execute(select(FILES.c.id, FILES.c.filename, FILES.c.sha256).where(among(FILES.c.id, ids)))
    found = {id: (id, name, sha256) for id, name, sha256 in rows.all()}
    return [found[id] for id in ids]


def receipt_of(submission: Submission, files: list[tuple[UUID, str, str | None]]) -> str:
    """SHA-256 over what was handed in, by whom, when, as JSON with sorted keys: the same again shows that it is unchanged."""
    said = {
        "submission_id": str(submission.id),
        "material_id": str(submission.material_id),
        "user_id": str(submission.user_id),
        "attempt": submission.attempt,
        "submitted_at": ""
        if submission.submitted_at is None
        else submission.submitted_at.isoformat(timespec="microseconds"),
        "body": submission.body,
        "urls": submission.urls,
        "files": [[str(id), name, sha256] for id, name, sha256 in files],
    }
    text = json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def submission_shows(file: Any, user_id: Any = None) -> ColumnElement[bool]:
    """A condition: the file was handed in, with a user by that one."""
    submitted, submission = aliased(SubmittedFile), aliased(Submission)
    shows = exists().where(
        col(submitted.file_id) == file.id,
        col(submission.id) == col(submitted.submission_id),
        col(submission.state) == "submitted",
        ~col(submission.is_deleted),
    )
    if user_id is not None:
        shows = shows.where(col(submission.user_id) == user_id)
    return shows.correlate_except(submitted, submission)


def submission_of_ward_shows(file: Any) -> ColumnElement[bool]:
    """A condition: a student whose guardian the caller is has handed the file in."""
    return is_some_ward(lambda student_id: submission_shows(file, student_id))
