"""What imports said about users."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "users_0003"
down_revision = "users_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "users_imported",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("institution_id", sa.Uuid(), nullable=True),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("external_id", sa.String(length=100), nullable=True),
        sa.Column("said", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.ForeignKeyConstraint(
            ["institution_id"], ["institutions_institution.id"], name="users_imported_institution_id_fkey"
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users_user.id"], name="users_imported_user_id_fkey"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_users_imported_user_id"), "users_imported", ["user_id"], unique=False)
    op.create_index(
        "uq_users_imported_external_id",
        "users_imported",
        ["institution_id", "external_id"],
        unique=True,
        postgresql_where=sa.text("external_id IS NOT NULL"),
        postgresql_nulls_not_distinct=True,
    )
    op.create_index(
        "uq_users_imported_user",
        "users_imported",
        ["institution_id", "user_id"],
        unique=True,
        postgresql_nulls_not_distinct=True,
    )


def downgrade() -> None:
    op.drop_index("uq_users_imported_user", table_name="users_imported", postgresql_nulls_not_distinct=True)
    op.drop_index(
        "uq_users_imported_external_id",
        table_name="users_imported",
        postgresql_where=sa.text("external_id IS NOT NULL"),
        postgresql_nulls_not_distinct=True,
    )
    op.drop_index(op.f("ix_users_imported_user_id"), table_name="users_imported")
    op.drop_table("users_imported")
