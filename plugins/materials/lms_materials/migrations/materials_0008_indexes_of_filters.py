"""For lists of the materials and modules of all courses at once, which are in their order."""

import sqlalchemy as sa
from alembic import op

from lms_core.sdk import create_index_online

revision = "materials_0008"
down_revision = "materials_0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    create_index_online(
        "ix_materials_material_kind",
        "materials_material",
        ["kind", "position", "id"],
        postgresql_where=sa.text("NOT is_deleted"),
    )
    create_index_online(
        "ix_materials_material_order",
        "materials_material",
        ["position", "id"],
        postgresql_where=sa.text("NOT is_deleted"),
    )
    create_index_online(
        "ix_materials_module_order", "materials_module", ["position", "id"], postgresql_where=sa.text("NOT is_deleted")
    )


def downgrade() -> None:
    op.drop_index(
        "ix_materials_module_order", table_name="materials_module", postgresql_where=sa.text("NOT is_deleted")
    )
    op.drop_index(
        "ix_materials_material_order", table_name="materials_material", postgresql_where=sa.text("NOT is_deleted")
    )
    op.drop_index(
        "ix_materials_material_kind", table_name="materials_material", postgresql_where=sa.text("NOT is_deleted")
    )
