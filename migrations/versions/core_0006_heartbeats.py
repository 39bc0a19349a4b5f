"""Signs of life of the background processes, and indexes for what operators look at."""

import sqlalchemy as sa
from alembic import op

from lms_core.online import create_index_online

revision = "core_0006"
down_revision = "core_0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "core_heartbeat",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("name"),
        if_not_exists=True,
    )
    create_index_online(
        "ix_core_deletion_passing",
        "core_deletion",
        ["updated_at"],
        postgresql_where=sa.text("state IN ('cascading', 'restoring')"),
    )
    create_index_online(
        "ix_core_delivery_dead",
        "core_delivery",
        ["dead_at"],
        postgresql_where=sa.text("dead_at IS NOT NULL AND done_at IS NULL"),
    )


def downgrade() -> None:
    op.drop_index(
        "ix_core_delivery_dead",
        table_name="core_delivery",
        postgresql_where=sa.text("dead_at IS NOT NULL AND done_at IS NULL"),
    )
    op.drop_index(
        "ix_core_deletion_passing",
        table_name="core_deletion",
        postgresql_where=sa.text("state IN ('cascading', 'restoring')"),
    )
    op.drop_table("core_heartbeat")
