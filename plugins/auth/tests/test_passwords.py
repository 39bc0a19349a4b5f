"""Passwords: which are refused, changing one, and resetting a forgotten one."""

import asyncio
import time
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from lms_auth import mailed_tokens, password_resets
from lms_auth.mailed_tokens import RESET
from lms_auth.password_rules import common_words, refuse_weak
from lms_auth.settings import AuthSettings

from lms_core.sdk import Invalid
from lms_core.testing import PASSWORD, Lms

NEW = "an entirely different one"


def code_of(password: str, email: str = "ada.lovelace@example.org") -> str | None:
    try:
        refuse_weak(AuthSettings(), password, email, ("body", "password"))
    except Invalid as refusal:
        return refusal.code
    return None


@pytest.mark.parametrize(
    ("password", "code"),
    [
        ("elevenchars", "password_too_short"),
        ("x" * 127 + "yz", "password_too_long"),
        ("my ADA.Lovelace pw", "password_contains_address"),
        ("ｍｙ ada.lovelace pw", "password_contains_address"),
        ("password1234", "password_too_common"),
        ("Password1234!", "password_too_common"),
        ("P@ssw0rd!2024", "password_too_common"),
        ("passwordpassword", "password_too_common"),
        ("1234567890123", "password_too_common"),
        ("aaaaaaaaaaaaaaaa", "password_too_common"),
        ("abcabcabcabcabc", "password_too_common"),
        ("abcdefghijklmnop", "password_too_common"),
        ("qwertyuiop123456", "password_too_common"),
        ("QWERTYUIOPASDFGH", "password_too_common"),
        ("1q2w3e4r5t6y", "password_too_common"),
        ("iloveyou!!!!2024", "password_too_common"),
        ("liverpoolfc1892", "password_too_common"),
        ("letmein-letmein-letmein", "password_too_common"),
        ("administrator1", "password_too_common"),
        ("314159265358", "password_too_common"),
        ("twelve chars", None),
        ("correct horse battery staple", None),
        ("x7#kQp2!vLm9", None),
        ("ein ganz und gar langer Satz", None),
        ("пароль не угадаешь никогда", None),
        ("".join(chr(0x4E00 + number) for number in range(12)), None),
    ],
)
def test_which_passwords_are_refused(password: str, code: str | None) -> None:
    assert code_of(password) == code


def test_bounds_are_inclusive_and_short_addresses_do_not_count() -> None:
    long = "".join(chr(97 + number * 7 % 26) for number in range(128))
    assert code_of(long[:12]) is None
    assert code_of(long) is None
    assert code_of(long + "z") == "password_too_long"
    assert code_of("ab and more of it", "ab@example.org") is None
    assert code_of("bob and more of it", "BOB@example.org") == "password_contains_address"


def test_the_blocklist_is_in_the_form_that_is_looked_up() -> None:
    assert len(common_words()) > 3000
    assert all(word == word.casefold() for word in common_words())


async def test_a_new_user_cannot_have_a_weak_password(lms: Lms) -> None:
    body = {"email": f"{uuid4().hex}@example.org", "full_name": "Weak", "password": "password1234"}
    answer = await (await lms.admin()).post("/users", body)
    assert (answer.status_code, answer.json()["code"]) == (422, "password_too_common")
    assert "password1234" not in answer.text
    assert answer.json()["errors"][0]["loc"] == ["body", "password"]


async def change(account: Any, tokens: dict[str, Any], current: str, new: str) -> Any:
    headers = {"Authorization": f"Bearer {tokens['access_token']}"}
    body = {"current_password": current, "new_password": new}
    return await account.lms.client.post("/auth/password", json=body, headers=headers)


async def test_changing_the_password_ends_all_other_sessions(account: Any) -> None:
    here, elsewhere = await account.tokens(), await account.tokens()
    assert await account.me(elsewhere["access_token"]) == 200
    assert (await change(account, here, PASSWORD, NEW)).status_code == 204
    assert await account.me(here["access_token"]) == 200
    assert (await account.refresh(here["refresh_token"])).status_code == 200
    assert await account.me(elsewhere["access_token"]) == 401
    assert (await account.refresh(elsewhere["refresh_token"])).status_code == 401
    assert [row["revoked_reason"] for row in await account.sessions()] == [None, "password"]
    assert (await account.login()).status_code == 401
    assert (await account.login(NEW)).status_code == 200


async def test_a_refused_change_changes_nothing(account: Any) -> None:
    here, elsewhere = await account.tokens(), await account.tokens()
    wrong = await change(account, here, "not the current one", NEW)
    assert (wrong.status_code, wrong.json()["code"]) == (422, "wrong_password")
    weak = await change(account, here, PASSWORD, "password1234")
    assert (weak.status_code, weak.json()["code"]) == (422, "password_too_common")
    assert weak.json()["errors"][0]["loc"] == ["body", "new_password"]
    assert await account.me(elsewhere["access_token"]) == 200
    assert (await account.login()).status_code == 200


async def test_white_space_belongs_to_a_password(account: Any) -> None:
    here = await account.tokens()
    assert (await change(account, here, PASSWORD, "  spaces at both ends  ")).status_code == 204
    assert (await account.login("spaces at both ends")).status_code == 401
    assert (await account.login("  spaces at both ends  ")).status_code == 200


async def test_one_password_however_it_is_typed(account: Any) -> None:
    here = await account.tokens()
    assert (await change(account, here, PASSWORD, "zwölf Boxkämpfer jagen")).status_code == 204
    assert (await account.login("zwo\u0308lf Boxka\u0308mpfer jagen")).status_code == 200


async def ask_for_reset(account: Any) -> None:
    answer = await account.lms.client.post("/auth/password-reset", json={"email": account.email.upper()})
    assert (answer.status_code, answer.content) == (202, b"")


async def reset_token(account: Any) -> str:
    """The token of the newest reset, from the mail."""
    await account.lms.work_off()
    [row] = await account.lms.sql(
        "SELECT id FROM auth_password_reset WHERE user_id = :id ORDER BY id DESC LIMIT 1", id=account.id
    )
    path = Path(account.lms.context.settings.data) / "mails" / f"password-reset-{row['id']}.eml"
    assert path.stat().st_mode & 0o077 == 0
    mail = message_from_bytes(path.read_bytes(), policy=policy.SMTPUTF8)
    assert mail["To"] == account.email
    return next(line for line in mail.get_content().splitlines() if line.startswith("p1."))


async def confirm(account: Any, token: str, password: str = NEW) -> Any:
    body = {"token": token, "new_password": password}
    return await account.lms.client.post("/auth/password-reset/confirm", json=body)


async def test_a_reset_sets_the_password_once_and_ends_all_sessions(account: Any) -> None:
    tokens = await account.tokens()
    assert await account.me(tokens["access_token"]) == 200
    await ask_for_reset(account)
    token = await reset_token(account)
    assert (await confirm(account, token, "password1234")).json()["code"] == "password_too_common"
    assert (await confirm(account, token)).status_code == 204
    assert await account.me(tokens["access_token"]) == 401
    assert (await account.login()).status_code == 401
    assert (await account.login(NEW)).status_code == 200
    again = await confirm(account, token, "yet another long one")
    assert (again.status_code, again.json()["code"]) == (422, "invalid_reset_token")
    assert (await account.login(NEW)).status_code == 200


async def test_one_of_many_parallel_confirmations_counts(account: Any) -> None:
    await ask_for_reset(account)
    token = await reset_token(account)
    answers = await asyncio.gather(*(confirm(account, token, f"{NEW} {number}") for number in range(8)))
    assert sorted(answer.status_code for answer in answers) == [204] + [422] * 7
    winner = next(number for number, answer in enumerate(answers) if answer.status_code == 204)
    assert (await account.login(f"{NEW} {winner}")).status_code == 200


async def test_a_reset_dies_of_time_of_a_change_and_of_the_user(lms: Lms, account: Any) -> None:
    await ask_for_reset(account)
    token = await reset_token(account)
    await lms.sql("UPDATE auth_password_reset SET expires_at = now() WHERE user_id = :id", id=account.id)
    assert (await confirm(account, token)).status_code == 422
    await ask_for_reset(account)
    token = await reset_token(account)
    assert (await change(account, await account.tokens(), PASSWORD, "changed in between")).status_code == 204
    assert (await confirm(account, token)).status_code == 422
    await ask_for_reset(account)
    token = await reset_token(account)
    assert (await (await lms.admin()).patch(f"/users/{account.id}", {"is_active": False})).status_code == 200
    assert (await confirm(account, token)).status_code == 422


async def test_forged_reset_tokens(lms: Lms, account: Any) -> None:
    await ask_for_reset(account)
    token = await reset_token(account)
    last = "A" if token[-1] != "A" else "B"
    foreign = mailed_tokens.derive(lms.context, RESET, uuid4(), account.email)
    for forged in (token[:-1] + last, foreign, token + "=", "p1.", "", "ü"):
        assert (await confirm(account, forged)).status_code == 422
    assert (await confirm(account, token)).status_code == 204


async def test_the_token_stands_in_no_table(lms: Lms, account: Any) -> None:
    await ask_for_reset(account)
    token = await reset_token(account)
    for table in ("auth_password_reset", "core_event", "core_delivery"):
        rows = await lms.sql(f"SELECT row_to_json(t)::text AS text FROM {table} t")
        assert all(token[-40:] not in row["text"] for row in rows)


async def test_nobody_learns_who_has_an_address(lms: Lms, account: Any) -> None:
    async def seconds(email: str) -> float:
        started = time.monotonic()
        assert (await lms.client.post("/auth/password-reset", json={"email": email})).status_code == 202
        return time.monotonic() - started

    known, unknown = await seconds(account.email), await seconds("nobody-here@example.org")
    assert abs(known - unknown) < 0.1
    assert min(known, unknown) >= password_resets.ANSWER_SECONDS


async def test_a_mailbox_is_not_flooded(lms: Lms, account: Any) -> None:
    for _ in range(password_resets.RESETS_PER_HOUR + 2):
        await ask_for_reset(account)
    rows = await lms.sql("SELECT 1 FROM auth_password_reset WHERE user_id = :id", id=account.id)
    assert len(rows) == password_resets.RESETS_PER_HOUR


async def test_a_reset_asks_for_the_length_of_the_users_institutions(lms: Lms, account: Any) -> None:
    school = await lms.make_institution()
    admin = await lms.admin()
    await admin.create(f"/users/{account.id}/roles", {"role": "student", "institution_id": school["id"]})
    answer = await admin.patch(f"/institutions/{school['id']}", {"password_min_length": 40})
    assert answer.status_code == 200, answer.text
    await ask_for_reset(account)
    token = await reset_token(account)
    assert (await confirm(account, token)).json()["code"] == "password_too_short"
    assert (await confirm(account, token, "one that is long enough for the whole school")).status_code == 204
