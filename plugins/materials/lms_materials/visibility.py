"""What students see of a course: what is published for them, and of that, what is open already and why the rest is not."""

from typing import Any

from lms_courses.contracts import in_published_course
from lms_users.contracts import CALLER_AND_WARDS
from sqlalchemy import JSON, ColumnElement, and_, any_, case, exists, func, null, or_
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.orm import aliased
from sqlmodel import col, select

from lms_core.sdk import exists_for_each
from lms_materials.audience import is_for_actor
from lms_materials.models import Completion, Material, Module, Prerequisite, Submission
from lms_materials.sql_json import NONE_OF_THEM, in_json


def is_published(material: Any) -> ColumnElement[bool]:
    """A condition: it was published, or the moment has come at which it publishes itself."""
    return or_(material.published, material.publish_at <= func.now()).is_(True)


def in_open_module(material: Any) -> ColumnElement[bool]:
    """A condition: students see the module that a material is in, if it is in one."""
    module = aliased(Module)
    hidden = exists_for_each(col(module.id) == material.module_id, ~col(module.published))
    return ~hidden.correlate_except(module)


def may_be_read(material: Any) -> ColumnElement[bool]:
    """A condition: whoever reads what is published in the course may know of this."""
    return and_(
        is_published(material),
        in_open_module(material),
        in_published_course(material.course_id),
        is_for_actor(material),
    )


def unlock_at(material: Any) -> Any:
    """From when on its content is open: its own date, or its module's if that is later; NULL is always."""
    module = aliased(Module)
    of_module = select(col(module.unlock_at)).where(col(module.id) == material.module_id).correlate_except(module)
    return func.greatest(material.unlock_at, of_module.scalar_subquery())


def is_completed(material: Any, user_id: Any) -> ColumnElement[bool]:
    """A condition: a user said so, or handed something in; with `any_` of a select, one of those users."""
    completion, submission = aliased(Completion), aliased(Submission)
    said = exists().where(col(completion.material_id) == material.id, col(completion.user_id) == user_id)
    submitted = exists().where(
        col(submission.material_id) == material.id,
        col(submission.user_id) == user_id,
        col(submission.state) == "submitted",
        ~col(submission.is_deleted),
    )
    return or_(said.correlate_except(completion), submitted.correlate_except(submission))


def unmet(material: Any) -> tuple[Any, Any, ColumnElement[bool]]:
    """The prerequisite, the required material, and the condition that the caller has yet to complete it.

    What the caller cannot see does not stand in their way.
    """
    link, required = aliased(Prerequisite), aliased(Material)
    caller_or_ward = any_(select(CALLER_AND_WARDS.c.user_id).scalar_subquery())
    return (
        link,
        required,
        and_(
            col(link.material_id) == material.id,
            col(required.id) == col(link.required_id),
            ~col(required.is_deleted),
            may_be_read(required),
            ~is_completed(required, caller_or_ward),
        ),
    )


def is_locked(material: Any) -> ColumnElement[bool]:
    """A condition: the caller knows of it, but its content is not open to them yet."""
    link, required, waits = unmet(material)
    later = func.coalesce(unlock_at(material) > func.now(), False)
    return or_(later, exists().where(waits).correlate_except(link, required))


def why_locked(material: Any) -> Any:
    """`{unlock_at, requires: [{id, title}]}`; it is open when there is neither (see `is_open`)."""
    link, required, waits = unmet(material)
    opens = unlock_at(material)
    one = func.json_build_object("id", col(required.id), "title", col(required.title))
    requires = (
        select(
            func.coalesce(
                func.json_agg(aggregate_order_by(one, col(required.position), col(required.id))), NONE_OF_THEM
            )
        )
        .where(waits)
        .correlate_except(link, required)
        .scalar_subquery()
    )
    later = case((opens > func.now(), in_json(opens)), else_=null())
    return func.json_build_object("unlock_at", later, "requires", requires, type_=JSON())


def is_open(lock: dict[str, Any] | None) -> bool:
    """Whether `why_locked` names no reason."""
    return lock is None or (lock["unlock_at"] is None and not lock["requires"])


def shown_through_material(file: Any) -> ColumnElement[bool]:
    """A condition: a material that is open to the caller shows the file."""
    material = aliased(Material)
    shows = exists().where(
        col(material.file_id) == file.id, ~col(material.is_deleted), may_be_read(material), ~is_locked(material)
    )
    return shows.correlate_except(material)


def is_open_to_all(material: Any) -> ColumnElement[bool]:
    """A condition: everybody in the course may read all of it now, and nothing but a change of it ends that."""
    link = aliased(Prerequisite)
    return and_(
        material.published,
        ~material.restricted,
        in_open_module(material),
        unlock_at(material).is_(None),
        ~exists().where(col(link.material_id) == material.id).correlate_except(link),
    )
