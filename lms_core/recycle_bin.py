"""The recycle bin: the deletions that a caller may undo."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import Query, Response
from sqlalchemy import and_, bindparam, exists, false, func, or_

from lms_core.deletion import Deletion, DeletionRead, State
from lms_core.pagination import Listing, Page, PageParams, Point
from lms_core.permissions import Filter
from lms_core.routing import Router, Uow, signed_in
from lms_core.uow import UnitOfWork

REASON = "the recycle bin shows what the caller may restore"


def what_actor_may_restore(uow: UnitOfWork) -> Filter:
    """Deletions whose root is of a kind, and in a place, where the actor has the restore permission."""
    platform, access = uow.context.platform, uow.access
    parameters: dict[str, Any] = {}
    parts = []
    for kind in platform.kinds.by_name.values():
        permitted = platform.rules.restorable(access, kind, f"bin_{kind.plugin}_{kind.noun}_")
        if not permitted.never:
            parameters |= permitted.parameters
            parts.append((kind, permitted))

    def write(deletion: Any) -> Any:
        return or_(
            false(),
            *(
                and_(
                    deletion.root_kind == kind.name,
                    exists().where(kind.model.id == deletion.root_id, permitted.write(kind.model)),
                )
                for kind, permitted in parts
            ),
        )

    shape = ("bin", tuple((kind.name, permitted.shape) for kind, permitted in parts))
    return Filter(shape, parameters, write, never=not parts)


COLUMNS = {"root": func.json_build_object("kind", Deletion.root_kind, "id", Deletion.root_id, "label", Deletion.label)}
DELETIONS = Listing(
    Deletion,
    DeletionRead,
    filters={
        "state": Deletion.state == bindparam("state"),  # type: ignore[dict-item]
        "kind": Deletion.root_kind == bindparam("kind"),  # type: ignore[dict-item]
    },
    columns=COLUMNS,
    readable=what_actor_may_restore,
)
DELETION = Point(Deletion, DeletionRead, columns=COLUMNS, readable=what_actor_may_restore)


def router() -> Router:
    """The core's own routes for deletions."""
    routes = Router()

    @routes.get(
        "/deletions", name="list_deletions", response_model=Page[DeletionRead], dependencies=[signed_in(REASON)]
    )
    async def list_deletions(
        uow: Uow,
        params: PageParams,
        state: State | None = None,
        kind: Annotated[str | None, Query(max_length=100)] = None,
    ) -> Response:
        """The recycle bin: what you may restore, newest first."""
        return await DELETIONS.page(uow, params, state=state, kind=kind)

    @routes.get(
        "/deletions/{deletion_id}", name="get_deletion", response_model=DeletionRead, dependencies=[signed_in(REASON)]
    )
    async def get_deletion(uow: Uow, deletion_id: UUID) -> Response:
        """One deletion: how far it has come, and what it took."""
        return await DELETION.get(uow, deletion_id)

    return routes
