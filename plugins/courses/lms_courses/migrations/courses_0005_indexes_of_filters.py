"""For courses in a rare state, and for words in their titles and codes."""

import sqlalchemy as sa
from alembic import op

from lms_core.sdk import create_index_online

revision = "courses_0005"
down_revision = "courses_0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
    create_index_online(
        "ix_courses_course_state", "courses_course", ["state", "id"], postgresql_where=sa.text("NOT is_deleted")
    )
    create_index_online(
        "ix_courses_course_words",
        "courses_course",
        ["title", "code"],
        postgresql_using="gin",
        postgresql_ops={"title": "gin_trgm_ops", "code": "gin_trgm_ops"},
        postgresql_where=sa.text("NOT is_deleted"),
    )


def downgrade() -> None:
    op.drop_index("ix_courses_course_words", table_name="courses_course")
    op.drop_index("ix_courses_course_state", table_name="courses_course", postgresql_where=sa.text("NOT is_deleted"))
