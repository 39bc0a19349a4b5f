"""For the filters of what super admins look through: without these, a filter that finds little reads all there is."""

import sqlalchemy as sa
from alembic import op

from lms_core.online import create_index_online

revision = "core_0008"
down_revision = "core_0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    create_index_online(
        "ix_core_audit_entry_action",
        "core_audit_entry",
        ["action", "id"],
        postgresql_where=sa.text("action <> 'created' AND action <> 'changed'"),
    )
    create_index_online("ix_core_audit_entry_kind", "core_audit_entry", ["kind", "id"])
    create_index_online("ix_core_deletion_actor_id", "core_deletion", ["actor_id", "id"])
    create_index_online("ix_core_deletion_root_kind", "core_deletion", ["root_kind", "id"])
    create_index_online("ix_core_deletion_state", "core_deletion", ["state", "id"])
    create_index_online("ix_core_import_importer", "core_import", ["importer", "id"])
    create_index_online("ix_core_import_state", "core_import", ["state", "id"])
    create_index_online("ix_core_legal_hold_kind", "core_legal_hold", ["kind", "id"])
    create_index_online("ix_core_legal_hold_object_id", "core_legal_hold", ["object_id", "id"])


def downgrade() -> None:
    op.drop_index("ix_core_legal_hold_object_id", table_name="core_legal_hold")
    op.drop_index("ix_core_legal_hold_kind", table_name="core_legal_hold")
    op.drop_index("ix_core_import_state", table_name="core_import")
    op.drop_index("ix_core_import_importer", table_name="core_import")
    op.drop_index("ix_core_deletion_state", table_name="core_deletion")
    op.drop_index("ix_core_deletion_root_kind", table_name="core_deletion")
    op.drop_index("ix_core_deletion_actor_id", table_name="core_deletion")
    op.drop_index("ix_core_audit_entry_kind", table_name="core_audit_entry")
    op.drop_index(
        "ix_core_audit_entry_action",
        table_name="core_audit_entry",
        postgresql_where=sa.text("action <> 'created' AND action <> 'changed'"),
    )
