"""Modules, schedules, history and prerequisites; assignments, submissions and grades."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "materials_0003"
down_revision = "materials_0002"
branch_labels = None
depends_on = None
phase = "maintenance"


def upgrade() -> None:
    op.create_table(
        "materials_module",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("is_deleted", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("deletion_id", sa.Uuid(), nullable=True),
        sa.Column("course_id", sa.Uuid(), nullable=False),
        sa.Column("title", sa.String(length=300), nullable=False),
        sa.Column("position", sa.Float(), nullable=False),
        sa.Column("published", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("unlock_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("is_deleted = (deletion_id IS NOT NULL)", name="ck_materials_module_deletion"),
        sa.ForeignKeyConstraint(["course_id"], ["courses_course.id"], name="materials_module_course_id_fkey"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "ix_materials_module_course_id_live",
        "materials_module",
        ["course_id", "id"],
        unique=False,
        postgresql_where=sa.text("NOT is_deleted"),
    )
    op.create_index(
        "ix_materials_module_deletion_id",
        "materials_module",
        ["deletion_id", "id"],
        unique=False,
        postgresql_where=sa.text("deletion_id IS NOT NULL"),
    )
    op.create_index("ix_materials_module_position", "materials_module", ["course_id", "position", "id"], unique=False)
    op.create_table(
        "materials_assignment",
        sa.Column("material_id", sa.Uuid(), nullable=False),
        sa.Column("points", sa.Numeric(precision=8, scale=2), nullable=False),
        sa.Column("extra_credit", sa.Boolean(), nullable=False),
        sa.Column("opens_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("closes_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=True),
        sa.Column("late_policy", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("grades_held", sa.Boolean(), nullable=False),
        sa.Column("grades_release_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("grades_shown_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "opens_at < closes_at AND due_at <= closes_at AND opens_at < due_at", name="ck_materials_assignment_dates"
        ),
        sa.CheckConstraint("points >= 0", name="ck_materials_assignment_points"),
        sa.ForeignKeyConstraint(
            ["material_id"], ["materials_material.id"], name="materials_assignment_material_id_fkey"
        ),
        sa.PrimaryKeyConstraint("material_id"),
    )
    op.create_table(
        "materials_completion",
        sa.Column("material_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("completed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["material_id"], ["materials_material.id"], name="materials_completion_material_id_fkey"
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users_user.id"], name="materials_completion_user_id_fkey"),
        sa.PrimaryKeyConstraint("material_id", "user_id"),
    )
    op.create_index(op.f("ix_materials_completion_user_id"), "materials_completion", ["user_id"], unique=False)
    op.create_table(
        "materials_extension",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("is_deleted", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("deletion_id", sa.Uuid(), nullable=True),
        sa.Column("material_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=True),
        sa.Column("section_id", sa.Uuid(), nullable=True),
        sa.Column("group_id", sa.Uuid(), nullable=True),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("closes_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("days", sa.Integer(), nullable=True),
        sa.Column("more_attempts", sa.Integer(), nullable=False),
        sa.Column("reason", sa.String(length=1000), nullable=False),
        sa.CheckConstraint("is_deleted = (deletion_id IS NOT NULL)", name="ck_materials_extension_deletion"),
        sa.CheckConstraint("num_nonnulls(user_id, section_id, group_id) = 1", name="ck_materials_extension_one_thing"),
        sa.ForeignKeyConstraint(["group_id"], ["groups_group.id"], name="materials_extension_group_id_fkey"),
        sa.ForeignKeyConstraint(
            ["material_id"], ["materials_material.id"], name="materials_extension_material_id_fkey"
        ),
        sa.ForeignKeyConstraint(["section_id"], ["courses_section.id"], name="materials_extension_section_id_fkey"),
        sa.ForeignKeyConstraint(["user_id"], ["users_user.id"], name="materials_extension_user_id_fkey"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "ix_materials_extension_deletion_id",
        "materials_extension",
        ["deletion_id", "id"],
        unique=False,
        postgresql_where=sa.text("deletion_id IS NOT NULL"),
    )
    op.create_index(op.f("ix_materials_extension_group_id"), "materials_extension", ["group_id"], unique=False)
    op.create_index(
        "ix_materials_extension_material_id_live",
        "materials_extension",
        ["material_id", "id"],
        unique=False,
        postgresql_where=sa.text("NOT is_deleted"),
    )
    op.create_index(op.f("ix_materials_extension_section_id"), "materials_extension", ["section_id"], unique=False)
    op.create_index(op.f("ix_materials_extension_user_id"), "materials_extension", ["user_id"], unique=False)
    op.create_index(
        "uq_materials_extension_natural_key",
        "materials_extension",
        ["material_id", "user_id", "section_id", "group_id"],
        unique=True,
        postgresql_where=sa.text("NOT is_deleted"),
        postgresql_nulls_not_distinct=True,
    )
    op.create_table(
        "materials_prerequisite",
        sa.Column("material_id", sa.Uuid(), nullable=False),
        sa.Column("required_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["material_id"], ["materials_material.id"], name="materials_prerequisite_material_id_fkey"
        ),
        sa.ForeignKeyConstraint(
            ["required_id"], ["materials_material.id"], name="materials_prerequisite_required_id_fkey"
        ),
        sa.PrimaryKeyConstraint("material_id", "required_id"),
    )
    op.create_index(
        op.f("ix_materials_prerequisite_required_id"), "materials_prerequisite", ["required_id"], unique=False
    )
    op.create_table(
        "materials_revision",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("material_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("actor_id", sa.Uuid(), nullable=True),
        sa.Column("title", sa.String(length=300), nullable=False),
        sa.Column("body", sa.String(), nullable=False),
        sa.Column("body_format", sa.String(length=20), nullable=False),
        sa.Column("content", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("file_id", sa.Uuid(), nullable=True),
        sa.Column("url", sa.String(length=2000), nullable=True),
        sa.ForeignKeyConstraint(["actor_id"], ["users_user.id"], name="materials_revision_actor_id_fkey"),
        sa.ForeignKeyConstraint(["file_id"], ["files_file.id"], name="materials_revision_file_id_fkey"),
        sa.ForeignKeyConstraint(["material_id"], ["materials_material.id"], name="materials_revision_material_id_fkey"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("uq_materials_revision_number", "materials_revision", ["material_id", "number"], unique=True)
    op.create_table(
        "materials_submission",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("is_deleted", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("deletion_id", sa.Uuid(), nullable=True),
        sa.Column("material_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("body", sa.String(), nullable=False),
        sa.Column("urls", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("submitted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("receipt", sa.String(length=64), nullable=True),
        sa.CheckConstraint("(state = 'draft') = (submitted_at IS NULL)", name="ck_materials_submission_submitted"),
        sa.CheckConstraint("is_deleted = (deletion_id IS NOT NULL)", name="ck_materials_submission_deletion"),
        sa.ForeignKeyConstraint(
            ["material_id"], ["materials_material.id"], name="materials_submission_material_id_fkey"
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users_user.id"], name="materials_submission_user_id_fkey"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "ix_materials_submission_deletion_id",
        "materials_submission",
        ["deletion_id", "id"],
        unique=False,
        postgresql_where=sa.text("deletion_id IS NOT NULL"),
    )
    op.create_index(
        "ix_materials_submission_material_id_live",
        "materials_submission",
        ["material_id", "id"],
        unique=False,
        postgresql_where=sa.text("NOT is_deleted"),
    )
    op.create_index("ix_materials_submission_user_id", "materials_submission", ["user_id", "material_id"], unique=False)
    op.create_index(
        "ix_materials_submission_user_id_live",
        "materials_submission",
        ["user_id", "id"],
        unique=False,
        postgresql_where=sa.text("NOT is_deleted"),
    )
    op.create_index(
        "uq_materials_submission_attempt", "materials_submission", ["material_id", "user_id", "attempt"], unique=True
    )
    op.create_table(
        "materials_grade",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("submission_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("points", sa.Numeric(precision=8, scale=2), nullable=True),
        sa.Column("feedback", sa.String(), nullable=False),
        sa.Column("reason", sa.String(length=1000), nullable=False),
        sa.Column("graded_by", sa.Uuid(), nullable=False),
        sa.CheckConstraint("points >= 0", name="ck_materials_grade_points"),
        sa.ForeignKeyConstraint(["graded_by"], ["users_user.id"], name="materials_grade_graded_by_fkey"),
        sa.ForeignKeyConstraint(
            ["submission_id"], ["materials_submission.id"], name="materials_grade_submission_id_fkey"
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("uq_materials_grade_number", "materials_grade", ["submission_id", "number"], unique=True)
    op.create_table(
        "materials_submitted_file",
        sa.Column("submission_id", sa.Uuid(), nullable=False),
        sa.Column("file_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["file_id"], ["files_file.id"], name="materials_submitted_file_file_id_fkey"),
        sa.ForeignKeyConstraint(
            ["submission_id"], ["materials_submission.id"], name="materials_submitted_file_submission_id_fkey"
        ),
        sa.PrimaryKeyConstraint("submission_id", "file_id"),
    )
    op.create_index(op.f("ix_materials_submitted_file_file_id"), "materials_submitted_file", ["file_id"], unique=False)
    op.add_column("materials_material", sa.Column("module_id", sa.Uuid(), nullable=True))
    op.add_column(
        "materials_material", sa.Column("body_format", sa.String(length=20), server_default="markdown", nullable=False)
    )
    op.add_column("materials_material", sa.Column("content", postgresql.JSONB(astext_type=sa.Text()), nullable=True))
    op.add_column("materials_material", sa.Column("publish_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("materials_material", sa.Column("unlock_at", sa.DateTime(timezone=True), nullable=True))
    op.alter_column(
        "materials_material",
        "kind",
        existing_type=sa.VARCHAR(length=20),
        type_=sa.String(length=50),
        existing_nullable=False,
    )
    op.alter_column(
        "materials_material", "position", existing_type=sa.INTEGER(), type_=sa.Float(), existing_nullable=False
    )
    op.create_index(
        "ix_materials_material_module_id_live",
        "materials_material",
        ["module_id", "id"],
        unique=False,
        postgresql_where=sa.text("NOT is_deleted"),
    )
    op.create_foreign_key(
        "materials_material_module_id_fkey", "materials_material", "materials_module", ["module_id"], ["id"]
    )


def downgrade() -> None:
    op.drop_constraint("materials_material_module_id_fkey", "materials_material", type_="foreignkey")
    op.drop_index(
        "ix_materials_material_module_id_live",
        table_name="materials_material",
        postgresql_where=sa.text("NOT is_deleted"),
    )
    op.alter_column(
        "materials_material", "position", existing_type=sa.Float(), type_=sa.INTEGER(), existing_nullable=False
    )
    op.alter_column(
        "materials_material",
        "kind",
        existing_type=sa.String(length=50),
        type_=sa.VARCHAR(length=20),
        existing_nullable=False,
    )
    op.drop_column("materials_material", "unlock_at")
    op.drop_column("materials_material", "publish_at")
    op.drop_column("materials_material", "content")
    op.drop_column("materials_material", "body_format")
    op.drop_column("materials_material", "module_id")
    op.drop_index(op.f("ix_materials_submitted_file_file_id"), table_name="materials_submitted_file")
    op.drop_table("materials_submitted_file")
    op.drop_index("uq_materials_grade_number", table_name="materials_grade")
    op.drop_table("materials_grade")
    op.drop_index("uq_materials_submission_attempt", table_name="materials_submission")
    op.drop_index(
        "ix_materials_submission_user_id_live",
        table_name="materials_submission",
        postgresql_where=sa.text("NOT is_deleted"),
    )
    op.drop_index("ix_materials_submission_user_id", table_name="materials_submission")
    op.drop_index(
        "ix_materials_submission_material_id_live",
        table_name="materials_submission",
        postgresql_where=sa.text("NOT is_deleted"),
    )
    op.drop_index(
        "ix_materials_submission_deletion_id",
        table_name="materials_submission",
        postgresql_where=sa.text("deletion_id IS NOT NULL"),
    )
    op.drop_table("materials_submission")
    op.drop_index("uq_materials_revision_number", table_name="materials_revision")
    op.drop_table("materials_revision")
    op.drop_index(op.f("ix_materials_prerequisite_required_id"), table_name="materials_prerequisite")
    op.drop_table("materials_prerequisite")
    op.drop_index(
        "uq_materials_extension_natural_key",
        table_name="materials_extension",
        postgresql_where=sa.text("NOT is_deleted"),
        postgresql_nulls_not_distinct=True,
    )
    op.drop_index(op.f("ix_materials_extension_user_id"), table_name="materials_extension")
    op.drop_index(op.f("ix_materials_extension_section_id"), table_name="materials_extension")
    op.drop_index(
        "ix_materials_extension_material_id_live",
        table_name="materials_extension",
        postgresql_where=sa.text("NOT is_deleted"),
    )
    op.drop_index(op.f("ix_materials_extension_group_id"), table_name="materials_extension")
    op.drop_index(
        "ix_materials_extension_deletion_id",
        table_name="materials_extension",
        postgresql_where=sa.text("deletion_id IS NOT NULL"),
    )
    op.drop_table("materials_extension")
    op.drop_index(op.f("ix_materials_completion_user_id"), table_name="materials_completion")
    op.drop_table("materials_completion")
    op.drop_table("materials_assignment")
    op.drop_index("ix_materials_module_position", table_name="materials_module")
    op.drop_index(
        "ix_materials_module_deletion_id",
        table_name="materials_module",
        postgresql_where=sa.text("deletion_id IS NOT NULL"),
    )
    op.drop_index(
        "ix_materials_module_course_id_live", table_name="materials_module", postgresql_where=sa.text("NOT is_deleted")
    )
    op.drop_table("materials_module")
