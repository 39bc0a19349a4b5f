"""What enrollments were when; those that are there begin with what they are."""

import sqlalchemy as sa
from alembic import op

revision = "enrollments_0002"
down_revision = "enrollments_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "enrollments_period",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("enrollment_id", sa.Uuid(), nullable=False),
        sa.Column("course_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("role", sa.String(length=20), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("section_id", sa.Uuid(), nullable=True),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("cause", sa.String(length=20), nullable=False),
        sa.Column("reason", sa.String(length=500), nullable=True),
        sa.Column("actor_id", sa.Uuid(), nullable=True),
        sa.ForeignKeyConstraint(["course_id"], ["courses_course.id"], name="enrollments_period_course_id_fkey"),
        sa.ForeignKeyConstraint(
            ["enrollment_id"], ["enrollments_enrollment.id"], name="enrollments_period_enrollment_id_fkey"
        ),
        sa.ForeignKeyConstraint(["section_id"], ["courses_section.id"], name="enrollments_period_section_id_fkey"),
        sa.ForeignKeyConstraint(["user_id"], ["users_user.id"], name="enrollments_period_user_id_fkey"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_enrollments_period_course", "enrollments_period", ["course_id", "id"], unique=False)
    op.create_index("ix_enrollments_period_enrollment", "enrollments_period", ["enrollment_id", "id"], unique=False)
    op.create_index("ix_enrollments_period_user", "enrollments_period", ["user_id", "id"], unique=False)
    op.create_index(
        "uq_enrollments_period_last",
        "enrollments_period",
        ["enrollment_id"],
        unique=True,
        postgresql_where=sa.text("until IS NULL"),
    )
    op.execute(
        """
        INSERT INTO enrollments_period
            (id, enrollment_id, course_id, user_id, role, state, section_id, since, cause)
        SELECT gen_random_uuid(), id, course_id, user_id, role, state, section_id, created_at, 'enrolled'
        FROM enrollments_enrollment
        """
    )


def downgrade() -> None:
    op.drop_index(
        "uq_enrollments_period_last", table_name="enrollments_period", postgresql_where=sa.text("until IS NULL")
    )
    op.drop_index("ix_enrollments_period_user", table_name="enrollments_period")
    op.drop_index("ix_enrollments_period_enrollment", table_name="enrollments_period")
    op.drop_index("ix_enrollments_period_course", table_name="enrollments_period")
    op.drop_table("enrollments_period")
