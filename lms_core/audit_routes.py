"""The URL of the audit trail: everything for super admins, one object's for those who look after it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import Query, Response
from pydantic import BaseModel
from sqlalchemy import DateTime, and_, bindparam, true
from sqlmodel import col

from lms_core.audit import AuditEntry
from lms_core.conditions import CLOCKS_APART, id_at
from lms_core.errors import Forbidden, Invalid
from lms_core.inputs import Instant
from lms_core.pagination import Listing, Page, PageParams
from lms_core.permissions import Filter
from lms_core.routing import Router, Uow, requires
from lms_core.types import Permission
from lms_core.uow import UnitOfWork

READ_AUDIT = Permission("core.read_audit", "Read who changed what", roles=("principal",))


class Change(BaseModel):
    """One field. Of secrets both values are `hidden`, of long texts the beginning is kept."""

    before: Any
    after: Any


class AuditEntryRead(BaseModel):
    """One thing that was done to one object. Without an actor, the system did it by itself."""

    id: UUID
    created_at: datetime
    actor_id: UUID | None
    address: str | None
    request_id: str | None
    action: str
    kind: str
    object_id: UUID
    changes: dict[str, Change]


SINCE = bindparam("since", type_=DateTime(timezone=True))
UNTIL = bindparam("until", type_=DateTime(timezone=True))
ENTRIES = Listing(
    AuditEntry,
    AuditEntryRead,
    filters={
        "object_id": col(AuditEntry.object_id) == bindparam("object_id"),
        "actor_id": col(AuditEntry.actor_id) == bindparam("actor_id"),
        "kind": col(AuditEntry.kind) == bindparam("kind"),
        "action": col(AuditEntry.action) == bindparam("action"),
        "since": and_(col(AuditEntry.created_at) >= SINCE, col(AuditEntry.id) >= id_at(SINCE - CLOCKS_APART)),
        "until": and_(col(AuditEntry.created_at) < UNTIL, col(AuditEntry.id) < id_at(UNTIL + CLOCKS_APART)),
    },
    readable=lambda uow: Filter("audit", {}, lambda entity: true()),
)


async def refuse_unless_may_read(uow: UnitOfWork, kind: str | None, object_id: UUID | None) -> None:
    """Who is no super admin names the object, and needs the permission on it while it lives."""
    if uow.access.everywhere:
        return
    if kind is None or object_id is None:
        raise Forbidden("Only a super admin reads the whole trail; name one object with `kind` and `object_id`.")
    found = uow.context.platform.kinds.by_name.get(kind)
    if found is None:
        known = ", ".join(uow.context.platform.kinds.by_name)
        raise Invalid("unknown_kind", f"There is no kind of this name; use one of: {known}.", ("query", "kind"))
    await uow.require(READ_AUDIT.name, found.model, object_id)


def router() -> Router:
    """The core's own route for the trail."""
    routes = Router()

    @routes.get(
        "/audit",
        name="list_audit",
        response_model=Page[AuditEntryRead],
        dependencies=[requires(READ_AUDIT.name)],
    )
    async def list_audit(
        uow: Uow,
        params: PageParams,
        kind: Annotated[str | None, Query(max_length=100, description="Such as `courses.course`")] = None,
        object_id: Annotated[UUID | None, Query(description="Only what was done to this object")] = None,
        actor_id: Annotated[UUID | None, Query(description="Only what this user did")] = None,
        action: Annotated[str | None, Query(max_length=40, description="Such as `created` or `changed`")] = None,
        since: Annotated[Instant | None, Query(description="From this moment on")] = None,
        until: Annotated[Instant | None, Query(description="Before this moment")] = None,
    ) -> Response:
        """Who did what, newest first; who is no super admin asks for one object at a time."""
        await refuse_unless_may_read(uow, kind, object_id)
        return await ENTRIES.page(
            uow, params, kind=kind, object_id=object_id, actor_id=actor_id, action=action, since=since, until=until
        )

    return routes
