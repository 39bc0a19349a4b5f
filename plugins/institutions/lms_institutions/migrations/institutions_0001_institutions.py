"""institutions."""

import sqlalchemy as sa
from alembic import op

revision = "institutions_0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "institutions_institution",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("is_deleted", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("deletion_id", sa.Uuid(), nullable=True),
        sa.Column("parent_id", sa.Uuid(), nullable=True),
        sa.Column("name", sa.String(length=300), nullable=False),
        sa.Column("slug", sa.String(length=100), nullable=False),
        sa.Column("timezone", sa.String(length=64), nullable=False),
        sa.CheckConstraint("is_deleted = (deletion_id IS NOT NULL)", name="ck_institutions_institution_deletion"),
        sa.ForeignKeyConstraint(
            ["parent_id"],
            ["institutions_institution.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "ix_institutions_institution_deletion_id",
        "institutions_institution",
        ["deletion_id", "id"],
        unique=False,
        postgresql_where=sa.text("deletion_id IS NOT NULL"),
    )
    op.create_index(
        "ix_institutions_institution_parent_id_live",
        "institutions_institution",
        ["parent_id", "id"],
        unique=False,
        postgresql_where=sa.text("NOT is_deleted"),
    )
    op.create_index(
        "uq_institutions_institution_natural_key",
        "institutions_institution",
        ["parent_id", "slug"],
        unique=True,
        postgresql_where=sa.text("NOT is_deleted"),
        postgresql_nulls_not_distinct=True,
    )


def downgrade() -> None:
    op.drop_index(
        "uq_institutions_institution_natural_key",
        table_name="institutions_institution",
        postgresql_where=sa.text("NOT is_deleted"),
        postgresql_nulls_not_distinct=True,
    )
    op.drop_index(
        "ix_institutions_institution_parent_id_live",
        table_name="institutions_institution",
        postgresql_where=sa.text("NOT is_deleted"),
    )
    op.drop_index(
        "ix_institutions_institution_deletion_id",
        table_name="institutions_institution",
        postgresql_where=sa.text("deletion_id IS NOT NULL"),
    )
    op.drop_table("institutions_institution")
