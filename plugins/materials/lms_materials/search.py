"""Search over materials: only what the caller may read, ranked over a bounded number of candidates.

What is looked through depends on how much the caller may read at all (`reach.py`), never on what others have written: the
texts of a few courses are read one by one, those of more are found by course and words in one index, and where that is
most of everything, by words alone.
"""

import re
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from fastapi import Response
from lms_files.contracts import file_lives
from sqlalchemy import (
    ARRAY,
    Boolean,
    ColumnElement,
    Exists,
    Float,
    String,
    Text,
    Uuid,
    and_,
    bindparam,
    cast,
    column,
    exists,
    func,
    literal_column,
    or_,
    select,
    true,
    tuple_,
    union_all,
    values,
)
from sqlalchemy.dialects.postgresql import REGCONFIG, TSQUERY, array, distinct_on
from sqlmodel import col

from lms_core.sdk import Filter, PageParams, Paging, Read, UnitOfWork, alive
from lms_materials import languages, reach, visibility
from lms_materials.models import Language, Material, MaterialText, Word
from lms_materials.reach import Reach
from lms_materials.schemas import Hit

# Ranking reads each candidate's vector; beyond this many, a word is too common for rank to mean much. So many of what
# teachers write, and so many pages of documents: no book can crowd out a page that has the word for its title.
CANDIDATES = 1_000
# So many texts are read one by one sooner than the index is asked for them: the beginning of a word makes it go through
# every text of everybody that has such a word.
FEW_TEXTS = 1_000
# In so many courses at most the index looks for words at once; of more, it takes the newest, and then all there are.
FEW_COURSES = 100
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
IDS: Any = ARRAY(Uuid())

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
    reach: Reach

    @property
    def shape(self) -> Hashable:
        """What makes the SQL differ."""
        return self.readable.shape, self.staff.shape, self.reach.shape

    @property
    def values(self) -> dict[str, Any]:
        """What the SQL is asked with."""
        return {**self.readable.parameters, **self.staff.parameters, **self.reach.values}

    def conditions(self) -> list[ColumnElement[bool]]:
        """For texts, joined with their materials."""
        return [
            alive(Material),
            self.readable.write(Material),
            or_(self.staff.write(Material), ~visibility.is_locked(Material)),
        ]


def scope_of(uow: UnitOfWork, course_id: UUID | None) -> Scope:
    """What the caller may read, and of that, what is open to them."""
    staff = uow.context.platform.rules.permitted(uow.access, STAFF, Material, "staff")
    return Scope(uow.readable(Material), staff, reach.of(uow, course_id))


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

    The last of plain words may be the beginning of a word; `words` is the same without that.
    """
    begins = func.to_tsquery(SIMPLE, func.nullif(bindparam("q_tail", type_=String()), "").op("||")(":*"))
    prefix = func.websearch_to_tsquery(SIMPLE, bindparam("q_head", type_=String())).op("&&")(begins)
    exact = func.websearch_to_tsquery(SIMPLE, bindparam("q_exact", type_=String()))
    stems = func.websearch_to_tsquery(cast(col(Language.name), REGCONFIG), bindparam("q", type_=String()))
    words = exact.op("||")(stems)
    query = words.op("||")(func.coalesce(prefix, literal_column("''::tsquery")))
    return select(col(Language.name).label("language"), query.label("query"), words.label("words")).cte("queries")


def in_any_language(queries: Any, query: Any) -> Any:
    """The queries of all languages as one, for the index, which knows of no languages."""
    in_brackets = literal_column("'('").op("||")(cast(query, Text())).op("||")(literal_column("')'"))
    either = func.string_agg(in_brackets, literal_column("' | '")).filter(func.numnode(query) > 0)
    return select(cast(either, TSQUERY)).select_from(queries).scalar_subquery()


def texts(*which: ColumnElement[bool]) -> Any:
    """Some rows of searchable text."""
    columns = (MaterialText.id, MaterialText.material_id, MaterialText.language, MaterialText.vector)
    return select(*(col(column) for column in columns)).where(*which)


def in_courses(ids: Any) -> ColumnElement[bool]:
    """As the index says it: for an array of any length it is gone through once."""
    inside: ColumnElement[bool] = array([col(MaterialText.course_id)]).bool_op("&&")(ids)
    return inside


def looked_through(queries: Any, scope: Scope, sorts: Any) -> Any:
    """The texts that may have the words, of one row of `sorts`.

    They are a union of parts, each of which knows by itself whether it is meant. PostgreSQL begins none before the one
    before it is done, and none at all once there are enough candidates.
    """
    reached = scope.reach.courses().subquery()
    has = col(MaterialText.vector).bool_op("@@")
    asked, words = in_any_language(queries, queries.c.query), in_any_language(queries, queries.c.words)
    # Beginnings come after whole words: the index goes through all texts of everybody that have such a word.
    begins = bindparam("q_tail", type_=String()) != literal_column("''")
    # What only says which words must not be there would make the index go through all that it holds. What asks for
    # nothing (NULL) the index answers at once.
    names_words = func.coalesce(func.querytree(asked).not_in(["", "T"]), true())
    is_large: Any = true()
    facts: list[Any] = [names_words.label("names_words")]
    if not scope.reach.is_everything:
        every = func.array(select(reached.c.id).scalar_subquery(), type_=IDS)
        facts.append(every.label("courses"))
    if scope.reach.may_be_large:
        first = select(reached.c.id).order_by(reached.c.id.desc()).limit(literal_column(str(FEW_COURSES // 2)))
        facts.append(func.array(first.scalar_subquery(), type_=IDS).label("newest"))
    once = select(*facts).cte("once").prefix_with("MATERIALIZED")

    def known(name: str) -> Any:
        return select(once.c[name]).scalar_subquery()

    parts = []
    for is_written, sort in ((True, IS_WRITTEN), (False, IS_IN_DOCUMENT)):
        meant = sorts.c.is_written if is_written else ~sorts.c.is_written
        if not scope.reach.is_everything:
            is_small = func.cardinality(known("courses")) <= FEW_COURSES
            is_large = ~is_small
            some = texts(sort, in_courses(known("courses"))).limit(literal_column(str(FEW_TEXTS + 1))).subquery()
            number = select(func.count()).select_from(some).scalar_subquery()
            by_one = and_(is_small, or_(~known("names_words"), number <= FEW_TEXTS))
            inside, by_index = in_courses(known("courses")), and_(meant, is_small, ~by_one)
            parts += [
                texts(sort, inside, meant, by_one),
                texts(sort, inside, has(words), by_index),
                texts(sort, inside, has(asked), ~has(words), by_index, begins),
            ]
        if scope.reach.may_be_large:
            newest = in_courses(known("newest"))
            seen = and_(newest, has(words))
            # As a value rather than a condition it is a table in memory, in which each text is looked up.
            is_reached: Any = true()
            if not scope.reach.is_everything:
                is_reached = col(MaterialText.course_id).in_(select(reached.c.id)).is_(true())
            parts += [
                texts(sort, newest, meant, is_large, ~known("names_words")),
                # What must not be there is nearly everywhere: there are soon enough candidates.
                texts(sort, is_reached, ~newest, meant, is_large, ~known("names_words")),
                texts(sort, newest, has(words), meant, is_large, known("names_words")),
                texts(sort, has(asked), is_reached, ~seen, meant, is_large, known("names_words")),
            ]
    return union_all(*(part.correlate(sorts) for part in parts)).subquery()


def statement(scope: Scope, later: bool, most: int) -> Read:
    """Candidates inside the permission filter, the best page of each material, then a keyset page of those."""
    queries = queries_by_language().prefix_with("MATERIALIZED")
    sorts = values(column("is_written", Boolean()), name="sorts").data(
        [(literal_column("true"),), (literal_column("false"),)]
    )
    text = looked_through(queries, scope, sorts)
    # The index answers for all languages at once; each text is asked in its own.
    own = (
        select(queries.c.query)
        .where(queries.c.language == text.c.language)
        .limit(literal_column("1"))
        .correlate(text)
        .lateral()
    )
    # One by one, as candidates come: planned for all of them, PostgreSQL would read everybody's materials first.
    readable = (
        select(col(Material.id).label("id"), col(Material.title), col(Material.course_id))
        .where(
            col(Material.id) == text.c.material_id,
            *scope.conditions(),
            or_(sorts.c.is_written, file_lives(col(Material.file_id))),
        )
        .limit(literal_column("1"))
        .correlate(text, sorts)
        .lateral()
    )
    # So many of each sort.
    some = (
        select(
            readable.c.id.label("material_id"),
            readable.c.title.label("title"),
            readable.c.course_id.label("course_id"),
            text.c.id.label("text_id"),
            func.ts_rank(text.c.vector, own.c.query).label("rank"),
        )
        .select_from(text.join(own, true()).join(readable, true()))
        .where(text.c.vector.op("@@")(own.c.query))
        .limit(literal_column(str(CANDIDATES)))
        .correlate(sorts)
        .lateral()
    )
    best = (
        select(some)
        .select_from(sorts.join(some, true()))
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
    found = (
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
    return Read(found, plan_once=True)


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

    # Where the caller reaches any number of courses, words are looked for everywhere: an index would ask for each course.
    reached = [] if scope.reach.may_be_large else [in_courses(bindparam("reach_courses", type_=IDS))]

    def stands(sort: ColumnElement[bool], *which: ColumnElement[bool]) -> Exists:
        # Materialized, it is planned for all rows, that is by the index; planned for a few, PostgreSQL reads the table.
        with_word = (
            select(col(MaterialText.material_id).label("material_id"))
            .where(col(MaterialText.vector).bool_op("@@")(func.to_tsquery(SIMPLE, like.c.word)), sort, *reached)
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
    return Read(select(asked.c.word, meant.label("meant")).select_from(asked), plan_once=True)


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
