"""The rules for terms: the calendar of an institution, and of all below it."""

from collections.abc import Collection, Sequence
from datetime import date, datetime
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from fastapi import Response
from lms_institutions.contracts import INSTITUTION, InstitutionSettings, InstitutionTree
from sqlalchemy import Date, and_, bindparam, func, or_
from sqlalchemy.orm import aliased
from sqlmodel import col, select

from lms_core.sdk import (
    DAYS,
    Conflict,
    Invalid,
    Listing,
    NotFound,
    Paging,
    Point,
    StateConflict,
    UnitOfWork,
    alive,
    among,
)
from lms_courses.contracts import TERM, TermChanged, TermCreated
from lms_courses.models import Course, Term
from lms_courses.schemas import TermCreate, TermRead, TermUpdate

ON = bindparam("on", type_=Date())
TERMS = Listing(
    Term,
    TermRead,
    filters={
        "institution_id": col(Term.institution_id) == bindparam("institution_id"),
        "parent_id": col(Term.parent_id) == bindparam("parent_id"),
        "on": and_(col(Term.starts_on) <= ON, col(Term.ends_on) >= ON),
    },
)
TERM_POINT = Point(Term, TermRead)
OF_COURSE = aliased(Term)
TERM_OF_COURSE = (
    select(
        func.json_build_object(
            "id", OF_COURSE.id, "name", OF_COURSE.name, "starts_on", OF_COURSE.starts_on, "ends_on", OF_COURSE.ends_on
        )
    )
    .where(col(OF_COURSE.id) == col(Course.term_id), ~col(OF_COURSE.is_deleted))
    .correlate(Course)
    .scalar_subquery()
)
"""The term that an answer shows with a course."""


async def create(uow: UnitOfWork, data: TermCreate) -> Response:
    """Add a term, inside of another one or not."""
    await uow.hold(INSTITUTION, data.institution_id)
    term = Term(**data.model_dump())
    await refuse_misplaced(uow, term)
    await uow.add(term)
    uow.emit(TermCreated(term_id=term.id, institution_id=term.institution_id))
    return await TERM_POINT.after_write(uow, term.id, 201)


async def update(uow: UnitOfWork, id: UUID, data: TermUpdate, if_match: str | None) -> Response:
    """Change what is given; what is inside stays inside."""
    given = data.model_dump(exclude_unset=True)
    if "parent_id" in given:
        await prepare_move(uow, id, given["parent_id"])
    term = await uow.lock(Term, id, if_match)
    changes = {name: value for name, value in given.items() if value is not None or name == "parent_id"}
    if uow.change(term, changes):
        uow.emit(TermChanged(term_id=id, institution_id=term.institution_id))
    with uow.session.no_autoflush:
        await refuse_misplaced(uow, term)
        if given.get("parent_id") is not None:
            await refuse_inside_of_itself(uow, term)
        outside = select(Term.id).where(
            Term.parent_id == id,
            alive(Term),
            (col(Term.starts_on) < term.starts_on) | (col(Term.ends_on) > term.ends_on),
        )
        if (await uow.session.execute(outside.limit(1))).first() is not None:
            raise StateConflict("terms_inside", "A term inside of this one would stand out; change that one first.")
    await uow.flush()
    return await TERM_POINT.after_write(uow, id)


async def refuse_misplaced(uow: UnitOfWork, term: Term) -> None:
    """422 when it ends before it starts, or stands out of the one that it is in; 404 when that is no term there."""
    if term.ends_on < term.starts_on:
        raise Invalid("ends_before_start", "ends_on is before starts_on; correct one of them.", ("body", "ends_on"))
    if term.parent_id is None:
        return
    await uow.hold(TERM, term.parent_id)
    found = select(Term).where(Term.id == term.parent_id, Term.institution_id == term.institution_id)
    parent = (await uow.session.execute(found)).scalar_one_or_none()
    if parent is None:
        raise NotFound(TERM, term.parent_id)
    if term.starts_on < parent.starts_on or term.ends_on > parent.ends_on:
        raise Invalid(
            "outside_of_parent",
            f"{parent.name} goes from {parent.starts_on} to {parent.ends_on}; a term in it must not stand out.",
            ("body", "starts_on"),
        )


async def prepare_move(uow: UnitOfWork, id: UUID, to_parent_id: UUID | None) -> None:
    """Let no other move run beside this one, and keep both ends alive."""
    # As with institutions: two moves that are harmless each can be a cycle together, and a delete of the old parent that
    # had already listed this term would take it along.
    await uow.alone("courses.move_term")
    from_parent_id = (await uow.session.execute(select(Term.parent_id).where(Term.id == id))).scalar_one_or_none()
    for parent_id in sorted(end for end in (from_parent_id, to_parent_id) if end is not None):
        await uow.hold(TERM, parent_id)


async def refuse_inside_of_itself(uow: UnitOfWork, term: Term) -> None:
    """409 when the term that it is to be in is itself, or in it, however deep."""
    above = select(Term.id, Term.parent_id).where(Term.id == term.parent_id).cte("above", recursive=True)
    above = above.union(select(Term.id, Term.parent_id).where(col(Term.id) == above.c.parent_id))
    if (await uow.session.execute(select(above.c.id).where(above.c.id == term.id))).first() is not None:
        raise StateConflict("would_be_a_cycle", "A term cannot be in itself, nor in one that it holds.")


async def conflicts_of_restored(uow: UnitOfWork, ids: Sequence[UUID], choices: Collection[str]) -> list[Conflict]:
    """A term that comes back must not stand out of the one that it is in, which may have become shorter meanwhile."""
    parent = aliased(Term)
    outside = (
        select(Term.id, parent.name)
        .join(parent, col(parent.id) == col(Term.parent_id))
        .where(
            among(col(Term.id), ids),
            ~col(parent.is_deleted),
            or_(col(Term.starts_on) < col(parent.starts_on), col(Term.ends_on) > col(parent.ends_on)),
        )
    )
    return [
        Conflict(TERM, id, "outside_of_parent", f"It would stand out of {name}, which was made shorter; change that.")
        for id, name in (await uow.session.execute(outside)).all()
    ]


async def list_terms(uow: UnitOfWork, paging: Paging, on: str | None, **filters: Any) -> Response:
    """A page; `on` is a day, or `today` where the institution is."""
    institution_id: UUID | None = filters["institution_id"]
    day = None if on is None else await day_of(uow, on, institution_id)
    return await TERMS.page(uow, paging, on=day, **filters)


async def day_of(uow: UnitOfWork, on: str, institution_id: UUID | None) -> date:
    """The day that is meant: today is another one in Auckland than in Lima."""
    if on != "today":
        try:
            return DAYS.validate_python(on)
        except ValueError:
            raise Invalid("invalid_day", "Write today, or a day such as 2026-09-01.", ("query", "on")) from None
    if institution_id is None:
        raise Invalid("institution_required", "Name the institution where it is today.", ("query", "institution_id"))
    if not await uow.knows(INSTITUTION, institution_id):
        raise NotFound(INSTITUTION, institution_id)
    settings = await uow.use(InstitutionSettings).of(uow, institution_id)
    return datetime.now(ZoneInfo(settings.timezone)).date()


async def may_be_of(uow: UnitOfWork, term_id: UUID, institution_id: UUID) -> bool:
    """Whether a term, dead or alive, is the institution's, or that of one above."""
    above = uow.use(InstitutionTree).and_above(institution_id)
    fits = select(Term.id).where(Term.id == term_id, col(Term.institution_id).in_(above))
    return (await uow.session.execute(fits)).first() is not None


async def hold_term(uow: UnitOfWork, term_id: UUID, institution_id: UUID) -> None:
    """Keep a term alive for a course; 404 unless it is the institution's, or that of one above."""
    above = uow.use(InstitutionTree).and_above(institution_id)
    fits = select(Term.id).where(Term.id == term_id, alive(Term), col(Term.institution_id).in_(above))
    if (await uow.session.execute(fits)).first() is None:
        raise NotFound(TERM, term_id)
    await uow.hold(TERM, term_id)
