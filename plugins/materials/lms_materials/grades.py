"""Grades of submissions: given, and changed with everything before kept."""

from typing import Any
from uuid import UUID

from fastapi import Response
from sqlalchemy import Float, bindparam, cast, exists
from sqlmodel import col, select

from lms_core.sdk import Filter, Invalid, Listing, NotFound, Paging, UnitOfWork, alive
from lms_materials.assignment_schemas import GradeChange, GradeInput
from lms_materials.contracts import SUBMISSION, SubmissionGraded
from lms_materials.models import Assignment, Grade, Submission
from lms_materials.submissions import SUBMISSION_POINT, refuse_draft


def readable(uow: UnitOfWork) -> Filter:
    """Who reads what students hand in reads how it was graded when; students see what counts, on the submission."""
    rule = uow.permitted("materials.read_submissions", Submission)

    def write(grade: Any) -> Any:
        of = col(Submission.id) == grade.submission_id
        return exists().where(of, alive(Submission), rule.write(Submission))

    return Filter(("grade", rule.shape), rule.parameters, write, never=rule.never)


CHANGES = Listing(
    Grade,
    GradeChange,
    columns={"points": cast(col(Grade.points), Float())},
    filters={"submission_id": col(Grade.submission_id) == bindparam("submission_id")},
    order=(col(Grade.number),),
    readable=readable,
)


async def give(uow: UnitOfWork, submission_id: UUID, data: GradeInput) -> Response:
    """Grade a submission, or grade it again; the same grade once more changes nothing."""
    submission = await uow.lock(Submission, submission_id)
    if submission.state != "submitted":
        # A draft is its student's alone: that there is one is nobody else's business.
        raise NotFound(SUBMISSION, submission_id)
    # As it is until this is committed: whoever lowers the points waits, and then sees the grade.
    rows = select(Assignment).where(Assignment.material_id == submission.material_id).with_for_update(read=True)
    assignment = (await uow.session.execute(rows)).scalar_one()
    if data.points is not None and data.points > assignment.points and not assignment.extra_credit:
        raise Invalid(
            "points_out_of_range",
            f"There are {assignment.points:f} points to earn, and the assignment gives no extra credit; give fewer.",
            ("body", "points"),
        )
    last = await last_of(uow, submission_id)
    unchanged = (None, "") if last is None else (last.points, last.feedback)
    if unchanged != (data.points, data.feedback):
        number = 1 if last is None else last.number + 1
        given = Grade(submission_id=submission_id, number=number, graded_by=uow.actor_id, **data.model_dump())
        uow.session.add(given)
        await uow.flush()
        uow.emit(
            SubmissionGraded(
                submission_id=submission_id,
                material_id=submission.material_id,
                user_id=submission.user_id,
                graded_by=uow.actor_id,
                is_graded=data.points is not None,
            )
        )
    return await SUBMISSION_POINT.after_write(uow, submission_id)


async def history(uow: UnitOfWork, submission_id: UUID, params: Paging) -> Response:
    """How a submission was graded when; the last change first."""
    await refuse_draft(uow, submission_id)
    return await CHANGES.page(uow, params, submission_id=submission_id)


async def last_of(uow: UnitOfWork, submission_id: UUID) -> Grade | None:
    """The grade that counts, or that was taken back."""
    rows = select(Grade).where(Grade.submission_id == submission_id).order_by(col(Grade.number).desc()).limit(1)
    return (await uow.session.execute(rows)).scalar_one_or_none()
