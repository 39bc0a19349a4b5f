"""Indexes of what points at other tables: a purge looks there for each row that it removes."""

import sqlalchemy as sa
from alembic import op

from lms_core.sdk import create_index_online

revision = "materials_0005"
down_revision = "materials_0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    create_index_online("ix_materials_extension_material_id", "materials_extension", ["material_id"])
    create_index_online("ix_materials_grade_graded_by", "materials_grade", ["graded_by"])
    create_index_online(
        "ix_materials_material_module_id",
        "materials_material",
        ["module_id"],
        postgresql_where=sa.text("module_id IS NOT NULL"),
    )
    create_index_online(
        "ix_materials_revision_actor_id",
        "materials_revision",
        ["actor_id"],
        postgresql_where=sa.text("actor_id IS NOT NULL"),
    )
    create_index_online(
        "ix_materials_revision_file_id",
        "materials_revision",
        ["file_id"],
        postgresql_where=sa.text("file_id IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index(
        "ix_materials_revision_file_id",
        table_name="materials_revision",
        postgresql_where=sa.text("file_id IS NOT NULL"),
    )
    op.drop_index(
        "ix_materials_revision_actor_id",
        table_name="materials_revision",
        postgresql_where=sa.text("actor_id IS NOT NULL"),
    )
    op.drop_index(
        "ix_materials_material_module_id",
        table_name="materials_material",
        postgresql_where=sa.text("module_id IS NOT NULL"),
    )
    op.drop_index("ix_materials_grade_graded_by", table_name="materials_grade")
    op.drop_index("ix_materials_extension_material_id", table_name="materials_extension")
