"""contents and versions: bytes are kept once however many files have them, and a file keeps what it held before.

Objects of ready files stay where they are; the first file with some bytes says where these are kept. Thumbnails are made
anew, beside the content.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "files_0002"
down_revision = "files_0001"
branch_labels = None
depends_on = None
phase = "maintenance"

OF_TEXT = "('state', text_state, 'pages', text_pages, 'characters', text_characters, 'reason', text_reason)"
PICTURE_LIKE_THUMBNAIL = "(CASE WHEN thumbnail_state = 'ready' THEN 'pending' ELSE thumbnail_state END)"
UNDERIVED = """state = 'ready' AND derivatives @? '$.*.state ? (@ == "pending")'"""


def upgrade() -> None:
    op.create_table(
        "files_content",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("sha256"),
    )
    op.add_column("files_quota", sa.Column("allowed_types", postgresql.JSONB(none_as_null=True), nullable=True))
    op.add_column("files_file", sa.Column("uploader_id", sa.Uuid(), nullable=True))
    op.add_column("files_file", sa.Column("replaces_id", sa.Uuid(), nullable=True))
    op.add_column("files_file", sa.Column("content_id", sa.String(length=64), nullable=True))
    op.add_column("files_file", sa.Column("derivatives", postgresql.JSONB(), nullable=True))
    op.execute(
        """
        INSERT INTO files_content (sha256, size, key)
        SELECT DISTINCT ON (sha256) sha256, size, clean_key FROM files_file WHERE state = 'ready' ORDER BY sha256, id
        """
    )
    op.execute(
        f"""
        UPDATE files_file SET uploader_id = owner_id,
            content_id = (SELECT sha256 FROM files_content c WHERE state = 'ready' AND c.sha256 = files_file.sha256),
            clean_key = (SELECT key FROM files_content c WHERE state = 'ready' AND c.sha256 = files_file.sha256),
            derivatives = jsonb_build_object(
                'text', jsonb_strip_nulls(jsonb_build_object{OF_TEXT}),
                'thumbnail', jsonb_strip_nulls(
                    jsonb_build_object('state', {PICTURE_LIKE_THUMBNAIL}, 'reason', thumbnail_reason)
                ),
                'preview', jsonb_strip_nulls(
                    jsonb_build_object('state', {PICTURE_LIKE_THUMBNAIL}, 'reason', thumbnail_reason)
                )
            )
        """
    )
    op.alter_column("files_file", "uploader_id", nullable=False)
    op.alter_column("files_file", "derivatives", nullable=False)
    for column, other in (
        ("uploader_id", "users_user.id"),
        ("replaces_id", "files_file.id"),
        ("content_id", "files_content.sha256"),
    ):
        table, key = other.split(".")
        op.create_foreign_key(f"files_file_{column}_fkey", "files_file", table, [column], [key])
    op.create_check_constraint("ck_files_file_content", "files_file", "state <> 'ready' OR content_id IS NOT NULL")
    op.create_index("ix_files_file_content_id", "files_file", ["content_id"])
    op.create_index(
        "ix_files_file_replaces_id",
        "files_file",
        ["replaces_id", "id"],
        postgresql_where=sa.text("replaces_id IS NOT NULL"),
    )
    op.create_index("ix_files_file_underived", "files_file", ["updated_at"], postgresql_where=sa.text(UNDERIVED))
    for name in ("state", "pages", "characters", "reason"):
        op.drop_column("files_file", f"text_{name}")
    for name in ("state", "width", "height", "reason"):
        op.drop_column("files_file", f"thumbnail_{name}")


def downgrade() -> None:
    for name, kind in (("state", sa.String(length=20)), ("reason", sa.String(length=40))):
        op.add_column("files_file", sa.Column(f"text_{name}", kind, nullable=True))
        op.add_column("files_file", sa.Column(f"thumbnail_{name}", kind, nullable=True))
    for name in ("text_pages", "text_characters", "thumbnail_width", "thumbnail_height"):
        op.add_column("files_file", sa.Column(name, sa.Integer(), nullable=True))
    op.execute(
        """
        UPDATE files_file SET
            text_state = derivatives->'text'->>'state', text_reason = derivatives->'text'->>'reason',
            text_pages = (derivatives->'text'->>'pages')::int,
            text_characters = (derivatives->'text'->>'characters')::int,
            thumbnail_state = CASE derivatives->'thumbnail'->>'state' WHEN 'ready' THEN 'pending'
                ELSE derivatives->'thumbnail'->>'state' END,
            thumbnail_reason = derivatives->'thumbnail'->>'reason'
        """
    )
    op.alter_column("files_file", "text_state", nullable=False)
    op.alter_column("files_file", "thumbnail_state", nullable=False)
    op.drop_index("ix_files_file_underived", table_name="files_file", postgresql_where=sa.text(UNDERIVED))
    op.drop_index(
        "ix_files_file_replaces_id", table_name="files_file", postgresql_where=sa.text("replaces_id IS NOT NULL")
    )
    op.drop_index("ix_files_file_content_id", table_name="files_file")
    op.drop_constraint("ck_files_file_content", "files_file")
    for column in ("derivatives", "content_id", "replaces_id", "uploader_id"):
        op.drop_column("files_file", column)
    op.drop_column("files_quota", "allowed_types")
    op.drop_table("files_content")
