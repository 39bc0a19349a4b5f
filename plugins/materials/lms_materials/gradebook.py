"""All grades of a course, a page of students in one statement, however many assignments there are."""

import json
from collections.abc import Hashable
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from fastapi import Response
from lms_courses.contracts import COURSE
from lms_enrollments.contracts import ENROLLMENTS
from lms_users.contracts import USERS, is_some_ward
from sqlalchemy import (
    JSON,
    ColumnElement,
    Float,
    Uuid,
    bindparam,
    case,
    cast,
    exists,
    func,
    literal_column,
    null,
    or_,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import aliased
from sqlmodel import col

from lms_core.sdk import ACTOR_ID, PageParams, Read, UnitOfWork, alive
from lms_materials import deadlines, visibility
from lms_materials.contracts import CountedGrade, Gradebook
from lms_materials.late_policy import LatePolicy, is_late
from lms_materials.models import Assignment, Grade, Material, Submission
from lms_materials.sql_json import NONE_OF_THEM, in_json
from lms_materials.submissions import is_last, is_released, with_penalty

_reads: dict[Hashable, Read] = {}


async def of_course(uow: UnitOfWork, params: PageParams, course_id: UUID) -> Response:
    """A page of the students of a course whom the caller may see, with the grades that they may."""
    fingerprint = f"grades?{course_id}"
    after = params.after(uow, fingerprint, [UUID])
    course = uow.model(COURSE)
    staff = uow.permitted("materials.read_submissions", course)
    form = (staff.shape, after is not None, params.most)
    if form not in _reads:
        _reads[form] = statement(staff.write(course), course, after is not None, params.most)
    values = {
        **staff.parameters,
        "actor_id": uow.actor_id,
        "course_id": course_id,
        "after_id": None if after is None else after[0],
    }
    rows = await _reads[form].all(uow.reader, **values)
    items = [student(row) for row in rows[: params.limit + 1]]
    last = items[: params.limit][-1:]
    return params.answer(uow, fingerprint, items, [last[0]["user_id"]] if last else [])


def student(row: Any) -> dict[str, Any]:
    """What an answer shows of one."""
    return {"user_id": row["user_id"], "full_name": row["full_name"], "grades": [cell(one) for one in parsed(row)]}


def parsed(row: Any) -> list[dict[str, Any]]:
    """The grades of a row."""
    found: list[dict[str, Any]] = json.loads(bytes(row["grades"]))
    return found


def cell(one: dict[str, Any]) -> dict[str, Any]:
    """One grade, with what being late takes; only what came after everybody's due date brings its terms along."""
    terms, submitted_at = one.pop("terms"), one.pop("submitted_at")
    del one["graded_at"]
    if terms is None:
        return {**one, "late": False, "final_points": one["points"]}
    policy = LatePolicy.model_validate(terms["late_policy"])
    due_at, submitted = datetime.fromisoformat(terms["due_at"]), datetime.fromisoformat(submitted_at)
    graded = with_penalty({"points": one["points"]}, policy, terms, due_at, submitted)
    return {**one, "late": is_late(policy, due_at, submitted), "final_points": graded["final_points"]}


def statement(staff: ColumnElement[bool], course: Any, later: bool, most: int | None) -> Read:
    """Students by their ids, each with their grades as JSON."""
    enrollment = ENROLLMENTS.alias()
    is_staff = exists().where(course.id == bindparam("course_id", type_=Uuid()), staff)
    seen = or_(
        is_staff.correlate_except(course),
        enrollment.c.user_id == ACTOR_ID,
        is_some_ward(lambda student_id: enrollment.c.user_id == student_id),
    )
    chosen = (
        select(enrollment.c.user_id, USERS.c.full_name)
        .join(USERS, USERS.c.id == enrollment.c.user_id)
        .where(
            enrollment.c.course_id == bindparam("course_id", type_=Uuid()),
            exists().where(course.id == enrollment.c.course_id, alive(course)),
            enrollment.c.role == "student",
            enrollment.c.state.in_(["active", "completed"]),
            ~enrollment.c.is_deleted,
            ~USERS.c.is_deleted,
            seen,
        )
        .order_by(enrollment.c.user_id)
    )
    if most is not None:
        chosen = chosen.limit(literal_column(str(most)))
    if later:
        chosen = chosen.where(enrollment.c.user_id > bindparam("after_id", type_=Uuid()))
    page = chosen.subquery()
    is_staff_once = select(is_staff.correlate_except(course).label("yes")).cte("staff")
    yes = select(is_staff_once.c.yes).scalar_subquery()
    return Read(
        select(page.c.user_id, page.c.full_name, grades_of(page.c.user_id, yes).label("grades")).order_by(
            page.c.user_id
        ),
        plan_once=True,
    )


def grades_of(user_id: Any, all_of_them: Any) -> Any:
    """The grades that count of a student in the course, as JSON: those of the last attempts that have one."""
    submission, material, assignment = aliased(Submission), aliased(Material), aliased(Assignment)
    grade = aliased(Grade)
    terms = case(
        (
            col(submission.submitted_at) > col(assignment.due_at),
            deadlines.terms(material, col(submission.user_id), col(submission.due_at)),
        ),
        else_=null(),
    )
    one = func.json_build_object(
        "material_id",
        col(material.id),
        "submission_id",
        col(submission.id),
        "attempt",
        col(submission.attempt),
        "possible",
        cast(col(assignment.points), Float()),
        "points",
        cast(col(grade.points), Float()),
        "submitted_at",
        in_json(col(submission.submitted_at)),
        "graded_at",
        in_json(col(grade.created_at)),
        "terms",
        terms,
        type_=JSON(),
    )
    counted = (
        select(one.label("one"))
        .select_from(submission)
        .join(material, col(material.id) == col(submission.material_id))
        .join(assignment, col(assignment.material_id) == col(material.id))
        .join(grade, col(grade.submission_id) == col(submission.id))
        .where(
            col(submission.user_id) == user_id,
            col(submission.state) == "submitted",
            ~col(submission.is_deleted),
            col(material.course_id) == bindparam("course_id", type_=Uuid()),
            alive(material),
            is_last(grade),
            col(grade.points).is_not(None),
            or_(all_of_them, (is_released(assignment) & visibility.is_published(material))),
        )
        .ext(distinct_on(col(material.id)))
        .order_by(col(material.id), col(submission.attempt).desc())
        .correlate(user_id.table)
        .subquery()
    )
    listed = func.json_agg(counted.c.one)
    return select(func.coalesce(listed, NONE_OF_THEM)).scalar_subquery()


class CourseGradebook(Gradebook):
    """Hands the grades to plugins that weigh them."""

    async def of_course(self, uow: UnitOfWork, course_id: UUID) -> list[CountedGrade]:
        """One statement, on the read pool."""
        form = "everybody"
        if form not in _reads:
            _reads[form] = statement(true(), uow.model(COURSE), later=False, most=None)
        values = {"course_id": course_id, "actor_id": None}
        rows = await _reads[form].all(uow.reader, **values)
        return [counted_grade(row["user_id"], one) for row in rows for one in parsed(row)]


def counted_grade(user_id: UUID, one: dict[str, Any]) -> CountedGrade:
    """One of them."""
    graded_at = datetime.fromisoformat(one["graded_at"])
    shown = cell(one)
    return CountedGrade(
        user_id=user_id,
        material_id=UUID(shown["material_id"]),
        submission_id=UUID(shown["submission_id"]),
        possible=Decimal(str(shown["possible"])),
        points=Decimal(str(shown["points"])),
        final_points=Decimal(str(shown["final_points"])),
        late=shown["late"],
        graded_at=graded_at,
    )
