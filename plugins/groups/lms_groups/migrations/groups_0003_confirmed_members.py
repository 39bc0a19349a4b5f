"""confirmed members: who came back has the roles of a group again from when somebody says so who may give them."""

import sqlalchemy as sa
from alembic import op

revision = "groups_0003"
down_revision = "groups_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("groups_membership", sa.Column("confirmed_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    op.drop_column("groups_membership", "confirmed_at")
