"""Prerequisites against a slow and plain model: any row of changes, and what a student then finds locked, and why."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lms_core.testing import Caller, Lms

COUNT = 4
NUMBERS = st.integers(0, COUNT - 1)
STEPS = st.one_of(
    st.tuples(st.just("require"), NUMBERS, st.sets(NUMBERS, max_size=2)),
    st.tuples(st.just("complete"), NUMBERS, st.none()),
    st.tuples(st.just("take_back"), NUMBERS, st.none()),
    st.tuples(st.just("publish"), NUMBERS, st.booleans()),
    st.tuples(st.just("delete"), NUMBERS, st.none()),
    st.tuples(st.just("restore"), NUMBERS, st.none()),
)


@dataclass
class Model:
    """What is so, in sets: who waits for whom, what is published, deleted, completed."""

    requires: dict[int, set[int]] = field(default_factory=lambda: {number: set() for number in range(COUNT)})
    published: set[int] = field(default_factory=lambda: set(range(COUNT)))
    dead: set[int] = field(default_factory=set)
    completed: set[int] = field(default_factory=set)

    def is_shown(self, number: int) -> bool:
        return number in self.published and number not in self.dead

    def waits_for(self, number: int) -> set[int]:
        return {one for one in self.requires[number] if self.is_shown(one) and one not in self.completed}

    def reaches(self, start: int, target: int) -> bool:
        return start == target or any(self.reaches(one, target) for one in self.requires[start])

    def expected(self, action: str, number: int, value: Any) -> int:
        """The status of a step; the model is then as the answer says."""
        if action == "restore":
            return 202 if number in self.dead else 409
        if number in self.dead:
            return 404
        if action == "require":
            if value & self.dead:
                return 404
            if any(self.reaches(one, number) for one in value):
                return 422
            self.requires[number] = value | (self.requires[number] & self.dead)
            return 200
        if action == "publish":
            (self.published.add if value else self.published.discard)(number)
            return 200
        if action == "delete":
            return 202
        if not self.is_shown(number):
            return 404
        if action == "take_back":
            self.completed.discard(number)
            return 204
        if self.waits_for(number):
            return 409
        self.completed.add(number)
        return 204


async def act(teacher: Caller, student: Caller, id: str, ids: list[str], action: str, value: Any) -> int:
    """Do it; the status."""
    path = f"/materials/{id}"
    if action == "require":
        return (await teacher.patch(path, {"requires": [ids[number] for number in value]})).status_code
    if action == "publish":
        return (await teacher.patch(path, {"published": value})).status_code
    if action == "delete":
        return (await teacher.delete(path)).status_code
    if action == "restore":
        return (await teacher.post(f"{path}/restore")).status_code
    return (await student.send("PUT" if action == "complete" else "DELETE", f"{path}/completion")).status_code


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEPS, min_size=4, max_size=14))
async def test_whatever_happens_what_is_locked_says_why(lms: Lms, steps: list[tuple[str, int, Any]]) -> None:
    school = await lms.make_school()
    about = {"course_id": school.course["id"], "kind": "page", "published": True}
    ids = [
        (await school.teacher.create("/materials", {**about, "title": str(n), "body": "Text"}))["id"]
        for n in range(COUNT)
    ]
    model = Model()
    for action, number, value in steps:
        expected = model.expected(action, number, value)
        assert await act(school.teacher, school.student, ids[number], ids, action, value) == expected
        if expected == 202:
            (model.dead.add if action == "delete" else model.dead.discard)(number)
            await lms.work_off()
    for number, id in enumerate(ids):
        answer = await school.student.get(f"/materials/{id}")
        assert answer.status_code == (200 if model.is_shown(number) else 404)
        if answer.status_code == 200:
            found, waits_for = answer.json(), sorted(model.waits_for(number))
            shown = [] if found["locked"] is None else [int(one["title"]) for one in found["locked"]["requires"]]
            assert (sorted(shown), found["body"]) == (waits_for, "" if waits_for else "Text")
            assert found["completed"] == (number in model.completed)
