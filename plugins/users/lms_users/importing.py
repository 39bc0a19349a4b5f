"""The importer of users: one row of a CSV file, one user."""

from collections.abc import Hashable, Sequence
from typing import Any
from uuid import UUID

from lms_institutions.contracts import INSTITUTION
from sqlalchemy import func
from sqlmodel import col, select

from lms_core.sdk import (
    Column,
    Forbidden,
    Import,
    Importer,
    ImportRow,
    Planned,
    Row,
    UnitOfWork,
    alive,
    among,
    delete,
)
from lms_users import grants
from lms_users.emails import email_key
from lms_users.import_changes import change_back, change_user, create_users, give_roles, remember, remember_as_before
from lms_users.import_rows import (
    USUAL_ROLE,
    find_records,
    find_users,
    look_up,
    memo_of,
    plan_row,
    refuse_if_not_below,
)
from lms_users.models import Imported, User


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
        await remember(uow, job, [plan for plan in planned if "said" in plan.memo])
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
        await remember_as_before(uow, job, [row for row in rows if "said" in row.memo and row.note is None])


def active_imported(job: Import) -> Any:
    """A condition on users: active, alive, and known from an import at the job's institution."""
    known = select(Imported.user_id).where(col(Imported.institution_id).is_not_distinct_from(job.scope_id))
    return alive(User) & col(User.is_active).is_(True) & col(User.id).in_(known)
