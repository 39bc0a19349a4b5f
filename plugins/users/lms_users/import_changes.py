"""Doing to users what an import has planned, and taking it back."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import delete as sql_delete
from sqlmodel import col, select

from lms_core.sdk import (
    Import,
    ImportRow,
    Planned,
    UnitOfWork,
    alive,
    among,
    delete,
    new_id,
)
from lms_users import grants
from lms_users.contracts import ROLE, RoleGranted, UserCreated, UserDisabled, UserEnabled, UserInvited
from lms_users.emails import email_key
from lms_users.grants import Bundle
from lms_users.models import Grant, Imported, User
from lms_users.schemas import RoleGrant

FIELDS = ("email", "full_name", "is_active")


async def create_users(uow: UnitOfWork, job: Import, planned: Sequence[Planned]) -> None:
    """New users, in one statement."""
    rows = []
    for plan in planned:
        plan.object_id = new_id()
        after = {field: plan.changes[field]["after"] for field in FIELDS if field in plan.changes}
        row = {"id": plan.object_id, "email_key": email_key(after["email"]), "is_active": True, **after}
        rows.append(row)
        uow.emit(UserCreated(user_id=plan.object_id))
        if job.options["invite"] and row["is_active"]:
            uow.emit(UserInvited(user_id=plan.object_id))
    await uow.add_all(User, rows)


async def change_user(uow: UnitOfWork, plan: Planned) -> None:
    """The fields of one user, who is held."""
    user = await uow.session.get_one(User, plan.object_id)
    await set_fields(uow, user, {field: plan.changes[field]["after"] for field in FIELDS if field in plan.changes})


async def set_fields(uow: UnitOfWork, user: User, values: dict[str, Any]) -> None:
    """Change a user as PATCH /users/{id} does."""
    if values.get("is_active") is False and user.is_active:
        await grants.refuse_last_super_admin(uow, without=user.id)
        uow.emit(UserDisabled(user_id=user.id))
    elif values.get("is_active") and not user.is_active:
        uow.emit(UserEnabled(user_id=user.id))
    if "email" in values:
        user.email_key = email_key(values["email"])
    user.sqlmodel_update(values)
    uow.announce(f"user:{user.id}")


async def give_roles(uow: UnitOfWork, job: Import, planned: Sequence[Planned]) -> None:
    """The roles that were planned, in one statement; the actor may give them, as the plan has found."""
    bundles: dict[str, Bundle] = {}
    rows: list[dict[str, Any]] = []
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
            uow.announce(f"user:{plan.object_id}")
            await grants.clear_expired(
                uow, plan.object_id, RoleGrant.model_construct(role=name, institution_id=job.scope_id)
            )
        id = new_id()
        rows.append(
            {
                "id": id, "user_id": plan.object_id, "role": name, "role_id": bundles[name].role_id,
                "institution_id": job.scope_id, "granted_by": uow.access.actor_id,
            }
        )  # fmt: skip
        plan.memo["grant_id"] = str(id)
        uow.emit(
            RoleGranted(grant_id=id, user_id=plan.object_id, role=name, institution_id=job.scope_id, expires_at=None)
        )
    await uow.add_all(Grant, rows)


async def remember(uow: UnitOfWork, job: Import, planned: Sequence[Planned]) -> None:
    """What this import said about users, instead of what earlier ones did."""
    gone = [UUID(plan.memo["before"]["user_id"]) for plan in planned if plan.memo["before"] is not None]
    await forget(uow, job, [*gone, *(plan.object_id for plan in planned if plan.object_id is not None)])
    rows = [record_of(job, plan.object_id, plan.memo) for plan in planned if plan.object_id is not None]
    await uow.add_all(Imported, rows)


async def remember_as_before(uow: UnitOfWork, job: Import, rows: Sequence[ImportRow]) -> None:
    """What earlier imports said, once this one is undone; what a later one said stays."""
    ids = [row.object_id for row in rows if row.object_id is not None]
    there = col(Imported.institution_id).is_not_distinct_from(job.scope_id)
    found = await uow.session.execute(select(Imported).where(there, among(col(Imported.user_id), ids)))
    now = {record.user_id: (record.external_id, record.said) for record in found.scalars()}
    mine = [
        row
        for row in rows
        if row.object_id is not None and now.get(row.object_id) in (None, (row.memo["external_id"], row.memo["said"]))
    ]
    await forget(uow, job, [row.object_id for row in mine if row.object_id is not None])
    before = [row.memo["before"] for row in mine if row.memo["before"] is not None]
    await uow.add_all(Imported, [record_of(job, UUID(one["user_id"]), one) for one in before])


async def forget(uow: UnitOfWork, job: Import, user_ids: Sequence[UUID]) -> None:
    """What imports at the job's institution said about some users."""
    there = col(Imported.institution_id).is_not_distinct_from(job.scope_id)
    await uow.session.execute(
        sql_delete(Imported)
        .where(there, among(col(Imported.user_id), user_ids))
        .execution_options(synchronize_session=False)
    )


def record_of(job: Import, user_id: UUID, kept: dict[str, Any]) -> dict[str, Any]:
    """A row of what an import said."""
    known = {"external_id": kept["external_id"], "said": kept["said"]}
    return {"id": new_id(), "institution_id": job.scope_id, "user_id": user_id, **known}


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
        # The grant that the import made, and no other: somebody may have taken it, and given the role anew.
        made = row.memo.get("grant_id")
        given = select(Grant.id).where(Grant.id == (None if made is None else UUID(made)), alive(Grant))
        if (grant_id := (await uow.session.execute(given)).scalar_one_or_none()) is not None:
            await delete(uow, Grant, grant_id)
        else:
            since.append("role")
    return f"Left as it is, since it was changed since: {', '.join(since)}." if since else None


async def is_taken(uow: UnitOfWork, user_id: UUID, email: str) -> bool:
    """Whether somebody else has an address now."""
    other = select(User.id).where(User.email_key == email_key(email), User.id != user_id, alive(User))
    return (await uow.session.execute(other)).first() is not None
