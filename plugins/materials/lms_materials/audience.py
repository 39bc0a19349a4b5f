"""Who a material is for: everybody in its course, or those in some of the sections and groups."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from lms_courses.contracts import SECTION, SECTIONS, CourseCatalog, in_published_course
from lms_enrollments.contracts import takes_part
from lms_groups.contracts import GROUP, GROUPS, GroupDirectory, is_in_group
from lms_users.contracts import is_actor_or_ward
from sqlalchemy import JSON, ColumnElement, and_, case, cast, delete, exists, func, literal, null, or_
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.orm.attributes import flag_modified
from sqlmodel import col, select

from lms_core.sdk import NotFound, UnitOfWork
from lms_materials.contracts import MATERIAL
from lms_materials.models import Audience, Material
from lms_materials.schemas import AudienceOfMaterial


def includes(user_id: Any) -> ColumnElement[bool]:
    """A condition: the user is in one of the sections or groups, which live."""
    section_lives = exists().where(SECTIONS.c.id == col(Audience.section_id), ~SECTIONS.c.is_deleted)
    in_section = takes_part(col(Material.course_id), user_id, col(Audience.section_id))
    return exists().where(
        col(Audience.material_id) == col(Material.id),
        or_(
            and_(col(Audience.section_id).is_not(None), section_lives, in_section),
            and_(col(Audience.group_id).is_not(None), is_in_group(col(Audience.group_id), user_id)),
        ),
    )


IS_FOR_ACTOR = or_(~col(Material.restricted), is_actor_or_ward(includes))
MAY_BE_READ = and_(col(Material.published).is_(True), in_published_course(col(Material.course_id)), IS_FOR_ACTOR)
"""A condition: whoever reads what is published in the course may read this."""


def ids_of(column: Any, lives: ColumnElement[bool]) -> Any:
    """A JSON array of ids that live."""
    found = func.json_agg(aggregate_order_by(column, column)).filter(column.is_not(None), lives)
    return func.coalesce(found, cast(literal("[]"), JSON()))


SHOWN: Any = case(
    (
        col(Material.restricted),
        select(
            func.json_build_object(
                "section_ids",
                ids_of(
                    col(Audience.section_id),
                    exists().where(SECTIONS.c.id == col(Audience.section_id), ~SECTIONS.c.is_deleted),
                ),
                "group_ids",
                ids_of(
                    col(Audience.group_id),
                    exists().where(GROUPS.c.id == col(Audience.group_id), ~GROUPS.c.is_deleted),
                ),
                type_=JSON(),
            )
        )
        .where(col(Audience.material_id) == col(Material.id))
        .correlate(Material)
        .scalar_subquery(),
    ),
    else_=null(),
)
"""What answers show: the sections and groups that live, null for everybody."""


def shown_through_material(file: Any) -> ColumnElement[bool]:
    """A condition: a material that may be read shows the file."""
    return exists().where(col(Material.file_id) == file.id, ~col(Material.is_deleted), MAY_BE_READ)


async def require(uow: UnitOfWork, course_id: UUID, audience: AudienceOfMaterial) -> None:
    """404 unless the sections are those of the course, and the groups its own or an institution's that one may know."""
    catalog = uow.use(CourseCatalog)
    for section_id in sorted(audience.section_ids):
        if not await catalog.has_section(uow, course_id, section_id):
            raise NotFound(SECTION, section_id)
    known = await uow.use(GroupDirectory).known_among(uow, audience.group_ids, course_id)
    for group_id in audience.group_ids:
        if group_id not in known:
            raise NotFound(GROUP, group_id)


async def put(uow: UnitOfWork, material: Material, audience: AudienceOfMaterial | None) -> None:
    """Make a material be for these and nobody else, or (None) for everybody in the course."""
    before = await of(uow, material)
    if audience is not None:
        await require(uow, material.course_id, audience)
    await uow.session.execute(delete(Audience).where(col(Audience.material_id) == material.id))
    rows: Sequence[Audience] = []
    if audience is not None:
        rows = [
            *(Audience(material_id=material.id, section_id=id) for id in audience.section_ids),
            *(Audience(material_id=material.id, group_id=id) for id in audience.group_ids),
        ]
    uow.session.add_all(rows)
    material.restricted = audience is not None
    # Other sections or groups are a change of the material, whose version has to show it.
    flag_modified(material, "restricted")
    after = None if audience is None else audience.model_dump(mode="json")
    uow.record("changed", MATERIAL, material.id, {"audience": {"before": before, "after": after}})


async def of(uow: UnitOfWork, material: Material) -> dict[str, list[str]] | None:
    """The sections and groups by their ids, dead ones too."""
    if not material.restricted:
        return None
    rows = await uow.session.execute(select(Audience).where(Audience.material_id == material.id))
    found = list(rows.scalars())
    return {
        "section_ids": sorted(str(one.section_id) for one in found if one.section_id is not None),
        "group_ids": sorted(str(one.group_id) for one in found if one.group_id is not None),
    }
