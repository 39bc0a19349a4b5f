"""Indexes of what points at other tables: a purge looks there for each row that it removes."""

from alembic import op

from lms_core.sdk import create_index_online

revision = "sso_0002"
down_revision = "sso_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    create_index_online("ix_sso_attempt_provider_id", "sso_attempt", ["provider_id"])
    create_index_online("ix_sso_domain_institution_id", "sso_domain", ["institution_id"])
    create_index_online("ix_sso_provider_institution_id", "sso_provider", ["institution_id"])


def downgrade() -> None:
    op.drop_index("ix_sso_provider_institution_id", table_name="sso_provider")
    op.drop_index("ix_sso_domain_institution_id", table_name="sso_domain")
    op.drop_index("ix_sso_attempt_provider_id", table_name="sso_attempt")
