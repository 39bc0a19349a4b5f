"""Users from CSV files: who is new, who is changed, who is gone, and what people had changed by hand.

A field that somebody edited since the last import, or that no import ever set, stays as it is (Canvas calls this
stickiness): what an import says is compared with what the one before it said, and with what is there now.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from lms_institutions.contracts import INSTITUTION
from sqlalchemy import Text, any_, func, literal
from sqlalchemy import delete as sql_delete
from sqlalchemy.dialects.postgresql import ARRAY
from sqlmodel import col, or_, select

from lms_core.sdk import (
    SUPER_ADMIN,
    CellError,
    Column,
    Forbidden,
    Import,
    Importer,
    ImportRow,
    Invalid,
    NotFound,
    Planned,
    Row,
    UnitOfWork,
    alive,
    among,
    delete,
    new_id,
)
from lms_users import grants
from lms_users.contracts import ROLE, RoleGranted, UserCreated, UserDisabled, UserInvited
from lms_users.emails import email_key, valid_email
from lms_users.grants import Bundle
from lms_users.models import Grant, Imported, User
from lms_users.schemas import RoleGrant

FIELDS = ("email", "full_name", "is_active")
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


class UserImporter(Importer):
    """One row, one user of the institution (or, for super admins who name none, of the system)."""

    name = "users.users"
    permission = "users.import"
    scope = INSTITUTION
    most_rows = 20_000
    columns = (
        Column("email", "The address with which the user signs in", required=True),
        Column("full_name", "As it is shown", required=True),
        Column("external_id", "The institution's own number of the user; recognises them when the address changes"),
        Column("role", f"Held at the institution; {USUAL_ROLE} for new users when it is empty"),
        Column("is_active", "`true` or `false`: whether the user may sign in"),
    )

    def identities(self, row: Row) -> dict[str, Hashable]:
        """The address and the number."""
        found: dict[str, Hashable] = {}
        if row.cells.get("email"):
            found["email"] = email_key(row.cells["email"])
        if row.cells.get("external_id"):
            found["external_id"] = row.cells["external_id"]
        return found

    async def plan(self, uow: UnitOfWork, job: Import, rows: Sequence[Row], hold: bool) -> list[Planned]:
        """Row by row, against what one look at the database found."""
        known = await look_up(uow, job, rows, hold)
        planned = [plan_row(job, row, known) for row in rows]
        for plan in planned:
            await refuse_if_not_below(uow, plan)
        return planned

    async def missing(self, uow: UnitOfWork, job: Import, present: set[UUID]) -> list[UUID]:
        """In the mode `sync`: who came by an import at the institution, is active, and is not in the file."""
        if job.options["mode"] != "sync":
            return []
        there = select(User.id).where(active_imported(job)).order_by(col(User.id))
        return [id for id in (await uow.session.execute(there)).scalars() if id not in present]

    async def plan_missing(self, uow: UnitOfWork, job: Import, ids: Sequence[UUID], hold: bool) -> list[Planned]:
        """Disable them, unless somebody let them in again by hand, or they are not the actor's alone."""
        users = await find_users(uow, among(col(User.id), ids), hold)
        records = {record.user_id: record for record in await find_records(uow, job, among(col(Imported.user_id), ids))}
        planned = []
        for id in ids:
            record, user = records.get(id), users.get(id)
            plan = Planned("unchanged", id)
            if user is not None and record is not None and user.is_active:
                plan.memo = memo_of(record, {**record.said, "is_active": False}, record.external_id)
                if record.said.get("is_active") is False and not job.options["override_edited"]:
                    plan.kept, plan.memo = ["is_active"], {}
                else:
                    plan.changes = {"is_active": {"before": True, "after": False}}
                    await refuse_if_not_below(uow, plan)
                    plan.action = "disable"
                if plan.errors:
                    plan = Planned("unchanged", id, kept=["is_active"])
            planned.append(plan)
        return planned

    async def population(self, uow: UnitOfWork, job: Import) -> int:
        """Who is active and came by an import there."""
        return int(
            (await uow.session.execute(select(func.count(col(User.id))).where(active_imported(job)))).scalar_one()
        )

    async def apply(self, uow: UnitOfWork, job: Import, planned: Sequence[Planned]) -> None:
        """Users and roles in a statement each; then what this import said about each user."""
        if job.scope_id is not None:
            await uow.hold(INSTITUTION, job.scope_id)
        await create_users(uow, job, [plan for plan in planned if plan.action == "create"])
        for plan in planned:
            if plan.action in ("update", "disable"):
                await change_user(uow, plan)
        await give_roles(uow, job, planned)
        await remember(uow, job, [plan for plan in planned if plan.memo])
        await uow.flush()

    async def undo(self, uow: UnitOfWork, job: Import, rows: Sequence[ImportRow]) -> None:
        """User by user: the new ones go to the recycle bin, the others become what they were."""
        ids = [row.object_id for row in rows if row.object_id is not None]
        users = await find_users(uow, among(col(User.id), ids), hold=True)
        for row in rows:
            user = users.get(row.object_id) if row.object_id is not None else None
            if not row.changes:
                continue
            if user is None:
                row.note = None if row.action == "create" else "This user was deleted since."
                continue
            try:
                await grants.refuse_unless_all_is_below(uow, user.id)
            except Forbidden as error:
                row.note = error.detail
                continue
            if row.action == "create":
                await grants.refuse_last_super_admin(uow, without=user.id)
                await delete(uow, User, user.id)
            else:
                row.note = await change_back(uow, job, row, user)
        await uow.flush()
        await remember_as_before(uow, job, [row for row in rows if row.memo and row.note is None])


def active_imported(job: Import) -> Any:
    """A condition on users: active, alive, and known from an import at the job's institution."""
    known = select(Imported.user_id).where(col(Imported.institution_id).is_not_distinct_from(job.scope_id))
    return alive(User) & col(User.is_active).is_(True) & col(User.id).in_(known)


def among_texts(column: Any, texts: Sequence[str]) -> Any:
    """`column = ANY(array)`, for any number of texts."""
    return column == any_(literal(list(texts), ARRAY(Text())))


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


async def create_users(uow: UnitOfWork, job: Import, planned: Sequence[Planned]) -> None:
    """New users, in one statement."""
    for plan in planned:
        plan.object_id = new_id()
        after = {field: plan.changes[field]["after"] for field in FIELDS if field in plan.changes}
        uow.session.add(User(id=plan.object_id, email_key=email_key(after["email"]), **after))
        uow.emit(UserCreated(user_id=plan.object_id))
        if job.options["invite"] and after.get("is_active", True):
            uow.emit(UserInvited(user_id=plan.object_id))
    await uow.flush()


async def change_user(uow: UnitOfWork, plan: Planned) -> None:
    """The fields of one user, who is held."""
    user = await uow.session.get_one(User, plan.object_id)
    await set_fields(uow, user, {field: plan.changes[field]["after"] for field in FIELDS if field in plan.changes})


async def set_fields(uow: UnitOfWork, user: User, values: dict[str, Any]) -> None:
    """Change a user as PATCH /users/{id} does."""
    if values.get("is_active") is False and user.is_active:
        await grants.refuse_last_super_admin(uow, without=user.id)
        uow.emit(UserDisabled(user_id=user.id))
    if "email" in values:
        user.email_key = email_key(values["email"])
    user.sqlmodel_update(values)
    uow.announce(f"user:{user.id}")


async def give_roles(uow: UnitOfWork, job: Import, planned: Sequence[Planned]) -> None:
    """The roles that were planned, in one statement; the actor may give them, as the plan has found."""
    bundles: dict[str, Bundle] = {}
    for plan in planned:
        if "role" not in plan.changes or plan.object_id is None:
            continue
        name = str(plan.changes["role"]["after"])
        if name not in bundles:
            wanted = RoleGrant.model_construct(role=name, institution_id=job.scope_id)
            bundles[name] = await grants.what_may_be_given(uow, wanted)
            if bundles[name].role_id is not None:
                await uow.hold(ROLE, bundles[name].role_id)  # type: ignore[arg-type]
        if plan.action != "create":
            await grants.clear_expired(
                uow, plan.object_id, RoleGrant.model_construct(role=name, institution_id=job.scope_id)
            )
        given = Grant(
            id=new_id(), user_id=plan.object_id, role=name, role_id=bundles[name].role_id,
            institution_id=job.scope_id, granted_by=uow.access.actor_id,
        )  # fmt: skip
        uow.session.add(given)
        uow.emit(
            RoleGranted(
                grant_id=given.id, user_id=given.user_id, role=name, institution_id=job.scope_id, expires_at=None
            )
        )
        uow.announce(f"user:{plan.object_id}")


async def remember(uow: UnitOfWork, job: Import, planned: Sequence[Planned]) -> None:
    """What this import said about users, instead of what earlier ones did."""
    gone = [UUID(plan.memo["before"]["user_id"]) for plan in planned if plan.memo["before"] is not None]
    await forget(uow, job, [*gone, *(plan.object_id for plan in planned if plan.object_id is not None)])
    for plan in planned:
        if plan.object_id is not None:
            uow.session.add(record_of(job, plan.object_id, plan.memo))


async def remember_as_before(uow: UnitOfWork, job: Import, rows: Sequence[ImportRow]) -> None:
    """What earlier imports said, once this one is undone."""
    await forget(uow, job, [row.object_id for row in rows if row.object_id is not None])
    for row in rows:
        before = row.memo["before"]
        if before is not None:
            uow.session.add(record_of(job, UUID(before["user_id"]), before))
    await uow.session.flush()


async def forget(uow: UnitOfWork, job: Import, user_ids: Sequence[UUID]) -> None:
    """What imports at the job's institution said about some users."""
    there = col(Imported.institution_id).is_not_distinct_from(job.scope_id)
    await uow.session.execute(
        sql_delete(Imported)
        .where(there, among(col(Imported.user_id), user_ids))
        .execution_options(synchronize_session=False)
    )


def record_of(job: Import, user_id: UUID, kept: dict[str, Any]) -> Imported:
    """A row of what an import said."""
    return Imported(institution_id=job.scope_id, user_id=user_id, external_id=kept["external_id"], said=kept["said"])


async def change_back(uow: UnitOfWork, job: Import, row: ImportRow, user: User) -> str | None:
    """Undo the changes of one row; a sentence about those that somebody has changed again since."""
    since, back = [], {}
    for field in FIELDS:
        change = row.changes.get(field)
        if change is not None and getattr(user, field) == change["after"]:
            back[field] = change["before"]
        elif change is not None:
            since.append(field)
    if "email" in back and await is_taken(uow, user.id, back["email"]):
        since.append("email")
        del back["email"]
    await set_fields(uow, user, back)
    if "role" in row.changes:
        given = select(Grant.id).where(
            Grant.user_id == user.id,
            Grant.role == row.changes["role"]["after"],
            col(Grant.institution_id).is_not_distinct_from(job.scope_id),
            alive(Grant),
        )
        for grant_id in (await uow.session.execute(given)).scalars().all():
            await delete(uow, Grant, grant_id)
    return f"Left as it is, since it was changed since: {', '.join(since)}." if since else None


async def is_taken(uow: UnitOfWork, user_id: UUID, email: str) -> bool:
    """Whether somebody else has an address now."""
    other = select(User.id).where(User.email_key == email_key(email), User.id != user_id, alive(User))
    return (await uow.session.execute(other)).first() is not None
