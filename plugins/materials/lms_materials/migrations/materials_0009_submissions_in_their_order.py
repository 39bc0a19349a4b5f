"""For the list of what was handed in for one assignment, which is in the order of its ids."""

import sqlalchemy as sa
from alembic import op

from lms_core.sdk import create_index_online

revision = "materials_0009"
down_revision = "materials_0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    create_index_online(
        "ix_materials_submission_order",
        "materials_submission",
        ["material_id", "id"],
        postgresql_where=sa.text("NOT is_deleted"),
    )


def downgrade() -> None:
    op.drop_index(
        "ix_materials_submission_order", table_name="materials_submission", postgresql_where=sa.text("NOT is_deleted")
    )
