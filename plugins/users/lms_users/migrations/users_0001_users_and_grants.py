"""users and grants."""

import sqlalchemy as sa
from alembic import op

revision = "users_0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "users_user",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("is_deleted", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("deletion_id", sa.Uuid(), nullable=True),
        sa.Column("email", sa.String(length=320), nullable=False),
        sa.Column("email_key", sa.String(length=640), nullable=False),
        sa.Column("full_name", sa.String(length=300), nullable=False),
        sa.Column("is_active", sa.Boolean(), nullable=False),
        sa.CheckConstraint("is_deleted = (deletion_id IS NOT NULL)", name="ck_users_user_deletion"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "ix_users_user_deletion_id",
        "users_user",
        ["deletion_id", "id"],
        unique=False,
        postgresql_where=sa.text("deletion_id IS NOT NULL"),
    )
    op.create_index(
        "uq_users_user_natural_key",
        "users_user",
        ["email_key"],
        unique=True,
        postgresql_where=sa.text("NOT is_deleted"),
        postgresql_nulls_not_distinct=True,
    )
    op.create_table(
        "users_grant",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("is_deleted", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("deletion_id", sa.Uuid(), nullable=True),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("role", sa.String(length=40), nullable=False),
        sa.Column("institution_id", sa.Uuid(), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("granted_by", sa.Uuid(), nullable=True),
        sa.CheckConstraint("(institution_id IS NULL) = (role = 'super_admin')", name="ck_users_grant_institution"),
        sa.CheckConstraint("is_deleted = (deletion_id IS NOT NULL)", name="ck_users_grant_deletion"),
        sa.ForeignKeyConstraint(
            ["institution_id"],
            ["institutions_institution.id"],
        ),
        sa.ForeignKeyConstraint(
            ["user_id"],
            ["users_user.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "ix_users_grant_deletion_id",
        "users_grant",
        ["deletion_id", "id"],
        unique=False,
        postgresql_where=sa.text("deletion_id IS NOT NULL"),
    )
    op.create_index(
        "ix_users_grant_institution_id_live",
        "users_grant",
        ["institution_id", "id"],
        unique=False,
        postgresql_where=sa.text("NOT is_deleted"),
    )
    op.create_index(
        "ix_users_grant_user_id_live",
        "users_grant",
        ["user_id", "id"],
        unique=False,
        postgresql_where=sa.text("NOT is_deleted"),
    )
    op.create_index(
        "uq_users_grant_natural_key",
        "users_grant",
        ["user_id", "role", "institution_id"],
        unique=True,
        postgresql_where=sa.text("NOT is_deleted"),
        postgresql_nulls_not_distinct=True,
    )


def downgrade() -> None:
    op.drop_index(
        "uq_users_grant_natural_key",
        table_name="users_grant",
        postgresql_where=sa.text("NOT is_deleted"),
        postgresql_nulls_not_distinct=True,
    )
    op.drop_index("ix_users_grant_user_id_live", table_name="users_grant", postgresql_where=sa.text("NOT is_deleted"))
    op.drop_index(
        "ix_users_grant_institution_id_live", table_name="users_grant", postgresql_where=sa.text("NOT is_deleted")
    )
    op.drop_index(
        "ix_users_grant_deletion_id", table_name="users_grant", postgresql_where=sa.text("deletion_id IS NOT NULL")
    )
    op.drop_table("users_grant")
    op.drop_index(
        "uq_users_user_natural_key",
        table_name="users_user",
        postgresql_where=sa.text("NOT is_deleted"),
        postgresql_nulls_not_distinct=True,
    )
    op.drop_index(
        "ix_users_user_deletion_id", table_name="users_user", postgresql_where=sa.text("deletion_id IS NOT NULL")
    )
    op.drop_table("users_user")
