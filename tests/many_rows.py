"""A database as a region of schools has it after years: many rows in every table that grows, in some seconds.

One school has three tenths of everything and one of its courses a twelfth of all enrollments; the rest is spread over
2,000 schools. All of these rows are younger than what tests make through HTTP before, so that whoever has only those
finds them at the far end of every list.
"""

from __future__ import annotations

import re
from uuid import UUID

import asyncpg

KINDS = [
    "institution",
    "user",
    "grant",
    "course",
    "section",
    "term",
    "enrollment",
    "period",
    "group",
    "membership",
    "course_role",
    "material",
    "module",
    "submission",
    "grade",
    "revision",
    "extension",
    "file",
    "audit",
    "deletion",
    "import",
    "hold",
    "session",
    "guardianship",
    "provider",
    "domain",
    "role",
    "text",
]
FIRST_SECOND = 4_102_444_800
"""The year 2100, after everything else."""


def row_id(kind: str, number: int) -> UUID:
    """The id of one of the rows."""
    milliseconds = (FIRST_SECOND + number) * 1000
    return UUID(f"{milliseconds:012x}7{KINDS.index(kind):03x}8000{number:012x}")


FUNCTIONS = f"""
    CREATE FUNCTION row_id(kind text, number bigint) RETURNS uuid IMMUTABLE LANGUAGE sql RETURN
        (lpad(to_hex(({FIRST_SECOND} + number) * 1000), 12, '0') || '7'
         || lpad(to_hex(array_position(ARRAY[{", ".join(f"'{kind}'" for kind in KINDS)}], kind) - 1), 3, '0')
         || '8000' || lpad(to_hex(number), 12, '0'))::uuid;
    CREATE FUNCTION at(number bigint) RETURNS timestamptz IMMUTABLE LANGUAGE sql RETURN
        to_timestamp({FIRST_SECOND} + number);
    CREATE FUNCTION school(number bigint) RETURNS uuid IMMUTABLE LANGUAGE sql RETURN
        row_id('institution', CASE WHEN number % 10 < 3 THEN 1 ELSE 2 + number % 1999 END);
    CREATE FUNCTION course(number bigint) RETURNS bigint IMMUTABLE LANGUAGE sql RETURN
        CASE WHEN number % 12 = 0 THEN 1 ELSE 2 + number % 19999 END;
    CREATE FUNCTION person(number bigint) RETURNS uuid IMMUTABLE LANGUAGE sql RETURN
        row_id('user', 1 + (number + number / 30000) % 30000);
"""

ROWS = """
    institutions_institution 3000 (id, created_at, parent_id, name, slug)
        row_id('institution', n), at(n), CASE WHEN n > 2000 THEN row_id('institution', n % 2000 + 1) END, 'School ' || n, 's' || n
    users_user 30000 (id, created_at, email, email_key, full_name, is_active)
        row_id('user', n), at(n), n || '@example.org', n || '@example.org', 'Person ' || n, true
    users_grant 30000 (id, created_at, user_id, role, institution_id)
        row_id('grant', n), at(n), row_id('user', n),
        CASE WHEN n % 200 = 0 THEN 'principal' WHEN n % 20 = 0 THEN 'teacher' ELSE 'student' END, school(n)
    users_role 5000 (id, created_at, institution_id, name, summary, permissions)
        row_id('role', n), at(n), school(n), 'role_' || n, '', '{users.read}'
    users_guardianship 20000 (id, created_at, student_id, guardian_id)
        row_id('guardianship', n), at(n), row_id('user', n), row_id('user', n + 10000)
    courses_term 5000 (id, created_at, institution_id, name, starts_on, ends_on, parent_id)
        row_id('term', n), at(n), school(n), 'Term ' || n, '2100-01-01', '2100-06-30', CASE WHEN n % 3 = 0 THEN row_id('term', n - 1) END
    courses_course 20000 (id, created_at, institution_id, code, title, description, state, waitlist, term_id)
        row_id('course', n), at(n), school(n), 'C' || n, 'Course ' || n, '', CASE WHEN n % 10 = 3 THEN 'draft' ELSE 'published' END, false,
        row_id('term', 1 + n % 5000)
    courses_section 20000 (id, created_at, course_id, name)
        row_id('section', n), at(n), row_id('course', course(n)), 'Section ' || n
    enrollments_enrollment 60000 (id, created_at, course_id, user_id, role, state, waiting_number)
        row_id('enrollment', n), at(n), row_id('course', course(n)), person(n), CASE WHEN n % 25 = 7 THEN 'teacher' ELSE 'student' END,
        CASE WHEN n % 1000 = 1 THEN 'waitlisted' WHEN n % 50 = 2 THEN 'completed' ELSE 'active' END, CASE WHEN n % 1000 = 1 THEN n END
    enrollments_period 60000 (id, created_at, enrollment_id, course_id, user_id, role, state, since, cause)
        row_id('period', n), at(n), row_id('enrollment', n), row_id('course', course(n)), person(n),
        CASE WHEN n % 25 = 7 THEN 'teacher' ELSE 'student' END,
        CASE WHEN n % 1000 = 1 THEN 'waitlisted' WHEN n % 50 = 2 THEN 'completed' ELSE 'active' END, at(n), 'enrolled'
    groups_group 20000 (id, created_at, course_id, institution_id, name, description)
        row_id('group', n), at(n), CASE WHEN n % 20 > 0 THEN row_id('course', course(n)) END, CASE WHEN n % 20 = 0 THEN school(n) END, 'Group ' || n, ''
    groups_membership 60000 (id, created_at, group_id, user_id)
        row_id('membership', n), at(n), row_id('group', CASE WHEN n % 12 = 0 THEN 1 ELSE 2 + n % 19999 END), person(n)
    groups_course_role 20000 (id, created_at, group_id, course_id, role)
        row_id('course_role', n), at(n), row_id('group', CASE WHEN n % 12 = 0 THEN 1 ELSE n END), row_id('course', n), 'assistant'
    materials_module 20000 (id, created_at, course_id, title, position)
        row_id('module', n), at(n), row_id('course', course(n)), 'Module ' || n, n
    materials_material 40000 (id, created_at, course_id, kind, title, body, position, published, module_id)
        row_id('material', n), at(n), row_id('course', course(n)), CASE WHEN n % 4 = 0 THEN 'assignment' ELSE 'page' END, 'Material ' || n, 'Words', n, n % 10 <> 5,
        CASE WHEN n % 36 = 0 THEN row_id('module', 12) END
    materials_assignment 10000 (material_id, points, extra_credit, late_policy, grades_held)
        row_id('material', n * 4), 10, false, '{}', false
    materials_submission 60000 (id, created_at, material_id, user_id, attempt, state, body, urls, submitted_at)
        row_id('submission', n), at(n), row_id('material', CASE WHEN n % 12 = 0 THEN 12 ELSE 4 * (1 + n % 10000) END), person(n), 1 + n / 30000, 'submitted', 'Words', '[]', at(n)
    materials_grade 60000 (id, created_at, submission_id, number, points, feedback, reason, graded_by)
        row_id('grade', n), at(n), row_id('submission', CASE WHEN n % 12 = 0 THEN 1 ELSE n END), n, 5, '', '', person(n)
    materials_revision 40000 (id, created_at, material_id, number, title, body, body_format)
        row_id('revision', n), at(n), row_id('material', CASE WHEN n % 12 = 0 THEN 1 ELSE n END), n, 'Material ' || n, 'Words', 'markdown'
    materials_extension 20000 (id, created_at, material_id, user_id, more_attempts, reason)
        row_id('extension', n), at(n), row_id('material', CASE WHEN n % 12 = 0 THEN 12 ELSE 2 * n END), person(n), 1, ''
    materials_text 40000 (id, material_id, page, title, text, vector, language)
        row_id('text', n), row_id('material', n), 0, 'Material ' || n, 'common words w' || n, to_tsvector('simple', 'common words w' || n), 'lms_simple'
    files_file 40000 (id, created_at, course_id, owner_id, uploader_id, shared, filename, content_type, size, state, clean_key, content_id, upload_kind, derivatives, replaces_id)
        row_id('file', n), at(n), CASE WHEN n % 5 > 0 THEN row_id('course', course(n)) END, person(n), person(n), n % 2 = 0, n || '.txt', 'text/plain', 5,
        CASE WHEN n % 50 = 2 THEN 'requested' ELSE 'ready' END, CASE WHEN n % 50 <> 2 THEN 'k' END, CASE WHEN n % 50 <> 2 THEN 'c' END, 'single', '{}',
        CASE WHEN n % 9 = 0 THEN row_id('file', CASE WHEN n % 2 = 0 THEN 1 ELSE n - 1 END) END
    core_audit_entry 60000 (id, created_at, actor_id, action, kind, object_id, changes)
        row_id('audit', n), at(n), person(n), CASE WHEN n % 3 = 0 THEN 'created' ELSE 'changed' END, CASE WHEN n % 4 = 0 THEN 'users.user' ELSE 'courses.course' END,
        row_id('course', course(n)), '{}'
    core_deletion 30000 (id, created_at, root_kind, root_id, root_ids, label, state, purged_at, actor_id, counts)
        row_id('deletion', n), at(n), CASE WHEN n % 2 = 0 THEN 'courses.course' ELSE 'materials.material' END,
        row_id(CASE WHEN n % 2 = 0 THEN 'course' ELSE 'material' END, n), ARRAY[row_id(CASE WHEN n % 2 = 0 THEN 'course' ELSE 'material' END, n)], 'Label ' || n,
        CASE WHEN n % 5 = 0 THEN 'restored' WHEN n % 5 = 1 THEN 'purged' ELSE 'deleted' END, CASE WHEN n % 5 = 1 THEN at(n) END, person(n), '{}'
    core_import 20000 (id, created_at, importer, file_id, scope_id, options, actor_id, state, rows_total, rows_done, counts)
        row_id('import', n), at(n), CASE WHEN n % 2 = 0 THEN 'users.users' ELSE 'enrollments.enrollments' END, row_id('file', n), school(n), '{}', person(n), 'done', 1, 1, '{}'
    core_import_row 40000 (import_id, number, cells, state, action, changes, kept, memo)
        row_id('import', CASE WHEN n % 4 = 0 THEN 1 ELSE n END), n, '{}', 'done', 'create', '{}', '[]', '{}'
    core_legal_hold 20000 (id, created_at, kind, object_id, reason, place_kind, place_id, lifted_at)
        row_id('hold', n), at(n), 'courses.course', row_id('course', n), 'A case', 'institutions.institution', school(n), CASE WHEN n % 2 = 0 THEN at(n) END
    auth_session 30000 (id, created_at, user_id, counter, idle_expires_at, absolute_expires_at, device, ip)
        row_id('session', n), at(n), row_id('user', CASE WHEN n % 10 = 0 THEN 1 ELSE n END), 1, at(n), at(n), '', ''
    sso_provider 5000 (id, created_at, institution_id, name, issuer, client_id, scope, role_rules, creates_users, trusts_emails, is_enabled)
        row_id('provider', n), at(n), school(n), 'Provider ' || n, 'https://sign-in.example', 'lms', 'openid', '[]', false, false, true
    sso_domain 5000 (id, created_at, institution_id, domain)
        row_id('domain', n), at(n), school(n), n || '.example'
"""


def statements() -> list[str]:
    """How each table is filled: its name, how many rows, their columns, and below that what row `n` has there."""
    found: list[str] = []
    for block in re.split(r"\n    (?! )", ROWS.strip()):
        head, *values = block.split("\n")
        table, rows, columns = head.split(" ", 2)
        found.append(f"INSERT INTO {table} {columns} SELECT {' '.join(values)} FROM generate_series(1, {rows}) AS n")
    return found


async def fill(connection: asyncpg.Connection) -> None:
    """All of them, without asking whether what they point at is there; and what PostgreSQL's planner knows of them."""
    await connection.execute(FUNCTIONS)
    await connection.execute("SET session_replication_role = replica; SET synchronous_commit = off")
    for statement in statements():
        await connection.execute(statement)
    await connection.execute("RESET session_replication_role")
    await connection.execute("VACUUM ANALYZE")
