"""Where events come from, so that a trace goes on in their handlers."""

import sqlalchemy as sa
from alembic import op

revision = "core_0007"
down_revision = "core_0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("core_event", sa.Column("traceparent", sa.String(), nullable=True))


def downgrade() -> None:
    op.drop_column("core_event", "traceparent")
