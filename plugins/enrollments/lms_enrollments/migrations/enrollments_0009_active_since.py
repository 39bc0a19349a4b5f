"""active since: what a group gives, it gives only to who took part in the course without a break."""

import sqlalchemy as sa
from alembic import op

revision = "enrollments_0009"
down_revision = "enrollments_0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("enrollments_enrollment", sa.Column("active_since", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    op.drop_column("enrollments_enrollment", "active_since")
