"""The tables of materials and of their searchable text."""

from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Column, Computed, Index
from sqlalchemy.dialects.postgresql import TSVECTOR
from sqlmodel import SQLModel

from lms_core.sdk import Field, Table, new_id

VECTOR = "setweight(to_tsvector('simple', title), 'A') || setweight(to_tsvector('simple', text), 'C')"


class Material(Table, table=True):
    """A page, a document (a file) or a link in a course, in the order of `position`."""

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
