"""inherited settings."""

import sqlalchemy as sa
from alembic import op

revision = "institutions_0002"
down_revision = "institutions_0001"
branch_labels = None
depends_on = None
phase = "maintenance"


def upgrade() -> None:
    op.add_column("institutions_institution", sa.Column("locale", sa.String(length=35), nullable=True))
    op.add_column("institutions_institution", sa.Column("password_min_length", sa.Integer(), nullable=True))
    op.add_column("institutions_institution", sa.Column("retention_days", sa.Integer(), nullable=True))
    op.alter_column("institutions_institution", "timezone", existing_type=sa.VARCHAR(length=64), nullable=True)


def downgrade() -> None:
    op.execute("UPDATE institutions_institution SET timezone = 'UTC' WHERE timezone IS NULL")
    op.alter_column("institutions_institution", "timezone", existing_type=sa.VARCHAR(length=64), nullable=False)
    op.drop_column("institutions_institution", "retention_days")
    op.drop_column("institutions_institution", "password_min_length")
    op.drop_column("institutions_institution", "locale")
