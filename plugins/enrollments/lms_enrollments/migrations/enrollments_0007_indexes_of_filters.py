"""For enrollments in a rare state or role; the common ones are on every page of all."""

import sqlalchemy as sa
from alembic import op

from lms_core.sdk import create_index_online

revision = "enrollments_0007"
down_revision = "enrollments_0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    create_index_online(
        "ix_enrollments_enrollment_role",
        "enrollments_enrollment",
        ["role", "id"],
        postgresql_where=sa.text("NOT is_deleted AND role <> 'student'"),
    )
    create_index_online(
        "ix_enrollments_enrollment_state",
        "enrollments_enrollment",
        ["state", "id"],
        postgresql_where=sa.text("NOT is_deleted AND state <> 'active'"),
    )


def downgrade() -> None:
    op.drop_index(
        "ix_enrollments_enrollment_state",
        table_name="enrollments_enrollment",
        postgresql_where=sa.text("NOT is_deleted AND state <> 'active'"),
    )
    op.drop_index(
        "ix_enrollments_enrollment_role",
        table_name="enrollments_enrollment",
        postgresql_where=sa.text("NOT is_deleted AND role <> 'student'"),
    )
