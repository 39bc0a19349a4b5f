"""What must hold whenever all work is done, as SQL that returns the rows for which it does not."""

from __future__ import annotations

INVARIANTS = {
    "work that was given up": "SELECT handler, last_error FROM core_delivery WHERE dead_at IS NOT NULL AND done_at IS NULL",
    "deletions that do not come to rest": "SELECT id, state FROM core_deletion WHERE state IN ('cascading', 'restoring')",
    "files that do not come to rest": "SELECT id, state FROM files_file WHERE state IN ('uploaded', 'verifying')",
    "files that are ready without content": """
        SELECT f.id FROM files_file f LEFT JOIN files_content c ON c.sha256 = f.content_id
        WHERE f.state = 'ready' AND (c.sha256 IS NULL OR c.sha256 <> f.sha256)
    """,
    "rooms that are counted wrong": """
        SELECT q.id, q.used_bytes, q.reserved_bytes FROM files_quota q LEFT JOIN (
            SELECT coalesce(institution_id, owner_id) AS id,
                sum(size) FILTER (WHERE state = 'ready') AS used,
                sum(size) FILTER (WHERE state IN ('requested', 'uploaded', 'verifying')) AS reserved
            FROM files_file GROUP BY 1
        ) f USING (id) WHERE q.used_bytes <> coalesce(f.used, 0) OR q.reserved_bytes <> coalesce(f.reserved, 0)
    """,
    "more students than seats": """
        SELECT c.id FROM courses_course c JOIN enrollments_enrollment e ON e.course_id = c.id
        WHERE c.capacity IS NOT NULL AND NOT c.is_deleted AND NOT e.is_deleted AND e.state = 'active' AND e.role = 'student'
        GROUP BY c.id, c.capacity HAVING count(*) > c.capacity
    """,
    "somebody waits while a seat is free": """
        SELECT c.id FROM courses_course c JOIN enrollments_enrollment e ON e.course_id = c.id
        WHERE c.capacity IS NOT NULL AND NOT c.is_deleted AND NOT e.is_deleted AND e.role = 'student'
        GROUP BY c.id, c.capacity HAVING count(*) FILTER (WHERE e.state = 'active') < c.capacity
        AND count(*) FILTER (WHERE e.state = 'waitlisted') > 0
    """,
    "materials that search does not find, or finds twice": """
        SELECT m.id, count(t.id) FROM materials_material m LEFT JOIN materials_text t ON t.material_id = m.id AND t.page = 0
        GROUP BY m.id HAVING count(t.id) <> 1
    """,
    "deletions that hold what they do not count": """
        SELECT d.id, d.counts, d.state, count(m.id) FROM core_deletion d LEFT JOIN materials_material m ON m.deletion_id = d.id
        WHERE d.root_kind = 'materials.material' GROUP BY d.id
        HAVING count(m.id) <> CASE WHEN d.state = 'deleted' THEN (d.counts->>'materials.material')::int ELSE 0 END
    """,
    "transactions that were left open": """
        SELECT pid, state FROM pg_stat_activity
        WHERE application_name LIKE 'lms%' AND state LIKE 'idle in transaction%' AND state_change < now() - interval '10 s'
    """,
}

LIVE_UNDER_DEAD = (
    ("courses_course", "institution_id", "institutions_institution"),
    ("courses_section", "course_id", "courses_course"),
    ("enrollments_enrollment", "course_id", "courses_course"),
    ("enrollments_enrollment", "user_id", "users_user"),
    ("materials_material", "course_id", "courses_course"),
    ("files_file", "course_id", "courses_course"),
)
for child, column, parent in LIVE_UNDER_DEAD:
    INVARIANTS[f"{child} alive under dead {parent}"] = (
        f"SELECT c.id FROM {child} c JOIN {parent} p ON p.id = c.{column} WHERE p.is_deleted AND NOT c.is_deleted"
    )
