"""the audit trail, which only ever grows."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "core_0002"
down_revision = "core_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "core_audit_entry",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("actor_id", sa.Uuid(), nullable=True),
        sa.Column("address", sa.String(), nullable=True),
        sa.Column("request_id", sa.String(), nullable=True),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("object_id", sa.Uuid(), nullable=False),
        sa.Column("changes", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_core_audit_entry_actor", "core_audit_entry", ["actor_id", "id"], unique=False)
    op.create_index("ix_core_audit_entry_object", "core_audit_entry", ["object_id", "id"], unique=False)
    # A trigger, since the role that owns the table keeps every privilege, whatever is revoked.
    op.execute(
        """
        CREATE FUNCTION core_refuse_change_of_audit() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'the audit trail is append-only' USING ERRCODE = 'insufficient_privilege';
        END $$
        """
    )
    op.execute(
        """
        CREATE TRIGGER core_audit_entry_append_only
        BEFORE UPDATE OR DELETE OR TRUNCATE ON core_audit_entry
        FOR EACH STATEMENT EXECUTE FUNCTION core_refuse_change_of_audit()
        """
    )


def downgrade() -> None:
    op.drop_table("core_audit_entry")
    op.execute("DROP FUNCTION core_refuse_change_of_audit()")
