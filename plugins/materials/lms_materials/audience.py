"""Who a material is for: everybody in its course, or those in some of the sections and groups."""

from collections.abc import Collection, Sequence
from typing import Any
from uuid import UUID

from lms_courses.contracts import SECTION, SECTIONS, CourseCatalog
from lms_enrollments.contracts import TAKING_PART, takes_part
from lms_groups.contracts import GROUP, GROUPS, IN_GROUPS, GroupDirectory, is_in_group
from sqlalchemy import JSON, ColumnElement, and_, case, delete, exists, func, null, or_
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.orm import aliased
from sqlalchemy.orm.attributes import flag_modified
from sqlmodel import col, select

from lms_core.sdk import ACTOR_ID, Invalid, NotFound, UnitOfWork
from lms_materials.contracts import MATERIAL
from lms_materials.models import Audience, Material
from lms_materials.schemas import AudienceOfMaterial
from lms_materials.sql_json import NONE_OF_THEM


def is_among(named: Any, course_id: Any, user_id: Any) -> ColumnElement[bool]:
    """A condition: the user is in the section, or the group, that a row of `named` names, and that lives."""
    if user_id is ACTOR_ID:
        part, group = TAKING_PART.alias(), IN_GROUPS.alias()
        in_section = exists().where(~part.c.is_ward, is_in_section(part, named, course_id)).correlate_except(part)
        in_group = exists().where(~group.c.is_ward, group.c.group_id == named.group_id).correlate_except(group)
        return or_(
            and_(named.section_id.is_not(None), in_section),
            and_(named.group_id.is_not(None), in_group),
        )
    sections = SECTIONS.alias()
    section_lives = exists().where(sections.c.id == named.section_id, ~sections.c.is_deleted).correlate_except(sections)
    return or_(
        and_(named.section_id.is_not(None), section_lives, takes_part(course_id, user_id, named.section_id)),
        and_(named.group_id.is_not(None), is_in_group(named.group_id, user_id)),
    )


def is_in_section(part: Any, named: Any, course_id: Any) -> ColumnElement[bool]:
    """A condition: the section that a row of `named` names is the one in which a row of TAKING_PART takes part."""
    return and_(part.c.course_id == course_id, part.c.section_id == named.section_id)


def is_for_actor(material: Any) -> ColumnElement[bool]:
    """A condition: a material is for the caller, or for a student in this course whose guardian they are."""
    named, part, group, of_ward = aliased(Audience), TAKING_PART.alias(), IN_GROUPS.alias(), TAKING_PART.alias()
    in_section = exists().where(is_in_section(part, named, material.course_id)).correlate_except(part)
    # A group may be of an institution: then being in it is not yet taking part in this course.
    ward_takes_part = exists().where(of_ward.c.user_id == group.c.user_id, of_ward.c.course_id == material.course_id)
    in_group = exists().where(
        group.c.group_id == named.group_id, or_(~group.c.is_ward, ward_takes_part.correlate_except(of_ward))
    )
    found = exists().where(col(named.material_id) == material.id, or_(in_section, in_group.correlate_except(group)))
    return or_(~material.restricted, found.correlate_except(named))


def ids_of(column: Any, lives: ColumnElement[bool]) -> Any:
    """A JSON array of ids that live."""
    found = func.json_agg(aggregate_order_by(column, column)).filter(column.is_not(None), lives)
    return func.coalesce(found, NONE_OF_THEM)


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


async def require(uow: UnitOfWork, course_id: UUID, section_ids: Collection[UUID], group_ids: Collection[UUID]) -> None:
    """404 unless the sections are those of the course, and the groups its own or an institution's that one may know."""
    live = await uow.use(CourseCatalog).sections_among(uow, course_id, section_ids)
    for section_id in sorted(section_ids):
        if section_id not in live:
            raise NotFound(SECTION, section_id)
    known = await uow.use(GroupDirectory).known_among(uow, group_ids, course_id)
    for group_id in sorted(group_ids):
        if group_id not in known:
            raise NotFound(GROUP, group_id)


async def put(uow: UnitOfWork, material: Material, audience: AudienceOfMaterial | None) -> None:
    """Make a material be for these and nobody else, or (None) for everybody in the course."""
    before = await of(uow, material)
    if audience is not None:
        was_for = before or {"section_ids": [], "group_ids": []}
        sections = {id for id in audience.section_ids if str(id) not in was_for["section_ids"]}
        groups = {id for id in audience.group_ids if str(id) not in was_for["group_ids"]}
        await require(uow, material.course_id, sections, groups)
        if before is not None and await is_as_shown(uow, material, audience):
            # What was read is written back: dead sections and groups, which are not shown, stay too.
            return
        if not audience.section_ids and not audience.group_ids:
            raise Invalid(
                "invalid_input", "The audience names nobody; null is everybody in the course.", ("body", "audience")
            )
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


async def is_as_shown(uow: UnitOfWork, material: Material, audience: AudienceOfMaterial) -> bool:
    """Whether these are the sections and groups that answers show."""
    shown = (await uow.session.execute(select(SHOWN).where(Material.id == material.id))).scalar_one()
    given = audience.model_dump(mode="json")
    return all(sorted(given[name]) == sorted(shown[name]) for name in shown)


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
