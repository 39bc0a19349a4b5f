"""The tables of materials and of their searchable text."""

from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Column, Computed, Index, text
from sqlalchemy.dialects.postgresql import TSVECTOR
from sqlmodel import SQLModel

from lms_core.sdk import Field, Record, Table, new_id

VECTOR = "setweight(to_tsvector('simple', title), 'A') || setweight(to_tsvector('simple', text), 'C')"


class Material(Table, table=True):
    """A page, a document (a file) or a link in a course, in the order of `position`.

    Where it is `restricted` it is for its audience alone.
    """

    __tablename__ = "materials_material"
    __table_args__ = (
        CheckConstraint("(kind = 'document') = (file_id IS NOT NULL)", name="ck_materials_material_file"),
        CheckConstraint("(kind = 'link') = (url IS NOT NULL)", name="ck_materials_material_url"),
        Index("ix_materials_material_position", "course_id", "position", "id"),
    )
    label_column = "title"
    restore_permission = "materials.delete"

    course_id: UUID = Field(foreign_key="courses_course.id")
    kind: str = Field(max_length=20)
    title: str = Field(max_length=300)
    body: str = ""
    file_id: UUID | None = Field(default=None, foreign_key="files_file.id", index=True)
    url: str | None = Field(default=None, max_length=2_000)
    position: int = 0
    published: bool = False
    restricted: bool = Field(default=False, sa_column_kwargs={"server_default": text("false")})


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
    """What search looks at: the title and body (page 0), and a document's pages from 1 on, long ones in pieces."""

    __tablename__ = "materials_text"
    __table_args__ = (Index("ix_materials_text_vector", "vector", postgresql_using="gin"),)

    id: UUID = Field(default_factory=new_id, primary_key=True)
    material_id: UUID = Field(foreign_key="materials_material.id", index=True)
    page: int
    title: str
    text: str
    vector: Any = Field(default=None, sa_column=Column(TSVECTOR, Computed(VECTOR, persisted=True), nullable=False))
