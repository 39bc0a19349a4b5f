"""Search over materials: only what the caller may read, ranked over a bounded number of candidates."""

from collections.abc import Hashable
from typing import Any
from uuid import UUID

from fastapi import Response
from lms_files.contracts import file_lives
from sqlalchemy import Float, Integer, String, Uuid, bindparam, func, literal_column, or_, select, tuple_
from sqlalchemy.dialects.postgresql import distinct_on
from sqlmodel import col

from lms_core.sdk import PageParams, Read, UnitOfWork, alive
from lms_materials.models import Material, MaterialText
from lms_materials.schemas import Hit

# Ranking reads each candidate's vector; beyond this many, a word is too common for rank to mean much.
CANDIDATES = 1_000
SNIPPET = "MaxFragments=2, MinWords=8, MaxWords=24, StartSel=«, StopSel=»"

_reads: dict[Hashable, Read] = {}


async def search(uow: UnitOfWork, params: PageParams, q: str, course_id: UUID | None) -> Response:
    """One page of hits, best first."""
    fingerprint = f"search?{q}&{course_id}"
    after = params.after(uow, fingerprint, [float, UUID])
    readable = uow.readable(Material)
    if readable.never:
        return params.answer(uow, fingerprint, [], [])
    form = (readable.shape, course_id is not None, after is not None)
    if form not in _reads:
        _reads[form] = statement(readable.write_list(Material), course_id is not None, after is not None)
    values: dict[str, Any] = {**readable.parameters, "q": q, "page_limit": params.limit + 1}
    if course_id is not None:
        values["course_id"] = course_id
    if after is not None:
        values |= {"after_rank": -after[0], "after_id": after[1]}
    rows = await _reads[form].all(uow.database, **values)
    hits = [dict(zip(Hit.model_fields, row.values(), strict=True)) for row in rows]
    last = hits[: params.limit][-1:]
    return params.answer(uow, fingerprint, hits, [last[0]["rank"], last[0]["material_id"]] if last else [])


def statement(readable: Any, in_course: bool, later: bool) -> Read:
    """Candidates inside the permission filter, the best page of each material, then a keyset page of those."""
    query = func.websearch_to_tsquery(literal_column("'simple'"), bindparam("q", type_=String()))
    candidates = (
        select(
            col(Material.id).label("material_id"),
            col(Material.title).label("title"),
            col(Material.course_id).label("course_id"),
            col(MaterialText.id).label("text_id"),
            func.ts_rank(col(MaterialText.vector), query).label("rank"),
        )
        .select_from(MaterialText)
        .join(Material, col(Material.id) == col(MaterialText.material_id))
        .where(
            col(MaterialText.vector).op("@@")(query),
            alive(Material),
            readable,
            # A material outlives its file, but the file's text must not be shown without it.
            or_(col(MaterialText.page) == 0, file_lives(col(Material.file_id))),
        )
    )
    if in_course:
        candidates = candidates.where(col(Material.course_id) == bindparam("course_id", type_=Uuid()))
    found = candidates.limit(CANDIDATES).subquery()
    best = (
        select(found)
        .ext(distinct_on(found.c.material_id))
        .order_by(found.c.material_id, found.c.rank.desc(), found.c.text_id)
        .subquery()
    )
    page = select(best)
    worst_first = -best.c.rank
    if later:
        after = tuple_(bindparam("after_rank", type_=Float()), bindparam("after_id", type_=Uuid()))
        page = page.where(tuple_(worst_first, best.c.material_id) > after)
    chosen = page.order_by(worst_first, best.c.material_id).limit(bindparam("page_limit", type_=Integer())).subquery()
    snippet = func.ts_headline(literal_column("'simple'"), col(MaterialText.text), query, SNIPPET)
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
        .order_by(-chosen.c.rank, chosen.c.material_id)
    )
