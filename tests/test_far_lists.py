"""Lists of those who may read what hangs under a whole school: each page is what it would be if all rows were asked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from lms_core.config import Settings
from lms_core.db import new_id
from lms_core.pagination import Listing
from lms_core.testing import Caller, Lms, application_apart

pytestmark = pytest.mark.anyio
LISTS = {
    "/enrollments": "/enrollments/{}",
    "/files": "/files/{}",
    "/groups": "/groups/{}",
    "/imports": "/imports/{}",
    "/legal-holds": "/legal-holds/{}",
    "/materials": "/materials/{}",
    "/materials/modules": "/materials/modules/{}",
    "/users": "/users/{}",
}
OF_PRINCIPALS = ("/imports", "/legal-holds")
IMPORT = """
    INSERT INTO core_import (id, importer, file_id, scope_id, options, actor_id, state, rows_total, rows_done, counts)
    VALUES (:id, 'users.users', :id, :scope_id, '{}', :id, 'done', 0, 0, '{}')
"""
Known = dict[tuple[str, int], list[Any]]


@pytest.fixture(scope="module")
async def schools(settings: Settings) -> AsyncIterator[tuple[list[Caller], Known]]:
    """A database of its own, with few rows, of several schools in turn; callers, and what each list of theirs should be."""
    async with application_apart(settings) as lms:
        schools = [await lms.make_school() for _ in range(3)]
        admin = await lms.admin()
        for number in range(12):
            school = schools[number * number % 3]
            course = school.course["id"]
            await lms.enroll(course, await lms.make_user())
            module = await admin.create("/materials/modules", {"course_id": course, "title": f"Module {number}"})
            page = {"course_id": course, "kind": "page", "title": "Page", "module_id": module["id"], "published": True}
            await admin.create("/materials", page)
            await admin.create("/groups", {"course_id": course, "name": f"Group {number}"})
            file = {"filename": "a.txt", "content_type": "text/plain", "size": 5, "course_id": course}
            await admin.create("/files", file)
            member = await lms.make_user("student", school.institution["id"])
            await school.principal.create(
                "/legal-holds", {"kind": "users.user", "object_id": str(member.id), "reason": "A case"}
            )
            await lms.sql(IMPORT, id=new_id(), scope_id=school.institution["id"])
        callers = [schools[0].principal, schools[1].principal, schools[1].teacher]
        yield (
            callers,
            {
                (path, number): await known(lms, callers[number], path)
                for path in LISTS
                for number in range(2 if path in OF_PRINCIPALS else 3)
            },
        )


async def known(lms: Lms, caller: Caller, path: str) -> list[Any]:
    """The ids that a list should have: of all rows, in its order, those that the caller may read one by one."""
    ids = [row["id"] for row in await (await lms.admin()).items(path)]
    return [id for id in ids if (await caller.get(LISTS[path].format(id))).status_code == 200]


@pytest.mark.parametrize("walked", [1, 5])
async def test_a_page_is_the_same_however_far_one_looks_before_all_is_gathered(
    schools: tuple[list[Caller], Known], monkeypatch: pytest.MonkeyPatch, walked: int
) -> None:
    monkeypatch.setattr("lms_core.pagination.WALKED", walked)
    asked: list[str] = []
    mine: dict[Listing, Any] = {}
    read = Listing.read

    def anew(listing: Listing, *given: Any) -> Any:
        # Statements are kept; these walk another number of rows.
        kept, listing.reads = listing.reads, mine.setdefault(listing, {})
        found = read(listing, *given)
        listing.reads = kept
        asked.append(found[0].sql)
        return found

    monkeypatch.setattr(Listing, "read", anew)
    callers, all_known = schools
    for (path, number), expected in all_known.items():
        assert expected, path
        assert [row["id"] for row in await callers[number].items(path, limit="7")] == expected, path
        first = (await callers[number].get(path, params={"limit": "10"})).json()["items"]
        assert [row["id"] for row in first] == expected[:10], path
    assert any(f"LIMIT {walked})" in sql for sql in asked)
