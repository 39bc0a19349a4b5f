"""Until when somebody has time: an assignment's dates, and the extensions that hold for them."""

from typing import Any

from lms_courses.contracts import timezone_in_course
from sqlalchemy import ColumnElement, Float, case, cast, func, null, or_, select, true
from sqlalchemy.orm import aliased
from sqlmodel import col

from lms_materials.audience import is_among
from lms_materials.models import Assignment, DueExtension
from lms_materials.sql_json import as_json, in_json


def holds_for(extension: Any, material: Any, user_id: Any) -> ColumnElement[bool]:
    """A condition: an extension is for this user."""
    return or_(extension.user_id == user_id, is_among(extension, material.course_id, user_id))


def generous(material: Any, user_id: Any) -> Any:
    """Beside an assignment: the most that the extensions of a user give (NULL where they give nothing), and its timezone."""
    extension = aliased(DueExtension)
    return (
        select(
            func.max(col(extension.due_at)).label("due_at"),
            func.max(func.greatest(col(extension.closes_at), col(extension.due_at))).label("closes_at"),
            func.max(col(extension.days)).label("days"),
            func.max(col(extension.more_attempts)).label("more_attempts"),
            # Said here, it is looked up once, and not for each date.
            timezone_in_course(material.course_id).label("zone"),
        )
        .where(
            col(extension.material_id) == material.id,
            ~col(extension.is_deleted),
            holds_for(extension, material, user_id),
        )
        .correlate_except(extension)
        .lateral("generous")
    )


def extended(zone: Any, moment: Any, own: Any, days: Any) -> Any:
    """A date of an assignment for a user: never earlier than for everybody, NULL where there is none.

    So many days later is the same time of day where the institution is (see late_policy.days_later).
    """
    later = func.timezone(zone, func.timezone(zone, moment) + func.make_interval(0, 0, 0, days))
    # GREATEST ignores NULL, and what has no date for everybody has none for anybody.
    return case((moment.is_(None), null()), else_=func.greatest(moment, own, later))


def yours(assignment: Any, more: Any) -> dict[str, Any]:
    """What holds for a user, from an assignment and what their extensions give."""
    zone = more.c.zone
    return {
        "due_at": extended(zone, assignment.due_at, more.c.due_at, more.c.days),
        "closes_at": extended(zone, assignment.closes_at, more.c.closes_at, more.c.days),
        "attempts": assignment.attempts + func.coalesce(more.c.more_attempts, 0),
    }


def terms(material: Any, user_id: Any, kept: Any) -> Any:
    """What decides about a user's submission, as JSON: `{due_at, zone, points, late_policy}`.

    `kept` is when it was due for them when they handed it in: who has left a section since keeps what it gave them.
    """
    assignment, more = aliased(Assignment), generous(material, user_id)
    due_at = yours(assignment, more)["due_at"]
    shown: dict[str, Any] = {
        "due_at": in_json(case((due_at.is_(None), null()), else_=func.greatest(due_at, kept))),
        "zone": more.c.zone,
        "points": cast(col(assignment.points), Float()),
        "late_policy": col(assignment.late_policy),
    }
    return one_of(assignment, material, more, shown)


def in_answers(material: Any, user_id: Any) -> Any:
    """An assignment as answers show it, with the caller's own dates as `yours`; NULL for other kinds."""
    assignment, more = aliased(Assignment), generous(material, user_id)
    own = yours(assignment, more)
    shown: dict[str, Any] = {
        "points": cast(col(assignment.points), Float()),
        "extra_credit": col(assignment.extra_credit),
        "opens_at": in_json(col(assignment.opens_at)),
        "due_at": in_json(col(assignment.due_at)),
        "closes_at": in_json(col(assignment.closes_at)),
        "timezone": more.c.zone,
        "attempts": col(assignment.attempts),
        "late_policy": col(assignment.late_policy),
        "grades_held": col(assignment.grades_held),
        "grades_release_at": in_json(col(assignment.grades_release_at)),
        "yours": as_json(
            {"due_at": in_json(own["due_at"]), "closes_at": in_json(own["closes_at"]), "attempts": own["attempts"]}
        ),
    }
    return one_of(assignment, material, more, shown)


def one_of(assignment: Any, material: Any, more: Any, shown: dict[str, Any]) -> Any:
    """The assignment of a material, and what a user has more, as a JSON column."""
    return (
        select(as_json(shown))
        .select_from(assignment)
        .join(more, true())
        .where(col(assignment.material_id) == material.id)
        .correlate_except(assignment, more)
        .scalar_subquery()
    )
