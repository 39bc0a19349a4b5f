"""First and last days of enrollments, and how often somebody gave a wrong key."""

import sqlalchemy as sa
from alembic import op

revision = "enrollments_0004"
down_revision = "enrollments_0003"
branch_labels = None
depends_on = None
phase = "maintenance"


def upgrade() -> None:
    op.create_table(
        "enrollments_wrong_keys",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("course_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["course_id"], ["courses_course.id"], name="enrollments_wrong_keys_course_id_fkey"),
        sa.ForeignKeyConstraint(["user_id"], ["users_user.id"], name="enrollments_wrong_keys_user_id_fkey"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_enrollments_wrong_keys_user_id"), "enrollments_wrong_keys", ["user_id"], unique=False)
    op.create_index("uq_enrollments_wrong_keys", "enrollments_wrong_keys", ["course_id", "user_id"], unique=True)
    op.add_column("enrollments_enrollment", sa.Column("starts_on", sa.Date(), nullable=True))
    op.add_column("enrollments_enrollment", sa.Column("ends_on", sa.Date(), nullable=True))
    op.create_check_constraint("ck_enrollments_enrollment_days", "enrollments_enrollment", "starts_on <= ends_on")
    op.create_index(
        "ix_enrollments_enrollment_ends_on",
        "enrollments_enrollment",
        ["ends_on"],
        unique=False,
        postgresql_where=sa.text(
            "NOT is_deleted AND ends_on IS NOT NULL AND state IN ('requested', 'active', 'waitlisted')"
        ),
    )
    op.create_index(
        "ix_enrollments_enrollment_teachers",
        "enrollments_enrollment",
        ["course_id"],
        unique=False,
        postgresql_where=sa.text("NOT is_deleted AND role = 'teacher'"),
    )


def downgrade() -> None:
    op.drop_index(
        "ix_enrollments_enrollment_teachers",
        table_name="enrollments_enrollment",
        postgresql_where=sa.text("NOT is_deleted AND role = 'teacher'"),
    )
    op.drop_index(
        "ix_enrollments_enrollment_ends_on",
        table_name="enrollments_enrollment",
        postgresql_where=sa.text(
            "NOT is_deleted AND ends_on IS NOT NULL AND state IN ('requested', 'active', 'waitlisted')"
        ),
    )
    op.drop_constraint("ck_enrollments_enrollment_days", "enrollments_enrollment")
    op.drop_column("enrollments_enrollment", "ends_on")
    op.drop_column("enrollments_enrollment", "starts_on")
    op.drop_index("uq_enrollments_wrong_keys", table_name="enrollments_wrong_keys")
    op.drop_index(op.f("ix_enrollments_wrong_keys_user_id"), table_name="enrollments_wrong_keys")
    op.drop_table("enrollments_wrong_keys")
