"""What one row of a file with enrollments is to become, and whether there is room for it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any
from uuid import UUID

from lms_courses.contracts import CodedCourse, CourseSummary
from lms_users.contracts import Person

from lms_core.sdk import DAYS, CellError, Planned, Row, UnitOfWork
from lms_enrollments import places, seats
from lms_enrollments.models import Enrollment
from lms_enrollments.parts import REFUSALS, Part, text

ROLES = ("student", "teacher", "assistant", "observer")
IN_OR_WAITING = ("active", "waitlisted")
STRANGER = CellError("email", "user_not_found", "Nobody of the institution has this address.")


def plan_row(
    row: Row,
    coded: Sequence[CodedCourse],
    people: dict[str, Person],
    members: Collection[UUID],
    sections: dict[tuple[UUID, str], UUID],
    known: dict[tuple[UUID, UUID, str], list[Enrollment]],
    may_appoint: bool,
) -> Planned:
    """What is to become of one person's part in one course."""
    errors: list[CellError] = []
    cells = row.cells
    role, state = cells.get("role") or seats.STUDENT, cells.get("state") or "active"
    if role not in ROLES:
        errors.append(CellError("role", "unknown_role", f"Write one of {', '.join(ROLES)}."))
    if state not in ("active", *seats.ENDED_STATES):
        errors.append(CellError("state", "unknown_state", "Write active, completed or dropped."))
    fitting = courses_of(cells, coded)
    if len(fitting) != 1:
        many = CellError("term", "ambiguous_course", "Several courses have this code; say the term, or the course_id.")
        none = CellError("course_code", "course_not_found", "The institution has no such course in this term.")
        errors.append(many if fitting else none)
    person = people.get(cells["email"])
    there = [] if person is None or not fitting else known.get((fitting[0].course.id, person.id, role), [])
    if person is None or (person.id not in members and not there):
        errors.append(STRANGER)
    days = days_of(cells, errors)
    if errors or person is None:
        return Planned("error", errors=errors)
    course = fitting[0].course
    section_id = sections.get((course.id, cells["section"])) if cells.get("section") else None
    if cells.get("section") and section_id is None:
        return Planned("error", errors=[CellError("section", "section_not_found", "The course has no such section.")])
    plan = plan_part(course, person, role, state, section_id, days, there)
    # Who takes part already may belong to the institution no more, and stays as the file says.
    if joins(plan) and person.id not in members:
        return Planned("error", errors=[STRANGER])
    if role == "teacher" and plan.action not in ("unchanged", "error") and not may_appoint:
        detail = "Teachers are appointed by those who run the institution."
        return Planned("error", errors=[CellError("role", "forbidden", detail)])
    plan.stands_for = (course.id, person.id, role)
    return plan


def courses_of(cells: dict[str, str], coded: Sequence[CodedCourse]) -> list[CodedCourse]:
    """The courses that a row can mean; without a term, the one that has none comes first."""
    term, id = cells.get("term"), cells.get("course_id")
    fitting = [
        one
        for one in coded
        if one.code == cells["course_code"]
        and (not term or one.term == term)
        and (not id or str(one.course.id) == id.casefold())
    ]
    without = [one for one in fitting if one.term is None]
    return without if not term and not id and len(without) == 1 else fitting


def plan_part(
    course: CourseSummary,
    person: Person,
    role: str,
    state: str,
    section_id: UUID | None,
    days: dict[str, date | None],
    there: Sequence[Enrollment],
) -> Planned:
    """What is to become of somebody's part, given all that they had in this role."""
    # A file grants requests, too.
    states = (*IN_OR_WAITING, "requested") if state == "active" else IN_OR_WAITING
    standing = next((one for one in there if one.state in states), None)
    if standing is None:
        return plan_without_standing(course, person, role, state, section_id, days, there)
    memo = {
        "role": role, "waiting_number": standing.waiting_number, "course_id": str(course.id),
        "section_id": text(standing.section_id), "asked_at": standing.created_at.isoformat(timespec="microseconds"),
        # Who is passed over in the line keeps nobody from a seat, and leaves none.
        "counts": standing.state == "active" or person.is_active,
    }  # fmt: skip
    plan = Planned("unchanged", standing.id, memo=memo)
    if standing.state == "requested":
        if refused := refused_to_join(course, person):
            return refused
        plan.changes["state"] = {"before": "requested", "after": "active"}
        plan.action = "update"
    errors = wrong_order(days["starts_on"] or standing.starts_on, days["ends_on"] or standing.ends_on)
    if errors:
        return Planned("error", errors=errors)
    for name, day in days.items():
        if day is not None and day != getattr(standing, name):
            plan.changes[name] = {"before": text(getattr(standing, name)), "after": text(day)}
            plan.action = "update"
    if section_id is not None and section_id != standing.section_id:
        plan.changes["section_id"] = {"before": text(standing.section_id), "after": text(section_id)}
        plan.action = "update"
    if state in seats.ENDED_STATES:
        if standing.state == "waitlisted" and state == "completed":
            return Planned("error", errors=[CellError("state", "invalid_transition", "Who waits cannot complete.")])
        plan.changes["state"] = {"before": standing.state, "after": state}
        plan.action = "disable"
    return plan


def plan_without_standing(
    course: CourseSummary,
    person: Person,
    role: str,
    state: str,
    section_id: UUID | None,
    days: dict[str, date | None],
    there: Sequence[Enrollment],
) -> Planned:
    """Somebody who does not take part now: they come, or it is as the file says already."""
    if state in seats.ENDED_STATES:
        ended = next((one for one in there if one.state == state), None)
        if ended is not None:
            return Planned("unchanged", ended.id)
        return Planned(
            "error", errors=[CellError("state", "not_enrolled", f"They do not take part, so nothing is {state}.")]
        )
    if refused := refused_to_join(course, person):
        return refused
    memo = {
        "course_id": str(course.id), "user_id": str(person.id), "role": role, "section_id": text(section_id),
        **{name: text(day) for name, day in days.items()},
    }  # fmt: skip
    changes: dict[str, dict[str, Any]] = {"state": {"before": None, "after": "active"}}
    return Planned("create", changes=changes, memo=memo)


def refused_to_join(course: CourseSummary, person: Person) -> Planned | None:
    """Why nobody joins this course, or this person none."""
    if course.state == "archived":
        return Planned("error", errors=[CellError("course_code", "course_not_open", "This course is archived.")])
    if not person.is_active:
        return Planned("error", errors=[CellError("email", "user_disabled", "This user is disabled.")])
    return None


def days_of(cells: dict[str, str], errors: list[CellError]) -> dict[str, date | None]:
    """The first and the last day that a row says, None for an empty cell; what is wrong with them goes to `errors`."""
    days: dict[str, date | None] = {"starts_on": None, "ends_on": None}
    for name in days:
        if cells.get(name):
            try:
                days[name] = DAYS.validate_python(cells[name])
            except ValueError:
                errors.append(CellError(name, "invalid_day", "Write a day such as 2026-09-01."))
    errors += wrong_order(days["starts_on"], days["ends_on"])
    return days


def wrong_order(starts_on: date | None, ends_on: date | None) -> list[CellError]:
    """At most one error."""
    if starts_on is None or ends_on is None or starts_on <= ends_on:
        return []
    return [CellError("ends_on", "ends_before_start", f"It would end on {ends_on}, before it starts on {starts_on}.")]


def day(written: str | None) -> date | None:
    """The same back."""
    return None if written is None else date.fromisoformat(written)


def part_of(memo: dict[str, Any]) -> Part:
    """Where and when somebody comes."""
    section = memo["section_id"]
    section_id = None if section is None else UUID(section)
    return Part(section_id, day(memo["starts_on"]), day(memo["ends_on"]), "import")


@dataclass
class Room:
    """How many students may still come to each course, to a seat or to wait, and to each section."""

    courses: dict[str, float]
    sections: dict[str, float]

    @classmethod
    async def of(cls, uow: UnitOfWork, courses: Collection[CourseSummary], section_ids: Collection[UUID]) -> Room:
        """As it is now."""
        limited = {
            course.id: course.capacity for course in courses if course.capacity is not None and not course.waitlist
        }
        claimed = await seats.claimed(uow, limited)
        return cls(
            {
                str(course.id): limited[course.id] - claimed.get(course.id, 0) if course.id in limited else float("inf")
                for course in courses
            },
            {str(id): free for id, free in (await places.free_in(uow, section_ids)).items()},
        )

    def refuse_excess(self, plan: Planned) -> Planned:
        """The plan, with the places that it needs; or an error where those before it took the last one.

        Who ends leaves theirs to others. Who moves out of a section frees none.
        """
        if plan.action not in ("create", "update", "disable") or plan.memo["role"] != seats.STUDENT:
            return plan
        course_id, section_id = plan.memo["course_id"], section_of(plan)
        # A course that was deleted since has room for nobody.
        self.courses.setdefault(course_id, 0)
        if plan.action == "disable":
            self.courses[course_id] += plan.memo["counts"]
            if plan.memo["section_id"] in self.sections:
                self.sections[plan.memo["section_id"]] += 1
            return plan
        if joins(plan) and self.courses[course_id] < 1:
            return Planned("error", errors=[CellError("course_code", "course_full", REFUSALS["course_full"])])
        if section_id is not None and self.sections[section_id] < 1:
            return Planned("error", errors=[CellError("section", "section_full", REFUSALS["section_full"])])
        if joins(plan):
            self.courses[course_id] -= 1
        if section_id is not None:
            self.sections[section_id] -= 1
        return plan


def joins(plan: Planned) -> bool:
    """Whether a plan needs a seat: for somebody new, or for who asked to join."""
    return plan.changes.get("state", {}).get("after") == "active"


def section_of(plan: Planned) -> str | None:
    """The section into which a plan puts somebody."""
    if plan.action == "create":
        return plan.memo["section_id"]  # type: ignore[no-any-return]
    return plan.changes.get("section_id", {}).get("after")
