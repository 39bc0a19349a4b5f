"""Invitations: a user without a password gets a mail, chooses one, and signs in."""

import asyncio
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from lms_auth import mailed_tokens
from lms_auth.invitations import INVITATIONS_PER_HOUR
from lms_auth.mailed_tokens import INVITATION, RESET

from lms_core.testing import PASSWORD, Lms, School

NEW = "chosen by the invited"


async def add_user(lms: Lms, school: School, **fields: Any) -> dict[str, Any]:
    roles = [{"role": "student", "institution_id": school.institution["id"]}]
    body = {"email": f"{uuid4().hex}@example.org", "full_name": "Somebody New", "roles": roles, **fields}
    return await school.principal.create("/users", body)


async def invite(school: School, user: dict[str, Any]) -> httpx2.Response:
    return await school.principal.post("/auth/invitations", {"user_id": user["id"]})


async def newest_token(lms: Lms, user: dict[str, Any]) -> str:
    """The token of the newest invitation, from its mail."""
    await lms.work_off()
    [row] = await lms.sql("SELECT id FROM auth_invitation WHERE user_id = :id ORDER BY id DESC LIMIT 1", id=user["id"])
    path = Path(lms.context.settings.data) / "mails" / f"invitation-{row['id']}.eml"
    mail = message_from_bytes(path.read_bytes(), policy=policy.SMTPUTF8)
    assert mail["To"] == user["email"]
    return next(line for line in mail.get_content().splitlines() if line.startswith("i1."))


async def accept(lms: Lms, token: str, password: str = NEW) -> httpx2.Response:
    return await lms.client.post("/auth/invitations/accept", json={"token": token, "password": password})


async def test_a_new_user_is_invited_and_signs_in(lms: Lms, school: School) -> None:
    user = await add_user(lms, school, invite=True)
    token = await newest_token(lms, user)
    assert (await accept(lms, token, "password1234")).json()["code"] == "password_too_common"
    answer = await accept(lms, token)
    assert (answer.status_code, answer.content) == (204, b"")
    caller = await lms.sign_in(user["email"], NEW)
    assert str(caller.id) == user["id"]
    again = await accept(lms, token, "another one, a bit later")
    assert (again.status_code, again.json()["code"]) == (422, "invalid_invitation")
    await lms.sign_in(user["email"], NEW)


async def test_a_password_and_an_invitation_exclude_each_other(lms: Lms, school: School) -> None:
    body = {"email": f"{uuid4().hex}@example.org", "full_name": "Both", "password": PASSWORD, "invite": True}
    answer = await (await lms.admin()).post("/users", body)
    assert answer.status_code == 422
    assert await (await lms.admin()).items("/users", email=body["email"]) == []


async def test_inviting_again_ends_the_earlier_invitation(lms: Lms, school: School) -> None:
    user = await add_user(lms, school)
    answer = await invite(school, user)
    assert answer.status_code == 202
    assert answer.json()["user_id"] == user["id"]
    first = await newest_token(lms, user)
    assert (await invite(school, user)).status_code == 202
    second = await newest_token(lms, user)
    assert (await accept(lms, first)).status_code == 422
    assert (await accept(lms, second)).status_code == 204


async def test_who_has_a_password_is_not_invited(lms: Lms, school: School) -> None:
    answer = await school.principal.post("/auth/invitations", {"user_id": str(school.student.id)})
    assert (answer.status_code, answer.json()["code"]) == (409, "password_set")


async def test_who_is_disabled_is_neither_invited_nor_let_in(lms: Lms, school: School) -> None:
    user = await add_user(lms, school, invite=True)
    token = await newest_token(lms, user)
    assert (await school.principal.patch(f"/users/{user['id']}", {"is_active": False})).status_code == 200
    answer = await invite(school, user)
    assert (answer.status_code, answer.json()["code"]) == (409, "user_disabled")
    assert (await accept(lms, token)).status_code == 422


async def test_an_invitation_dies_with_the_address_it_went_to(lms: Lms, school: School) -> None:
    user = await add_user(lms, school, invite=True)
    token = await newest_token(lms, user)
    email = f"right-{uuid4().hex}@example.org"
    assert (await school.principal.patch(f"/users/{user['id']}", {"email": email})).status_code == 200
    assert (await accept(lms, token)).status_code == 422
    assert (await invite(school, user)).status_code == 202
    assert (await accept(lms, await newest_token(lms, {**user, "email": email}))).status_code == 204


async def test_an_invitation_dies_of_time_and_of_another_password(lms: Lms, school: School) -> None:
    user = await add_user(lms, school, invite=True)
    token = await newest_token(lms, user)
    await lms.sql("UPDATE auth_invitation SET expires_at = now() WHERE user_id = :id", id=user["id"])
    assert (await accept(lms, token)).status_code == 422
    assert (await invite(school, user)).status_code == 202
    token = await newest_token(lms, user)
    # Who was invited may as well have asked for a reset.
    assert (await lms.client.post("/auth/password-reset", json={"email": user["email"]})).status_code == 202
    [row] = await lms.sql("SELECT id FROM auth_password_reset WHERE user_id = :id", id=user["id"])
    reset = mailed_tokens.derive(lms.context, RESET, row["id"], user["email"])
    assert (await accept(lms, reset)).status_code == 422
    body = {"token": reset, "new_password": "set by the reset, not the invitation"}
    assert (await lms.client.post("/auth/password-reset/confirm", json=body)).status_code == 204
    assert (await accept(lms, token)).status_code == 422


async def test_one_of_many_parallel_acceptances_counts(lms: Lms, school: School) -> None:
    user = await add_user(lms, school, invite=True)
    token = await newest_token(lms, user)
    answers = await asyncio.gather(*(accept(lms, token, f"{NEW} {number}") for number in range(8)))
    assert sorted(answer.status_code for answer in answers) == [204] + [422] * 7


async def test_forged_invitations(lms: Lms, school: School) -> None:
    user = await add_user(lms, school, invite=True)
    token = await newest_token(lms, user)
    [row] = await lms.sql("SELECT id FROM auth_invitation WHERE user_id = :id", id=user["id"])
    of_reset = mailed_tokens.derive(lms.context, RESET, row["id"], user["email"]).replace("p1.", "i1.")
    unknown = mailed_tokens.derive(lms.context, INVITATION, uuid4(), user["email"])
    for forged in (of_reset, unknown, token[:-3] + "AA=", token + "=", "i1.", "", "ü"):
        assert (await accept(lms, forged)).status_code == 422
    assert (await accept(lms, token)).status_code == 204


async def test_a_mailbox_is_not_flooded_with_invitations(lms: Lms, school: School) -> None:
    user = await add_user(lms, school)
    statuses = [(await invite(school, user)).status_code for _ in range(INVITATIONS_PER_HOUR + 1)]
    assert statuses == [202] * INVITATIONS_PER_HOUR + [429]


async def test_no_mail_goes_out_for_an_invitation_that_is_over(lms: Lms, school: School) -> None:
    user = await add_user(lms, school)
    first = (await invite(school, user)).json()["id"]
    second = (await invite(school, user)).json()["id"]
    await lms.work_off()
    mails = Path(lms.context.settings.data) / "mails"
    assert not (mails / f"invitation-{first}.eml").exists()
    assert (mails / f"invitation-{second}.eml").exists()


async def test_the_link_of_the_front_end_stands_in_the_mail(
    lms: Lms, school: School, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = lms.context.platform.plugin_settings(mailed_tokens.AuthSettings)
    monkeypatch.setattr(settings, "invitation_link", "https://app.example.org/welcome#{token}")
    user = await add_user(lms, school, invite=True)
    await lms.work_off()
    [row] = await lms.sql("SELECT id FROM auth_invitation WHERE user_id = :id", id=user["id"])
    token = mailed_tokens.derive(lms.context, INVITATION, row["id"], user["email"])
    mail = (Path(lms.context.settings.data) / "mails" / f"invitation-{row['id']}.eml").read_bytes()
    text = message_from_bytes(mail, policy=policy.SMTPUTF8).get_content()
    assert f"https://app.example.org/welcome#{token}" in text


async def test_the_audit_trail_knows_who_was_invited(lms: Lms, school: School) -> None:
    user = await add_user(lms, school)
    await invite(school, user)
    entries = await school.principal.items("/audit", kind="users.user", object_id=user["id"])
    [entry] = [entry for entry in entries if entry["action"] == "invited"]
    assert entry["actor_id"] == str(school.principal.id)


@pytest.mark.parametrize("how", ["disabled", "deleted"])
async def test_an_invitation_is_dead_for_good_once_its_user_was_out(lms: Lms, school: School, how: str) -> None:
    user = await add_user(lms, school, invite=True)
    token = await newest_token(lms, user)
    path = f"/users/{user['id']}"
    if how == "disabled":
        await school.principal.patch(path, {"is_active": False})
        await lms.work_off()
        await school.principal.patch(path, {"is_active": True})
    else:
        await school.principal.delete(path)
        await lms.work_off()
        await school.principal.post(f"{path}/restore")
    await lms.work_off()
    assert (await school.principal.get(path)).status_code == 200
    assert (await accept(lms, token)).status_code == 422
