"""Indexes of what points at other tables: a purge looks there for each row that it removes."""

import sqlalchemy as sa
from alembic import op

from lms_core.sdk import create_index_online

revision = "users_0004"
down_revision = "users_0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    create_index_online(
        "ix_users_grant_institution_id",
        "users_grant",
        ["institution_id"],
        postgresql_where=sa.text("institution_id IS NOT NULL"),
    )
    create_index_online(
        "ix_users_grant_role_id",
        "users_grant",
        ["role_id"],
        postgresql_where=sa.text("role_id IS NOT NULL"),
    )
    create_index_online("ix_users_grant_user_id", "users_grant", ["user_id"])
    create_index_online("ix_users_guardianship_guardian_id", "users_guardianship", ["guardian_id"])
    create_index_online("ix_users_guardianship_student_id", "users_guardianship", ["student_id"])
    create_index_online("ix_users_role_institution_id", "users_role", ["institution_id"])


def downgrade() -> None:
    op.drop_index("ix_users_role_institution_id", table_name="users_role")
    op.drop_index("ix_users_guardianship_student_id", table_name="users_guardianship")
    op.drop_index("ix_users_guardianship_guardian_id", table_name="users_guardianship")
    op.drop_index("ix_users_grant_user_id", table_name="users_grant")
    op.drop_index("ix_users_grant_role_id", table_name="users_grant", postgresql_where=sa.text("role_id IS NOT NULL"))
    op.drop_index(
        "ix_users_grant_institution_id",
        table_name="users_grant",
        postgresql_where=sa.text("institution_id IS NOT NULL"),
    )
