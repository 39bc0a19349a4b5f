"""Indexes of what points at other tables: a purge looks there for each row that it removes."""

import sqlalchemy as sa
from alembic import op

from lms_core.sdk import create_index_online

revision = "files_0004"
down_revision = "files_0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    create_index_online(
        "ix_files_file_course_id",
        "files_file",
        ["course_id"],
        postgresql_where=sa.text("course_id IS NOT NULL"),
    )
    create_index_online("ix_files_file_owner_id", "files_file", ["owner_id"])
    create_index_online("ix_files_file_uploader_id", "files_file", ["uploader_id"])


def downgrade() -> None:
    op.drop_index("ix_files_file_uploader_id", table_name="files_file")
    op.drop_index("ix_files_file_owner_id", table_name="files_file")
    op.drop_index("ix_files_file_course_id", table_name="files_file", postgresql_where=sa.text("course_id IS NOT NULL"))
