"""Seats, the waiting line and a section against a slow and plain model: any row of changes, and who is then where."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from people import make_people

from lms_core.testing import Lms, School

PEOPLE = 5
PLACES = 2
NUMBERS = st.integers(0, PEOPLE - 1)
# A user, or which of the enrollments that a step can be of.
STEPS = st.one_of(
    st.tuples(st.just("enroll"), NUMBERS, st.booleans()),
    st.tuples(st.just("move"), NUMBERS, st.booleans()),
    st.tuples(st.just("drop"), NUMBERS, st.none()),
    st.tuples(st.just("complete"), NUMBERS, st.none()),
    st.tuples(st.just("delete"), NUMBERS, st.none()),
    st.tuples(st.just("restore"), NUMBERS, st.booleans()),
    st.tuples(st.just("capacity"), NUMBERS, st.none() | st.integers(0, 3)),
    st.tuples(st.just("waitlist"), NUMBERS, st.booleans()),
    st.tuples(st.just("archived"), NUMBERS, st.booleans()),
    st.tuples(st.just("enabled"), NUMBERS, st.booleans()),
    st.tuples(st.just("remove"), NUMBERS, st.none()),
    st.tuples(st.just("return"), NUMBERS, st.booleans()),
)


@dataclass
class Row:
    """An enrollment: `number` is the place in the line, or what it was; `taken` when it went with its user."""

    id: str
    user: int
    state: str
    number: int
    inside: bool
    dead: bool = False
    taken: bool = False

    @property
    def stands(self) -> bool:
        return self.state in ("active", "waitlisted") and not self.dead


@dataclass
class Model:
    """The course in one list, looked through for every question."""

    capacity: int | None = 2
    waitlist: bool = True
    archived: bool = False
    disabled: set[int] = field(default_factory=set)
    gone: set[int] = field(default_factory=set)
    rows: list[Row] = field(default_factory=list)

    def standing(self, user: int) -> Row | None:
        return next((row for row in self.rows if row.user == user and row.stands), None)

    def line(self) -> list[Row]:
        return sorted((row for row in self.rows if row.stands and row.state == "waitlisted"), key=lambda r: r.number)

    def free(self) -> int:
        active = sum(row.stands and row.state == "active" for row in self.rows)
        return len(self.rows) + 1 if self.capacity is None else self.capacity - active

    def has_seat(self) -> bool:
        """For who comes, or comes back: nobody who could move up may be passed."""
        nobody_waits = self.archived or all(row.user in self.disabled for row in self.line())
        return self.capacity is None or (nobody_waits and self.free() > 0)

    def has_place(self) -> bool:
        return sum(row.stands and row.inside for row in self.rows) < PLACES

    def promote(self) -> None:
        for row in self.line():
            if not self.archived and self.free() > 0 and row.user not in self.disabled:
                row.state = "active"

    def next_number(self) -> int:
        return max((row.number for row in self.rows), default=0) + 1

    def enroll(self, user: int, inside: bool) -> set[str]:
        """Why not, or nothing."""
        if self.archived:
            return {"course_not_open"}
        if user in self.gone:
            return {"user_not_found"}
        if user in self.disabled:
            return {"user_disabled"}
        if self.standing(user) is not None:
            return set()
        if inside and not self.has_place():
            return {"section_full"}
        if not self.has_seat() and not self.waitlist:
            return {"course_full"}
        self.rows.append(Row("", user, "active" if self.has_seat() else "waitlisted", self.next_number(), inside))
        return set()

    def restore(self, row: Row, waits: bool) -> set[str]:
        if row.user in self.gone:
            return {"parent_deleted"}
        refused = set()
        comes_to_stand = row.state in ("active", "waitlisted")
        no_place = comes_to_stand and row.inside and not self.has_place()
        no_seat = row.state == "active" and not self.has_seat()
        if comes_to_stand and self.standing(row.user) is not None:
            refused.add("natural_key_taken")
        if no_seat and not waits:
            refused.add("course_full")
        if no_place and not waits:
            refused.add("section_full")
        if refused:
            return refused
        row.dead = False
        if no_place:
            row.inside = False
        if row.state == "active" and self.free() < 0:
            row.state, row.number = "waitlisted", self.next_number()
        self.promote()
        return set()


class World:
    """A course of the running system, and the model of it: each step is taken in both."""

    def __init__(self, lms: Lms, school: School, course: str, section: str, users: list[str]) -> None:
        self.lms, self.principal = lms, school.principal
        self.course, self.section, self.users = course, section, users
        self.model = Model()

    async def step(self, action: str, number: int, value: Any) -> None:
        """Raises where the two disagree."""
        if action == "enroll":
            await self.enroll(number, value)
        elif action == "enabled":
            await self.set_enabled(number, value)
        elif action == "remove":
            await self.remove(number)
        elif action == "return":
            await self.bring_back(number, value)
        elif action in ("capacity", "waitlist", "archived"):
            await self.set_course(action, value)
        elif rows := [row for row in self.model.rows if row.dead == (action == "restore")]:
            await self.change(rows[number % len(rows)], action, value)
        await self.lms.work_off()

    async def change(self, row: Row, action: str, value: Any) -> None:
        if action == "restore":
            await self.restore(row, value)
        elif action == "move":
            await self.move(row, value)
        elif action == "delete":
            assert (await self.principal.delete(f"/enrollments/{row.id}")).status_code == 202
            row.dead = True
            self.model.promote()
        else:
            await self.end(row, {"drop": "dropped", "complete": "completed"}[action])

    async def set_course(self, name: str, value: Any) -> None:
        model = self.model
        body = {"state": "archived" if value else "published"} if name == "archived" else {name: value}
        answer = await self.principal.patch(f"/courses/{self.course}", body)
        active = sum(row.stands and row.state == "active" for row in model.rows)
        if name == "capacity" and value is not None and value < active:
            assert (answer.status_code, answer.json()["code"]) == (409, "capacity_below_taken")
            return
        assert answer.status_code == 200
        setattr(model, name, value)
        model.promote()

    async def enroll(self, user: int, inside: bool) -> None:
        body = {"course_id": self.course, "user_id": self.users[user], "role": "student"}
        there = self.model.standing(user)
        refused = self.model.enroll(user, inside)
        answer = await self.principal.post("/enrollments", body | ({"section_id": self.section} if inside else {}))
        if refused:
            status = 404 if user in self.model.gone and not self.model.archived else 409
            assert (answer.status_code, {answer.json()["code"]}) == (status, refused)
        else:
            assert answer.status_code == (201 if there is None else 200), answer.text
            row = self.model.standing(user)
            assert row is not None
            row.id = row.id or answer.json()["id"]
            assert (answer.json()["id"], answer.json()["state"]) == (row.id, row.state)

    async def remove(self, user: int) -> None:
        answer = await self.principal.delete(f"/users/{self.users[user]}")
        assert answer.status_code == (404 if user in self.model.gone else 202)
        for row in self.model.rows:
            if row.user == user and not row.dead:
                row.dead = row.taken = True
        self.model.gone.add(user)
        self.model.promote()

    async def bring_back(self, user: int, waits: bool) -> None:
        """All that went with the user or, where one cannot come back, nothing."""
        was_gone = user in self.model.gone
        self.model.gone.discard(user)
        taken = [row for row in self.model.rows if row.user == user and row.taken]
        refused: set[str] = set() if was_gone else {"not_deleted"}
        for row in sorted(taken, key=lambda row: row.state not in ("active", "waitlisted")):
            refused = refused or self.model.restore(row, waits)
            row.taken = bool(refused)
        body = {"on_conflict": "waitlist"} if waits else None
        answer = await self.principal.post(f"/users/{self.users[user]}/restore", body)
        if refused:
            assert answer.status_code == 409
            assert answer.json()["code"] in refused
            if was_gone:
                self.model.gone.add(user)
        else:
            assert answer.status_code == 202, answer.text

    async def set_enabled(self, user: int, value: bool) -> None:
        if user in self.model.gone:
            return
        assert (await self.principal.patch(f"/users/{self.users[user]}", {"is_active": value})).status_code == 200
        (self.model.disabled.discard if value else self.model.disabled.add)(user)
        self.model.promote()

    async def restore(self, row: Row, waits: bool) -> None:
        body = {"on_conflict": "waitlist"} if waits else None
        refused = self.model.restore(row, waits)
        answer = await self.principal.post(f"/enrollments/{row.id}/restore", body)
        if refused:
            assert answer.status_code == 409
            assert answer.json()["code"] in refused
        else:
            assert answer.status_code == 202, answer.text

    async def move(self, row: Row, inside: bool) -> None:
        answer = await self.principal.patch(f"/enrollments/{row.id}", {"section_id": self.section if inside else None})
        if inside and not row.inside and row.stands and not self.model.has_place():
            assert (answer.status_code, answer.json()["code"]) == (409, "section_full")
        else:
            assert answer.status_code == 200
            row.inside = inside

    async def end(self, row: Row, state: str) -> None:
        answer = await self.principal.patch(f"/enrollments/{row.id}", {"state": state})
        if row.state == state or row.state == "active" or (row.state, state) == ("waitlisted", "dropped"):
            assert answer.status_code == 200, answer.text
            row.state = state
            self.model.promote()
        else:
            assert (answer.status_code, answer.json()["code"]) == (409, "invalid_transition")

    async def compare(self) -> None:
        """Everybody is where the model has them: the state, the place in the line, the section."""
        found = await self.principal.items("/enrollments", course_id=self.course, role="student")
        line = [row.id for row in self.model.line()]
        expected = {
            row.id: (
                row.state,
                line.index(row.id) + 1 if row.id in line else None,
                self.section if row.inside else None,
            )
            for row in self.model.rows
            if not row.dead
        }
        assert {one["id"]: (one["state"], one["position"], one["section_id"]) for one in found} == expected


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=st.permutations(range(PEOPLE)), steps=st.lists(STEPS, min_size=8, max_size=20))
async def test_whatever_happens_everybody_is_where_a_plain_model_has_them(
    lms: Lms, first: list[int], steps: list[tuple[str, int, Any]]
) -> None:
    school = await lms.make_school()
    course = await lms.make_course(school.institution["id"], capacity=2, waitlist=True)
    section = await school.principal.create(f"/courses/{course['id']}/sections", {"name": "Monday", "capacity": PLACES})
    world = World(lms, school, course["id"], section["id"], await make_people(lms, school, PEOPLE))
    for step in [*(("enroll", user, user == 0) for user in first), *steps]:
        await world.step(*step)
        await world.compare()
