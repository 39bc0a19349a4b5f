"""The life of an assignment through HTTP, for teacher, student, guardian and principal; deleted and restored exactly."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from browser import finish

from lms_core.testing import Caller, Lms

pytestmark = pytest.mark.anyio


def at(**offset: float) -> str:
    return (datetime.now(UTC) + timedelta(**offset)).isoformat()


async def seen(caller: Caller, assignment: str, submission: str, course: str) -> dict[str, Any]:
    """Everything that somebody sees of it, without when rows were last touched."""
    material = (await caller.get(f"/materials/{assignment}")).json()
    material.pop("updated_at", None)
    return {
        "material": material,
        "submissions": await caller.items(f"/materials/{assignment}/submissions"),
        "submission": (await caller.get(f"/materials/submissions/{submission}")).json().get("grade"),
        "history": (await caller.get(f"/materials/submissions/{submission}/grades")).json().get("items"),
        "grades": await caller.items("/materials/grades", course_id=course),
        "found": await caller.items("/materials/search", q="photosynthesis", course_id=course),
    }


async def test_the_life_of_an_assignment(lms: Lms) -> None:
    school = await lms.make_school()
    teacher, student, principal, course = school.teacher, school.student, school.principal, school.course["id"]
    guardian, bystander = await lms.make_user(), await lms.make_user("student", school.institution["id"])
    await lms.enroll(course, bystander)
    admin = await lms.admin()
    await admin.create(f"/users/{student.id}/guardians", {"guardian_id": str(guardian.id)})

    # The teacher prepares it; nobody sees a draft.
    module = await teacher.create("/materials/modules", {"course_id": course, "title": "Plants"})
    policy = {"per": "day", "deduct_percent": 10}
    made = await teacher.create(
        "/materials",
        {
            "course_id": course, "module_id": module["id"], "kind": "assignment", "title": "Essay on photosynthesis",
            "assignment": {"points": 20, "due_at": at(hours=-1), "late_policy": policy, "grades_held": True},
        },
    )  # fmt: skip
    path = f"/materials/{made['id']}"
    for caller in (student, guardian):
        assert (await caller.get(path)).status_code == 404
    await teacher.patch(path, {"published": True})
    await lms.work_off()
    for caller in (student, guardian, principal):
        assert (await caller.get(path)).status_code == 200

    # The student is late, with a file.
    await student.send("PUT", f"{path}/submissions/draft", json={"body": "Plants"})
    for caller in (teacher, guardian, principal):
        assert await caller.items(f"{path}/submissions") == []
    file = await finish(lms, student, b"My essay on leaves", "text/plain", "essay.txt", course_id=course)
    submission = await student.create(f"{path}/submissions", {"body": "Plants make sugar.", "file_ids": [file["id"]]})
    assert submission["late"] is True
    one = f"/materials/submissions/{submission['id']}"
    for caller in (student, guardian, teacher, principal):
        assert (await caller.get(one)).json()["receipt"] == submission["receipt"]
        assert (await caller.get(f"/files/{file['id']}/download")).status_code == 200
    assert (await bystander.get(one)).status_code == 404
    assert (await bystander.get(f"/files/{file['id']}")).status_code == 404
    assert await bystander.items(f"{path}/submissions") == []

    # It is graded, and nobody at home knows until the grades are released.
    graded = await teacher.send("PUT", f"{one}/grade", json={"points": 15, "feedback": "Good"})
    assert (graded.json()["grade"]["points"], graded.json()["grade"]["final_points"]) == (15.0, 13.0)
    for caller in (student, guardian):
        assert (await caller.get(one)).json()["grade"] is None
        assert [item["grades"] for item in await caller.items("/materials/grades", course_id=course)] == [[]]
    assert (await principal.get(one)).json()["grade"]["released_at"] is None
    await teacher.patch(path, {"assignment": {"grades_held": False}})
    for caller in (student, guardian):
        assert (await caller.get(one)).json()["grade"]["final_points"] == 13.0
    assert (await principal.send("PUT", f"{one}/grade", json={"points": 20})).status_code == 403

    # The student was ill: an extension, and a better grade after a second look.
    extension = {"user_id": str(student.id), "days": 1, "reason": "ill"}
    await teacher.create(f"{path}/extensions", extension)
    assert (await guardian.get(one)).json()["grade"]["final_points"] == 15.0
    await teacher.send("PUT", f"{one}/grade", json={"points": 17.5, "reason": "I had overlooked the last page"})
    assert [item["points"] for item in await teacher.items(f"{one}/grades")] == [17.5, 15.0]

    # Whatever is deleted around it comes back as it was.
    await lms.work_off()
    everybody = (teacher, student, guardian, principal, bystander)
    before = [await seen(caller, made["id"], submission["id"], course) for caller in everybody]
    assert before[0]["found"][0]["title"] == "Essay on photosynthesis"
    for target, owner in (
        (path, teacher),
        (f"/materials/modules/{module['id']}", teacher),
        (f"/courses/{course}", principal),
        (f"/users/{student.id}", principal),
    ):
        assert (await owner.delete(target)).status_code == 202
        await lms.work_off()
        assert (await teacher.get(one)).status_code == 404
        if target.startswith("/users"):
            assert (await teacher.get(path)).status_code == 200
        assert (await owner.post(f"{target}/restore")).status_code == 202, target
        await lms.work_off()
        for caller, was in zip(everybody, before, strict=True):
            caller = await lms.sign_in(caller.email, id=str(caller.id)) if caller is student else caller
            now = await seen(caller, made["id"], submission["id"], course)
            for what, found in now.items():
                assert found == was[what], (target, what)
