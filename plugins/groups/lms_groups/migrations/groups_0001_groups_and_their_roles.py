"""Groups, who is in them, and the roles that they hold."""

import sqlalchemy as sa
from alembic import op

revision = "groups_0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "groups_group",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("is_deleted", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("deletion_id", sa.Uuid(), nullable=True),
        sa.Column("course_id", sa.Uuid(), nullable=True),
        sa.Column("institution_id", sa.Uuid(), nullable=True),
        sa.Column("name", sa.String(length=300), nullable=False),
        sa.Column("description", sa.String(length=20000), nullable=False),
        sa.CheckConstraint("(course_id IS NULL) <> (institution_id IS NULL)", name="ck_groups_group_of_one_thing"),
        sa.CheckConstraint("is_deleted = (deletion_id IS NOT NULL)", name="ck_groups_group_deletion"),
        sa.ForeignKeyConstraint(["course_id"], ["courses_course.id"], name="groups_group_course_id_fkey"),
        sa.ForeignKeyConstraint(
            ["institution_id"], ["institutions_institution.id"], name="groups_group_institution_id_fkey"
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "ix_groups_group_course_id_live",
        "groups_group",
        ["course_id", "id"],
        unique=False,
        postgresql_where=sa.text("NOT is_deleted"),
    )
    op.create_index(
        "ix_groups_group_deletion_id",
        "groups_group",
        ["deletion_id", "id"],
        unique=False,
        postgresql_where=sa.text("deletion_id IS NOT NULL"),
    )
    op.create_index(
        "ix_groups_group_institution_id_live",
        "groups_group",
        ["institution_id", "id"],
        unique=False,
        postgresql_where=sa.text("NOT is_deleted"),
    )
    op.create_index(
        "uq_groups_group_natural_key",
        "groups_group",
        ["course_id", "institution_id", "name"],
        unique=True,
        postgresql_where=sa.text("NOT is_deleted"),
        postgresql_nulls_not_distinct=True,
    )
    op.create_table(
        "groups_course_role",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("is_deleted", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("deletion_id", sa.Uuid(), nullable=True),
        sa.Column("group_id", sa.Uuid(), nullable=False),
        sa.Column("course_id", sa.Uuid(), nullable=False),
        sa.Column("role", sa.String(length=20), nullable=False),
        sa.CheckConstraint("is_deleted = (deletion_id IS NOT NULL)", name="ck_groups_course_role_deletion"),
        sa.ForeignKeyConstraint(["course_id"], ["courses_course.id"], name="groups_course_role_course_id_fkey"),
        sa.ForeignKeyConstraint(["group_id"], ["groups_group.id"], name="groups_course_role_group_id_fkey"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "ix_groups_course_role_course_id_live",
        "groups_course_role",
        ["course_id", "id"],
        unique=False,
        postgresql_where=sa.text("NOT is_deleted"),
    )
    op.create_index(
        "ix_groups_course_role_deletion_id",
        "groups_course_role",
        ["deletion_id", "id"],
        unique=False,
        postgresql_where=sa.text("deletion_id IS NOT NULL"),
    )
    op.create_index(
        "ix_groups_course_role_group_id_live",
        "groups_course_role",
        ["group_id", "id"],
        unique=False,
        postgresql_where=sa.text("NOT is_deleted"),
    )
    op.create_index(
        "uq_groups_course_role_natural_key",
        "groups_course_role",
        ["group_id", "course_id", "role"],
        unique=True,
        postgresql_where=sa.text("NOT is_deleted"),
        postgresql_nulls_not_distinct=True,
    )
    op.create_table(
        "groups_membership",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("is_deleted", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("deletion_id", sa.Uuid(), nullable=True),
        sa.Column("group_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.CheckConstraint("is_deleted = (deletion_id IS NOT NULL)", name="ck_groups_membership_deletion"),
        sa.ForeignKeyConstraint(["group_id"], ["groups_group.id"], name="groups_membership_group_id_fkey"),
        sa.ForeignKeyConstraint(["user_id"], ["users_user.id"], name="groups_membership_user_id_fkey"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "ix_groups_membership_deletion_id",
        "groups_membership",
        ["deletion_id", "id"],
        unique=False,
        postgresql_where=sa.text("deletion_id IS NOT NULL"),
    )
    op.create_index(
        "ix_groups_membership_group_id_live",
        "groups_membership",
        ["group_id", "id"],
        unique=False,
        postgresql_where=sa.text("NOT is_deleted"),
    )
    op.create_index(
        "ix_groups_membership_user_id_live",
        "groups_membership",
        ["user_id", "id"],
        unique=False,
        postgresql_where=sa.text("NOT is_deleted"),
    )
    op.create_index(
        "uq_groups_membership_natural_key",
        "groups_membership",
        ["group_id", "user_id"],
        unique=True,
        postgresql_where=sa.text("NOT is_deleted"),
        postgresql_nulls_not_distinct=True,
    )


def downgrade() -> None:
    op.drop_table("groups_membership")
    op.drop_table("groups_course_role")
    op.drop_table("groups_group")
