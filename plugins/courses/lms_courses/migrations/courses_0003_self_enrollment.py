"""How students join a course by themselves."""

import sqlalchemy as sa
from alembic import op

revision = "courses_0003"
down_revision = "courses_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "courses_course", sa.Column("self_enrollment", sa.String(length=20), server_default="closed", nullable=False)
    )
    op.add_column("courses_course", sa.Column("enrollment_key", sa.String(length=64), nullable=True))


def downgrade() -> None:
    op.drop_column("courses_course", "enrollment_key")
    op.drop_column("courses_course", "self_enrollment")
