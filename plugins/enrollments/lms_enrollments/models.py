"""The tables of enrollments and of what they were when."""

from datetime import date, datetime
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, DateTime, Index, text

from lms_core.sdk import Field, Record, Table

STANDING = "state IN ('requested', 'active', 'waitlisted')"


class Enrollment(Table, table=True):
    """A user's part in a course. `waiting_number` orders those who wait: lower came first.

    `active_since` is when it became active, or its days began anew; None where that was when it was made.
    `starts_on` and `ends_on` are days where the institution is, and both belong to it; without them there is no limit.
    """

    __tablename__ = "enrollments_enrollment"
    __table_args__ = (
        CheckConstraint(
            "(state = 'waitlisted') = (waiting_number IS NOT NULL)", name="ck_enrollments_enrollment_waiting"
        ),
        CheckConstraint("starts_on <= ends_on", name="ck_enrollments_enrollment_days"),
        # For lists of what is rare; most are active students, whom every page of all has.
        Index(
            "ix_enrollments_enrollment_state",
            "state",
            "id",
            postgresql_where=text("NOT is_deleted AND state <> 'active'"),
        ),
        Index(
            "ix_enrollments_enrollment_role",
            "role",
            "id",
            postgresql_where=text("NOT is_deleted AND role <> 'student'"),
        ),
        Index(
            "ix_enrollments_enrollment_ends_on",
            "ends_on",
            postgresql_where=text(f"NOT is_deleted AND ends_on IS NOT NULL AND {STANDING}"),
        ),
        Index(
            "ix_enrollments_enrollment_seats",
            "course_id",
            "state",
            "waiting_number",
            postgresql_where=text("NOT is_deleted AND role = 'student'"),
        ),
        Index(
            "ix_enrollments_enrollment_teachers",
            "course_id",
            postgresql_where=text("NOT is_deleted AND role = 'teacher'"),
        ),
        Index(
            "ix_enrollments_enrollment_line",
            "course_id",
            "waiting_number",
            postgresql_where=text("waiting_number IS NOT NULL"),
        ),
    )
    label_column = "role"
    natural_key = ("course_id", "user_id", "role")
    natural_key_condition = STANDING
    restore_permission = "enrollments.delete"

    course_id: UUID = Field(foreign_key="courses_course.id")
    user_id: UUID = Field(foreign_key="users_user.id")
    role: str = Field(max_length=20)
    state: str = Field(max_length=20)
    section_id: UUID | None = Field(default=None, foreign_key="courses_section.id", index=True)
    waiting_number: int | None = Field(default=None, sa_type=BigInteger)
    starts_on: date | None = None
    ends_on: date | None = None
    active_since: datetime | None = Field(default=None, sa_type=DateTime(timezone=True))


class Period(Record, table=True):
    """What an enrollment was from a moment on, until another one; the last period has no end.

    Deleting and restoring leaves it alone: what comes back has its history as it was.
    """

    __tablename__ = "enrollments_period"
    __table_args__ = (
        Index("uq_enrollments_period_last", "enrollment_id", unique=True, postgresql_where=text("until IS NULL")),
        Index("ix_enrollments_period_enrollment", "enrollment_id", "id"),
        Index("ix_enrollments_period_course", "course_id", "id"),
        Index("ix_enrollments_period_user", "user_id", "id"),
    )

    enrollment_id: UUID = Field(foreign_key="enrollments_enrollment.id")
    course_id: UUID = Field(foreign_key="courses_course.id")
    user_id: UUID = Field(foreign_key="users_user.id")
    role: str = Field(max_length=20)
    state: str = Field(max_length=20)
    section_id: UUID | None = Field(default=None, foreign_key="courses_section.id")
    starts_on: date | None = None
    ends_on: date | None = None
    since: datetime = Field(sa_type=DateTime(timezone=True))
    until: datetime | None = Field(default=None, sa_type=DateTime(timezone=True))
    cause: str = Field(max_length=20)
    reason: str | None = Field(default=None, max_length=500)
    actor_id: UUID | None = None


class WrongKeys(Record, table=True):
    """How often a user gave a wrong enrollment key for a course since a moment."""

    __tablename__ = "enrollments_wrong_keys"
    __table_args__ = (Index("uq_enrollments_wrong_keys", "course_id", "user_id", unique=True),)

    course_id: UUID = Field(foreign_key="courses_course.id")
    user_id: UUID = Field(foreign_key="users_user.id", index=True)
    count: int
    since: datetime = Field(sa_type=DateTime(timezone=True))
