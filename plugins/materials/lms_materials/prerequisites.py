"""What has to be completed before a material opens, and who has completed what."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from fastapi import Response
from sqlalchemy import Uuid, bindparam, delete, func
from sqlalchemy.dialects.postgresql import aggregate_order_by, insert
from sqlalchemy.orm import aliased
from sqlalchemy.orm.attributes import flag_modified
from sqlmodel import col, select

from lms_core.sdk import Invalid, NotFound, Read, StateConflict, UnitOfWork, alive, among
from lms_materials import visibility
from lms_materials.contracts import MATERIAL
from lms_materials.models import Completion, Material, Prerequisite
from lms_materials.sql_json import NONE_OF_THEM

LINK, REQUIRED = aliased(Prerequisite), aliased(Material)
SHOWN: Any = (
    select(func.coalesce(func.json_agg(aggregate_order_by(col(LINK.required_id), col(LINK.required_id))), NONE_OF_THEM))
    .where(
        col(LINK.material_id) == col(Material.id), col(REQUIRED.id) == col(LINK.required_id), ~col(REQUIRED.is_deleted)
    )
    .correlate(Material)
    .scalar_subquery()
)
"""What answers show: the required materials that live."""
STANDING = Read(
    select(col(Material.kind), visibility.is_locked(Material).label("is_locked")).where(
        col(Material.id) == bindparam("material_id", type_=Uuid())
    ),
    plan_once=True,
)


async def put(uow: UnitOfWork, material: Material, ids: Sequence[UUID]) -> None:
    """Make these, and no others, the materials that have to be completed before; the caller holds the course alone.

    Required materials that are deleted stay, and count again when they are restored. Raises NotFound for what is not
    in the course, and Invalid for a circle.
    """
    live = select(Material.id).where(
        among(col(Material.id), ids), col(Material.course_id) == material.course_id, alive(Material)
    )
    known = set((await uow.session.execute(live)).scalars())
    for id in ids:
        if id not in known:
            raise NotFound(MATERIAL, id)
    if material.id in ids or await leads_to(uow, ids, material.id):
        raise Invalid(
            "cyclic_prerequisites",
            "These materials would wait for each other; take one of them out.",
            ("body", "requires"),
        )
    before = select(Prerequisite.required_id).where(Prerequisite.material_id == material.id)
    was = set((await uow.session.execute(before)).scalars())
    dead = select(Material.id).where(among(col(Material.id), was), ~alive(Material))
    kept = set((await uow.session.execute(dead)).scalars())
    gone = was - set(ids) - kept
    if gone:
        rows = col(Prerequisite.material_id) == material.id
        await uow.session.execute(delete(Prerequisite).where(rows, among(col(Prerequisite.required_id), gone)))
    uow.session.add_all(Prerequisite(material_id=material.id, required_id=id) for id in ids if id not in was)
    if gone or set(ids) - was:
        # Others in their place are a change of the material, whose version has to show it.
        flag_modified(material, "title")
        change = {"before": sorted(map(str, was - kept)), "after": sorted(map(str, ids))}
        uow.record("changed", MATERIAL, material.id, {"requires": change})


async def leads_to(uow: UnitOfWork, ids: Sequence[UUID], target: UUID) -> bool:
    """Whether one of these waits for the target, directly or through others."""
    reached: Any = select(col(Prerequisite.required_id).label("id")).where(among(col(Prerequisite.material_id), ids))
    walk = reached.cte("walk", recursive=True)
    walk = walk.union(select(col(Prerequisite.required_id)).where(col(Prerequisite.material_id) == walk.c.id))
    found = select(walk.c.id).where(walk.c.id == target).limit(1)
    return (await uow.session.execute(found)).first() is not None


async def complete(uow: UnitOfWork, material_id: UUID) -> Response:
    """The caller is done with a material, as often as they say it."""
    await uow.require_known(MATERIAL, material_id)
    found = await STANDING.one(uow.asked, material_id=material_id, actor_id=uow.actor_id)
    if found is None:
        raise NotFound(MATERIAL, material_id)
    if found["is_locked"]:
        raise StateConflict("material_locked", "This is locked; its `locked` says what has to be done before.")
    if found["kind"] == "assignment":
        raise StateConflict("completed_by_submission", "An assignment is completed by handing something in.")
    said = insert(Completion).values(material_id=material_id, user_id=uow.actor_id)
    await uow.session.execute(said.on_conflict_do_nothing())
    return Response(status_code=204)


async def take_back(uow: UnitOfWork, material_id: UUID) -> Response:
    """The caller is not done with it."""
    await uow.require_known(MATERIAL, material_id)
    mine = (col(Completion.material_id) == material_id, col(Completion.user_id) == uow.actor_id)
    await uow.session.execute(delete(Completion).where(*mine))
    return Response(status_code=204)
