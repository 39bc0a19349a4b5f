"""Indexes of what points at other tables: a purge looks there for each row that it removes."""

from alembic import op

from lms_core.sdk import create_index_online

revision = "auth_0003"
down_revision = "auth_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    create_index_online("ix_auth_session_user_id", "auth_session", ["user_id"])


def downgrade() -> None:
    op.drop_index("ix_auth_session_user_id", table_name="auth_session")
