"""The recycle bin: the deletions that a caller may undo, and several things deleted as one."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import Query, Response
from sqlalchemy import ColumnElement, Uuid, and_, bindparam, case, exists, false, func, null, or_, select
from sqlmodel import Field, col

from lms_core.conditions import exists_for_each, like_pattern
from lms_core.deletion import Deletion, DeletionRead, State, delete, delete_together, name_of
from lms_core.errors import Invalid, NotFound, Problem
from lms_core.inputs import Input
from lms_core.kinds import Kind
from lms_core.pagination import Listing, Page, PageParams, Point
from lms_core.permissions import ROW_ID, Filter
from lms_core.platform import Platform
from lms_core.restoring import RestoreRequest, restore_deletion
from lms_core.routing import Router, Uow, signed_in
from lms_core.types import Removal
from lms_core.uow import UnitOfWork

REASON = "the recycle bin shows what the caller may restore"
MOST_AT_ONCE = 100


class DeleteMany(Input):
    """What to delete together: rows of one kind."""

    kind: str = Field(max_length=100, description="Such as `courses.course`")
    ids: list[UUID] = Field(min_length=1, max_length=MOST_AT_ONCE)


def what_actor_may_restore(uow: UnitOfWork) -> Filter:
    """Deletions whose every root is of a kind, and in a place, where the actor has the restore permission."""
    parts, parameters = uow.context.platform.rules.restorable_kinds(uow.access, "bin")
    # Who may restore people looks after a whole place and finds a page among the newest; others have little, which is
    # found at once. Super admins may restore people, too.
    has_much = any(kind.is_person for kind, _ in parts)

    def write(deletion: Any) -> Any:
        return or_(false(), *(are_restorable(deletion, kind, permitted, has_much) for kind, permitted in parts))

    shape = ("bin", has_much, tuple((kind.name, permitted.shape) for kind, permitted in parts))
    return Filter(shape, parameters, write, never=not parts)


def are_restorable(deletion: Any, kind: Kind, permitted: Filter, has_much: bool) -> ColumnElement[bool]:
    """The deletion's roots are of this kind, and the actor may restore each.

    For who has much the permission stands here once: PostgreSQL takes longer to plan what is asked of people than to ask
    it of a thousand deletions.
    """
    root: Any = func.unnest(deletion.root_ids, type_=Uuid()).column_valued("root")
    # The table itself, not an alias: conditions of the kind name it.
    may = exists_for_each(col(kind.model.id) == root, permitted.write(kind.model)).correlate_except(kind.model)
    all_may = ~exists(select(root).where(~may)).correlate(deletion)
    if has_much:
        return and_(deletion.root_kind == kind.name, all_may)
    first = exists().where(col(kind.model.id) == deletion.root_id, permitted.write_list(kind.model))
    return and_(deletion.root_kind == kind.name, first, or_(func.cardinality(deletion.root_ids) == 1, all_may))


def columns(platform: Platform) -> dict[str, Any]:
    """What is not a column of its own."""
    root = func.json_build_object("kind", Deletion.root_kind, "id", Deletion.root_id, "label", Deletion.label)
    actor_id = col(Deletion.actor_id)
    actor = func.json_build_object("id", actor_id, "label", name_of(platform.kinds.person, actor_id))
    return {"root": root, "actor": case((actor_id.is_not(None), actor), else_=null())}


async def delete_many(uow: UnitOfWork, data: DeleteMany) -> Response:
    """Delete rows together, each by its own rules; when one cannot be deleted, none is."""
    kinds = uow.context.platform.kinds
    kind = kinds.by_name.get(data.kind)
    if kind is None or kind.removal is None:
        known = ", ".join(sorted(name for name, one in kinds.by_name.items() if one.removal is not None))
        raise Invalid(
            "unknown_kind", f"Things of this kind are not deleted together; use one of: {known}.", ("body", "kind")
        )
    removal = kind.removal

    async def remove(id: UUID) -> None:
        try:
            await remove_one(uow, kind, removal, id)
        except Problem as problem:
            problem.extra["id"] = str(id)
            raise

    return await delete_together(uow, kind, sorted(set(data.ids)), remove)


async def remove_one(uow: UnitOfWork, kind: Kind, removal: Removal, id: UUID) -> None:
    """Delete one row as its own route would, after what that would ask."""
    if removal.permission is not None:
        await uow.require(removal.permission, kind.model, id)
    if removal.function is not None:
        await removal.function(uow, id)
    else:
        await delete(uow, kind.model, id)


def router(platform: Platform) -> Router:
    """The core's own routes for deletions."""
    routes = Router()
    shown = columns(platform)
    point = Point(Deletion, DeletionRead, columns=shown, readable=what_actor_may_restore)
    listing = Listing(
        Deletion,
        DeletionRead,
        filters={
            "state": col(Deletion.state) == bindparam("state"),
            "kind": col(Deletion.root_kind) == bindparam("kind"),
            "deleted_by": col(Deletion.actor_id) == bindparam("deleted_by"),
            "q": col(Deletion.label).icontains(bindparam("q"), autoescape=False),
        },
        columns=shown,
        # What was removed for good nobody restores.
        where=col(Deletion.purged_at).is_(None),
        readable=what_actor_may_restore,
    )

    @routes.get(
        "/deletions", name="list_deletions", response_model=Page[DeletionRead], dependencies=[signed_in(REASON)]
    )
    async def list_deletions(
        uow: Uow,
        params: PageParams,
        state: State | None = None,
        kind: Annotated[str | None, Query(max_length=100)] = None,
        actor_id: Annotated[UUID | None, Query(description="Only what this user deleted")] = None,
        q: Annotated[str | None, Query(max_length=300, description="Part of what it is called")] = None,
    ) -> Response:
        """The recycle bin: what you may restore, newest first."""
        return await listing.page(
            uow, params, state=state, kind=kind, deleted_by=actor_id, q=None if q is None else like_pattern(q)
        )

    @routes.post(
        "/deletions",
        name="delete_many",
        response_model=DeletionRead,
        dependencies=[signed_in("each thing is asked for by the rules of its own kind")],
    )
    async def delete_rows(uow: Uow, data: DeleteMany) -> Response:
        """Delete up to 100 things of one kind as one deletion; all of them, or none."""
        return await delete_many(uow, data)

    @routes.get(
        "/deletions/{deletion_id}", name="get_deletion", response_model=DeletionRead, dependencies=[signed_in(REASON)]
    )
    async def get_deletion(uow: Uow, deletion_id: UUID) -> Response:
        """One deletion: how far it has come, and what it took."""
        return await point.get(uow, deletion_id)

    @routes.post(
        "/deletions/{deletion_id}/restore",
        name="restore_deletion",
        response_model=DeletionRead,
        dependencies=[signed_in(REASON)],
    )
    async def restore_all(uow: Uow, deletion_id: UUID, request: RestoreRequest | None = None) -> Response:
        """Bring back all that a deletion holds, of whatever kind it is."""
        may = what_actor_may_restore(uow)
        # Kept, once it is compiled: SQLAlchemy takes half a second to do so for a principal.
        asked = uow.context.platform.rules.check_read(
            may.shape, lambda: select(col(Deletion.id)).where(col(Deletion.id) == ROW_ID, may.write(Deletion))
        )
        if may.never or await asked.one(uow.asked, **may.parameters, row_id=deletion_id) is None:
            raise NotFound("core.deletion", deletion_id)
        return await restore_deletion(uow, deletion_id, request)

    return routes
