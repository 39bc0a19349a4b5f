"""How long deleted things of single kinds are kept."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "institutions_0003"
down_revision = "institutions_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "institutions_institution",
        sa.Column("retention_days_of", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
    )


def downgrade() -> None:
    op.drop_column("institutions_institution", "retention_days_of")
