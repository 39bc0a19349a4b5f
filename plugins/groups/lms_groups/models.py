"""The tables of groups, of who is in them, and of the roles that they hold."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, DateTime

from lms_core.sdk import Field, Table


class Group(Table, table=True):
    """Some people of a course, or of an institution: exactly one of the two."""

    __tablename__ = "groups_group"
    __table_args__ = (
        CheckConstraint("(course_id IS NULL) <> (institution_id IS NULL)", name="ck_groups_group_of_one_thing"),
    )
    label_column = "name"
    natural_key = ("course_id", "institution_id", "name")
    renamed_column = "name"
    restore_permission = "groups.delete"

    course_id: UUID | None = Field(default=None, foreign_key="courses_course.id")
    institution_id: UUID | None = Field(default=None, foreign_key="institutions_institution.id")
    name: str = Field(max_length=300)
    description: str = Field(default="", max_length=20_000)


class Membership(Table, table=True):
    """Somebody is in a group. In a course's group it counts while they take part in the course.

    `confirmed_at` is when somebody added them again who may give the group's roles; None where nobody has.
    """

    __tablename__ = "groups_membership"
    natural_key = ("group_id", "user_id")
    restore_permission = "groups.edit"

    group_id: UUID = Field(foreign_key="groups_group.id")
    user_id: UUID = Field(foreign_key="users_user.id")
    confirmed_at: datetime | None = Field(default=None, sa_type=DateTime(timezone=True))


class CourseRole(Table, table=True):
    """A role that everybody in a group has in a course."""

    __tablename__ = "groups_course_role"
    label_column = "role"
    natural_key = ("group_id", "course_id", "role")
    restore_permission = "groups.grant"

    group_id: UUID = Field(foreign_key="groups_group.id")
    course_id: UUID = Field(foreign_key="courses_course.id")
    role: str = Field(max_length=20)
