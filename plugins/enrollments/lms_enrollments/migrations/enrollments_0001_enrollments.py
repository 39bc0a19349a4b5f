"""enrollments."""

import sqlalchemy as sa
from alembic import op

revision = "enrollments_0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "enrollments_enrollment",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("is_deleted", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("deletion_id", sa.Uuid(), nullable=True),
        sa.Column("course_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("role", sa.String(length=20), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("section_id", sa.Uuid(), nullable=True),
        sa.Column("waiting_number", sa.BigInteger(), nullable=True),
        sa.CheckConstraint(
            "(state = 'waitlisted') = (waiting_number IS NOT NULL)", name="ck_enrollments_enrollment_waiting"
        ),
        sa.CheckConstraint("is_deleted = (deletion_id IS NOT NULL)", name="ck_enrollments_enrollment_deletion"),
        sa.ForeignKeyConstraint(
            ["course_id"],
            ["courses_course.id"],
        ),
        sa.ForeignKeyConstraint(
            ["section_id"],
            ["courses_section.id"],
        ),
        sa.ForeignKeyConstraint(
            ["user_id"],
            ["users_user.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "ix_enrollments_enrollment_course_id_live",
        "enrollments_enrollment",
        ["course_id", "id"],
        unique=False,
        postgresql_where=sa.text("NOT is_deleted"),
    )
    op.create_index(
        "ix_enrollments_enrollment_deletion_id",
        "enrollments_enrollment",
        ["deletion_id", "id"],
        unique=False,
        postgresql_where=sa.text("deletion_id IS NOT NULL"),
    )
    op.create_index(
        "ix_enrollments_enrollment_line",
        "enrollments_enrollment",
        ["course_id", "waiting_number"],
        unique=False,
        postgresql_where=sa.text("waiting_number IS NOT NULL"),
    )
    op.create_index(
        "ix_enrollments_enrollment_seats",
        "enrollments_enrollment",
        ["course_id", "state", "waiting_number"],
        unique=False,
        postgresql_where=sa.text("NOT is_deleted AND role = 'student'"),
    )
    op.create_index(
        op.f("ix_enrollments_enrollment_section_id"), "enrollments_enrollment", ["section_id"], unique=False
    )
    op.create_index(
        "ix_enrollments_enrollment_user_id_live",
        "enrollments_enrollment",
        ["user_id", "id"],
        unique=False,
        postgresql_where=sa.text("NOT is_deleted"),
    )
    op.create_index(
        "uq_enrollments_enrollment_natural_key",
        "enrollments_enrollment",
        ["course_id", "user_id", "role"],
        unique=True,
        postgresql_where=sa.text("NOT is_deleted AND state IN ('active', 'waitlisted')"),
        postgresql_nulls_not_distinct=True,
    )


def downgrade() -> None:
    op.drop_index(
        "uq_enrollments_enrollment_natural_key",
        table_name="enrollments_enrollment",
        postgresql_where=sa.text("NOT is_deleted AND state IN ('active', 'waitlisted')"),
        postgresql_nulls_not_distinct=True,
    )
    op.drop_index(
        "ix_enrollments_enrollment_user_id_live",
        table_name="enrollments_enrollment",
        postgresql_where=sa.text("NOT is_deleted"),
    )
    op.drop_index(op.f("ix_enrollments_enrollment_section_id"), table_name="enrollments_enrollment")
    op.drop_index(
        "ix_enrollments_enrollment_line",
        table_name="enrollments_enrollment",
        postgresql_where=sa.text("waiting_number IS NOT NULL"),
    )
    op.drop_index(
        "ix_enrollments_enrollment_seats",
        table_name="enrollments_enrollment",
        postgresql_where=sa.text("NOT is_deleted AND role = 'student'"),
    )
    op.drop_index(
        "ix_enrollments_enrollment_deletion_id",
        table_name="enrollments_enrollment",
        postgresql_where=sa.text("deletion_id IS NOT NULL"),
    )
    op.drop_index(
        "ix_enrollments_enrollment_course_id_live",
        table_name="enrollments_enrollment",
        postgresql_where=sa.text("NOT is_deleted"),
    )
    op.drop_table("enrollments_enrollment")
