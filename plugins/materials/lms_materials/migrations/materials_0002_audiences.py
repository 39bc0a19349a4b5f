"""Whom a material is for."""

import sqlalchemy as sa
from alembic import op

revision = "materials_0002"
down_revision = "materials_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "materials_audience",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("material_id", sa.Uuid(), nullable=False),
        sa.Column("section_id", sa.Uuid(), nullable=True),
        sa.Column("group_id", sa.Uuid(), nullable=True),
        sa.CheckConstraint("(section_id IS NULL) <> (group_id IS NULL)", name="ck_materials_audience_one_thing"),
        sa.ForeignKeyConstraint(["group_id"], ["groups_group.id"], name="materials_audience_group_id_fkey"),
        sa.ForeignKeyConstraint(["material_id"], ["materials_material.id"], name="materials_audience_material_id_fkey"),
        sa.ForeignKeyConstraint(["section_id"], ["courses_section.id"], name="materials_audience_section_id_fkey"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_materials_audience_group_id"), "materials_audience", ["group_id"], unique=False)
    op.create_index(op.f("ix_materials_audience_section_id"), "materials_audience", ["section_id"], unique=False)
    op.create_index(
        "uq_materials_audience",
        "materials_audience",
        ["material_id", "section_id", "group_id"],
        unique=True,
        postgresql_nulls_not_distinct=True,
    )
    op.add_column(
        "materials_material", sa.Column("restricted", sa.Boolean(), server_default=sa.text("false"), nullable=False)
    )


def downgrade() -> None:
    op.drop_column("materials_material", "restricted")
    op.drop_table("materials_audience")
