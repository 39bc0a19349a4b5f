"""docs/statements.md is how many statements each operation takes: whoever adds one sees it there, and says so.

    LMS_WRITE_DOCS=1 python3 -m lms_core test tests/test_statements.py

writes the page anew.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from functools import partial
from uuid import uuid4

import httpx2
import pytest
from browser import described, finish, replace, send_form
from running import REPOSITORY
from test_access_matrix import MATRIX, PERSONAL, PLACES, PUBLIC, World, ask, operations, prepared, world

from lms_core.testing import PASSWORD, Caller, Lms

pytestmark = pytest.mark.anyio
__all__ = ["world"]
PAGE = REPOSITORY / "docs" / "statements.md"
HEAD = """\
# Statements of each operation

Made by `LMS_WRITE_DOCS=1 python3 -m lms_core test tests/test_statements.py`; the suite compares it with what runs.

How many SQL statements an operation sends when it succeeds, on one thing, for the caller with the fewest roles who may
do it. Not counted: BEGIN and COMMIT of a write, and what this process keeps of a caller whom it knows, which are three
more (what they may do, and whether they and their session are still welcome). A list takes as many for 100 rows as for one.

| operation | | as | statements |
| --- | --- | --- | --- |
"""
ROLES = ("student", "teacher", "principal", "super admin")
MAY = {"yes", "200", "201", "202", "204"}
NOT_COUNTED = {
    "auth_request_password_reset": "it answers before it works",
    "auth_confirm_password_reset": "needs a token from a mail",
    "auth_accept_invitation": "needs a token from a mail",
    "auth_end_session": "each has but their own",
    "sso_start": "needs an identity provider",
    "sso_callback": "needs an identity provider",
    "sso_token": "needs an identity provider",
    "sso_backchannel_logout": "needs an identity provider",
}


async def heard(lms: Lms) -> None:
    """Everything that was announced so far has arrived, so that no cache is emptied in the middle of what is counted."""
    mark, arrived = f"session:{uuid4()}", asyncio.Event()

    def listen(payload: str) -> None:
        if payload == mark:
            arrived.set()

    lms.context.database.listeners.append(listen)
    await lms.sql("SELECT pg_notify('lms_access', :mark)", mark=mark)
    await asyncio.wait_for(arrived.wait(), 10)
    lms.context.database.listeners.remove(listen)


async def count(lms: Lms, caller: Caller, asking: Callable[[], Awaitable[httpx2.Response]]) -> int:
    """How many statements a request takes of a caller whom this process knows."""
    await heard(lms)
    if caller.id is not None:
        await caller.get("/users/me")
    async with lms.counted() as counted:
        answer = await asking()
    assert answer.is_success, answer.text
    return counted.statements


async def of_the_matrix(world: World, operation: str, method: str, path: str) -> tuple[str, int]:
    """Who may with the fewest roles, and how many statements that takes."""
    kind, *columns = MATRIX[operation]
    for place, column in zip(PLACES, columns, strict=True):
        for caller, role, outcome in zip(world.callers, ROLES, column.split(), strict=True):
            if outcome in MAY or (operation == "files_list_versions" and outcome == "no"):
                ids = await prepared(world, operation, kind, place, path)
                return role, await count(world.lms, caller, partial(ask, caller, operation, method, path, ids))
    raise AssertionError(f"nobody may {operation}")


async def of_signing_in(lms: Lms, email: str) -> dict[str, tuple[str, int]]:
    """A session's beginning, renewal and end."""
    found, token = {}, ""

    async def send(path: str, **body: dict[str, str]) -> httpx2.Response:
        nonlocal token
        answer = await lms.client.post(path, **body)
        token = answer.json()["refresh_token"] if answer.content else ""
        return answer

    form = {"username": email, "password": PASSWORD}
    found["auth_login"] = await count(lms, lms.anonymous, lambda: send("/auth/login", data=form))
    for name in ("refresh", "logout"):
        body = {"refresh_token": token}
        found[f"auth_{name}"] = await count(lms, lms.anonymous, partial(send, f"/auth/{name}", json=body))
    return {name: ("nobody", statements) for name, statements in found.items()}


async def of_uploads(lms: Lms, student: Caller) -> dict[str, tuple[str, int]]:
    """What needs a file whose bytes are there, or are there twice."""
    found: dict[str, int] = {}
    content = b"Words of a file"
    requested = await student.create("/files", described(content, "text/plain", "words.txt"))
    assert (await send_form(requested["upload"], content)).status_code == 204
    path = f"/files/{requested['id']}"
    found["files_complete"] = await count(lms, student, lambda: student.post(f"{path}/complete"))
    await lms.work_off()
    found["files_download"] = await count(lms, student, lambda: student.get(f"{path}/download"))
    body = {"content_type": "text/plain", "size": len(content)}
    found["files_create_version"] = await count(lms, student, lambda: student.post(f"{path}/versions", body))
    await replace(lms, student, requested, content[::-1], content_type="text/plain")
    [old] = await student.items(f"{path}/versions")
    again = f"{path}/versions/{old['id']}/make-current"
    found["files_make_version_current"] = await count(lms, student, lambda: student.post(again))
    return {name: ("student", statements) for name, statements in found.items()}


async def of_joining(world: World, student: Caller) -> dict[str, tuple[str, int]]:
    """Joining by oneself, and having many enrolled by a file."""
    course = await world.lms.make_course(world.here.institution["id"], self_enrollment="open")
    joining = partial(student.post, "/enrollments/self", {"course_id": course["id"]})
    principal = world.here.principal
    table = f"course_code,email,role\n{course['code']},{student.email},student\n".encode()
    file = await finish(world.lms, principal, table, "text/csv", "enrollments.csv")
    body = {"file_id": file["id"], "institution_id": world.here.institution["id"]}
    return {
        "enrollments_join": ("student", await count(world.lms, student, joining)),
        "enrollments_import": (
            "principal",
            await count(world.lms, principal, partial(principal.post, "/enrollments/import", body)),
        ),
    }


async def test_the_page_says_what_runs(world: World) -> None:
    lms, paths = world.lms, await operations(world.lms)
    rows = await of_signing_in(lms, world.here.student.email)
    rows |= await of_uploads(lms, world.here.student)
    rows |= await of_joining(world, world.here.student)
    for operation, (method, path) in paths.items():
        if operation in NOT_COUNTED or operation in rows:
            continue
        if operation in MATRIX:
            rows[operation] = await of_the_matrix(world, operation, method, path)
            continue
        caller = lms.anonymous
        if operation in PERSONAL:
            caller = await lms.make_user("student", world.here.institution["id"])
        body = {"current_password": PASSWORD, "new_password": f"{PASSWORD} too"}
        options = {"json": body} if operation == "auth_change_password" else {}
        statements = await count(lms, caller, partial(caller.send, method, path, **options))
        rows[operation] = ("nobody" if operation in PUBLIC else "anybody", statements)
    lines = [
        f"| {name} | `{' '.join(paths[name])}` | {role} | {count} |" for name, (role, count) in sorted(rows.items())
    ]
    left_out = [f"| {name} | `{' '.join(paths[name])}` | | {why} |" for name, why in sorted(NOT_COUNTED.items())]
    made = HEAD + "\n".join([*lines, *left_out]) + "\n"
    if os.environ.get("LMS_WRITE_DOCS"):
        PAGE.write_text(made)
    assert PAGE.read_text().splitlines() == made.splitlines()
