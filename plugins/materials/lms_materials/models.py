"""The tables of modules, materials, assignments, submissions and grades, and of the searchable text."""

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Column, DateTime, Index, Numeric, text
from sqlalchemy.dialects.postgresql import JSONB, TSVECTOR
from sqlmodel import SQLModel

from lms_core.sdk import Field, Record, Table, new_id

MOMENT: Any = DateTime(timezone=True)
POINTS: Any = Numeric(8, 2)
COURSE_AND_WORDS = (text("(ARRAY[course_id])"), "vector")
IN_ONE_INDEX: dict[str, Any] = {"postgresql_using": "gin"}


class Module(Table, table=True):
    """A chapter of a course, in the order of `position`; students open what is in it from `unlock_at` on."""

    __tablename__ = "materials_module"
    __table_args__ = (
        Index("ix_materials_module_position", "course_id", "position", "id"),
        Index("ix_materials_module_order", "position", "id", postgresql_where=text("NOT is_deleted")),
    )
    label_column = "title"
    restore_permission = "materials.delete"

    course_id: UUID = Field(foreign_key="courses_course.id")
    title: str = Field(max_length=300)
    position: float = 0
    published: bool = Field(default=True, sa_column_kwargs={"server_default": text("true")})
    unlock_at: datetime | None = Field(default=None, sa_type=MOMENT)


class Material(Table, table=True):
    """Something in a course, of a kind, in the order of `position` within its module.

    Where it is `restricted` it is for its audience alone. `content` is what a plugin's kind keeps.
    """

    __tablename__ = "materials_material"
    __table_args__ = (
        CheckConstraint("(kind = 'document') = (file_id IS NOT NULL)", name="ck_materials_material_file"),
        CheckConstraint("(kind = 'link') = (url IS NOT NULL)", name="ck_materials_material_url"),
        Index("ix_materials_material_position", "course_id", "position", "id"),
        # For lists of all courses at once.
        Index("ix_materials_material_order", "position", "id", postgresql_where=text("NOT is_deleted")),
        Index("ix_materials_material_kind", "kind", "position", "id", postgresql_where=text("NOT is_deleted")),
    )
    label_column = "title"
    restore_permission = "materials.delete"

    course_id: UUID = Field(foreign_key="courses_course.id")
    module_id: UUID | None = Field(default=None, foreign_key="materials_module.id")
    kind: str = Field(max_length=50)
    title: str = Field(max_length=300)
    body: str = ""
    body_format: str = Field(default="markdown", max_length=20, sa_column_kwargs={"server_default": "markdown"})
    content: dict[str, Any] | None = Field(default=None, sa_type=JSONB(none_as_null=True), nullable=True)
    file_id: UUID | None = Field(default=None, foreign_key="files_file.id", index=True)
    url: str | None = Field(default=None, max_length=2_000)
    position: float = 0
    published: bool = False
    publish_at: datetime | None = Field(default=None, sa_type=MOMENT)
    unlock_at: datetime | None = Field(default=None, sa_type=MOMENT)
    restricted: bool = Field(default=False, sa_column_kwargs={"server_default": text("false")})


class Revision(Record, table=True):
    """What a material held from then on; `number` counts from 1."""

    __tablename__ = "materials_revision"
    __table_args__ = (Index("uq_materials_revision_number", "material_id", "number", unique=True),)

    material_id: UUID = Field(foreign_key="materials_material.id")
    number: int
    actor_id: UUID | None = Field(default=None, foreign_key="users_user.id")
    title: str = Field(max_length=300)
    body: str
    body_format: str = Field(max_length=20)
    content: dict[str, Any] | None = Field(default=None, sa_type=JSONB(none_as_null=True), nullable=True)
    file_id: UUID | None = Field(default=None, foreign_key="files_file.id")
    url: str | None = Field(default=None, max_length=2_000)


class Prerequisite(SQLModel, table=True):
    """A material that has to be completed before another one opens."""

    __tablename__ = "materials_prerequisite"

    material_id: UUID = Field(foreign_key="materials_material.id", primary_key=True)
    required_id: UUID = Field(foreign_key="materials_material.id", primary_key=True, index=True)


class Completion(SQLModel, table=True):
    """Somebody says that they are done with a material; who submits an assignment is done with it by that."""

    __tablename__ = "materials_completion"

    material_id: UUID = Field(foreign_key="materials_material.id", primary_key=True)
    user_id: UUID = Field(foreign_key="users_user.id", primary_key=True, index=True)
    completed_at: datetime = Field(
        default=None, sa_type=MOMENT, sa_column_kwargs={"server_default": text("now()"), "nullable": False}
    )


class Assignment(SQLModel, table=True):
    """What a material of the kind assignment asks for; it belongs to the material, whose version it shares."""

    __tablename__ = "materials_assignment"
    __table_args__ = (
        CheckConstraint("points >= 0", name="ck_materials_assignment_points"),
        CheckConstraint(
            "opens_at < closes_at AND due_at <= closes_at AND opens_at < due_at", name="ck_materials_assignment_dates"
        ),
    )

    material_id: UUID = Field(foreign_key="materials_material.id", primary_key=True)
    points: Decimal = Field(sa_type=POINTS)
    extra_credit: bool = False
    opens_at: datetime | None = Field(default=None, sa_type=MOMENT)
    due_at: datetime | None = Field(default=None, sa_type=MOMENT)
    closes_at: datetime | None = Field(default=None, sa_type=MOMENT)
    attempts: int | None = None
    late_policy: dict[str, Any] = Field(default_factory=dict, sa_type=JSONB)
    grades_held: bool = False
    grades_release_at: datetime | None = Field(default=None, sa_type=MOMENT)
    # When somebody last let go of the grades that were held.
    grades_shown_at: datetime | None = Field(default=None, sa_type=MOMENT)


class DueExtension(Table, table=True):
    """More time for a student, a section or a group; of several that hold for somebody the most generous counts."""

    __tablename__ = "materials_extension"
    __table_args__ = (
        CheckConstraint("num_nonnulls(user_id, section_id, group_id) = 1", name="ck_materials_extension_one_thing"),
    )
    natural_key = ("material_id", "user_id", "section_id", "group_id")
    label_column = "reason"
    restore_permission = "materials.edit"

    material_id: UUID = Field(foreign_key="materials_material.id")
    user_id: UUID | None = Field(default=None, foreign_key="users_user.id", index=True)
    section_id: UUID | None = Field(default=None, foreign_key="courses_section.id", index=True)
    group_id: UUID | None = Field(default=None, foreign_key="groups_group.id", index=True)
    due_at: datetime | None = Field(default=None, sa_type=MOMENT)
    closes_at: datetime | None = Field(default=None, sa_type=MOMENT)
    days: int | None = None
    more_attempts: int = 0
    reason: str = Field(default="", max_length=1_000)


class Submission(Table, table=True):
    """What a student hands in: a draft, of which there is one at most, or one of the attempts, which never change."""

    __tablename__ = "materials_submission"
    __table_args__ = (
        CheckConstraint("(state = 'draft') = (submitted_at IS NULL)", name="ck_materials_submission_submitted"),
        Index("ix_materials_submission_user_id", "user_id", "material_id"),
        Index("ix_materials_submission_order", "material_id", "id", postgresql_where=text("NOT is_deleted")),
        Index(
            "uq_materials_submission_attempt",
            "material_id",
            "user_id",
            "attempt",
            unique=True,
        ),
    )
    restore_permission = "materials.delete_submissions"
    # A draft is its student's alone, and what is handed in concerns those who teach.
    secret_columns = ("body", "urls")

    material_id: UUID = Field(foreign_key="materials_material.id")
    user_id: UUID = Field(foreign_key="users_user.id")
    attempt: int
    state: str = Field(max_length=20)
    body: str = ""
    urls: list[str] = Field(default_factory=list, sa_type=JSONB)
    submitted_at: datetime | None = Field(default=None, sa_type=MOMENT)
    # What held for the student then; later it may only be later.
    due_at: datetime | None = Field(default=None, sa_type=MOMENT)
    receipt: str | None = Field(default=None, max_length=64)


class SubmittedFile(SQLModel, table=True):
    """A file of a submission, in the order of `number`."""

    __tablename__ = "materials_submitted_file"

    submission_id: UUID = Field(foreign_key="materials_submission.id", primary_key=True)
    file_id: UUID = Field(foreign_key="files_file.id", primary_key=True, index=True)
    number: int


class Grade(Record, table=True):
    """A grade of a submission; the one with the highest `number` counts, those before are its history.

    Points are those that were given, before anything is taken for being late; None takes the grade back.
    """

    __tablename__ = "materials_grade"
    __table_args__ = (
        CheckConstraint("points >= 0", name="ck_materials_grade_points"),
        Index("uq_materials_grade_number", "submission_id", "number", unique=True),
    )

    submission_id: UUID = Field(foreign_key="materials_submission.id")
    number: int
    points: Decimal | None = Field(default=None, sa_type=POINTS)
    feedback: str = ""
    reason: str = Field(default="", max_length=1_000)
    graded_by: UUID = Field(foreign_key="users_user.id")


class Audience(Record, table=True):
    """A section, or a group, that a restricted material is for. It stays when that is deleted, and counts again then."""

    __tablename__ = "materials_audience"
    __table_args__ = (
        CheckConstraint("(section_id IS NULL) <> (group_id IS NULL)", name="ck_materials_audience_one_thing"),
        Index(
            "uq_materials_audience",
            "material_id",
            "section_id",
            "group_id",
            unique=True,
            postgresql_nulls_not_distinct=True,
        ),
    )

    material_id: UUID = Field(foreign_key="materials_material.id")
    section_id: UUID | None = Field(default=None, foreign_key="courses_section.id", index=True)
    group_id: UUID | None = Field(default=None, foreign_key="groups_group.id", index=True)


class MaterialText(SQLModel, table=True):
    """What search looks at: the title and body (page 0), and a document's pages from 1 on, long ones in pieces.

    `vector` holds each word as it is and, by the text search configuration `language`, its stem. A trigger keeps
    `course_id`, which is the material's and never changes.
    """

    __tablename__ = "materials_text"
    # One for each sort of text: search looks for so many of each, and would else read all of one to find the other.
    # Each answers for words alone as well. As an array, a thousand courses are one question, and need no extension.
    __table_args__ = (
        Index("ix_materials_text_course_written", *COURSE_AND_WORDS, **IN_ONE_INDEX, postgresql_where=text("page = 0")),
        Index("ix_materials_text_course_pages", *COURSE_AND_WORDS, **IN_ONE_INDEX, postgresql_where=text("page > 0")),
    )

    id: UUID = Field(default_factory=new_id, primary_key=True)
    material_id: UUID = Field(foreign_key="materials_material.id", index=True)
    course_id: UUID | None = None
    page: int
    title: str
    text: str
    language: str = Field(default="lms_simple", max_length=63, sa_column_kwargs={"server_default": "lms_simple"})
    vector: Any = Field(default=None, sa_column=Column(TSVECTOR, nullable=False))


class Language(SQLModel, table=True):
    """A text search configuration that some text is indexed by; those of a search that is asked in no language."""

    __tablename__ = "materials_language"

    name: str = Field(primary_key=True, max_length=63)


class Word(SQLModel, table=True):
    """A word of some text, without accents: what a search that finds nothing may have meant."""

    __tablename__ = "materials_word"
    __table_args__ = (
        Index("ix_materials_word_trigrams", "word", postgresql_using="gin", postgresql_ops={"word": "gin_trgm_ops"}),
    )

    word: str = Field(primary_key=True, max_length=40)
