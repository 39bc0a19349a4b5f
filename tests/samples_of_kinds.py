"""One way to make a row of each kind through HTTP; the contract tests run for every kind that is named here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from lms_core.testing import Caller, Lms, School


@dataclass(frozen=True)
class Sample:
    """A row: its kind, where it lives, the list that has it, and a change that PATCH takes."""

    kind: str
    path: str
    list_path: str
    change: dict[str, Any]
    owner: Caller


async def institution(lms: Lms, school: School) -> Sample:
    made = await lms.make_institution(school.institution["id"])
    return Sample(
        "institutions.institution",
        f"/institutions/{made['id']}",
        "/institutions",
        {"name": "Renamed"},
        school.principal,
    )


async def user(lms: Lms, school: School) -> Sample:
    made = await lms.make_user("student", school.institution["id"])
    return Sample("users.user", f"/users/{made.id}", "/users", {"full_name": "Renamed"}, school.principal)


async def grant(lms: Lms, school: School) -> Sample:
    made = await lms.make_user()
    body = {"role": "teacher", "institution_id": school.institution["id"]}
    given = await (await lms.admin()).create(f"/users/{made.id}/roles", body)
    path = f"/users/{made.id}/roles"
    return Sample("users.grant", f"{path}/{given['id']}", path, {}, await lms.admin())


async def role(lms: Lms, school: School) -> Sample:
    body = {
        "institution_id": school.institution["id"],
        "name": f"registrar_{uuid4().hex[:8]}",
        "permissions": ["users.read"],
    }
    made = await school.principal.create("/users/roles", body)
    return Sample("users.role", f"/users/roles/{made['id']}", "/users/roles", {"summary": "Renamed"}, school.principal)


async def guardianship(lms: Lms, school: School) -> Sample:
    path = f"/users/{school.student.id}/guardians"
    body = {"guardian_id": str((await lms.make_user()).id)}
    made = await (await lms.admin()).create(path, body)
    return Sample("users.guardianship", f"{path}/{made['id']}", path, {}, await lms.admin())


async def course(lms: Lms, school: School) -> Sample:
    made = await lms.make_course(school.institution["id"])
    return Sample("courses.course", f"/courses/{made['id']}", "/courses", {"title": "Renamed"}, school.principal)


def term_of(institution_id: str) -> dict[str, Any]:
    days = {"starts_on": "2026-09-01", "ends_on": "2026-12-18"}
    return {"institution_id": institution_id, "name": uuid4().hex, **days}


async def term(lms: Lms, school: School) -> Sample:
    made = await school.principal.create("/courses/terms", term_of(school.institution["id"]))
    path = f"/courses/terms/{made['id']}"
    return Sample("courses.term", path, "/courses/terms", {"name": "Renamed"}, school.principal)


async def section(lms: Lms, school: School) -> Sample:
    path = f"/courses/{school.course['id']}/sections"
    made = await school.teacher.create(path, {"name": uuid4().hex})
    return Sample("courses.section", f"{path}/{made['id']}", path, {"name": uuid4().hex}, school.teacher)


async def enrollment(lms: Lms, school: School) -> Sample:
    made = await lms.enroll(school.course["id"], await lms.make_user("student", school.institution["id"]))
    return Sample(
        "enrollments.enrollment", f"/enrollments/{made['id']}", "/enrollments", {"section_id": None}, school.teacher
    )


async def group(lms: Lms, school: School) -> Sample:
    made = await school.teacher.create("/groups", {"course_id": school.course["id"], "name": uuid4().hex})
    return Sample("groups.group", f"/groups/{made['id']}", "/groups", {"description": "Renamed"}, school.teacher)


async def membership(lms: Lms, school: School) -> Sample:
    found = await group(lms, school)
    path = f"{found.path}/members"
    made = await school.teacher.create(path, {"user_id": str(school.student.id)})
    return Sample("groups.membership", f"{path}/{made['id']}", path, {}, school.teacher)


async def course_role(lms: Lms, school: School) -> Sample:
    found = await group(lms, school)
    path = f"{found.path}/roles"
    made = await school.teacher.create(path, {"course_id": school.course["id"], "role": "assistant"})
    return Sample("groups.course_role", f"{path}/{made['id']}", path, {}, school.teacher)


async def material(lms: Lms, school: School) -> Sample:
    body = {"course_id": school.course["id"], "kind": "page", "title": "Cells", "body": "Words", "published": True}
    made = await school.teacher.create("/materials", body)
    return Sample("materials.material", f"/materials/{made['id']}", "/materials", {"title": "Renamed"}, school.teacher)


async def module(lms: Lms, school: School) -> Sample:
    made = await school.teacher.create("/materials/modules", {"course_id": school.course["id"], "title": "Cells"})
    path = f"/materials/modules/{made['id']}"
    return Sample("materials.module", path, "/materials/modules", {"title": "Renamed"}, school.teacher)


async def assignment(school: School) -> str:
    body = {"course_id": school.course["id"], "kind": "assignment", "title": "Essay", "assignment": {"points": 5}}
    return str((await school.teacher.create("/materials", {**body, "published": True}))["id"])


async def extension(lms: Lms, school: School) -> Sample:
    list_path = f"/materials/{await assignment(school)}/extensions"
    made = await school.teacher.create(list_path, {"user_id": str(school.student.id), "days": 1})
    return Sample("materials.extension", f"/materials/extensions/{made['id']}", list_path, {"days": 2}, school.teacher)


async def submission(lms: Lms, school: School) -> Sample:
    list_path = f"/materials/{await assignment(school)}/submissions"
    made = await school.student.create(list_path, {"body": "Words"})
    return Sample("materials.submission", f"/materials/submissions/{made['id']}", list_path, {}, school.principal)


async def file(lms: Lms, school: School) -> Sample:
    body = {"filename": "notes.txt", "content_type": "text/plain", "size": 5, "course_id": school.course["id"]}
    made = await school.teacher.create("/files", body)
    return Sample("files.file", f"/files/{made['id']}", "/files", {"filename": "renamed.txt"}, school.teacher)


def provider_of(institution_id: str) -> dict[str, Any]:
    return {
        "institution_id": institution_id, "name": uuid4().hex, "issuer": "https://login.example.org", "client_id": "lms",
        "client_secret": "a secret",
    }  # fmt: skip


async def provider(lms: Lms, school: School) -> Sample:
    made = await school.principal.create("/sso/providers", provider_of(school.institution["id"]))
    path = f"/sso/providers/{made['id']}"
    return Sample("sso.provider", path, "/sso/providers", {"is_enabled": False}, school.principal)


async def domain(lms: Lms, school: School) -> Sample:
    admin = await lms.admin()
    body = {"institution_id": school.institution["id"], "domain": f"{uuid4().hex}.example"}
    made = await admin.create("/sso/domains", body)
    return Sample("sso.domain", f"/sso/domains/{made['id']}", "/sso/domains", {}, admin)


SAMPLES: dict[str, Callable[[Lms, School], Awaitable[Sample]]] = {
    "institutions.institution": institution,
    "users.user": user,
    "users.role": role,
    "users.grant": grant,
    "users.guardianship": guardianship,
    "sso.provider": provider,
    "sso.domain": domain,
    "courses.term": term,
    "courses.course": course,
    "courses.section": section,
    "enrollments.enrollment": enrollment,
    "groups.group": group,
    "groups.membership": membership,
    "groups.course_role": course_role,
    "files.file": file,
    "materials.material": material,
    "materials.module": module,
    "materials.extension": extension,
    "materials.submission": submission,
}

SUBMISSION = """
    WITH made AS (
        INSERT INTO materials_submission (id, material_id, user_id, attempt, state, body, urls, submitted_at)
        VALUES (:id, :material, :user, 1, 'submitted', 'Words', '[]', now()) RETURNING id
    )
    INSERT INTO materials_grade (id, submission_id, number, points, feedback, reason, graded_by)
    SELECT :grade, id, 1, 4, '', '', :grader FROM made RETURNING id
"""
"""A submission that was graded. Its ids must be of version 7, like all: other tests take those after theirs as their own."""

IMPORT = """
    WITH job AS (
        INSERT INTO core_import (id, importer, file_id, scope_id, options, actor_id, state, rows_total, rows_done, counts)
        VALUES (:id, 'users.users', gen_random_uuid(), :scope_id, '{}', :actor_id, 'done', 1, 1, '{}') RETURNING id
    )
    INSERT INTO core_import_row (import_id, number, line, cells, state, action, object_id, changes, kept, memo)
    SELECT id, 1, 2, '{}', 'done', 'create', :object_id, '{}', '[]', '{}' FROM job RETURNING number
"""
"""An import that was done, with one row."""
