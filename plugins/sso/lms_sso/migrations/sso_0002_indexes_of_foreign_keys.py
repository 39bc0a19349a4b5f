"""Indexes of what points at other tables: a purge looks there for each row that it removes."""

from alembic import op

revision = "sso_0002"
down_revision = "sso_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_sso_attempt_provider_id", "sso_attempt", ["provider_id"], unique=False)
    op.create_index("ix_sso_domain_institution_id", "sso_domain", ["institution_id"], unique=False)
    op.create_index("ix_sso_provider_institution_id", "sso_provider", ["institution_id"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_sso_provider_institution_id", table_name="sso_provider")
    op.drop_index("ix_sso_domain_institution_id", table_name="sso_domain")
    op.drop_index("ix_sso_attempt_provider_id", table_name="sso_attempt")
