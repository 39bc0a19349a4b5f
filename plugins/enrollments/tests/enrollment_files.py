"""Files with enrollments, for tests: sent, carried out, taken back."""

from __future__ import annotations

from typing import Any

import httpx2
from browser import finish

from lms_core.testing import Caller, Lms, School


async def ask(lms: Lms, caller: Caller, school: School, content: str | bytes, **params: Any) -> httpx2.Response:
    """Upload a file and ask for its import, or for a plan."""
    written = content if isinstance(content, bytes) else content.encode()
    file = await finish(lms, caller, written, "text/csv", "enrollments.csv")
    assert file["state"] == "ready", file
    body = {"file_id": file["id"], "institution_id": school.institution["id"], **params.pop("options", {})}
    return await caller.post("/enrollments/import", body, params=params)


async def send(lms: Lms, caller: Caller, school: School, content: str | bytes, **params: Any) -> httpx2.Response:
    """The same, and what a worker has to do then."""
    answer = await ask(lms, caller, school, content, **params)
    await lms.work_off()
    return answer


async def done(lms: Lms, school: School, content: str | bytes, **params: Any) -> dict[str, Any]:
    """The job of a file that is imported without a mistake."""
    answer = await send(lms, school.principal, school, content, **params)
    assert answer.status_code == 202, answer.text
    job: dict[str, Any] = (await school.principal.get(answer.headers["Location"])).json()
    assert (job["state"], job["error"]) == ("done", None)
    return job


async def undo(lms: Lms, school: School, job: dict[str, Any]) -> dict[str, Any]:
    """The job, taken back."""
    assert (await school.principal.post(f"/imports/{job['id']}/undo")).status_code == 202
    await lms.work_off()
    found: dict[str, Any] = (await school.principal.get(f"/imports/{job['id']}")).json()
    return found


async def parts(lms: Lms, course_id: str) -> list[tuple[Any, ...]]:
    """Who takes part as what, by the database."""
    statement = """
        SELECT user_id, role, state, section_id, waiting_number, starts_on, ends_on FROM enrollments_enrollment
        WHERE course_id = :id AND NOT is_deleted ORDER BY user_id, role
    """
    return [tuple(row.values()) for row in await lms.sql(statement, id=course_id)]


async def people(lms: Lms, school: School, count: int) -> list[Caller]:
    """Students of the school."""
    return [await lms.make_user("student", school.institution["id"]) for _ in range(count)]
