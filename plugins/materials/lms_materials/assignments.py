"""The rules for assignments: what a material of this kind asks for, and until when."""

from typing import Any
from uuid import UUID

from sqlalchemy import func
from sqlalchemy.orm.attributes import flag_modified
from sqlmodel import col, select

from lms_core.sdk import Invalid, StateConflict, UnitOfWork
from lms_materials.assignment_schemas import AssignmentInput, AssignmentUpdate
from lms_materials.contracts import MATERIAL
from lms_materials.models import Assignment, Grade, Material, Submission
from lms_materials.submissions import is_last

# What PATCH sets to nothing; null leaves everything else as it is.
NULLABLE = frozenset({"opens_at", "due_at", "closes_at", "attempts", "grades_release_at"})


async def begin(uow: UnitOfWork, material_id: UUID, data: AssignmentInput) -> None:
    """Make a new material an assignment."""
    assignment = Assignment(material_id=material_id, **values_of(data, set(AssignmentInput.model_fields)))
    refuse_wrong_dates(assignment)
    uow.session.add(assignment)


async def change(uow: UnitOfWork, material: Material, data: AssignmentUpdate) -> None:
    """Change what is given, under the material's lock."""
    rows = select(Assignment).where(Assignment.material_id == material.id).with_for_update()
    assignment = (await uow.session.execute(rows)).scalar_one()
    given = values_of(data, data.model_fields_set)
    changes = {name: value for name, value in given.items() if value is not None or name in NULLABLE}
    before = {name: getattr(assignment, name) for name in changes}
    if assignment.grades_held and changes.get("grades_held") is False:
        assignment.grades_shown_at = (await uow.session.execute(select(func.now()))).scalar_one()
    for name, value in changes.items():
        setattr(assignment, name, value)
    refuse_wrong_dates(assignment)
    if {"points", "extra_credit"} & set(changes):
        await refuse_grades_above(uow, assignment)
    changed = {
        name: {"before": before[name], "after": value} for name, value in changes.items() if before[name] != value
    }
    if changed:
        flag_modified(material, "title")
        uow.record("changed", MATERIAL, material.id, changed)


async def refuse_grades_above(uow: UnitOfWork, assignment: Assignment) -> None:
    """409 when a grade that counts has more points than there would be to earn, in the bin too: it may come back."""
    if assignment.extra_credit:
        return
    above = (
        select(func.count())
        .select_from(Grade)
        .join(Submission, col(Submission.id) == col(Grade.submission_id))
        .where(
            col(Submission.material_id) == assignment.material_id,
            col(Grade.points) > assignment.points,
            is_last(Grade),
        )
    )
    if number := (await uow.session.execute(above)).scalar_one():
        raise StateConflict(
            "grades_above_points",
            f"Grades above {assignment.points:f} points: {number}; change them before, or allow extra credit.",
        )


def values_of(data: AssignmentInput | AssignmentUpdate, names: set[str]) -> dict[str, Any]:
    """The columns; the policy as JSON."""
    values = {name: getattr(data, name) for name in names}
    if values.get("late_policy") is not None:
        values["late_policy"] = values["late_policy"].model_dump(mode="json")
    return values


def refuse_wrong_dates(assignment: Assignment) -> None:
    """422 unless it opens before it is due, and is due before it closes."""
    opens, due, closes = assignment.opens_at, assignment.due_at, assignment.closes_at
    for early, late, name, words in (
        (opens, due, "due_at", "It has to open before it is due"),
        (opens, closes, "closes_at", "It has to open before it closes"),
    ):
        if early is not None and late is not None and early >= late:
            raise Invalid("dates_in_wrong_order", f"{words}; correct the dates.", ("body", "assignment", name))
    if due is not None and closes is not None and due > closes:
        raise Invalid(
            "dates_in_wrong_order",
            "It cannot close before it is due; correct the dates.",
            ("body", "assignment", "closes_at"),
        )
