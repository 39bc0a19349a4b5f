"""Search over materials: only what the caller may read, ranked over a bounded number of candidates."""

import re
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from fastapi import Response
from lms_files.contracts import file_lives
from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Exists,
    Float,
    String,
    Text,
    Uuid,
    bindparam,
    cast,
    exists,
    func,
    literal_column,
    or_,
    select,
    tuple_,
    union_all,
)
from sqlalchemy.dialects.postgresql import REGCONFIG, TSQUERY, distinct_on
from sqlmodel import col

from lms_core.sdk import Filter, PageParams, Paging, Read, UnitOfWork, alive
from lms_materials import languages, visibility
from lms_materials.models import Language, Material, MaterialText, Word
from lms_materials.schemas import Hit

# Ranking reads each candidate's vector; beyond this many, a word is too common for rank to mean much. So many of what
# teachers write, and so many pages of documents: no book can crowd out a page that has the word for its title.
CANDIDATES = 1_000
SNIPPET = "MaxFragments=2, MinWords=8, MaxWords=24, StartSel=«, StopSel=»"
STAFF = "materials.read_drafts"
# As the two indexes say it. A material outlives its file, but the file's text must not be shown without it.
IS_WRITTEN: Any = col(MaterialText.page) == literal_column("0")
IS_IN_DOCUMENT: Any = col(MaterialText.page) > literal_column("0")
SIMPLE: Any = literal_column(f"'{languages.SIMPLE}'::regconfig")
# Words without quotes or other signs of the search syntax; the last one may be the beginning of a word.
PLAIN = re.compile(r"(?P<head>[\w\s]*\b)??(?P<tail>\w{3,})")
# A word that must not be there: by its stem, or else its other forms would let the text through.
WITHOUT = re.compile(r"(?<!\w)-")
# How like another word a misspelled one has to be, from 0 to 1; for how many words it is looked, among how many that are
# like each, and in how many texts of each that the caller may or may not read: what nobody wrote must not cost much.
LIKENESS = 0.4
SOUGHT = 5
NEAREST = 20
LOOKED_INTO = 100

_reads: dict[Hashable, Read] = {}


async def search(uow: UnitOfWork, params: PageParams, q: str, course_id: UUID | None) -> Response:
    """One page of hits, best first; where nothing is found, one page of what similar words find."""
    fingerprint = f"search?{q}&{course_id}"
    after = params.after(uow, fingerprint, [float, UUID])
    if uow.readable(Material).never:
        return params.answer(uow, fingerprint, [], [])
    hits = await found(uow, params, q, course_id, after)
    if not hits and after is None:
        meant = await similar(uow, q, course_id)
        hits = [] if meant is None else await found(uow, params, meant, course_id, None)
        hits = hits[: params.limit]
    last = hits[: params.limit][-1:]
    return params.answer(uow, fingerprint, hits, [last[0]["rank"], last[0]["material_id"]] if last else [])


@dataclass(frozen=True)
class Scope:
    """In which texts the caller may look."""

    readable: Filter
    staff: Filter
    in_course: bool
    values: dict[str, Any]

    @property
    def shape(self) -> Hashable:
        """What makes the SQL differ."""
        return self.readable.shape, self.staff.shape, self.in_course

    def conditions(self) -> list[ColumnElement[bool]]:
        """For texts, joined with their materials."""
        conditions = [
            alive(Material),
            self.readable.write_list(Material),
            or_(self.staff.write_list(Material), ~visibility.is_locked(Material)),
        ]
        if self.in_course:
            conditions.append(col(Material.course_id) == bindparam("course_id", type_=Uuid()))
        return conditions


def scope_of(uow: UnitOfWork, course_id: UUID | None) -> Scope:
    """What the caller may read, and of that, what is open to them."""
    readable = uow.readable(Material)
    staff = uow.context.platform.rules.permitted(uow.access, STAFF, Material, "staff")
    values = {**readable.parameters, **staff.parameters}
    if course_id is not None:
        values["course_id"] = course_id
    return Scope(readable, staff, course_id is not None, values)


async def found(
    uow: UnitOfWork, params: Paging, q: str, course_id: UUID | None, after: list[Any] | None
) -> list[dict[str, Any]]:
    """The hits of a page, and one more where there is one."""
    scope = scope_of(uow, course_id)
    form = ("found", scope.shape, after is not None, params.most)
    if form not in _reads:
        _reads[form] = statement(scope, later=after is not None, most=params.most)
    plain = PLAIN.fullmatch(q.strip())
    asked: dict[str, Any] = {
        **scope.values,
        "q": q,
        "q_exact": "" if WITHOUT.search(q) else q,
        "q_head": "" if plain is None else plain["head"] or "",
        "q_tail": "" if plain is None else plain["tail"],
    }
    if after is not None:
        asked |= {"after_rank": -after[0], "after_id": after[1]}
    rows = await _reads[form].all(uow.reader, **asked)
    return [dict(zip(Hit.model_fields, row.values(), strict=True)) for row in rows[: params.limit + 1]]


def queries_by_language() -> Any:
    """For each language that some text has: the words as they are or, by its rules, their stems.

    The last of plain words may be the beginning of a word.
    """
    begins = func.to_tsquery(SIMPLE, func.nullif(bindparam("q_tail", type_=String()), "").op("||")(":*"))
    prefix = func.websearch_to_tsquery(SIMPLE, bindparam("q_head", type_=String())).op("&&")(begins)
    words = func.websearch_to_tsquery(SIMPLE, bindparam("q_exact", type_=String()))
    exact = words.op("||")(func.coalesce(prefix, literal_column("''::tsquery")))
    stems = func.websearch_to_tsquery(cast(col(Language.name), REGCONFIG), bindparam("q", type_=String()))
    return select(col(Language.name).label("language"), exact.op("||")(stems).label("query")).cte("queries")


def statement(scope: Scope, later: bool, most: int) -> Read:
    """Candidates inside the permission filter, the best page of each material, then a keyset page of those."""
    queries = queries_by_language().prefix_with("MATERIALIZED")
    in_brackets = literal_column("'('").op("||")(cast(queries.c.query, Text())).op("||")(literal_column("')'"))
    anything = cast(
        func.string_agg(in_brackets, literal_column("' | '")).filter(func.numnode(queries.c.query) > 0), TSQUERY
    )

    def candidates(*which: ColumnElement[bool]) -> Any:
        return (
            select(
                col(Material.id).label("material_id"),
                col(Material.title).label("title"),
                col(Material.course_id).label("course_id"),
                col(MaterialText.id).label("text_id"),
                func.ts_rank(col(MaterialText.vector), queries.c.query).label("rank"),
            )
            .select_from(MaterialText)
            .join(Material, col(Material.id) == col(MaterialText.material_id))
            .join(queries, queries.c.language == col(MaterialText.language))
            .where(
                # The index answers for all languages at once; then each text is asked in its own.
                col(MaterialText.vector).op("@@")(select(anything).select_from(queries).scalar_subquery()),
                col(MaterialText.vector).op("@@")(queries.c.query),
                *scope.conditions(),
                *which,
            )
            .limit(literal_column(str(CANDIDATES)))
            .subquery()
        )

    written = candidates(IS_WRITTEN)
    in_documents = candidates(IS_IN_DOCUMENT, file_lives(col(Material.file_id)))
    some = union_all(select(written), select(in_documents)).subquery()
    best = (
        select(some)
        .ext(distinct_on(some.c.material_id))
        .order_by(some.c.material_id, some.c.rank.desc(), some.c.text_id)
        .subquery()
    )
    page = select(best)
    worst_first = -best.c.rank
    if later:
        after = tuple_(bindparam("after_rank", type_=Float()), bindparam("after_id", type_=Uuid()))
        page = page.where(tuple_(worst_first, best.c.material_id) > after)
    chosen = page.order_by(worst_first, best.c.material_id).limit(literal_column(str(most))).subquery()
    configuration = cast(col(MaterialText.language), REGCONFIG)
    snippet = func.ts_headline(configuration, col(MaterialText.text), queries.c.query, SNIPPET)
    return Read(
        select(
            chosen.c.material_id,
            chosen.c.title,
            chosen.c.course_id,
            snippet.label("snippet"),
            chosen.c.rank,
            func.nullif(col(MaterialText.page), 0).label("page"),
        )
        .join(MaterialText, col(MaterialText.id) == chosen.c.text_id)
        .join(queries, queries.c.language == col(MaterialText.language))
        .order_by(-chosen.c.rank, chosen.c.material_id)
    )


def similar_words(scope: Scope) -> Read:
    """For each of some words, the most similar one that stands in a text that the caller may read."""
    asked = func.unnest(bindparam("words", type_=ARRAY(Text()))).table_valued("word", name="asked").render_derived()
    plain = func.unaccent(func.lower(asked.c.word))
    likeness = func.similarity(col(Word.word), plain)
    like = (
        select(col(Word.word).label("word"), likeness.label("likeness"))
        .where(col(Word.word).op("%")(plain), likeness >= LIKENESS)
        .order_by(likeness.desc(), col(Word.word))
        .limit(literal_column(str(NEAREST)))
        .correlate(asked)
        .lateral()
    )

    def stands(sort: ColumnElement[bool], *which: ColumnElement[bool]) -> Exists:
        # Materialized, it is planned for all rows, that is by the index; planned for a few, PostgreSQL reads the table.
        with_word = (
            select(col(MaterialText.material_id).label("material_id"))
            .where(col(MaterialText.vector).op("@@")(func.to_tsquery(SIMPLE, like.c.word)), sort)
            .correlate(like)
            .cte("with_word", nesting=True)
            .prefix_with("MATERIALIZED")
        )
        some = select(with_word).limit(literal_column(str(LOOKED_INTO))).correlate(like).subquery()
        found = exists().where(col(Material.id) == some.c.material_id, *scope.conditions(), *which)
        return found.correlate_except(some, Material)

    meant = (
        select(like.c.word)
        .where(or_(stands(IS_WRITTEN), stands(IS_IN_DOCUMENT, file_lives(col(Material.file_id)))))
        .order_by(like.c.likeness.desc(), like.c.word)
        .limit(1)
        .correlate(asked)
        .scalar_subquery()
    )
    return Read(select(asked.c.word, meant.label("meant")).select_from(asked))


async def similar(uow: UnitOfWork, q: str, course_id: UUID | None) -> str | None:
    """The same question in words that there are, None when it has no others, or says by its signs that it means these."""
    words = re.findall(r"\w{3,40}", q)
    if not 0 < len(words) <= SOUGHT or PLAIN.fullmatch(q.strip()) is None:
        return None
    scope = scope_of(uow, course_id)
    form = ("similar", scope.shape)
    if form not in _reads:
        _reads[form] = similar_words(scope)
    rows = await _reads[form].all(uow.reader, **scope.values, words=words)
    meant = " ".join(row["meant"] or row["word"] for row in rows)
    return None if meant.lower() == " ".join(words).lower() else meant
