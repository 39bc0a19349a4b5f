"""The course of each text, kept by a trigger: older processes, which do not know of it, go on writing texts.

What is there already gets it a portion at a time, so that nobody waits for more than a thousand rows. It commits in
between, so each step can be done twice: whoever breaks it off begins it again.
"""

import sqlalchemy as sa
from alembic import op

revision = "materials_0006"
down_revision = "materials_0005"
branch_labels = None
depends_on = None

KEEP = """
    CREATE OR REPLACE FUNCTION materials_keep_course_of_text() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        NEW.course_id := (SELECT course_id FROM materials_material WHERE id = NEW.material_id);
        RETURN NEW;
    END $$
"""
WHEN = """
    CREATE OR REPLACE TRIGGER materials_text_course BEFORE INSERT ON materials_text
    FOR EACH ROW EXECUTE FUNCTION materials_keep_course_of_text()
"""
FILL = """
    DO $$
    DECLARE
        portion uuid[];
        last uuid := '00000000-0000-0000-0000-000000000000';
    BEGIN
        LOOP
            portion := ARRAY(SELECT id FROM materials_text WHERE id > last ORDER BY id LIMIT 1000);
            EXIT WHEN portion = '{}';
            UPDATE materials_text SET course_id = materials_material.course_id FROM materials_material
            WHERE materials_material.id = material_id AND materials_text.id = ANY(portion)
            AND materials_text.course_id IS NULL;
            COMMIT;
            last := portion[cardinality(portion)];
        END LOOP;
    END $$
"""


def upgrade() -> None:
    op.add_column("materials_text", sa.Column("course_id", sa.Uuid(), nullable=True), if_not_exists=True)
    op.execute(KEEP)
    op.execute(WHEN)
    with op.get_context().autocommit_block():
        op.execute(FILL)


def downgrade() -> None:
    op.execute("DROP TRIGGER materials_text_course ON materials_text")
    op.execute("DROP FUNCTION materials_keep_course_of_text()")
    op.drop_column("materials_text", "course_id")
