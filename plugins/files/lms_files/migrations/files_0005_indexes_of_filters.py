"""For files in a rare state; most are ready."""

import sqlalchemy as sa
from alembic import op

from lms_core.sdk import create_index_online

revision = "files_0005"
down_revision = "files_0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    create_index_online(
        "ix_files_file_state",
        "files_file",
        ["state", "id"],
        postgresql_where=sa.text("NOT is_deleted AND state <> 'ready'"),
    )


def downgrade() -> None:
    op.drop_index(
        "ix_files_file_state", table_name="files_file", postgresql_where=sa.text("NOT is_deleted AND state <> 'ready'")
    )
