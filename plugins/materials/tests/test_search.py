"""Search: stems of the institution's language, accents, phrases, beginnings of words, slips of the pen, pages of a PDF."""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
import samples
from browser import finish
from lms_materials import indexing, search

from lms_core.testing import Lms, School


async def make_page(lms: Lms, school: School, title: str, body: str = "", **fields: Any) -> dict[str, Any]:
    about = {"course_id": school.course["id"], "kind": "page", "title": title, "body": body, "published": True}
    made = await school.teacher.create("/materials", {**about, **fields})
    await lms.work_off()
    return made


async def titles(school: School, q: str) -> list[str]:
    return [hit["title"] for hit in await school.student.items("/materials/search", q=q, course_id=school.course["id"])]


async def speak(lms: Lms, school: School, locale: str) -> None:
    answer = await (await lms.admin()).patch(f"/institutions/{school.institution['id']}", {"locale": locale})
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    ("locale", "body", "found", "missed"),
    [
        ("en", "The runners were running", ["run", "runner", "RUNNING"], ["swim"]),
        ("de-CH", "Die Häuser der Städte", ["Haus", "hauser", "Stadt", "städten"], ["Dorf"]),
        ("fr", "Les élèves étudient la photosynthèse", ["eleve", "étudier", "photosynthese"], ["professeur"]),
        ("xx", "Words as they are", ["words"], ["swimming"]),
        ("ru", "Студенты изучают клетки", ["клетка", "студент"], ["книга"]),
    ],
)
async def test_languages(lms: Lms, school: School, locale: str, body: str, found: list[str], missed: list[str]) -> None:
    await speak(lms, school, locale)
    await make_page(lms, school, "Page", body)
    for q in found:
        assert await titles(school, q) == ["Page"], q
    for q in missed:
        assert await titles(school, q) == [], q


async def test_ways_to_ask(lms: Lms, school: School) -> None:
    await make_page(lms, school, "One", "light dependent reactions of photosynthesis")
    await make_page(lms, school, "Two", "reactions that depend on no light")
    assert sorted(await titles(school, "light reactions")) == ["One", "Two"]
    assert await titles(school, '"light dependent"') == ["One"]
    assert await titles(school, "reactions -photosynthesis") == ["Two"]
    assert sorted(await titles(school, "photosynthesis or depend")) == ["One", "Two"]
    assert await titles(school, "photosyn") == ["One"]
    assert await titles(school, "light photosy") == ["One"]
    assert await titles(school, '"photosyn"') == []
    for odd in (
        "-",
        "...",
        "!!!",
        "   ",
        "()",
        "*",
        "--",
        "'",
        '"',
        "&|!()",
        ":*",
        "a:*",
        "\\",
        "<->",
        "-",
        "or",
        "!!",
        "%",
        "_",
        "é",
        "😀",
        "x" * 300,
    ):
        answer = await school.student.get("/materials/search", params={"q": odd, "course_id": school.course["id"]})
        assert answer.status_code == 200, (odd, answer.text)


async def test_slips_of_the_pen(lms: Lms, school: School) -> None:
    await make_page(lms, school, "One", "All about mitochondria")
    assert await titles(school, "mitochndria") == ["One"]
    assert await titles(school, "about mitocondria") == ["One"]
    assert await titles(school, "zzzzqqqq") == []


async def test_the_words_of_others_stand_in_nobodys_way(lms: Lms, school: School) -> None:
    other = await lms.make_school()
    # Words are letters only.
    stem = "".join(chr(ord("a") + int(digit, 16)) for digit in uuid4().hex[:12])
    await make_page(lms, other, "Theirs", f"{stem}xy")
    await make_page(lms, school, "Draft", f"{stem}xyz", published=False)
    assert await titles(school, f"{stem}x") == []
    # What is most alike is not theirs to know; what comes after it is found as if there were nothing else.
    await make_page(lms, school, "Ours", f"{stem}xab")
    assert await titles(school, f"{stem}xyzz") == ["Ours"]
    [hit] = await school.teacher.items("/materials/search", q=f"{stem}xyzz", course_id=school.course["id"])
    assert hit["title"] == "Draft"


async def test_words_that_must_not_be_there(lms: Lms, school: School) -> None:
    await make_page(lms, school, "Running", "reactions while running")
    await make_page(lms, school, "Sitting", "reactions while sitting")
    for q in (
        "reactions -running",
        "reactions -runs",
        "reaction -run",
        "-runs reactions",
        '"reactions"-runs',
        "(-runs reactions",
    ):
        assert await titles(school, q) == ["Sitting"], q


async def test_long_texts_are_whole(lms: Lms, school: School) -> None:
    await make_page(lms, school, "Long", "startword " + "filler text " * 15_000 + "endword")
    assert await titles(school, "startword endword") == ["Long"]
    assert await titles(school, "startword -endword") == []
    # As many different words as fit into a body.
    words = " ".join(f"{number:05x}" for number in range(43_000))
    await make_page(lms, school, "Dictionary", words)
    assert await titles(school, "00000 0a000") == ["Dictionary"]


async def test_phrases_end_where_the_title_does(lms: Lms, school: School) -> None:
    await make_page(lms, school, "Cell membranes", "walls of plants")
    assert await titles(school, '"cell membranes"') == ["Cell membranes"]
    for q in ('"membranes walls"', '"membranes cell"', '"plants wall"'):
        assert await titles(school, q) == [], q


async def test_no_book_crowds_out_a_page(lms: Lms, school: School, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "CANDIDATES", 3)
    monkeypatch.setattr(search, "_reads", {})
    file = await finish(lms, school.teacher, samples.pdf(["osmosis"] * 20), course_id=school.course["id"])
    await make_page(lms, school, "Book", kind="document", file_id=file["id"])
    await make_page(lms, school, "Osmosis", "in short")
    assert await titles(school, "osmosis") == ["Osmosis", "Book"]


async def test_what_is_indexed_in_the_bin_keeps_its_language(lms: Lms, school: School) -> None:
    made = await make_page(lms, school, "Page", "The runners were running")
    path = f"/courses/{school.course['id']}"
    assert (await school.principal.delete(path)).status_code == 202
    await lms.work_off()
    async with lms.context.unit_of_work() as uow:
        await indexing.index(uow, UUID(made["id"]))
    assert (await school.principal.post(f"{path}/restore")).status_code == 202
    await lms.work_off()
    assert await titles(school, "runs") == ["Page"]


async def test_titles_weigh_most(lms: Lms, school: School) -> None:
    await make_page(lms, school, "Other", "osmosis")
    await make_page(lms, school, "Osmosis", "something else")
    assert await titles(school, "osmosis") == ["Osmosis", "Other"]


async def test_page_forty_of_a_pdf(lms: Lms, school: School) -> None:
    pages = [f"Page number {number}" for number in range(1, 61)]
    pages[39] += " speaks of chloroplasts"
    file = await finish(lms, school.teacher, samples.pdf(pages), course_id=school.course["id"])
    await make_page(lms, school, "Lecture", kind="document", file_id=file["id"])
    [hit] = await school.student.items("/materials/search", q="chloroplast", course_id=school.course["id"])
    assert (hit["title"], hit["page"]) == ("Lecture", 40)
    assert "«chloroplasts»" in hit["snippet"]


async def test_search_is_one_statement_where_it_finds_something(lms: Lms, school: School) -> None:
    await make_page(lms, school, "One", "osmosis")
    await titles(school, "osmosis")
    async with lms.counted() as counted:
        await titles(school, "osmosis")
    assert counted.statements == 1


async def test_what_others_write_hides_nothing(lms: Lms, school: School, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who may read few of the texts that have a word finds them, in each of the ways in which texts are looked through."""
    word = f"osmo{uuid4().hex}"
    other = await lms.make_school()
    for number in range(3):
        await make_page(lms, other, f"Theirs {number}", word)
    await make_page(lms, school, "Ours", word)
    await make_page(lms, school, "Also ours", "diffusion")
    monkeypatch.setattr(search, "CANDIDATES", 2)
    admin = await lms.admin()
    for few_courses, few_texts in ((100, 500), (100, 0), (0, 0)):
        monkeypatch.setattr(search, "FEW_COURSES", few_courses)
        monkeypatch.setattr(search, "FEW_TEXTS", few_texts)
        monkeypatch.setattr(search, "_reads", {})
        for caller in (school.student, school.principal) if few_courses else (school.principal,):
            for q in (word, word[:-2], f"{word} -diffusion", f'"{word}"', f"{word} or swimming"):
                hits = await caller.items("/materials/search", q=q)
                assert [hit["title"] for hit in hits] == ["Ours"], (few_courses, few_texts, q)
        assert len(await admin.items("/materials/search", q=word)) == 2


async def test_only_what_must_not_be_there(lms: Lms, school: School) -> None:
    await make_page(lms, school, "One", "osmosis")
    await make_page(lms, school, "Two", "diffusion")
    for caller in (school.student, school.teacher, school.principal):
        assert [hit["title"] for hit in await caller.items("/materials/search", q="-osmosis")] == ["Two"]
    assert await titles(school, "-osmosis") == ["Two"]


@pytest.mark.parametrize("name", ["written", "pages"])
async def test_courses_and_words_are_one_question_to_the_index(lms: Lms, name: str) -> None:
    connection = await asyncpg.connect(lms.context.settings.database_url)
    try:
        await connection.execute("SET enable_seqscan = off; SET plan_cache_mode = force_generic_plan")
        sort = "page = 0" if name == "written" else "page > 0"
        found = await connection.fetch(
            f"EXPLAIN SELECT id FROM materials_text WHERE {sort} AND ARRAY[course_id] && $1 AND vector @@ $2::text::tsquery",
            [uuid4()], "osmosis",
        )  # fmt: skip
        plan = "\n".join(row[0] for row in found)
        assert f"ix_materials_text_course_{name}" in plan
        assert re.search(r"Index Cond: \(\(ARRAY\[course_id\] && .* AND \(vector @@", plan), plan
    finally:
        await connection.close()


async def test_texts_of_older_processes_have_their_course_too(lms: Lms, school: School) -> None:
    made = await make_page(lms, school, "Page", "osmosis")
    [row] = await lms.sql("SELECT course_id FROM materials_text WHERE material_id = :id", id=made["id"])
    assert str(row["course_id"]) == school.course["id"]


async def test_reindexing(lms: Lms, school: School, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexing, "CHUNK", 2)
    made = [await make_page(lms, school, str(number), "ribosome") for number in range(3)]
    ids = [one["id"] for one in made]
    await lms.sql("DELETE FROM materials_text WHERE material_id = ANY(CAST(:ids AS uuid[])) RETURNING id", ids=ids)
    assert await titles(school, "ribosome") == []
    done = [str(id) async for id in indexing.index_all(lms.context, None)]
    assert set(ids) <= set(done)
    assert done == sorted(done)
    assert sorted(await titles(school, "ribosome")) == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("q", "head", "tail"),
    [("photo", None, "photo"), ("the photo", "the ", "photo"), ('"a photo"', "-", ""), ("a photo ", "a ", "photo"), ("-a photo", "-", "")],
)  # fmt: skip
def test_what_may_be_the_beginning_of_a_word(q: str, head: str | None, tail: str) -> None:
    plain = search.PLAIN.fullmatch(q.strip())
    assert (plain is None) == (head == "-")
    if plain is not None:
        assert (plain["head"], plain["tail"]) == (head, tail)


async def test_what_must_not_be_there_is_asked_of_old_courses_too(
    lms: Lms, school: School, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever reads more courses than are looked through at once finds by a question without words what others do."""
    word = f"diffu{uuid4().hex}"
    await make_page(lms, school, "Old", word)
    for _ in range(3):
        await lms.make_course(school.institution["id"])
    for few in (100, 2):
        monkeypatch.setattr(search, "FEW_COURSES", few)
        monkeypatch.setattr(search, "_reads", {})
        for q in ("-osmosis", f"{word} -osmosis", f"{word} or -osmosis"):
            hits = await school.principal.items("/materials/search", q=q)
            assert "Old" in [hit["title"] for hit in hits], (few, q)
