"""What enrollments were when: every change begins a period, and ends the one before, in the same transaction."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from fastapi import Response
from lms_courses.contracts import living_section
from sqlalchemy import DateTime, and_, bindparam, exists, func, insert, null, or_, select, update
from sqlmodel import col

from lms_core.sdk import CLOCKS_APART, Filter, Listing, Paging, UnitOfWork, alive, among, id_at, new_id
from lms_enrollments.models import Enrollment, Period
from lms_enrollments.schemas import EnrollmentRead, PeriodRead

Cause = Literal["enrolled", "promoted", "seat_taken", "changed", "section", "section_taken", "days", "ended"]
KEPT = ("course_id", "user_id", "role", "state", "section_id", "starts_on", "ends_on")
"""What a period repeats of its enrollment."""
AT = bindparam("as_of", type_=DateTime(timezone=True))


def readable(uow: UnitOfWork) -> Filter:
    """Who may read an enrollment reads what it was."""
    rule = uow.readable(Enrollment)

    def write(period: Any) -> Any:
        of = col(Enrollment.id) == period.enrollment_id
        return exists().where(of, alive(Enrollment), rule.write(Enrollment))

    return Filter(("period", rule.shape), rule.parameters, write, never=rule.never)


SECTION = living_section(col(Period.section_id))
PERIODS = Listing(
    Period,
    PeriodRead,
    filters={"enrollment_id": col(Period.enrollment_id) == bindparam("enrollment_id")},
    columns={"section_id": SECTION},
    order=(Period.since, Period.id),
    descending=False,
    readable=readable,
)
AS_OF = Listing(
    Period,
    EnrollmentRead,
    filters={
        "as_of": and_(
            col(Period.since) <= AT,
            or_(col(Period.until).is_(None), col(Period.until) > AT),
            # Ids of periods rise with their time: none that began later is looked at.
            col(Period.id) < id_at(AT + CLOCKS_APART),
        ),
        **{name: getattr(Period, name) == bindparam(name) for name in ("course_id", "user_id", "state", "role")},
    },
    columns={
        "id": col(Period.enrollment_id),
        "position": null(),
        "section_id": SECTION,
        "updated_at": col(Period.since),
        "created_at": select(col(Enrollment.created_at))
        .where(col(Enrollment.id) == col(Period.enrollment_id))
        .scalar_subquery(),
    },
    readable=readable,
)


async def list_as_of(uow: UnitOfWork, paging: Paging, as_of: datetime, **filters: Any) -> Response:
    """Who was enrolled then, as what; what was deleted since is left out."""
    return await AS_OF.page(uow, paging, as_of=as_of, **filters)


async def note(uow: UnitOfWork, ids: Sequence[UUID], cause: Cause, reason: str | None = None) -> None:
    """Enrollments are as they are from now on."""
    if not ids:
        return
    await uow.session.flush()
    at = (await uow.session.execute(select(func.clock_timestamp()))).scalar_one()
    last = among(col(Period.enrollment_id), ids) & col(Period.until).is_(None)
    await uow.session.execute(update(Period).where(last).values(until=at))
    now = select(col(Enrollment.id), *(col(getattr(Enrollment, name)) for name in KEPT)).where(
        among(col(Enrollment.id), ids)
    )
    shared = {"since": at, "cause": cause, "reason": reason, "actor_id": uow.access.actor_id or uow.caused_by}
    values = [
        {"id": new_id(), "enrollment_id": row.id, **{name: getattr(row, name) for name in KEPT}, **shared}
        for row in (await uow.session.execute(now)).all()
    ]
    await uow.session.execute(insert(Period), values)
