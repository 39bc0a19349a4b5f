"""Files that were handed in are kept as they are."""

import sqlalchemy as sa
from alembic import op

revision = "files_0003"
down_revision = "files_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("files_file", sa.Column("kept", sa.Boolean(), server_default=sa.text("false"), nullable=False))


def downgrade() -> None:
    op.drop_column("files_file", "kept")
