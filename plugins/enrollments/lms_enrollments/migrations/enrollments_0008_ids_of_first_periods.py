"""The periods that enrollments_0002 made have ids by their time, as all others: histories and `as_of` go by them."""

from alembic import op

revision = "enrollments_0008"
down_revision = "enrollments_0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # UUIDs of version 7 (RFC 9562) of the moment that each began, in place of those of version 4.
    op.execute(
        """
        UPDATE enrollments_period SET id = (
            lpad(to_hex(floor(extract(epoch FROM since) * 1000)::bigint), 12, '0')
            || '7' || substr(md5(id::text), 1, 3) || '8' || substr(md5(id::text), 4, 15)
        )::uuid
        WHERE substr(id::text, 15, 1) = '4'
        """
    )


def downgrade() -> None:
    """What came before takes these ids as well."""
