"""What a search costs PostgreSQL among 100,000 texts, whatever the word and whoever asks.

    createdb benchmark_search
    LMS_DATABASE_URL=postgresql://postgres@127.0.0.1:5432/benchmark_search lms db upgrade
    python benchmarks/search.py postgresql://postgres@127.0.0.1:5432/benchmark_search [TEXTS]

The first run fills the database: 20 schools of a district with 50 courses each, some of them far larger than others,
words as Zipf says, 20 % of the texts in documents of 20 pages. Milliseconds are CPU of PostgreSQL's processes for a statement as the
API sends it, planning included where PostgreSQL plans: it has to run on this machine. In brackets, how many hits there are.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections.abc import Iterator
from itertools import accumulate
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import asyncpg
import psutil
from lms_materials import search

from lms_core.config import load_settings
from lms_core.platform import load_platform
from lms_core.uow import Context, UnitOfWork

SEED = 20_260_101
SCHOOLS, COURSES_OF_SCHOOL = 20, 50
VOCABULARY, WORDS_OF_TEXT = 50_000, 150
PAGES_OF_DOCUMENT = 20
BEFORE, ROUNDS = 6, int(os.environ.get("ROUNDS", "20"))
"""PostgreSQL may plan anew for each of the first five."""
SYLLABLES = [first + second for first in "bdfgklmnprstvwz" for second in ("a", "e", "i", "o", "u", "ar", "en", "il")]
SMALL, LARGE = 0, 3
"""The school that hardly has the word ELSEWHERE, and the one of those who ask."""
ELSEWHERE = "zzelsewhere"
PEOPLE = {
    "student": ("student", [3, 150, 151, 152, 153, 154, 155, 156]),
    "teacher": ("teacher", [150, 151, 152, 153]),
}
"""Who takes part in which courses, by number; others run a school or more."""


def word(number: int) -> str:
    """The word with this place in the order of how common they are."""
    digits = []
    number = (number * 7919 + 11) % (len(SYLLABLES) ** 3)
    for _ in range(3):
        number, digit = divmod(number, len(SYLLABLES))
        digits.append(SYLLABLES[digit])
    return "".join(digits)


COMMONEST, MIDDLING, RARE = word(0), word(300), word(40_000)
TERMS = {
    "commonest": COMMONEST,
    "middling": MIDDLING,
    "rare": RARE,
    "elsewhere": ELSEWHERE,
    "two words": f"{COMMONEST} {MIDDLING}",
    "phrase": f'"{word(0)} {word(1)}"',
    "without": f"-{COMMONEST}",
    "common without": f"{word(1)} -{MIDDLING}",
    "beginning": COMMONEST[:3],
    "stop words": "the and of",
    "twenty": " ".join(word(number) for number in (0, 40_000, 1, 30_000, 2, 20_000, 3, 10_000, 4, 5_000) * 2),
    "twenty or": " or ".join(word(number) for number in (0, 40_000, 1, 30_000, 2, 20_000, 3, 10_000, 4, 5_000) * 2),
    "nothing": "xqxqxqxq",
}
FILL_INSTITUTIONS = """
    INSERT INTO institutions_institution (id, parent_id, name, slug, locale)
    SELECT md5('district')::uuid, NULL, 'District', 'district', 'en'
    UNION ALL
    SELECT md5('school' || n)::uuid, md5('district')::uuid, 'School', 'school-' || n, 'en' FROM generate_series(0, $1::int - 1) n
"""
FILL_COURSES = """
    INSERT INTO courses_course (id, institution_id, code, title, description, state, waitlist)
    SELECT md5('course' || n)::uuid, md5('school' || n / $2::int)::uuid, 'C' || n, 'Course', '', 'published', false
    FROM generate_series(0, $1::int * $2::int - 1) n
"""
FILL_PERSON = """
    INSERT INTO users_user (id, email, email_key, full_name, is_active) VALUES (md5($1::text)::uuid, $1::text, $1::text, 'Somebody', true)
"""
FILL_GRANT = """
    INSERT INTO users_grant (id, user_id, role, institution_id) VALUES (gen_random_uuid(), md5($1::text)::uuid, $2::text, md5($3::text)::uuid)
"""
FILL_ENROLLMENTS = """
    INSERT INTO enrollments_enrollment (id, course_id, user_id, role, state)
    SELECT gen_random_uuid(), md5('course' || n)::uuid, md5($1::text)::uuid, $2::text, 'active' FROM unnest($3::int[]) n
"""
FILL_TEXTS = """
    CREATE TEMPORARY TABLE made (number int, course int, material int, page int, title text, text text);
"""
FILL_FROM_MADE = """
    INSERT INTO files_file (id, owner_id, shared, filename, content_type, size, state, upload_kind, uploader_id, derivatives, kept)
    SELECT md5('file' || material)::uuid, md5('super admin')::uuid, true, 'a.pdf', 'application/pdf', 1, 'clean', 'post', md5('super admin')::uuid, '{}', false
    FROM made WHERE page = 1;
    INSERT INTO materials_material (id, course_id, kind, title, body, file_id, position, published)
    SELECT md5('material' || material)::uuid, md5('course' || course)::uuid, CASE WHEN document THEN 'document' ELSE 'page' END, title, '',
        CASE WHEN document THEN md5('file' || material)::uuid END, 0, material % 20 > 0
    FROM (SELECT *, EXISTS (SELECT FROM made p WHERE p.material = made.material AND p.page = 1) AS document FROM made WHERE page = 0) m;
    INSERT INTO materials_text (id, material_id, page, title, text, language, vector)
    SELECT gen_random_uuid(), md5('material' || material)::uuid, page, title, text, 'lms_english',
        setweight(to_tsvector('lms_simple', title) || gap || to_tsvector('lms_english', title), 'A')
        || gap || setweight(to_tsvector('lms_simple', text) || gap || to_tsvector('lms_english', text),
            CAST(CASE WHEN page = 0 THEN 'B' ELSE 'C' END AS "char"))
    FROM made, CAST('¶\\:100' AS tsvector) AS gap ORDER BY number;
    INSERT INTO materials_language (name) VALUES ('lms_english') ON CONFLICT DO NOTHING;
    INSERT INTO materials_word (word) SELECT word FROM ts_stat('SELECT vector FROM materials_text')
    WHERE length(word) BETWEEN 3 AND 40 AND word ~ '^[[:alpha:]]+$' ORDER BY word ON CONFLICT DO NOTHING;
"""


def texts(most: int) -> Iterator[tuple[int, int, int, int, str, str]]:
    """Number, course, material, page, title and text, in the order in which they come to be: all courses at once."""
    chance = random.Random(SEED)
    vocabulary = [word(number) for number in range(VOCABULARY)]
    weights = list(accumulate(1 / (number + 1) for number in range(VOCABULARY)))
    courses = SCHOOLS * COURSES_OF_SCHOOL
    order = random.Random(SEED).sample(range(courses), courses)
    sizes = list(accumulate(1 / (place + 10) ** 0.7 for place in range(courses)))
    number = material = 0
    in_small = 0
    while number < most:
        material += 1
        [course] = chance.choices(order, cum_weights=sizes)
        # One of 84 is a document of 21 texts, which makes a fifth of all.
        for page in range(PAGES_OF_DOCUMENT + 1 if material % 84 == 0 else 1):
            number += 1
            words = chance.choices(vocabulary, cum_weights=weights, k=WORDS_OF_TEXT)
            if course // COURSES_OF_SCHOOL != SMALL or (in_small := in_small + 1) % 1_000 == 0:
                words[7] = ELSEWHERE
            yield number, course, material, page, " ".join(words[:3]) if page == 0 else "", " ".join(words)


async def fill(database: asyncpg.Connection, most: int) -> None:
    """Schools, courses, people and texts."""
    await database.execute(FILL_INSTITUTIONS, SCHOOLS)
    await database.execute(FILL_COURSES, SCHOOLS, COURSES_OF_SCHOOL)
    for name in (*PEOPLE, "principal", "small principal", "district principal", "super admin"):
        await database.execute(FILL_PERSON, name)
    for name, (role, courses) in PEOPLE.items():
        await database.execute(FILL_ENROLLMENTS, name, role, courses)
    await database.execute(FILL_GRANT, "principal", "principal", f"school{LARGE}")
    await database.execute(FILL_GRANT, "small principal", "principal", f"school{SMALL}")
    await database.execute(FILL_GRANT, "district principal", "principal", "district")
    await database.execute(FILL_GRANT, "super admin", "super_admin", None)
    await database.execute(FILL_TEXTS)
    await database.copy_records_to_table("made", records=texts(most))
    await database.execute(FILL_FROM_MADE)
    await database.execute("DROP TABLE made")
    await database.execute("VACUUM ANALYZE")


async def cpu(context: Context) -> float:
    """Seconds of CPU that the processes of our connections have used."""
    rows = await context.database.read("SELECT pid FROM pg_stat_activity WHERE datname = current_database()", [])
    times = [psutil.Process(row["pid"]).cpu_times() for row in rows]
    return sum(one.user + one.system for one in times)


async def cost(context: Context, name: str, q: str, course_id: UUID | None) -> tuple[float, int]:
    """Milliseconds of a statement, and how many hits there are."""
    user = await context.database.read("SELECT md5($1::text)::uuid AS id", [name])
    access, _ = await context.platform.rules.load(context, user[0]["id"])
    page: Any = SimpleNamespace(limit=50, most=51)
    hits: list[Any] = []
    for _ in range(BEFORE):
        hits = await search.found(UnitOfWork(context, access), page, q, course_id, None)
    used = await cpu(context)
    for _ in range(ROUNDS):
        await search.found(UnitOfWork(context, access), page, q, course_id, None)
    return (await cpu(context) - used) / ROUNDS * 1000, len(hits)


async def run(url: str, most: int) -> None:
    """Fill what is empty, and print a table."""
    database = await asyncpg.connect(url)
    if not await database.fetchval("SELECT count(*) FROM materials_text"):
        await fill(database, most)
    [[largest, small]] = await database.fetch(
        "SELECT (SELECT course_id FROM materials_material GROUP BY 1 ORDER BY count(*) DESC LIMIT 1), md5('course150')::uuid"
    )
    await database.close()
    context = Context.create(load_platform(load_settings()))
    callers = [
        ("student", small), ("teacher", small), ("principal", small), ("super admin", small), ("super admin", largest),
        ("student", None), ("teacher", None), ("principal", None), ("small principal", None),
        ("district principal", None), ("super admin", None),
    ]  # fmt: skip
    asked = os.environ.get("TERMS", "").split(",") if "TERMS" in os.environ else list(TERMS)
    print("| who, where | " + " | ".join(asked) + " |")
    print("| --- |" + " --- |" * len(asked))
    for name, course_id in callers:
        where = "all" if course_id is None else "the largest course" if course_id == largest else "a course"
        row = []
        for term in asked:
            took, hits = await cost(context, name, TERMS[term], course_id)
            row.append(f"{took:.1f} ({hits})")
        print(f"| {name}, {where} | " + " | ".join(row) + " |", flush=True)
    await context.close()


if __name__ == "__main__":
    os.environ["LMS_DATABASE_URL"] = sys.argv[1]
    asyncio.run(run(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 100_000))
