"""Enrollments as a CSV file that the import reads back unchanged."""

from __future__ import annotations

from uuid import UUID

from fastapi import Response
from lms_institutions.contracts import INSTITUTION
from sqlalchemy import String, and_, cast, column, func, select, table
from sqlalchemy.dialects.postgresql import distinct_on
from sqlmodel import col

from lms_core.sdk import UnitOfWork, write_table
from lms_enrollments.importing import EnrollmentImporter
from lms_enrollments.models import Enrollment

COURSES = table(
    "courses_course", column("id"), column("institution_id"), column("code"), column("term_id"), column("is_deleted")
)
TERMS = table("courses_term", column("id"), column("name"), column("is_deleted"))
SECTIONS = table("courses_section", column("id"), column("name"), column("is_deleted"))
USERS = table("users_user", column("id"), column("email"), column("is_deleted"))
NAMES = tuple(one.name for one in EnrollmentImporter.columns)
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
    )
    .join_from(Enrollment, COURSES, and_(COURSES.c.id == col(Enrollment.course_id), ~COURSES.c.is_deleted))
    .join(USERS, and_(USERS.c.id == col(Enrollment.user_id), ~USERS.c.is_deleted))
    .outerjoin(TERMS, and_(TERMS.c.id == COURSES.c.term_id, ~TERMS.c.is_deleted))
    .outerjoin(SECTIONS, and_(SECTIONS.c.id == col(Enrollment.section_id), ~SECTIONS.c.is_deleted))
    .where(~col(Enrollment.is_deleted), col(Enrollment.state) != "requested")
    # Of somebody who came back the part that counts now; of those who ended twice the last.
    .ext(distinct_on(COURSES.c.code, TERMS.c.name, USERS.c.email, col(Enrollment.role)))
    .order_by(
        COURSES.c.code,
        TERMS.c.name,
        USERS.c.email,
        col(Enrollment.role),
        col(Enrollment.state).in_(("active", "waitlisted")).desc(),
        col(Enrollment.id).desc(),
    )
)


async def export(uow: UnitOfWork, institution_id: UUID, course_id: UUID | None) -> Response:
    """All enrollments in an institution's courses, or in one of them."""
    await uow.require(EnrollmentImporter.permission, INSTITUTION, institution_id)
    statement = ROWS.where(COURSES.c.institution_id == institution_id)
    if course_id is not None:
        statement = statement.where(col(Enrollment.course_id) == course_id)
    rows = (await uow.session.execute(statement)).all()
    headers = {"Content-Disposition": 'attachment; filename="enrollments.csv"'}
    return Response(write_table(NAMES, rows), media_type="text/csv; charset=utf-8", headers=headers)
