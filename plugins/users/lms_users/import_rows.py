"""What a row of a CSV file of users means: against what one look at the database found, and what people changed by hand.

A field that somebody edited since the last import, or that no import ever set, stays as it is (Canvas calls this
stickiness): what an import says is compared with what the one before it said, and with what is there now.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import func
from sqlmodel import col, or_, select

from lms_core.sdk import (
    SUPER_ADMIN,
    CellError,
    Forbidden,
    Import,
    Invalid,
    NotFound,
    Planned,
    Row,
    UnitOfWork,
    alive,
    among,
    among_texts,
)
from lms_users import grants
from lms_users.emails import email_key, valid_email
from lms_users.grants import Bundle
from lms_users.models import Grant, Imported, User
from lms_users.schemas import RoleGrant

USUAL_ROLE = "student"
YES, NO = frozenset({"true", "yes", "1"}), frozenset({"false", "no", "0"})
LONGEST = {"email": 320, "full_name": 300, "external_id": 100, "role": 40}


@dataclass
class Known:
    """What a chunk of rows is planned against."""

    by_id: dict[UUID, User]
    by_email: dict[str, User]
    records: dict[UUID, Imported]
    by_external_id: dict[str, Imported]
    editable: set[UUID]
    held: set[tuple[UUID, str]]
    roles: dict[str, Bundle | CellError]


async def look_up(uow: UnitOfWork, job: Import, rows: Sequence[Row], hold: bool) -> Known:
    """All that the rows may be about: a fixed number of statements for a chunk, and one for each new name of a role."""
    keys = [email_key(row.cells["email"]) for row in rows]
    numbers = [number for row in rows if (number := row.cells.get("external_id"))]
    by_number = await find_records(uow, job, among_texts(col(Imported.external_id), numbers))
    asked = among_texts(col(User.email_key), keys) | among(col(User.id), [record.user_id for record in by_number])
    users = await find_users(uow, asked, hold)
    records = [*by_number, *await find_records(uow, job, among(col(Imported.user_id), users))]
    permitted = uow.permitted("users.edit", User)
    editable = select(User.id).where(among(col(User.id), users), permitted.write(User))
    held = select(Grant.user_id, Grant.role).where(
        among(col(Grant.user_id), users),
        col(Grant.institution_id).is_not_distinct_from(job.scope_id),
        alive(Grant),
        or_(col(Grant.expires_at).is_(None), col(Grant.expires_at) > func.now()),
    )
    names = {name for row in rows if (name := role_of(row, new=True, job=job)) is not None}
    return Known(
        by_id=users,
        by_email={user.email_key: user for user in users.values()},
        records={record.user_id: record for record in records},
        by_external_id={record.external_id: record for record in records if record.external_id is not None},
        editable=set((await uow.session.execute(editable, permitted.parameters)).scalars()),
        held={(user_id, role) for user_id, role in (await uow.session.execute(held)).all()},
        roles={name: await find_role(uow, job, name) for name in sorted(names)},
    )


async def find_users(uow: UnitOfWork, condition: Any, hold: bool) -> dict[UUID, User]:
    """Live users; held in the order of their ids, so that two imports wait for each other."""
    statement = select(User).where(condition, alive(User)).order_by(col(User.id))
    if hold:
        statement = statement.with_for_update().execution_options(populate_existing=True)
    return {user.id: user for user in (await uow.session.execute(statement)).scalars()}


async def find_records(uow: UnitOfWork, job: Import, condition: Any) -> list[Imported]:
    """What earlier imports at the job's institution said."""
    there = col(Imported.institution_id).is_not_distinct_from(job.scope_id)
    return list((await uow.session.execute(select(Imported).where(there, condition))).scalars())


def role_of(row: Row, new: bool, job: Import) -> str | None:
    """The role that a row asks for; a new user of an institution has one in any case."""
    return row.cells.get("role") or (USUAL_ROLE if new and job.scope_id is not None else None)


async def find_role(uow: UnitOfWork, job: Import, name: str) -> Bundle | CellError:
    """A role that the actor may give there, or why not."""
    if job.scope_id is None:
        return CellError("role", "institution_required", "Without an institution nobody can hold this role.")
    if len(name) > LONGEST["role"] or name == SUPER_ADMIN:
        return CellError("role", "unknown_role", "There is no such role at an institution.")
    try:
        return await grants.what_may_be_given(uow, RoleGrant.model_construct(role=name, institution_id=job.scope_id))
    except (Invalid, Forbidden, NotFound) as error:
        return CellError("role", error.code, error.detail)


def plan_row(job: Import, row: Row, known: Known) -> Planned:
    """What is to become of the user whom a row names."""
    errors, given = read_cells(job, row)
    number = row.cells.get("external_id") or None
    record = known.by_external_id.get(number) if number else None
    owner = known.by_email.get(email_key(row.cells["email"]))
    user = known.by_id.get(record.user_id) if record is not None else None
    taken = CellError("email", "address_taken", "Another user has this address already.")
    if user is None:
        user = owner
        other = known.records.get(user.id) if user is not None else None
        if other is not None and number is not None and other.external_id not in (None, number):
            detail = f"This address belongs to the user with the number {other.external_id}."
            errors.append(CellError("external_id", "other_number", detail))
    elif owner is not None and owner.id != user.id:
        errors.append(taken)
    if user is not None and user.id not in known.editable:
        errors.append(taken)
    name = role_of(row, user is None, job)
    role = known.roles.get(name) if name else None
    if isinstance(role, CellError):
        errors.append(role)
    if errors:
        return Planned("error", errors=errors)
    if record is None and user is not None:
        record = known.records.get(user.id)
    plan = Planned("create") if user is None else Planned("unchanged", user.id)
    said = {} if record is None else dict(record.said)
    for field, value in given.items():
        now = getattr(user, field) if user is not None else None
        edited = user is not None and (record is None or record.said.get(field) != now)
        if user is not None and now != value and edited and not job.options["override_edited"]:
            plan.kept.append(field)
            continue
        said[field] = value
        if now != value:
            plan.changes[field] = {"before": now, "after": value}
    if name and (user is None or (user.id, name) not in known.held):
        plan.changes["role"] = {"before": None, "after": name}
    number = number or (record.external_id if record is not None else None)
    plan.memo = memo_of(record, said, number)
    if user is not None and plan.changes:
        disables = plan.changes.get("is_active", {}).get("after") is False
        plan.action = "disable" if disables else "update"
    return plan


def read_cells(job: Import, row: Row) -> tuple[list[CellError], dict[str, Any]]:
    """What a row says about the user's fields, and what is wrong with its cells."""
    errors = [
        CellError(name, "cell_too_long", f"Longer than {most} characters.")
        for name, most in LONGEST.items()
        if len(row.cells.get(name, "")) > most
    ]
    try:
        valid_email(row.cells["email"])
    except ValueError as error:
        errors.append(CellError("email", "invalid_email", f"This {error}."))
    given: dict[str, Any] = {"email": row.cells["email"], "full_name": row.cells["full_name"]}
    active = row.cells.get("is_active", "").casefold()
    if active in YES | NO:
        given["is_active"] = active in YES
    elif active:
        errors.append(CellError("is_active", "not_true_or_false", "Write true or false."))
    elif job.options["mode"] == "sync":
        # Who is in the file of everybody is somebody who may come in.
        given["is_active"] = True
    return errors, given


def memo_of(record: Imported | None, said: dict[str, Any], number: str | None) -> dict[str, Any]:
    """What is to be remembered of this import, and what was remembered before; nothing when both are the same."""
    before = None
    if record is not None:
        before = {"user_id": str(record.user_id), "external_id": record.external_id, "said": record.said}
        if (record.external_id, record.said) == (number, said):
            return {}
    return {"before": before, "external_id": number, "said": said}


async def refuse_if_not_below(uow: UnitOfWork, plan: Planned) -> None:
    """Turn a plan into an error when the actor may not do this to this user."""
    if plan.object_id is None or not plan.changes:
        return
    reaches_all = plan.changes.keys() & {"email", "is_active"}
    try:
        await (grants.refuse_unless_all_is_below if reaches_all else grants.refuse_unless_above)(uow, plan.object_id)
    except Forbidden as error:
        plan.action, plan.errors = "error", [CellError(None, error.code, error.detail)]
