"""own roles and guardians."""

import sqlalchemy as sa
from alembic import op

revision = "users_0002"
down_revision = "users_0001"
branch_labels = None
depends_on = None
phase = "maintenance"


def upgrade() -> None:
    op.create_table(
        "users_guardianship",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("is_deleted", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("deletion_id", sa.Uuid(), nullable=True),
        sa.Column("student_id", sa.Uuid(), nullable=False),
        sa.Column("guardian_id", sa.Uuid(), nullable=False),
        sa.CheckConstraint("guardian_id <> student_id", name="ck_users_guardianship_two_people"),
        sa.CheckConstraint("is_deleted = (deletion_id IS NOT NULL)", name="ck_users_guardianship_deletion"),
        sa.ForeignKeyConstraint(
            ["guardian_id"],
            ["users_user.id"],
        ),
        sa.ForeignKeyConstraint(
            ["student_id"],
            ["users_user.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "ix_users_guardianship_deletion_id",
        "users_guardianship",
        ["deletion_id", "id"],
        unique=False,
        postgresql_where=sa.text("deletion_id IS NOT NULL"),
    )
    op.create_index(
        "ix_users_guardianship_guardian_id_live",
        "users_guardianship",
        ["guardian_id", "id"],
        unique=False,
        postgresql_where=sa.text("NOT is_deleted"),
    )
    op.create_index(
        "ix_users_guardianship_student_id_live",
        "users_guardianship",
        ["student_id", "id"],
        unique=False,
        postgresql_where=sa.text("NOT is_deleted"),
    )
    op.create_index(
        "uq_users_guardianship_natural_key",
        "users_guardianship",
        ["student_id", "guardian_id"],
        unique=True,
        postgresql_where=sa.text("NOT is_deleted"),
        postgresql_nulls_not_distinct=True,
    )
    op.create_table(
        "users_role",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("is_deleted", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("deletion_id", sa.Uuid(), nullable=True),
        sa.Column("institution_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(length=40), nullable=False),
        sa.Column("summary", sa.String(length=300), nullable=False),
        sa.Column("permissions", sa.ARRAY(sa.String()), nullable=False),
        sa.CheckConstraint("is_deleted = (deletion_id IS NOT NULL)", name="ck_users_role_deletion"),
        sa.ForeignKeyConstraint(
            ["institution_id"],
            ["institutions_institution.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "ix_users_role_deletion_id",
        "users_role",
        ["deletion_id", "id"],
        unique=False,
        postgresql_where=sa.text("deletion_id IS NOT NULL"),
    )
    op.create_index(
        "ix_users_role_institution_id_live",
        "users_role",
        ["institution_id", "id"],
        unique=False,
        postgresql_where=sa.text("NOT is_deleted"),
    )
    op.create_index(
        "uq_users_role_natural_key",
        "users_role",
        ["institution_id", "name"],
        unique=True,
        postgresql_where=sa.text("NOT is_deleted"),
        postgresql_nulls_not_distinct=True,
    )
    op.add_column("users_grant", sa.Column("role_id", sa.Uuid(), nullable=True))
    op.create_index(
        "ix_users_grant_role_id_live",
        "users_grant",
        ["role_id", "id"],
        unique=False,
        postgresql_where=sa.text("NOT is_deleted"),
    )
    op.create_foreign_key("users_grant_role_id_fkey", "users_grant", "users_role", ["role_id"], ["id"])


def downgrade() -> None:
    op.drop_constraint("users_grant_role_id_fkey", "users_grant", type_="foreignkey")
    op.drop_index("ix_users_grant_role_id_live", table_name="users_grant", postgresql_where=sa.text("NOT is_deleted"))
    op.drop_column("users_grant", "role_id")
    op.drop_index(
        "uq_users_role_natural_key",
        table_name="users_role",
        postgresql_where=sa.text("NOT is_deleted"),
        postgresql_nulls_not_distinct=True,
    )
    op.drop_index(
        "ix_users_role_institution_id_live", table_name="users_role", postgresql_where=sa.text("NOT is_deleted")
    )
    op.drop_index(
        "ix_users_role_deletion_id", table_name="users_role", postgresql_where=sa.text("deletion_id IS NOT NULL")
    )
    op.drop_table("users_role")
    op.drop_index(
        "uq_users_guardianship_natural_key",
        table_name="users_guardianship",
        postgresql_where=sa.text("NOT is_deleted"),
        postgresql_nulls_not_distinct=True,
    )
    op.drop_index(
        "ix_users_guardianship_student_id_live",
        table_name="users_guardianship",
        postgresql_where=sa.text("NOT is_deleted"),
    )
    op.drop_index(
        "ix_users_guardianship_guardian_id_live",
        table_name="users_guardianship",
        postgresql_where=sa.text("NOT is_deleted"),
    )
    op.drop_index(
        "ix_users_guardianship_deletion_id",
        table_name="users_guardianship",
        postgresql_where=sa.text("deletion_id IS NOT NULL"),
    )
    op.drop_table("users_guardianship")
