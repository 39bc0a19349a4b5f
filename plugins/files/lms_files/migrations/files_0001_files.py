"""files."""

import sqlalchemy as sa
from alembic import op

revision = "files_0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "files_quota",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("used_bytes", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("reserved_bytes", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("limit_bytes", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("used_bytes >= 0 AND reserved_bytes >= 0", name="ck_files_quota_bytes"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "files_file",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("is_deleted", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("deletion_id", sa.Uuid(), nullable=True),
        sa.Column("course_id", sa.Uuid(), nullable=True),
        sa.Column("institution_id", sa.Uuid(), nullable=True),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("shared", sa.Boolean(), nullable=False),
        sa.Column("filename", sa.String(length=255), nullable=False),
        sa.Column("content_type", sa.String(length=255), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=True),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("reason", sa.String(length=40), nullable=True),
        sa.Column("upload_kind", sa.String(length=20), nullable=False),
        sa.Column("upload_id", sa.String(), nullable=True),
        sa.Column("etag", sa.String(), nullable=True),
        sa.Column(
            "expires_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now() + interval '15 minutes'"),
            nullable=False,
        ),
        sa.Column("ready_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("clean_key", sa.String(), nullable=True),
        sa.Column("text_state", sa.String(length=20), nullable=False),
        sa.Column("text_pages", sa.Integer(), nullable=True),
        sa.Column("text_characters", sa.Integer(), nullable=True),
        sa.Column("text_reason", sa.String(length=40), nullable=True),
        sa.Column("thumbnail_state", sa.String(length=20), nullable=False),
        sa.Column("thumbnail_width", sa.Integer(), nullable=True),
        sa.Column("thumbnail_height", sa.Integer(), nullable=True),
        sa.Column("thumbnail_reason", sa.String(length=40), nullable=True),
        sa.CheckConstraint("(state = 'ready') = (clean_key IS NOT NULL)", name="ck_files_file_ready"),
        sa.CheckConstraint("is_deleted = (deletion_id IS NOT NULL)", name="ck_files_file_deletion"),
        sa.CheckConstraint("size > 0", name="ck_files_file_size"),
        sa.ForeignKeyConstraint(
            ["course_id"],
            ["courses_course.id"],
        ),
        sa.ForeignKeyConstraint(
            ["owner_id"],
            ["users_user.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "ix_files_file_course_id_live",
        "files_file",
        ["course_id", "id"],
        unique=False,
        postgresql_where=sa.text("NOT is_deleted"),
    )
    op.create_index(
        "ix_files_file_deletion_id",
        "files_file",
        ["deletion_id", "id"],
        unique=False,
        postgresql_where=sa.text("deletion_id IS NOT NULL"),
    )
    op.create_index(
        "ix_files_file_owner_live",
        "files_file",
        ["owner_id", "id"],
        unique=False,
        postgresql_where=sa.text("NOT is_deleted"),
    )
    op.create_index(
        "ix_files_file_unfinished",
        "files_file",
        ["state", "expires_at"],
        unique=False,
        postgresql_where=sa.text("state IN ('requested', 'uploaded', 'verifying')"),
    )
    op.create_table(
        "files_page",
        sa.Column("file_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("text", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["file_id"],
            ["files_file.id"],
        ),
        sa.PrimaryKeyConstraint("file_id", "number"),
    )


def downgrade() -> None:
    op.drop_table("files_page")
    op.drop_index(
        "ix_files_file_unfinished",
        table_name="files_file",
        postgresql_where=sa.text("state IN ('requested', 'uploaded', 'verifying')"),
    )
    op.drop_index("ix_files_file_owner_live", table_name="files_file", postgresql_where=sa.text("NOT is_deleted"))
    op.drop_index(
        "ix_files_file_deletion_id", table_name="files_file", postgresql_where=sa.text("deletion_id IS NOT NULL")
    )
    op.drop_index("ix_files_file_course_id_live", table_name="files_file", postgresql_where=sa.text("NOT is_deleted"))
    op.drop_table("files_file")
    op.drop_table("files_quota")
