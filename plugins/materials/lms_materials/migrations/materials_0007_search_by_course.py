"""Search by course and words in one index; those by words alone go, since it answers for these too."""

import sqlalchemy as sa

from lms_core.sdk import create_index_online, drop_index_online

revision = "materials_0007"
down_revision = "materials_0006"
branch_labels = None
depends_on = None

SORTS = (("written", "page = 0"), ("pages", "page > 0"))


def upgrade() -> None:
    for name, where in SORTS:
        create_index_online(
            f"ix_materials_text_course_{name}",
            "materials_text",
            [sa.text("(ARRAY[course_id])"), "vector"],
            postgresql_using="gin",
            postgresql_where=sa.text(where),
        )
    for name, _ in SORTS:
        drop_index_online(f"ix_materials_text_{name}", "materials_text")


def downgrade() -> None:
    for name, where in SORTS:
        create_index_online(
            f"ix_materials_text_{name}",
            "materials_text",
            ["vector"],
            postgresql_using="gin",
            postgresql_where=sa.text(where),
        )
    for name, _ in SORTS:
        drop_index_online(f"ix_materials_text_course_{name}", "materials_text")
