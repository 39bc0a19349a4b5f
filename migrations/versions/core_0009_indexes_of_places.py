"""For the recycle bin, imports and holds of those who look after one place: without these they read those of all places."""

import sqlalchemy as sa
from alembic import op

from lms_core.online import create_index_online, drop_index_online

revision = "core_0009"
down_revision = "core_0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
    create_index_online("ix_core_deletion_kept", "core_deletion", ["id"], postgresql_where=sa.text("purged_at IS NULL"))
    create_index_online(
        "ix_core_deletion_label",
        "core_deletion",
        ["label"],
        postgresql_using="gin",
        postgresql_ops={"label": "gin_trgm_ops"},
    )
    create_index_online("ix_core_import_scope_id", "core_import", ["scope_id", "id"])
    create_index_online("ix_core_legal_hold_place_id", "core_legal_hold", ["place_id", "id"])


def downgrade() -> None:
    drop_index_online("ix_core_legal_hold_place_id", "core_legal_hold")
    drop_index_online("ix_core_import_scope_id", "core_import")
    drop_index_online("ix_core_deletion_label", "core_deletion")
    drop_index_online("ix_core_deletion_kept", "core_deletion")
