"""Enrollments as a CSV file that the import reads back unchanged."""

from __future__ import annotations

from urllib.parse import urlencode
from uuid import UUID

from fastapi import Response
from lms_courses.contracts import COURSES, SECTIONS, TERMS
from lms_institutions.contracts import INSTITUTION
from lms_users.contracts import USERS
from sqlalchemy import String, and_, case, cast, exists, func, select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlmodel import col

from lms_core.sdk import UnitOfWork, write_table
from lms_enrollments.importing import EnrollmentImporter
from lms_enrollments.models import Enrollment

NAMES = tuple(one.name for one in EnrollmentImporter.columns)
OTHERS, TERMS_OF_OTHERS = COURSES.alias(), TERMS.alias()
NAMED_BY_ANOTHER = (
    exists()
    .select_from(
        OTHERS.outerjoin(TERMS_OF_OTHERS, and_(TERMS_OF_OTHERS.c.id == OTHERS.c.term_id, ~TERMS_OF_OTHERS.c.is_deleted))
    )
    .where(
        OTHERS.c.institution_id == COURSES.c.institution_id,
        OTHERS.c.code == COURSES.c.code,
        OTHERS.c.id != COURSES.c.id,
        ~OTHERS.c.is_deleted,
        TERMS_OF_OTHERS.c.name.is_not_distinct_from(TERMS.c.name),
    )
    .correlate(COURSES, TERMS)
)
"""A condition: code and term do not say which course it is (two terms of one name, or a deleted one)."""
ROWS = (
    select(
        COURSES.c.code,
        USERS.c.email,
        func.coalesce(TERMS.c.name, ""),
        col(Enrollment.role),
        func.coalesce(SECTIONS.c.name, ""),
        # Who waits is written as who takes part: a file cannot say where in the line they stand.
        func.replace(col(Enrollment.state), "waitlisted", "active"),
        func.coalesce(cast(col(Enrollment.starts_on), String), ""),
        func.coalesce(cast(col(Enrollment.ends_on), String), ""),
        case((NAMED_BY_ANOTHER, cast(COURSES.c.id, String)), else_=""),
    )
    .join_from(Enrollment, COURSES, and_(COURSES.c.id == col(Enrollment.course_id), ~COURSES.c.is_deleted))
    .join(USERS, and_(USERS.c.id == col(Enrollment.user_id), ~USERS.c.is_deleted))
    .outerjoin(TERMS, and_(TERMS.c.id == COURSES.c.term_id, ~TERMS.c.is_deleted))
    .outerjoin(SECTIONS, and_(SECTIONS.c.id == col(Enrollment.section_id), ~SECTIONS.c.is_deleted))
    .where(~col(Enrollment.is_deleted), col(Enrollment.state) != "requested")
    # Of somebody who came back the part that counts now; of those who ended twice the last.
    .ext(distinct_on(COURSES.c.code, TERMS.c.name, COURSES.c.id, USERS.c.email, col(Enrollment.role)))
    .order_by(
        COURSES.c.code,
        TERMS.c.name,
        COURSES.c.id,
        USERS.c.email,
        col(Enrollment.role),
        col(Enrollment.state).in_(("active", "waitlisted")).desc(),
        col(Enrollment.id).desc(),
    )
)


async def export(uow: UnitOfWork, institution_id: UUID, course_id: UUID | None, part: int) -> Response:
    """A part of all enrollments in an institution's courses, or in one of them: as many as an import takes."""
    await uow.require(EnrollmentImporter.permission, INSTITUTION, institution_id)
    statement = ROWS.where(COURSES.c.institution_id == institution_id)
    query = {"institution_id": str(institution_id)}
    if course_id is not None:
        statement = statement.where(col(Enrollment.course_id) == course_id)
        query["course_id"] = str(course_id)
    most = EnrollmentImporter.most_rows
    rows = (await uow.session.execute(statement.offset((part - 1) * most).limit(most + 1))).all()
    headers = {"Content-Disposition": f'attachment; filename="enrollments{"" if part == 1 else f"-{part}"}.csv"'}
    if len(rows) > most:
        headers["Link"] = f'<?{urlencode({**query, "part": part + 1})}>; rel="next"'
    return Response(write_table(NAMES, rows[:most]), media_type="text/csv; charset=utf-8", headers=headers)
