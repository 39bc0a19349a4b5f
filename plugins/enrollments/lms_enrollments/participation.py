"""What the courses plugin asks of enrollments: who is in a course, and what follows when its seats change."""

from typing import Any
from uuid import UUID

from lms_courses.contracts import CourseCatalog, CourseParticipation
from lms_users.contracts import USERS
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlmodel import col

from lms_core.sdk import StateConflict, UnitOfWork
from lms_enrollments import joining, places, seats
from lms_enrollments.models import Enrollment
from lms_enrollments.parts import Part


class Participation(CourseParticipation):
    """What courses asks for when a course is made, or its seats change."""

    def people(self, course_id: Any) -> Any:
        """By sub-selects, each over a partial index."""
        there = (col(Enrollment.course_id) == course_id) & ~col(Enrollment.is_deleted)
        teachers = (
            select(
                func.json_agg(
                    aggregate_order_by(
                        func.json_build_object("id", USERS.c.id, "full_name", USERS.c.full_name),
                        USERS.c.full_name,
                        USERS.c.id,
                    )
                )
            )
            .join_from(Enrollment, USERS, (USERS.c.id == col(Enrollment.user_id)) & ~USERS.c.is_deleted)
            .where(there, col(Enrollment.role) == "teacher", col(Enrollment.state) == "active")
        )
        students = select(func.count()).select_from(Enrollment).where(there, col(Enrollment.role) == seats.STUDENT)
        active = students.where(col(Enrollment.state) == "active")
        waiting = students.where(col(Enrollment.state) == "waitlisted")
        return func.json_build_object(
            "teachers", func.coalesce(teachers.scalar_subquery(), func.json_build_array()),
            "students", active.scalar_subquery(),
            "waiting", waiting.scalar_subquery(),
        )  # fmt: skip

    async def appoint_teacher(self, uow: UnitOfWork, course_id: UUID, user_id: UUID) -> None:
        """The one who made it."""
        course = await uow.use(CourseCatalog).lock(uow, course_id)
        await joining.place(uow, course, "teacher", {user_id: Part()})

    async def seats_changed(self, uow: UnitOfWork, course_id: UUID) -> None:
        """Fewer seats than are taken are refused; more are given to those who wait."""
        course = await uow.use(CourseCatalog).lock(uow, course_id)
        taken = await seats.count(uow, course_id, "active")
        if course.capacity is not None and course.capacity < taken:
            raise StateConflict("capacity_below_taken", f"{taken} seats are taken; drop students first, or allow more.")
        await seats.promote(uow, course)

    async def section_changed(self, uow: UnitOfWork, section_id: UUID, capacity: int | None) -> None:
        """Fewer places than are taken are refused."""
        if capacity is None:
            return
        taken = await places.taken(uow, section_id)
        if capacity < taken:
            raise StateConflict("capacity_below_taken", f"{taken} students are in it; move some, or allow more.")
