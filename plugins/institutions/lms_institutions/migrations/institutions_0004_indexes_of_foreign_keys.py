"""Indexes of what points at other tables: a purge looks there for each row that it removes."""

import sqlalchemy as sa
from alembic import op

from lms_core.sdk import create_index_online

revision = "institutions_0004"
down_revision = "institutions_0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    create_index_online(
        "ix_institutions_institution_parent_id",
        "institutions_institution",
        ["parent_id"],
        postgresql_where=sa.text("parent_id IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index(
        "ix_institutions_institution_parent_id",
        table_name="institutions_institution",
        postgresql_where=sa.text("parent_id IS NOT NULL"),
    )
