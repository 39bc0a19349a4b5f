"""Indexes of what points at other tables: a purge looks there for each row that it removes."""

import sqlalchemy as sa
from alembic import op

from lms_core.sdk import create_index_online

revision = "groups_0002"
down_revision = "groups_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    create_index_online("ix_groups_course_role_course_id", "groups_course_role", ["course_id"])
    create_index_online("ix_groups_course_role_group_id", "groups_course_role", ["group_id"])
    create_index_online(
        "ix_groups_group_course_id",
        "groups_group",
        ["course_id"],
        postgresql_where=sa.text("course_id IS NOT NULL"),
    )
    create_index_online(
        "ix_groups_group_institution_id",
        "groups_group",
        ["institution_id"],
        postgresql_where=sa.text("institution_id IS NOT NULL"),
    )
    create_index_online("ix_groups_membership_group_id", "groups_membership", ["group_id"])
    create_index_online("ix_groups_membership_user_id", "groups_membership", ["user_id"])


def downgrade() -> None:
    op.drop_index("ix_groups_membership_user_id", table_name="groups_membership")
    op.drop_index("ix_groups_membership_group_id", table_name="groups_membership")
    op.drop_index(
        "ix_groups_group_institution_id",
        table_name="groups_group",
        postgresql_where=sa.text("institution_id IS NOT NULL"),
    )
    op.drop_index(
        "ix_groups_group_course_id", table_name="groups_group", postgresql_where=sa.text("course_id IS NOT NULL")
    )
    op.drop_index("ix_groups_course_role_group_id", table_name="groups_course_role")
    op.drop_index("ix_groups_course_role_course_id", table_name="groups_course_role")
