"""Terms, and courses in them: their codes are unique in their term."""

import sqlalchemy as sa
from alembic import op

revision = "courses_0002"
down_revision = "courses_0001"
branch_labels = None
depends_on = None
phase = "maintenance"


def upgrade() -> None:
    op.create_table(
        "courses_term",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("is_deleted", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("deletion_id", sa.Uuid(), nullable=True),
        sa.Column("institution_id", sa.Uuid(), nullable=False),
        sa.Column("parent_id", sa.Uuid(), nullable=True),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("starts_on", sa.Date(), nullable=False),
        sa.Column("ends_on", sa.Date(), nullable=False),
        sa.CheckConstraint("is_deleted = (deletion_id IS NOT NULL)", name="ck_courses_term_deletion"),
        sa.CheckConstraint("starts_on <= ends_on", name="ck_courses_term_days"),
        sa.ForeignKeyConstraint(
            ["institution_id"], ["institutions_institution.id"], name="courses_term_institution_id_fkey"
        ),
        sa.ForeignKeyConstraint(["parent_id"], ["courses_term.id"], name="courses_term_parent_id_fkey"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "ix_courses_term_deletion_id",
        "courses_term",
        ["deletion_id", "id"],
        unique=False,
        postgresql_where=sa.text("deletion_id IS NOT NULL"),
    )
    op.create_index(
        "ix_courses_term_institution_id_live",
        "courses_term",
        ["institution_id", "id"],
        unique=False,
        postgresql_where=sa.text("NOT is_deleted"),
    )
    op.create_index(
        "ix_courses_term_parent_id_live",
        "courses_term",
        ["parent_id", "id"],
        unique=False,
        postgresql_where=sa.text("NOT is_deleted"),
    )
    op.create_index(
        "uq_courses_term_natural_key",
        "courses_term",
        ["institution_id", "name"],
        unique=True,
        postgresql_where=sa.text("NOT is_deleted"),
        postgresql_nulls_not_distinct=True,
    )
    op.add_column("courses_course", sa.Column("term_id", sa.Uuid(), nullable=True))
    op.drop_index(
        op.f("uq_courses_course_natural_key"),
        table_name="courses_course",
        postgresql_where=sa.text("NOT is_deleted"),
        postgresql_nulls_not_distinct=True,
    )
    op.create_index(
        "uq_courses_course_natural_key",
        "courses_course",
        ["institution_id", "term_id", "code"],
        unique=True,
        postgresql_where=sa.text("NOT is_deleted"),
        postgresql_nulls_not_distinct=True,
    )
    op.create_index(op.f("ix_courses_course_term_id"), "courses_course", ["term_id"], unique=False)
    op.create_foreign_key("courses_course_term_id_fkey", "courses_course", "courses_term", ["term_id"], ["id"])


def downgrade() -> None:
    op.drop_constraint("courses_course_term_id_fkey", "courses_course", type_="foreignkey")
    op.drop_index(op.f("ix_courses_course_term_id"), table_name="courses_course")
    op.drop_index(
        "uq_courses_course_natural_key",
        table_name="courses_course",
        postgresql_where=sa.text("NOT is_deleted"),
        postgresql_nulls_not_distinct=True,
    )
    op.create_index(
        op.f("uq_courses_course_natural_key"),
        "courses_course",
        ["institution_id", "code"],
        unique=True,
        postgresql_where=sa.text("NOT is_deleted"),
        postgresql_nulls_not_distinct=True,
    )
    op.drop_column("courses_course", "term_id")
    op.drop_index(
        "uq_courses_term_natural_key",
        table_name="courses_term",
        postgresql_where=sa.text("NOT is_deleted"),
        postgresql_nulls_not_distinct=True,
    )
    op.drop_index(
        "ix_courses_term_parent_id_live", table_name="courses_term", postgresql_where=sa.text("NOT is_deleted")
    )
    op.drop_index(
        "ix_courses_term_institution_id_live", table_name="courses_term", postgresql_where=sa.text("NOT is_deleted")
    )
    op.drop_index(
        "ix_courses_term_deletion_id", table_name="courses_term", postgresql_where=sa.text("deletion_id IS NOT NULL")
    )
    op.drop_table("courses_term")
