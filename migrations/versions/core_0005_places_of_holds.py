"""Holds in the name of a place, and import rows by what they are about."""

import sqlalchemy as sa
from alembic import op

revision = "core_0005"
down_revision = "core_0004"
branch_labels = None
depends_on = None
phase = "maintenance"


def upgrade() -> None:
    op.create_index(
        "ix_core_import_row_object_id",
        "core_import_row",
        ["object_id"],
        unique=False,
        postgresql_where=sa.text("object_id IS NOT NULL"),
    )
    op.add_column("core_legal_hold", sa.Column("place_kind", sa.String(), nullable=True))
    op.add_column("core_legal_hold", sa.Column("place_id", sa.Uuid(), nullable=True))
    op.drop_index(
        "uq_core_legal_hold_object", table_name="core_legal_hold", postgresql_where=sa.text("lifted_at IS NULL")
    )
    op.create_index(
        "uq_core_legal_hold_object",
        "core_legal_hold",
        ["kind", "object_id", "place_kind", "place_id"],
        unique=True,
        postgresql_where=sa.text("lifted_at IS NULL"),
        postgresql_nulls_not_distinct=True,
    )


def downgrade() -> None:
    op.drop_index(
        "uq_core_legal_hold_object",
        table_name="core_legal_hold",
        postgresql_where=sa.text("lifted_at IS NULL"),
        postgresql_nulls_not_distinct=True,
    )
    op.create_index(
        "uq_core_legal_hold_object",
        "core_legal_hold",
        ["kind", "object_id"],
        unique=True,
        postgresql_where=sa.text("lifted_at IS NULL"),
    )
    op.drop_column("core_legal_hold", "place_id")
    op.drop_column("core_legal_hold", "place_kind")
    op.drop_index(
        "ix_core_import_row_object_id", table_name="core_import_row", postgresql_where=sa.text("object_id IS NOT NULL")
    )
