"""Who may do what, as one table: every operation × role × place, with bodies that would succeed without the guard."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from browser import finish
from mounted import routes_of
from promises import Promises
from samples_of_kinds import IMPORT, SUBMISSION, provider_of, term_of

from lms_core.sdk import new_id
from lms_core.testing import PASSWORD, Caller, Lms, School

pytestmark = pytest.mark.anyio

PLACES = ("own", "same", "other", "deleted")
GONE = "404 404 404 404"
SUPER = "404 404 404"  # Another institution's: only super admins know of it.

# Each row: the kind of thing, then student, teacher, principal, super admin for
#   own      a thing of the course that student and teacher take part in, or of the institution itself
#   same     of another course of the same institution, or of an institution below
#   other    of another institution
#   deleted  of the own course, deleted. A restore is of deleted things in every place, so this column is not asked
# "yes" and "no" are 200 with and without the thing in the list; "-" is not asked. Anonymous callers always get 401.
MATRIX: dict[str, tuple[str, str, str, str, str]] = {
    "institutions_list": ("institution", "yes yes yes yes", "yes yes yes yes", "no no no yes", "no no no no"),
    "institutions_get": ("institution", "200 200 200 200", "200 200 200 200", f"{SUPER} 200", GONE),
    "institutions_create": ("institution", "403 403 201 201", "403 403 201 201", f"{SUPER} 201", GONE),
    "institutions_update": ("institution", "403 403 403 200", "403 403 200 200", f"{SUPER} 200", GONE),
    "institutions_delete": ("institution", "403 403 403 -", "403 403 202 202", f"{SUPER} -", GONE),
    "institutions_restore": ("institution", "- - - -", "404 404 202 202", "- - - -", "- - - -"),
    "users_list": ("user", "no yes yes yes", "no no yes yes", "no no no yes", "no no no no"),
    "users_get": ("user", "404 200 200 200", "404 404 200 200", f"{SUPER} 200", GONE),
    "users_create": ("institution", "403 403 201 201", "403 403 201 201", "403 403 404 201", "403 403 404 404"),
    "users_update": ("user", "404 403 200 200", "404 404 200 200", f"{SUPER} 200", GONE),
    "users_delete": ("user", "404 403 202 202", "404 404 202 202", f"{SUPER} 202", GONE),
    "users_restore": ("user", "404 404 202 202", "404 404 202 202", f"{SUPER} 202", "- - - -"),
    "users_list_roles": ("grant", "404 no yes yes", "404 404 yes yes", f"{SUPER} yes", "404 no no no"),
    "users_give_role": ("user", "404 403 201 201", "404 404 201 201", f"{SUPER} 201", GONE),
    "users_take_role": ("grant", "404 403 202 202", "404 404 202 202", f"{SUPER} 202", "404 403 404 404"),
    "users_restore_role": ("grant", "404 404 202 202", "404 404 202 202", f"{SUPER} 202", "- - - -"),
    "users_explain": ("user", "404 200 200 200", "404 404 200 200", f"{SUPER} 200", GONE),
    "users_permitted": ("course", "200 200 200 200", "200 200 200 200", f"{SUPER} 200", GONE),
    "users_define_role": ("institution", "403 403 201 201", "403 403 201 201", f"{SUPER} 201", GONE),
    "users_list_own_roles": ("role", "no no yes yes", "no no yes yes", "no no no yes", "no no no no"),
    "users_get_own_role": ("role", "404 404 200 200", "404 404 200 200", f"{SUPER} 200", GONE),
    "users_change_own_role": ("role", "404 404 200 200", "404 404 200 200", f"{SUPER} 200", GONE),
    "users_delete_own_role": ("role", "404 404 202 202", "404 404 202 202", f"{SUPER} 202", GONE),
    "users_restore_own_role": ("role", "404 404 202 202", "404 404 202 202", f"{SUPER} 202", "- - - -"),
    "users_list_guardians": ("guardianship", "404 no yes yes", "404 404 yes yes", f"{SUPER} yes", "404 no no no"),
    "users_add_guardian": ("ward", "404 403 201 201", "404 404 201 201", f"{SUPER} 201", GONE),
    "users_remove_guardian": ("guardianship", "404 403 202 202", "404 404 202 202", f"{SUPER} 202", "404 403 404 404"),
    "users_restore_guardian": ("guardianship", "404 404 202 202", "404 404 202 202", f"{SUPER} 202", "- - - -"),
    "auth_end_session": ("session", GONE, GONE, GONE, GONE),
    "courses_list": ("course", "yes yes yes yes", "yes yes yes yes", "no no no yes", "no no no no"),
    "courses_get": ("course", "200 200 200 200", "200 200 200 200", f"{SUPER} 200", GONE),
    "auth_invite": ("user", "404 403 202 202", "404 404 202 202", f"{SUPER} 202", GONE),
    "courses_create": ("institution", "403 201 201 201", "403 201 201 201", f"{SUPER} 201", GONE),
    "courses_update": ("course", "403 200 200 200", "403 403 200 200", f"{SUPER} 200", GONE),
    "courses_delete": ("course", "403 403 202 202", "403 403 202 202", f"{SUPER} 202", GONE),
    "courses_restore": ("course", "404 404 202 202", "404 404 202 202", f"{SUPER} 202", "- - - -"),
    "courses_create_term": ("institution", "403 403 201 201", "403 403 201 201", f"{SUPER} 201", GONE),
    "courses_list_terms": ("term", "yes yes yes yes", "yes yes yes yes", "no no no yes", "no no no no"),
    "courses_get_term": ("term", "200 200 200 200", "200 200 200 200", f"{SUPER} 200", GONE),
    "courses_update_term": ("term", "403 403 200 200", "403 403 200 200", f"{SUPER} 200", GONE),
    "courses_delete_term": ("term", "403 403 202 202", "403 403 202 202", f"{SUPER} 202", GONE),
    "courses_restore_term": ("term", "404 404 202 202", "404 404 202 202", f"{SUPER} 202", "- - - -"),
    "courses_list_sections": ("section", "yes yes yes yes", "no no yes yes", f"{SUPER} yes", "no no no no"),
    "courses_get_section": ("section", "200 200 200 200", "404 404 200 200", f"{SUPER} 200", GONE),
    "courses_create_section": ("course", "403 201 201 201", "403 403 201 201", f"{SUPER} 201", GONE),
    "courses_update_section": ("section", "403 200 200 200", "403 403 200 200", f"{SUPER} 200", "403 404 404 404"),
    "courses_delete_section": ("section", "403 202 202 202", "403 403 202 202", f"{SUPER} 202", "403 404 404 404"),
    "courses_restore_section": ("section", "403 202 202 202", "403 403 202 202", f"{SUPER} 202", "- - - -"),
    "enrollments_list": ("enrollment", "yes yes yes yes", "no no yes yes", "no no no yes", "no no no no"),
    "enrollments_get": ("enrollment", "200 200 200 200", "404 404 200 200", f"{SUPER} 200", GONE),
    "enrollments_list_history": ("enrollment", "yes yes yes yes", "404 404 yes yes", f"{SUPER} yes", GONE),
    "enrollments_create": ("course", "403 201 201 201", "403 403 201 201", f"{SUPER} 201", GONE),
    "enrollments_join": ("course", "403 403 403 403", "403 403 403 403", f"{SUPER} 403", GONE),
    "enrollments_create_many": ("course", "403 200 200 200", "403 403 200 200", f"{SUPER} 200", GONE),
    "enrollments_update": ("enrollment", "403 200 200 200", "404 404 200 200", f"{SUPER} 200", GONE),
    "enrollments_delete": ("enrollment", "403 202 202 202", "404 404 202 202", f"{SUPER} 202", GONE),
    "enrollments_restore": ("enrollment", "404 202 202 202", "404 404 202 202", f"{SUPER} 202", "- - - -"),
    "groups_list": ("group", "yes yes yes yes", "no no yes yes", "no no no yes", "no no no no"),
    "groups_get": ("group", "200 200 200 200", "404 404 200 200", f"{SUPER} 200", GONE),
    "groups_create": ("course", "403 201 201 201", "403 403 201 201", "403 404 404 201", "403 404 404 404"),
    "groups_update": ("group", "403 200 200 200", "404 404 200 200", f"{SUPER} 200", GONE),
    "groups_delete": ("group", "403 202 202 202", "404 404 202 202", f"{SUPER} 202", GONE),
    "groups_restore": ("group", "404 202 202 202", "404 404 202 202", f"{SUPER} 202", "- - - -"),
    "groups_list_members": ("membership", "no yes yes yes", "404 404 yes yes", f"{SUPER} yes", "no no no no"),
    "groups_add_member": ("joined", "403 200 200 200", "404 404 200 200", f"{SUPER} 200", GONE),
    "groups_add_members": ("joined", "403 200 200 200", "404 404 200 200", f"{SUPER} 200", GONE),
    "groups_remove_member": ("membership", "403 202 202 202", "404 404 202 202", f"{SUPER} 202", "403 404 404 404"),
    "groups_restore_member": ("membership", "404 202 202 202", "404 404 202 202", f"{SUPER} 202", "- - - -"),
    "groups_list_roles": ("course_role", "no yes yes yes", "404 404 yes yes", f"{SUPER} yes", "no no no no"),
    "groups_list_course_roles": ("course_role", "no yes yes yes", "no no yes yes", "no no no yes", "no no no no"),
    "groups_give_role": ("group", "403 201 201 201", "404 404 201 201", f"{SUPER} 201", GONE),
    "groups_take_role": ("course_role", "404 202 202 202", "404 404 202 202", f"{SUPER} 202", GONE),
    "groups_restore_role": ("course_role", "404 202 202 202", "404 404 202 202", f"{SUPER} 202", "- - - -"),
    # Files that a super admin put into the course, which shares them; only the requester completes or cancels them.
    "files_list": ("file", "yes yes yes yes", "no no yes yes", "no no no yes", "no no no no"),
    "files_get": ("file", "200 200 200 200", "404 404 200 200", f"{SUPER} 200", GONE),
    "files_create": ("course", "201 201 201 201", "403 403 201 201", f"{SUPER} 201", GONE),
    "files_update": ("file", "403 200 200 200", "404 404 200 200", f"{SUPER} 200", GONE),
    "files_complete": ("file", "403 403 403 409", "404 404 403 409", f"{SUPER} 409", GONE),
    "files_cancel": ("file", "403 403 403 200", "404 404 403 200", f"{SUPER} 200", GONE),
    "files_continue_upload": ("file", "403 403 403 200", "404 404 403 200", f"{SUPER} 200", GONE),
    "files_create_version": ("file", "403 409 409 409", "404 404 409 409", f"{SUPER} 409", GONE),
    "files_list_versions": ("file", "403 no no no", "404 404 no no", f"{SUPER} no", GONE),
    "files_make_version_current": ("version", "403 404 404 404", "404 404 404 404", f"{SUPER} -", GONE),
    "files_get_institution_limits": ("institution", "403 403 200 200", "403 403 200 200", f"{SUPER} 200", GONE),
    "files_update_institution_limits": ("institution", "403 403 403 200", "403 403 403 200", f"{SUPER} 200", GONE),
    "files_update_user_limits": ("user", "404 403 403 200", "404 404 403 200", f"{SUPER} 200", GONE),
    "files_download": ("file", "409 409 409 409", "404 404 409 409", f"{SUPER} 409", GONE),
    "files_delete": ("file", "403 202 202 202", "404 404 202 202", f"{SUPER} 202", GONE),
    "files_restore": ("file", "404 202 202 202", "404 404 202 202", f"{SUPER} 202", "- - - -"),
    "materials_list": ("material", "yes yes yes yes", "no no yes yes", "no no no yes", "no no no no"),
    "materials_search": ("material", "yes yes yes yes", "no no yes yes", "no no no yes", "no no no no"),
    "materials_get": ("material", "200 200 200 200", "404 404 200 200", f"{SUPER} 200", GONE),
    "materials_create": ("course", "403 201 201 201", "403 403 201 201", f"{SUPER} 201", GONE),
    "materials_update": ("material", "403 200 200 200", "404 404 200 200", f"{SUPER} 200", GONE),
    "materials_delete": ("material", "403 202 202 202", "404 404 202 202", f"{SUPER} 202", GONE),
    "materials_restore": ("material", "404 202 202 202", "404 404 202 202", f"{SUPER} 202", "- - - -"),
    "materials_move": ("material", "403 200 200 200", "404 404 200 200", f"{SUPER} 200", GONE),
    "materials_complete": ("material", "204 403 403 204", "404 404 403 204", f"{SUPER} 204", GONE),
    "materials_take_back_completion": ("material", "204 403 403 204", "404 404 403 204", f"{SUPER} 204", GONE),
    "materials_list_revisions": ("revision", "403 yes yes yes", "404 404 yes yes", f"{SUPER} yes", GONE),
    "materials_compare_revisions": ("revision", "403 200 200 200", "404 404 200 200", f"{SUPER} 200", GONE),
    "materials_revert": ("revision", "403 200 200 200", "404 404 200 200", f"{SUPER} 200", GONE),
    "materials_list_modules": ("module", "yes yes yes yes", "no no yes yes", "no no no yes", "no no no no"),
    "materials_get_module": ("module", "200 200 200 200", "404 404 200 200", f"{SUPER} 200", GONE),
    "materials_create_module": ("course", "403 201 201 201", "403 403 201 201", f"{SUPER} 201", GONE),
    "materials_update_module": ("module", "403 200 200 200", "404 404 200 200", f"{SUPER} 200", GONE),
    "materials_move_module": ("module", "403 200 200 200", "404 404 200 200", f"{SUPER} 200", GONE),
    "materials_delete_module": ("module", "403 202 202 202", "404 404 202 202", f"{SUPER} 202", GONE),
    "materials_restore_module": ("module", "404 202 202 202", "404 404 202 202", f"{SUPER} 202", "- - - -"),
    "materials_submit": ("assignment", "201 403 403 403", "404 404 403 403", f"{SUPER} 403", GONE),
    "materials_save_draft": ("assignment", "200 403 403 403", "404 404 403 403", f"{SUPER} 403", GONE),
    "materials_list_submissions": ("submission", "yes yes yes yes", "404 404 yes yes", f"{SUPER} yes", "no no no no"),
    "materials_get_submission": ("submission", "200 200 200 200", "404 404 200 200", f"{SUPER} 200", GONE),
    "materials_delete_submission": ("submission", "403 403 202 202", "404 404 202 202", f"{SUPER} 202", GONE),
    "materials_restore_submission": ("submission", "404 404 202 202", "404 404 202 202", f"{SUPER} 202", "- - - -"),
    "materials_grade_submission": ("submission", "403 200 403 200", "404 404 403 200", f"{SUPER} 200", GONE),
    "materials_list_grade_history": ("grade", "403 yes yes yes", "404 404 yes yes", f"{SUPER} yes", GONE),
    "materials_list_grades": ("gradebook", "yes yes yes yes", "no no yes yes", "no no no yes", "no no no no"),
    "materials_create_extension": ("assignment", "403 201 201 201", "404 404 201 201", f"{SUPER} 201", GONE),
    "materials_list_extensions": ("extension", "403 yes yes yes", "404 404 yes yes", f"{SUPER} yes", "403 no no no"),
    "materials_get_extension": ("extension", "404 200 200 200", "404 404 200 200", f"{SUPER} 200", GONE),
    "materials_update_extension": ("extension", "404 200 200 200", "404 404 200 200", f"{SUPER} 200", GONE),
    "materials_delete_extension": ("extension", "404 202 202 202", "404 404 202 202", f"{SUPER} 202", GONE),
    "materials_restore_extension": ("extension", "404 202 202 202", "404 404 202 202", f"{SUPER} 202", "- - - -"),
    "core_list_deletions": ("deletion", "no no yes yes", "no no yes yes", "no no no yes", "- - - -"),
    "core_list_audit": ("course", "403 403 yes yes", "403 403 yes yes", "403 403 404 yes", "403 403 404 yes"),
    # Whose a domain is only super admins say.
    "sso_create_provider": ("institution", "403 403 201 201", "403 403 201 201", f"{SUPER} 201", GONE),
    "sso_list_providers": ("provider", "no no yes yes", "no no yes yes", "no no no yes", "no no no no"),
    "sso_get_provider": ("provider", "404 404 200 200", "404 404 200 200", f"{SUPER} 200", GONE),
    "sso_update_provider": ("provider", "404 404 200 200", "404 404 200 200", f"{SUPER} 200", GONE),
    "sso_delete_provider": ("provider", "404 404 202 202", "404 404 202 202", f"{SUPER} 202", GONE),
    "sso_restore_provider": ("provider", "404 404 202 202", "404 404 202 202", f"{SUPER} 202", "- - - -"),
    "sso_claim_domain": ("institution", "403 403 403 201", "403 403 403 201", f"{SUPER} 201", GONE),
    "sso_list_domains": ("domain", "no no yes yes", "no no yes yes", "no no no yes", "no no no no"),
    "sso_release_domain": ("domain", "404 404 403 202", "404 404 403 202", f"{SUPER} 202", GONE),
    "sso_restore_domain": ("domain", "404 404 404 202", "404 404 404 202", f"{SUPER} 202", "- - - -"),
    # What was imported at the institution itself, and at one below it; imports are not deleted.
    "users_import": ("place", "403 403 200 200", "403 403 200 200", "403 403 404 200", "403 403 404 404"),
    "enrollments_import": ("place", "403 403 422 422", "403 403 422 422", f"{SUPER} 422", GONE),
    "enrollments_export": ("institution", "403 403 200 200", "403 403 200 200", f"{SUPER} 200", GONE),
    "core_list_imports": ("import", "no no yes yes", "no no yes yes", "no no no yes", "- - - -"),
    "core_get_import": ("import", "404 404 200 200", "404 404 200 200", f"{SUPER} 200", "- - - -"),
    "core_list_import_rows": ("import", "404 404 yes yes", "404 404 yes yes", f"{SUPER} yes", "- - - -"),
    "core_undo_import": ("import", "404 404 202 202", "404 404 202 202", f"{SUPER} 202", "- - - -"),
    "core_delete_many": ("course", "403 403 202 202", "403 403 202 202", f"{SUPER} 202", GONE),
    "core_restore_deletion": ("deletion", "404 404 202 202", "404 404 202 202", f"{SUPER} 202", "- - - -"),
    # What is deleted can be held, too.
    "core_create_legal_hold": ("course", "403 403 201 201", "403 403 201 201", "403 403 404 201", "403 403 201 201"),
    "core_list_legal_holds": ("legal_hold", "403 403 yes yes", "403 403 yes yes", "403 403 no yes", "- - - -"),
    "core_get_legal_hold": ("legal_hold", "403 403 200 200", "403 403 200 200", "403 403 404 200", "- - - -"),
    "core_lift_legal_hold": ("legal_hold", "403 403 200 200", "403 403 200 200", "403 403 404 200", "- - - -"),
    "core_get_deletion": ("deletion", "404 404 200 200", "404 404 200 200", f"{SUPER} 200", "- - - -"),
}

# About the caller alone, in no place: the same for every role.
PERSONAL = {
    "users_me": 200,
    "auth_list_sessions": 200,
    "core_list_plugins": 200,
    "files_get_my_limits": 200,
    "auth_change_password": 204,
    "sso_end_session": 200,
}

# Open to everybody, and why.
PUBLIC = {
    "core_health": "load balancers",
    "core_live": "orchestrators",
    "core_ready": "orchestrators",
    "core_metrics": "Prometheus; in production only for operators",
    "auth_login": "this is how one signs in",
    "auth_refresh": "the refresh token says who it is",
    "auth_logout": "the refresh token says who it is",
    "auth_request_password_reset": "who forgot a password cannot sign in",
    "auth_confirm_password_reset": "the token from the mail says who it is",
    "auth_accept_invitation": "the token from the mail says who it is",
    "sso_options": "this is how one signs in",
    "sso_start": "this is how one signs in",
    "sso_callback": "this is how one signs in",
    "sso_token": "this is how one signs in",
    "sso_backchannel_logout": "the provider's token says who it is",
    "auth_jwks": "public keys",
    "auth_metadata": "how to sign in",
}


@dataclass(frozen=True)
class World:
    """Two schools; in the first also a course where nobody takes part, and an institution below."""

    lms: Lms
    here: School
    there: School
    course: dict[str, Any]
    below: dict[str, Any]
    people: str
    callers: tuple[Caller, ...]
    operations: dict[str, tuple[str, str]]
    promises: Promises


@pytest.fixture(scope="module")
async def world(lms: Lms) -> World:
    """Made once: forbidden calls change nothing, and permitted ones work on things made for them."""
    here, there = await lms.make_school(), await lms.make_school()
    course = await lms.make_course(here.institution["id"])
    below = await lms.make_institution(here.institution["id"])
    callers = (here.student, here.teacher, here.principal, await lms.admin())
    people = await finish(lms, here.principal, b"email,full_name\na@example.org,Ada\n", "text/csv", "people.csv")
    return World(lms, here, there, course, below, people["id"], callers, await operations(lms), Promises(lms))


def course_at(world: World, place: str) -> str:
    """The course that things of this place belong to."""
    course = {"same": world.course, "other": world.there.course}.get(place, world.here.course)
    return str(course["id"])


def school_at(world: World, place: str) -> str:
    return str((world.there if place == "other" else world.here).institution["id"])


async def make_user(world: World, place: str) -> str:
    """A student of the school who has no course."""
    admin = await world.lms.admin()
    roles = [{"role": "student", "institution_id": school_at(world, place)}]
    body = {"email": f"{uuid4().hex}@example.org", "full_name": "Somebody", "roles": roles}
    return str((await admin.create("/users", body))["id"])


async def make(world: World, kind: str, place: str) -> dict[str, str]:
    """A living thing at a place: what the parameters of its routes are, and its own id as `id`."""
    admin = await world.lms.admin()
    course_id, institution_id = course_at(world, place), school_at(world, place)
    if kind == "place":
        found = await make(world, "institution", place)
        return {**found, "file_id": world.people}
    if kind == "import":
        scope_id = world.below["id"] if place == "same" else institution_id
        id, object_id = str(new_id()), str(uuid4())
        await world.lms.sql(IMPORT, id=id, scope_id=scope_id, actor_id=admin.id, object_id=object_id)
        return {"id": id, "import_id": id, "object_id": object_id}
    if kind == "institution":
        if place in ("same", "deleted"):
            id = (await world.lms.make_institution(institution_id))["id"]
        else:
            id = institution_id
        return {"id": id, "institution_id": id}
    if kind in ("course", "deletion", "legal_hold"):
        id = (await world.lms.make_course(institution_id))["id"]
        if place in ("own", "deleted"):
            await world.lms.enroll(id, world.here.teacher, "teacher")
            await world.lms.enroll(id, world.here.student)
        if kind == "deletion":
            id = (await admin.delete(f"/courses/{id}")).json()["id"]
            return {"id": id, "deletion_id": id}
        if kind == "legal_hold":
            body = {"kind": "courses.course", "object_id": id, "reason": "A case"}
            # In the name of a school; the matrix' principal is of another one for `other`.
            setter = world.here.principal if place != "other" else world.there.principal
            id = (await setter.create("/legal-holds", body))["id"]
            return {"id": id, "legal_hold_id": id}
        return {"id": id, "course_id": id, "user_id": await make_user(world, place)}
    if kind == "term":
        place_id = world.below["id"] if place == "same" else institution_id
        id = (await admin.create("/courses/terms", term_of(place_id)))["id"]
        return {"id": id, "term_id": id}
    if kind in ("provider", "domain"):
        place_id = world.below["id"] if place == "same" else institution_id
        claimed = {"institution_id": place_id, "domain": f"{uuid4().hex}.example"}
        body = provider_of(place_id) if kind == "provider" else claimed
        id = (await admin.create(f"/sso/{kind}s", body))["id"]
        return {"id": id, f"{kind}_id": id}
    if kind == "role":
        below = world.below["id"] if place == "same" else institution_id
        body = {"institution_id": below, "name": f"r{uuid4().hex[:12]}", "permissions": ["users.read"]}
        id = (await admin.create("/users/roles", body))["id"]
        return {"id": id, "role_id": id}
    if kind in ("user", "grant", "ward", "guardianship"):
        id = await make_user(world, place)
        if place in ("own", "deleted"):
            body = {"course_id": course_id, "user_id": id, "role": "student"}
            await admin.create("/enrollments", body)
        if kind == "grant":
            body = {"role": "teacher", "institution_id": institution_id}
            grant_id = (await admin.create(f"/users/{id}/roles", body))["id"]
            return {"id": grant_id, "grant_id": grant_id, "user_id": id}
        if kind in ("ward", "guardianship"):
            guardian_id = await make_user(world, place)
            if kind == "ward":
                return {"id": id, "user_id": id, "guardian_id": guardian_id}
            link_id = (await admin.create(f"/users/{id}/guardians", {"guardian_id": guardian_id}))["id"]
            return {"id": link_id, "guardianship_id": link_id, "user_id": id}
        email = (await admin.get(f"/users/{id}")).json()["email"]
        return {"id": id, "user_id": id, "institution_id": institution_id, "email": email}
    if kind == "session":
        user = await world.lms.make_user("student", institution_id)
        [session] = await user.items("/auth/sessions")
        return {"id": session["id"], "session_id": session["id"]}
    if kind == "enrollment":
        own = place == "own" and world.here.student.id
        if own:
            fresh = await world.lms.make_course(institution_id)
            await world.lms.enroll(fresh["id"], world.here.teacher, "teacher")
            made = await world.lms.enroll(fresh["id"], world.here.student)
        else:
            body = {"course_id": course_id, "user_id": await make_user(world, place), "role": "student"}
            made = await admin.create("/enrollments", body)
        return {"id": made["id"], "enrollment_id": made["id"], "course_id": made["course_id"]}
    if kind in ("membership", "joined", "course_role"):
        group_id = (await admin.create("/groups", {"course_id": course_id, "name": uuid4().hex}))["id"]
        ids = {"id": group_id, "group_id": group_id, "course_id": course_id}
        if kind == "course_role":
            body = {"course_id": course_id, "role": "assistant"}
            id = (await admin.create(f"/groups/{group_id}/roles", body))["id"]
            return {**ids, "id": id, "course_role_id": id}
        user_id = await make_user(world, place)
        await admin.create("/enrollments", {"course_id": course_id, "user_id": user_id, "role": "student"})
        id = (await admin.create(f"/groups/{group_id}/members", {"user_id": user_id}))["id"]
        if kind == "joined":
            return {**ids, "user_id": user_id}
        return {**ids, "id": id, "membership_id": id}
    if kind == "gradebook":
        found = await make(world, "course", place)
        student_id = found["user_id"]
        if place in ("own", "deleted"):
            return {**found, "student_id": str(world.here.student.id)}
        await admin.create("/enrollments", {"course_id": found["id"], "user_id": student_id, "role": "student"})
        return {**found, "student_id": student_id}
    if kind == "revision":
        found = await make(world, "material", place)
        [revision] = await admin.items(f"/materials/{found['id']}/revisions")
        return {**found, "id": revision["id"], "revision_id": revision["id"]}
    if kind in ("assignment", "submission", "grade", "extension"):
        asked = {**page_of(course_id), "kind": "assignment", "assignment": {"points": 5}}
        id, user_id = (await admin.create("/materials", asked))["id"], await make_user(world, place)
        await admin.create("/enrollments", {"course_id": course_id, "user_id": user_id, "role": "student"})
        ids = {"id": id, "material_id": id, "user_id": user_id}
        if kind == "assignment":
            return ids
        if kind == "extension":
            made = await admin.create(f"/materials/{id}/extensions", {"user_id": user_id, "days": 1})
            return {**ids, "id": made["id"], "extension_id": made["id"]}
        values = {"id": str(new_id()), "grade": str(new_id()), "material": id, "grader": admin.id}
        values["user"] = world.here.student.id if place in ("own", "deleted") else user_id
        await world.lms.sql(SUBMISSION, **values)
        if kind == "submission":
            return {**ids, "id": values["id"], "submission_id": values["id"]}
        return {**ids, "id": values["grade"], "submission_id": values["id"]}
    if kind == "version":
        # Of another file: who may, learns that this one has no such version.
        id = str(uuid4())
        return {**await make(world, "file", place), "id": id, "version_id": id}
    path, body = {
        "group": ("/groups", {"course_id": course_id, "name": uuid4().hex}),
        "section": (f"/courses/{course_id}/sections", {"name": uuid4().hex}),
        "file": ("/files", request_of_file(course_id)),
        "material": ("/materials", page_of(course_id)),
        "module": ("/materials/modules", {"course_id": course_id, "title": uuid4().hex}),
    }[kind]
    id = (await admin.create(path, body))["id"]
    return {"id": id, f"{kind}_id": id, "course_id": course_id}


def request_of_file(course_id: str) -> dict[str, Any]:
    return {"filename": "notes.txt", "content_type": "text/plain", "size": 5, "course_id": course_id}


def page_of(course_id: str) -> dict[str, Any]:
    return {"course_id": course_id, "kind": "page", "title": "Photosynthesis", "body": "Words", "published": True}


def body_of(operation: str, ids: dict[str, str]) -> dict[str, Any] | None:
    """A body with which the operation succeeds for who may do it."""
    unique = uuid4().hex
    match operation:
        case "institutions_create":
            return {"name": unique, "slug": unique, "parent_id": ids["institution_id"]}
        case "institutions_update":
            return {"name": unique}
        case "users_create":
            role = {"role": "student", "institution_id": ids["institution_id"]}
            return {"email": f"{unique}@example.org", "full_name": "New", "roles": [role]}
        case "users_update":
            return {"full_name": unique}
        case "users_give_role":
            return {"role": "teacher", "institution_id": ids["institution_id"]}
        case "users_define_role":
            return {"institution_id": ids["institution_id"], "name": f"r{unique[:12]}", "permissions": ["users.read"]}
        case "users_change_own_role":
            return {"summary": unique}
        case "users_add_guardian":
            return {"guardian_id": ids["guardian_id"]}
        case "users_import" | "enrollments_import":
            return {"file_id": ids["file_id"], "institution_id": ids["institution_id"]}
        case "courses_create_term":
            return term_of(ids["institution_id"])
        case "courses_update_term":
            return {"name": unique}
        case "sso_create_provider":
            return provider_of(ids["institution_id"])
        case "sso_update_provider":
            return {"name": unique}
        case "sso_claim_domain":
            return {"institution_id": ids["institution_id"], "domain": f"{unique}.example"}
        case "auth_invite":
            return {"user_id": ids["user_id"]}
        case "courses_create":
            return {"institution_id": ids["institution_id"], "code": unique, "title": "New"}
        case "courses_update" | "materials_update" | "materials_update_module":
            return {"title": unique}
        case "groups_create":
            return {"course_id": ids["course_id"], "name": unique}
        case "groups_add_member":
            return {"user_id": ids["user_id"]}
        case "groups_add_members":
            return {"user_ids": [ids["user_id"]]}
        case "groups_give_role":
            return {"course_id": ids["course_id"], "role": "assistant"}
        case "courses_create_section" | "courses_update_section" | "groups_update":
            return {"name": unique}
        case "core_delete_many":
            return {"kind": "courses.course", "ids": [ids["course_id"]]}
        case "core_create_legal_hold":
            return {"kind": "courses.course", "object_id": ids["course_id"], "reason": "A case"}
        case "enrollments_create":
            return {"course_id": ids["course_id"], "user_id": ids["user_id"], "role": "student"}
        case "enrollments_create_many":
            return {"course_id": ids["course_id"], "user_ids": [ids["user_id"]], "role": "student"}
        case "enrollments_join":
            return {"course_id": ids["course_id"]}
        case "enrollments_update":
            return {"state": "completed"}
        case "files_create":
            return request_of_file(ids["course_id"])
        case "files_update_institution_limits" | "files_update_user_limits":
            return {"limit_bytes": None}
        case "files_create_version":
            return {"content_type": "text/plain", "size": 5}
        case "files_update":
            return {"filename": "renamed.txt"}
        case "materials_create_module":
            return {"course_id": ids["course_id"], "title": unique}
        case "materials_move" | "materials_move_module":
            return {"after_id": None}
        case "materials_submit" | "materials_save_draft":
            return {"body": unique}
        case "materials_grade_submission":
            return {"points": 4, "feedback": unique}
        case "materials_create_extension":
            return {"user_id": ids["user_id"], "days": 1}
        case "materials_update_extension":
            return {"days": 2}
        case "materials_create":
            return page_of(ids["course_id"])
    return None


def filters_of(operation: str, ids: dict[str, str]) -> dict[str, str]:
    """What a list is asked for, so that few pages have to be looked through."""
    if operation == "users_list":
        return {"email": ids["email"]}
    if operation == "users_explain":
        return {"on": f"users.user:{ids['id']}"}
    if operation == "users_permitted":
        return {"permission": "courses.edit", "on": f"course:{ids['id']}"}
    if operation == "core_list_audit":
        return {"kind": "courses.course", "object_id": ids["id"]}
    if operation == "materials_search":
        return {"q": "photosynthesis", "course_id": ids["course_id"], "limit": "100"}
    return {"limit": "100"} | ({"course_id": ids["course_id"]} if operation in COURSE_LISTS else {})


NAMED_BY = {"core_list_import_rows": "object_id", "materials_list_grades": "student_id"}
COURSE_LISTS = (
    "enrollments_list",
    "groups_list",
    "files_list",
    "materials_list",
    "materials_list_modules",
    "materials_list_grades",
)


async def operations(lms: Lms) -> dict[str, tuple[str, str]]:
    """Method and path of every operation of the OpenAPI document."""
    document = (await lms.client.get("/openapi.json")).json()
    return {
        found["operationId"]: (method.upper(), path)
        for path, item in document["paths"].items()
        for method, found in item.items()
    }


def filled(path: str, ids: dict[str, str]) -> str:
    return re.sub(r"\{(\w+)\}", lambda found: ids[found[1]], path)


async def ask(caller: Caller, operation: str, method: str, path: str, ids: dict[str, str]) -> httpx2.Response:
    body = body_of(operation, ids)
    options: dict[str, Any] = {} if body is None else {"json": body}
    if operation in ("users_import", "enrollments_import"):
        options["params"] = {"dry_run": "true"}
    if operation == "enrollments_export":
        options["params"] = {"institution_id": ids["institution_id"]}
    if is_list(operation) or operation in ("users_explain", "users_permitted"):
        options["params"] = filters_of(operation, ids)
    return await caller.send(method, filled(path, ids), **options)


def is_list(operation: str) -> bool:
    return "_list" in operation or operation == "materials_search"


async def found_in(caller: Caller, answer: httpx2.Response, id: str) -> bool:
    """Whether the thing stands on this page or on one that follows: other tests' things are there too."""
    names = ("id", "material_id", "object_id", "enrollment_id", "user_id")
    while not any(id in map(item.get, names) for item in answer.json()["items"]):
        if "next" not in answer.links:
            return False
        answer = await caller.get(answer.links["next"]["url"])
        assert answer.status_code == 200, answer.text
    return True


def without_ids(answer: httpx2.Response, ids: dict[str, str]) -> dict[str, Any]:
    """The body of a problem, without what names this request."""
    text = answer.text
    for id in ids.values():
        text = text.replace(id, "<id>")
    return {**httpx2.Response(200, text=text).json(), "request_id": ""}


async def test_every_operation_has_one_entry(lms: Lms) -> None:
    entries = [*MATRIX, *PERSONAL, *PUBLIC]
    assert len(entries) == len(set(entries))
    assert set(entries) == set(await operations(lms))


async def test_the_public_operations_are_those_of_the_table(lms: Lms) -> None:
    public = {(m, r.path) for r in routes_of(lms) if r.original_route.guard.is_public for m in r.methods}
    found = {operation for operation, route in (await operations(lms)).items() if route in public}
    assert found == set(PUBLIC)


@pytest.mark.parametrize("operation", PERSONAL)
async def test_what_concerns_the_caller_is_for_everybody_who_is_signed_in(world: World, operation: str) -> None:
    method, path = world.operations[operation]
    body = {"current_password": PASSWORD, "new_password": f"{PASSWORD} too"}
    options = {"json": body} if operation == "auth_change_password" else {}
    assert (await world.lms.anonymous.send(method, path, **options)).status_code == 401
    for role in ("student", "teacher", "principal", "super_admin"):
        place = None if role == "super_admin" else world.here.institution["id"]
        caller = await world.lms.make_user(role, place)
        answer = await caller.send(method, path, **options)
        assert answer.status_code == PERSONAL[operation], role
        assert world.promises.broken(method, path, answer) is None
        if role == "super_admin":
            # Other tests count on the first one being the last.
            assert (await (await world.lms.admin()).delete(f"/users/{caller.id}")).status_code == 202


@pytest.mark.parametrize("operation", MATRIX)
async def test_access(world: World, operation: str) -> None:
    method, path = world.operations[operation]
    kind, *columns = MATRIX[operation]
    wrong = []
    for place, column in zip(PLACES, columns, strict=True):
        expected = column.split()
        if set(expected) == {"-"}:
            continue
        ids = await prepared(world, operation, kind, place, path)
        asked = [(world.lms.anonymous, "anonymous", "401")]
        asked += zip(world.callers, ("student", "teacher", "principal", "super_admin"), expected, strict=True)
        for caller, role, wanted in asked:
            if wanted == "-":
                continue
            answer = await ask(caller, operation, method, path, ids)
            got = str(answer.status_code)
            if is_list(operation) and got == "200":
                got = "yes" if await found_in(caller, answer, ids[NAMED_BY.get(operation, "id")]) else "no"
            if got != wanted:
                wrong.append(f"{place}, {role}: {wanted} expected, {got} found: {answer.text[:200]}")
            if got == "404":
                # Where the caller knows the parent, only the thing is unknown; elsewhere the parent is too.
                whole = place == "other" or f"{kind}_id" not in path
                unknown = {value: str(uuid4()) for value in ids.values() if whole or value == ids["id"]}
                nobody = {name: unknown.get(value, value) for name, value in ids.items()}
                random = await ask(caller, operation, method, path, nobody)
                if without_ids(random, nobody) != without_ids(answer, ids):
                    wrong.append(f"{place}, {role}: differs from a random id: {answer.text} {random.text}")
            if answer.is_success and (broken := world.promises.broken(method, path, answer)):
                wrong.append(f"{place}, {role}: the answer is not the documented one: {broken}")
            if answer.is_success and method != "GET":
                ids = await prepared(world, operation, kind, place, path)
    assert not wrong, "\n".join(wrong)


async def prepared(world: World, operation: str, kind: str, place: str, path: str) -> dict[str, str]:
    """A thing at the place, deleted where the place or the operation says so."""
    ids = await make(world, kind, place)
    if operation == "materials_search":
        await world.lms.work_off()
    if operation == "core_undo_import":
        # One at a time works at a place.
        await world.lms.work_off()
    if kind != "deletion" and ("_restore" in operation or place == "deleted"):
        answer = await (await world.lms.admin()).delete(PATHS[kind].format(**ids))
        if kind != "session":
            assert answer.status_code == 202, answer.text
    return ids


PATHS = {
    "institution": "/institutions/{id}",
    "user": "/users/{id}",
    "grant": "/users/{user_id}/roles/{id}",
    "ward": "/users/{id}",
    "role": "/users/roles/{id}",
    "guardianship": "/users/{user_id}/guardians/{id}",
    "session": "/auth/sessions/{id}",
    "course": "/courses/{id}",
    "section": "/courses/{course_id}/sections/{id}",
    "enrollment": "/enrollments/{id}",
    "file": "/files/{id}",
    "version": "/files/{file_id}",
    "material": "/materials/{id}",
    "revision": "/materials/{material_id}",
    "module": "/materials/modules/{id}",
    "assignment": "/materials/{id}",
    "submission": "/materials/submissions/{id}",
    "grade": "/materials/submissions/{submission_id}",
    "gradebook": "/courses/{id}",
    "extension": "/materials/extensions/{id}",
    "group": "/groups/{id}",
    "joined": "/groups/{id}",
    "membership": "/groups/{group_id}/members/{id}",
    "course_role": "/groups/{group_id}/roles/{id}",
    "place": "/institutions/{id}",
    "term": "/courses/terms/{id}",
    "provider": "/sso/providers/{id}",
    "domain": "/sso/domains/{id}",
}
