"""courses and sections."""

import sqlalchemy as sa
from alembic import op

revision = "courses_0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "courses_course",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("is_deleted", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("deletion_id", sa.Uuid(), nullable=True),
        sa.Column("institution_id", sa.Uuid(), nullable=False),
        sa.Column("code", sa.String(length=100), nullable=False),
        sa.Column("title", sa.String(length=300), nullable=False),
        sa.Column("description", sa.String(length=20000), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("capacity", sa.Integer(), nullable=True),
        sa.Column("waitlist", sa.Boolean(), nullable=False),
        sa.Column("starts_on", sa.Date(), nullable=True),
        sa.Column("ends_on", sa.Date(), nullable=True),
        sa.CheckConstraint("capacity >= 0", name="ck_courses_course_capacity"),
        sa.CheckConstraint("is_deleted = (deletion_id IS NOT NULL)", name="ck_courses_course_deletion"),
        sa.ForeignKeyConstraint(
            ["institution_id"],
            ["institutions_institution.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "ix_courses_course_deletion_id",
        "courses_course",
        ["deletion_id", "id"],
        unique=False,
        postgresql_where=sa.text("deletion_id IS NOT NULL"),
    )
    op.create_index(
        "ix_courses_course_institution_id_live",
        "courses_course",
        ["institution_id", "id"],
        unique=False,
        postgresql_where=sa.text("NOT is_deleted"),
    )
    op.create_index(
        "uq_courses_course_natural_key",
        "courses_course",
        ["institution_id", "code"],
        unique=True,
        postgresql_where=sa.text("NOT is_deleted"),
        postgresql_nulls_not_distinct=True,
    )
    op.create_table(
        "courses_section",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("is_deleted", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("deletion_id", sa.Uuid(), nullable=True),
        sa.Column("course_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(length=300), nullable=False),
        sa.Column("capacity", sa.Integer(), nullable=True),
        sa.CheckConstraint("capacity >= 0", name="ck_courses_section_capacity"),
        sa.CheckConstraint("is_deleted = (deletion_id IS NOT NULL)", name="ck_courses_section_deletion"),
        sa.ForeignKeyConstraint(
            ["course_id"],
            ["courses_course.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "ix_courses_section_course_id_live",
        "courses_section",
        ["course_id", "id"],
        unique=False,
        postgresql_where=sa.text("NOT is_deleted"),
    )
    op.create_index(
        "ix_courses_section_deletion_id",
        "courses_section",
        ["deletion_id", "id"],
        unique=False,
        postgresql_where=sa.text("deletion_id IS NOT NULL"),
    )
    op.create_index(
        "uq_courses_section_natural_key",
        "courses_section",
        ["course_id", "name"],
        unique=True,
        postgresql_where=sa.text("NOT is_deleted"),
        postgresql_nulls_not_distinct=True,
    )


def downgrade() -> None:
    op.drop_index(
        "uq_courses_section_natural_key",
        table_name="courses_section",
        postgresql_where=sa.text("NOT is_deleted"),
        postgresql_nulls_not_distinct=True,
    )
    op.drop_index(
        "ix_courses_section_deletion_id",
        table_name="courses_section",
        postgresql_where=sa.text("deletion_id IS NOT NULL"),
    )
    op.drop_index(
        "ix_courses_section_course_id_live", table_name="courses_section", postgresql_where=sa.text("NOT is_deleted")
    )
    op.drop_table("courses_section")
    op.drop_index(
        "uq_courses_course_natural_key",
        table_name="courses_course",
        postgresql_where=sa.text("NOT is_deleted"),
        postgresql_nulls_not_distinct=True,
    )
    op.drop_index(
        "ix_courses_course_institution_id_live", table_name="courses_course", postgresql_where=sa.text("NOT is_deleted")
    )
    op.drop_index(
        "ix_courses_course_deletion_id",
        table_name="courses_course",
        postgresql_where=sa.text("deletion_id IS NOT NULL"),
    )
    op.drop_table("courses_course")
