"""Settings: each holds from the nearest institution that says it, and passwords follow the strictest."""

from typing import Any
from uuid import UUID, uuid4

import pytest
from lms_institutions.contracts import EffectiveSettings, InstitutionSettings

from lms_core.sdk import NotFound
from lms_core.testing import PASSWORD, Lms

ALL = ["timezone", "locale", "password_min_length", "retention_days", "retention_days_of"]
DEFAULTS = {
    "timezone": "UTC",
    "locale": "en",
    "password_min_length": None,
    "retention_days": 30,
    "retention_days_of": {},
}
LONG = "an institution that asks for very long passwords"


async def read(lms: Lms, id: str) -> tuple[dict[str, Any], list[str]]:
    body = (await (await lms.admin()).get(f"/institutions/{id}")).json()
    return {name: body[name] for name in ALL}, body["inherited"]


async def set_at(lms: Lms, id: str, **settings: Any) -> dict[str, Any]:
    answer = await (await lms.admin()).patch(f"/institutions/{id}", settings)
    assert answer.status_code == 200, answer.text
    changed: dict[str, Any] = answer.json()
    return changed


async def test_the_nearest_that_says_it_decides(lms: Lms) -> None:
    top = await lms.make_institution()
    middle = await lms.make_institution(top["id"])
    leaf = await lms.make_institution(middle["id"])
    assert await read(lms, leaf["id"]) == (DEFAULTS, ALL)
    district = {
        "timezone": "Europe/Zurich",
        "locale": "de-CH",
        "password_min_length": 16,
        "retention_days": 90,
        "retention_days_of": {"users.user": 400},
    }
    shown = await set_at(lms, top["id"], **district)
    assert (shown["locale"], shown["inherited"]) == ("de-CH", [])
    assert await read(lms, leaf["id"]) == (district, ALL)
    shown = await set_at(lms, middle["id"], locale="fr-CH", retention_days=1)
    assert shown["inherited"] == ["timezone", "password_min_length", "retention_days_of"]
    assert await read(lms, leaf["id"]) == ({**district, "locale": "fr-CH", "retention_days": 1}, ALL)
    await set_at(lms, leaf["id"], locale="it")
    assert (await read(lms, leaf["id"]))[0]["locale"] == "it"
    await set_at(lms, leaf["id"], locale=None, name="Renamed")
    assert (await read(lms, leaf["id"])) == ({**district, "locale": "fr-CH", "retention_days": 1}, ALL)
    await set_at(lms, top["id"], **dict.fromkeys(ALL))
    assert (await read(lms, top["id"])) == (DEFAULTS, ALL)
    listed = await (await lms.admin()).items("/institutions", parent_id=middle["id"])
    assert [(one["locale"], one["retention_days"], one["timezone"]) for one in listed] == [("fr-CH", 1, "UTC")]


async def test_a_new_institution_copies_nothing_and_a_moved_one_inherits_anew(lms: Lms) -> None:
    admin = await lms.admin()
    north, south = await lms.make_institution(), await lms.make_institution()
    await set_at(lms, north["id"], timezone="Europe/Oslo")
    await set_at(lms, south["id"], timezone="Europe/Rome")
    school = await lms.make_institution(north["id"])
    assert (school["timezone"], school["inherited"]) == ("Europe/Oslo", ALL)
    moved = await admin.patch(f"/institutions/{school['id']}", {"parent_id": south["id"]})
    assert moved.json()["timezone"] == "Europe/Rome"
    body = {"name": "Own", "slug": "own", "parent_id": north["id"], "timezone": "Asia/Tokyo", "locale": "ja"}
    own = await admin.create("/institutions", body)
    assert (own["timezone"], own["locale"], own["inherited"]) == ("Asia/Tokyo", "ja", ALL[2:])


async def test_a_cached_answer_is_not_taken_for_current_when_the_parent_changed(lms: Lms) -> None:
    top = await lms.make_institution()
    school = await lms.make_institution(top["id"])
    admin = await lms.admin()
    tag = (await admin.get(f"/institutions/{school['id']}")).headers["etag"]
    await set_at(lms, top["id"], locale="nl")
    again = await admin.get(f"/institutions/{school['id']}", headers={"If-None-Match": tag})
    assert (again.status_code, again.json()["locale"]) == (200, "nl")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("timezone", "Europe/Atlantis"), ("locale", ""), ("locale", "de_CH"), ("locale", "d"), ("locale", "de-"),
        ("locale", "de-CH-"), ("locale", "ééé"), ("locale", "de CH"), ("locale", "en-" + "x" * 40),
        ("password_min_length", 7), ("password_min_length", 65), ("retention_days", 0), ("retention_days", 3651),
    ],
)  # fmt: skip
async def test_what_no_setting_can_be(lms: Lms, name: str, value: Any) -> None:
    school = await lms.make_institution()
    answer = await (await lms.admin()).patch(f"/institutions/{school['id']}", {name: value})
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["loc"] == ["body", name]


@pytest.mark.parametrize("tag", ["de", "de-CH", "zh-Hant-TW", "sr-Latn", "es-419", "ca-ES-valencia", "de-u-co-phonebk"])
async def test_language_tags(lms: Lms, tag: str) -> None:
    school = await lms.make_institution()
    assert (await set_at(lms, school["id"], locale=tag))["locale"] == tag


async def test_the_contract_answers_for_other_plugins(lms: Lms) -> None:
    top = await lms.make_institution()
    school = await lms.make_institution(top["id"])
    other = await lms.make_institution()
    await set_at(lms, top["id"], password_min_length=20, retention_days=7)
    await set_at(lms, other["id"], password_min_length=40)
    async with lms.context.unit_of_work() as uow:
        settings = uow.use(InstitutionSettings)
        assert await settings.of(uow, UUID(school["id"])) == EffectiveSettings("UTC", "en", 20, 7, {})
        ids = [UUID(one["id"]) for one in (school, other)]
        assert await settings.strictest_password_length(uow, ids) == 40
        assert await settings.strictest_password_length(uow, ids[:1]) == 20
        assert await settings.strictest_password_length(uow, []) is None
        with pytest.raises(NotFound):
            await settings.of(uow, uuid4())


async def test_a_changed_password_satisfies_the_strictest_institution(lms: Lms) -> None:
    top = await lms.make_institution()
    school = await lms.make_institution(top["id"])
    teacher = await lms.make_user("teacher", school["id"])
    await set_at(lms, top["id"], password_min_length=40)
    body = {"current_password": PASSWORD, "new_password": "long enough by default"}
    refused = await teacher.post("/auth/password", body)
    assert (refused.status_code, refused.json()["code"]) == (422, "password_too_short")
    assert "40" in refused.json()["detail"]
    assert (await teacher.post("/auth/password", {**body, "new_password": LONG})).status_code == 204


async def test_a_role_that_ended_asks_for_nothing(lms: Lms) -> None:
    strict = await lms.make_institution()
    await set_at(lms, strict["id"], password_min_length=40)
    person = await lms.make_user("student", (await lms.make_institution())["id"])
    role = {"role": "student", "institution_id": strict["id"]}
    await (await lms.admin()).create(f"/users/{person.id}/roles", role)
    await lms.sql("UPDATE users_grant SET expires_at = now() WHERE institution_id = :id", id=strict["id"])
    body = {"current_password": PASSWORD, "new_password": "long enough by default"}
    assert (await person.post("/auth/password", body)).status_code == 204


async def test_a_new_users_password_satisfies_the_institutions_of_their_roles(lms: Lms) -> None:
    admin = await lms.admin()
    school = await lms.make_institution()
    await set_at(lms, school["id"], password_min_length=40)
    body = {
        "email": f"{uuid4().hex}@example.org", "full_name": "New", "password": PASSWORD,
        "roles": [{"role": "student", "institution_id": school["id"]}],
    }  # fmt: skip
    refused = await admin.post("/users", body)
    assert (refused.status_code, refused.json()["code"]) == (422, "password_too_short")
    # Strangers don't learn what an institution asks for.
    stranger = (await lms.make_school()).principal
    hidden = await stranger.post("/users", body)
    assert (hidden.status_code, hidden.json()["code"]) == (404, "institution_not_found")
    assert (await admin.post("/users", {**body, "password": LONG})).status_code == 201
