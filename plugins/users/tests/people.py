"""Many people at once, for tests that need them."""

from uuid import uuid4

from lms_core.testing import Lms, School


async def make_people(lms: Lms, school: School, number: int) -> list[str]:
    """Members of the school, straight into the tables: a hundred password hashes would take their time."""
    rows = await lms.sql(
        """
        WITH person AS (
            INSERT INTO users_user (id, email, email_key, full_name, is_active)
            SELECT gen_random_uuid(), m, m, 'Somebody', true
            FROM (SELECT :prefix || n || '@example.org' AS m FROM generate_series(1, :number) n) made
            RETURNING id
        ), granted AS (
            INSERT INTO users_grant (id, user_id, role, institution_id)
            SELECT gen_random_uuid(), id, 'student', :institution FROM person
        ) SELECT id FROM person
        """,
        prefix=uuid4().hex,
        number=number,
        institution=school.institution["id"],
    )
    return [str(row["id"]) for row in rows]
