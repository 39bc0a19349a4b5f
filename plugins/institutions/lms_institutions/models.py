"""The table of institutions."""

from uuid import UUID

from sqlalchemy.dialects.postgresql import JSONB

from lms_core.sdk import Field, Table


class Institution(Table, table=True):
    """A district, a school or a department: a node of a tree; a role held here holds for all below.

    A setting that is null is that of the nearest institution above which has one (inheritance.py).
    """

    __tablename__ = "institutions_institution"
    label_column = "name"
    natural_key = ("parent_id", "slug")
    renamed_column = "slug"
    restore_permission = "institutions.edit"

    parent_id: UUID | None = Field(default=None, foreign_key="institutions_institution.id")
    name: str = Field(max_length=300)
    slug: str = Field(max_length=100)
    timezone: str | None = Field(default=None, max_length=64)
    locale: str | None = Field(default=None, max_length=35)
    password_min_length: int | None = None
    retention_days: int | None = None
    retention_days_of: dict[str, int] | None = Field(default=None, sa_type=JSONB(none_as_null=True), nullable=True)
