"""Indexes of what points at other tables: a purge looks there for each row that it removes."""

import sqlalchemy as sa
from alembic import op

from lms_core.sdk import create_index_online

revision = "courses_0004"
down_revision = "courses_0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    create_index_online("ix_courses_course_institution_id", "courses_course", ["institution_id"])
    create_index_online("ix_courses_section_course_id", "courses_section", ["course_id"])
    create_index_online("ix_courses_term_institution_id", "courses_term", ["institution_id"])
    create_index_online(
        "ix_courses_term_parent_id",
        "courses_term",
        ["parent_id"],
        postgresql_where=sa.text("parent_id IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index(
        "ix_courses_term_parent_id", table_name="courses_term", postgresql_where=sa.text("parent_id IS NOT NULL")
    )
    op.drop_index("ix_courses_term_institution_id", table_name="courses_term")
    op.drop_index("ix_courses_section_course_id", table_name="courses_section")
    op.drop_index("ix_courses_course_institution_id", table_name="courses_course")
