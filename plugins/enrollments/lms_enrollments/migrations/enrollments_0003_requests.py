"""A request to join stands, too: one for each course, user and role."""

import sqlalchemy as sa
from alembic import op

revision = "enrollments_0003"
down_revision = "enrollments_0002"
branch_labels = None
depends_on = None
phase = "maintenance"


INDEX = "uq_enrollments_enrollment_natural_key"


def replace_index(states: str) -> None:
    op.drop_index(INDEX, table_name="enrollments_enrollment")
    op.create_index(
        INDEX,
        "enrollments_enrollment",
        ["course_id", "user_id", "role"],
        unique=True,
        postgresql_where=sa.text(f"NOT is_deleted AND state IN ({states})"),
        postgresql_nulls_not_distinct=True,
    )


def upgrade() -> None:
    replace_index("'requested', 'active', 'waitlisted'")


def downgrade() -> None:
    replace_index("'active', 'waitlisted'")
