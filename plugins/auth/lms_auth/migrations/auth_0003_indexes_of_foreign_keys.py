"""Indexes of what points at other tables: a purge looks there for each row that it removes."""

from alembic import op

revision = "auth_0003"
down_revision = "auth_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_auth_session_user_id", "auth_session", ["user_id"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_auth_session_user_id", table_name="auth_session")
