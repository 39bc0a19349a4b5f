"""Indexes of what points at other tables: a purge looks there for each row that it removes."""

import sqlalchemy as sa
from alembic import op

from lms_core.sdk import create_index_online

revision = "enrollments_0006"
down_revision = "enrollments_0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    create_index_online("ix_enrollments_enrollment_course_id", "enrollments_enrollment", ["course_id"])
    create_index_online("ix_enrollments_enrollment_user_id", "enrollments_enrollment", ["user_id"])
    create_index_online(
        "ix_enrollments_period_section_id",
        "enrollments_period",
        ["section_id"],
        postgresql_where=sa.text("section_id IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index(
        "ix_enrollments_period_section_id",
        table_name="enrollments_period",
        postgresql_where=sa.text("section_id IS NOT NULL"),
    )
    op.drop_index("ix_enrollments_enrollment_user_id", table_name="enrollments_enrollment")
    op.drop_index("ix_enrollments_enrollment_course_id", table_name="enrollments_enrollment")
