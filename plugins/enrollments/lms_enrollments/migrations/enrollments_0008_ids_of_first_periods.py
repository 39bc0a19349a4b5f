"""The periods that enrollments_0002 made have ids by their time, as all others: histories and `as_of` go by them.

A portion at a time, so that nobody waits for more than a thousand rows. It commits in between: whoever breaks it off
begins it again.
"""

from alembic import op

revision = "enrollments_0008"
down_revision = "enrollments_0007"
branch_labels = None
depends_on = None

# UUIDs of version 7 (RFC 9562) of the moment that each began, in place of those of version 4.
GIVE_IDS = """
    DO $$
    DECLARE
        portion uuid[];
        last uuid := 'ffffffff-ffff-ffff-ffff-ffffffffffff';
    BEGIN
        LOOP
            -- From the end, where nearly all of the random ones are.
            portion := ARRAY(
                SELECT id FROM enrollments_period WHERE id <= last AND substr(id::text, 15, 1) = '4'
                ORDER BY id DESC LIMIT 1000
            );
            EXIT WHEN portion = '{}';
            UPDATE enrollments_period SET id = (
                lpad(to_hex(floor(extract(epoch FROM since) * 1000)::bigint), 12, '0')
                || '7' || substr(md5(id::text), 1, 3) || '8' || substr(md5(id::text), 4, 15)
            )::uuid
            WHERE id = ANY(portion);
            COMMIT;
            last := portion[cardinality(portion)];
        END LOOP;
    END $$
"""


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.execute(GIVE_IDS)


def downgrade() -> None:
    """What came before takes these ids as well."""
