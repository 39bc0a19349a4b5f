"""days in history: a period says from which day to which somebody took part then."""

import sqlalchemy as sa
from alembic import op

revision = "enrollments_0005"
down_revision = "enrollments_0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("enrollments_period", sa.Column("starts_on", sa.Date(), nullable=True))
    op.add_column("enrollments_period", sa.Column("ends_on", sa.Date(), nullable=True))
    op.execute(
        """
        UPDATE enrollments_period SET starts_on = enrollment.starts_on, ends_on = enrollment.ends_on
        FROM enrollments_enrollment AS enrollment
        WHERE enrollment.id = enrollment_id AND until IS NULL
        AND coalesce(enrollment.starts_on, enrollment.ends_on) IS NOT NULL
        """
    )


def downgrade() -> None:
    op.drop_column("enrollments_period", "ends_on")
    op.drop_column("enrollments_period", "starts_on")
