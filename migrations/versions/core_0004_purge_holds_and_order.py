"""Deletions of several roots and their parts, legal holds, the switch of the purge; deliveries in order, and what is owed."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "core_0004"
down_revision = "core_0003"
branch_labels = None
depends_on = None
phase = "maintenance"


def upgrade() -> None:
    op.create_table(
        "core_handler",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("known_since", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "core_legal_hold",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("object_id", sa.Uuid(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("actor_id", sa.Uuid(), nullable=True),
        sa.Column("lifted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lifted_by", sa.Uuid(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "uq_core_legal_hold_object",
        "core_legal_hold",
        ["kind", "object_id"],
        unique=True,
        postgresql_where=sa.text("lifted_at IS NULL"),
    )
    op.create_table(
        "core_switch",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("position", sa.String(), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.add_column("core_deletion", sa.Column("root_ids", sa.ARRAY(sa.Uuid()), nullable=True))
    op.execute("UPDATE core_deletion SET root_ids = ARRAY[root_id]")
    op.alter_column("core_deletion", "root_ids", nullable=False)
    op.add_column("core_deletion", sa.Column("reason", sa.String(), nullable=True))
    op.add_column(
        "core_deletion",
        sa.Column("choices", postgresql.JSONB(astext_type=sa.Text()), server_default="[]", nullable=False),
    )
    op.add_column("core_deletion", sa.Column("taken_from", sa.Uuid(), nullable=True))
    op.add_column(
        "core_deletion",
        sa.Column("conflict", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
    )
    op.add_column("core_deletion", sa.Column("purged_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index(
        "ix_core_deletion_due",
        "core_deletion",
        ["purge_after"],
        unique=False,
        postgresql_where=sa.text("state = 'deleted'"),
    )
    op.create_index(
        "ix_core_deletion_purging",
        "core_deletion",
        ["id"],
        unique=False,
        postgresql_where=sa.text("state = 'purged' AND purged_at IS NULL"),
    )
    op.create_index(
        "ix_core_deletion_taken_from",
        "core_deletion",
        ["taken_from"],
        unique=False,
        postgresql_where=sa.text("taken_from IS NOT NULL"),
    )
    op.execute("UPDATE core_deletion SET choices = jsonb_build_array(on_conflict) WHERE on_conflict IS NOT NULL")
    op.drop_column("core_deletion", "on_conflict")
    op.add_column("core_delivery", sa.Column("order_key", sa.String(), nullable=True))
    op.add_column("core_delivery", sa.Column("position", sa.BigInteger(), sa.Identity(always=True), nullable=False))
    op.drop_index(op.f("ix_core_delivery_event_id"), table_name="core_delivery")
    op.create_index(
        "ix_core_delivery_order",
        "core_delivery",
        ["handler", "order_key", "position"],
        unique=False,
        postgresql_where=sa.text("done_at IS NULL AND dead_at IS NULL AND order_key IS NOT NULL"),
    )
    op.create_index("uq_core_delivery_event", "core_delivery", ["event_id", "handler"], unique=True)


def downgrade() -> None:
    op.drop_index("uq_core_delivery_event", table_name="core_delivery")
    op.drop_index(
        "ix_core_delivery_order",
        table_name="core_delivery",
        postgresql_where=sa.text("done_at IS NULL AND dead_at IS NULL AND order_key IS NOT NULL"),
    )
    op.create_index(op.f("ix_core_delivery_event_id"), "core_delivery", ["event_id"], unique=False)
    op.drop_column("core_delivery", "position")
    op.drop_column("core_delivery", "order_key")
    op.add_column("core_deletion", sa.Column("on_conflict", sa.VARCHAR(), autoincrement=False, nullable=True))
    op.drop_index(
        "ix_core_deletion_taken_from", table_name="core_deletion", postgresql_where=sa.text("taken_from IS NOT NULL")
    )
    op.drop_index(
        "ix_core_deletion_purging",
        table_name="core_deletion",
        postgresql_where=sa.text("state = 'purged' AND purged_at IS NULL"),
    )
    op.drop_index("ix_core_deletion_due", table_name="core_deletion", postgresql_where=sa.text("state = 'deleted'"))
    op.drop_column("core_deletion", "purged_at")
    op.drop_column("core_deletion", "conflict")
    op.drop_column("core_deletion", "taken_from")
    op.drop_column("core_deletion", "choices")
    op.drop_column("core_deletion", "reason")
    op.drop_column("core_deletion", "root_ids")
    op.drop_table("core_switch")
    op.drop_index(
        "uq_core_legal_hold_object", table_name="core_legal_hold", postgresql_where=sa.text("lifted_at IS NULL")
    )
    op.drop_table("core_legal_hold")
    op.drop_table("core_handler")
