"""moved courses: roles that groups have in a course end when it goes to another institution."""

import sqlalchemy as sa
from alembic import op

revision = "courses_0006"
down_revision = "courses_0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("courses_course", sa.Column("moved_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    op.drop_column("courses_course", "moved_at")
