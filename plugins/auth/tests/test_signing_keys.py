"""Keys of access tokens: shared by processes, and rotated without anybody being signed out."""

import asyncio
import base64
import json
import time
from typing import Any

from click.testing import CliRunner
from lms_auth import signing_keys
from lms_auth.access_tokens import AccessTokens
from lms_auth.commands import commands
from typer.main import get_command

from lms_core.testing import ADMIN_EMAIL, ADMIN_PASSWORD, Lms, Settings, application, load_platform, run_setups


async def token_from(process: Lms) -> str:
    form = {"username": ADMIN_EMAIL, "password": ADMIN_PASSWORD}
    return str((await process.client.post("/auth/login", data=form)).json()["access_token"])


async def status(process: Lms, token: str) -> int:
    return (await process.client.get("/users/me", headers={"Authorization": f"Bearer {token}"})).status_code


def kid_of(token: str) -> Any:
    return json.loads(base64.urlsafe_b64decode(token.split(".")[0] + "=="))["kid"]


async def test_old_tokens_outlive_a_rotation_in_every_process(empty_database: Settings) -> None:
    one_platform, other_platform = load_platform(empty_database), load_platform(empty_database)
    await run_setups(one_platform, False)
    async with application(one_platform) as one, application(other_platform) as other:
        old = await token_from(one)
        assert kid_of(await token_from(other)) == kid_of(old)
        assert await status(other, old) == 200
        async with one.context.unit_of_work() as uow:
            await signing_keys.rotate(uow)
        new = await newly_signed(other, kid_of(old))
        for process in (one, other):
            assert [await status(process, token) for token in (old, new)] == [200, 200]
        published = (await other.client.get("/auth/.well-known/jwks.json")).json()["keys"]
        assert [key["kid"] for key in published] == [kid_of(old), kid_of(new)]
        [row] = await one.sql(
            "SELECT extract(epoch FROM retires_at - now()) AS left FROM auth_signing_key WHERE retires_at IS NOT NULL"
        )
        assert 600 < row["left"] <= 600 + signing_keys.RELOAD_SECONDS + signing_keys.CLOCK_SKEW_SECONDS
        await one.sql("UPDATE auth_signing_key SET retires_at = now() WHERE retires_at IS NOT NULL")
    async with application(load_platform(empty_database)) as later:
        assert [await status(later, token) for token in (old, new)] == [401, 200]
        assert await token_from(later)


async def test_operators_rotate_by_command(empty_database: Settings) -> None:
    platform = load_platform(empty_database)
    await run_setups(platform, False)
    async with application(platform) as process:
        old = await token_from(process)
        result = await asyncio.to_thread(
            CliRunner().invoke, get_command(commands), [], obj=load_platform(empty_database)
        )
        assert (result.exit_code, result.output.count("\n")) == (0, 1), result.output
        new = await newly_signed(process, kid_of(old))
        assert [await status(process, token) for token in (old, new)] == [200, 200]


async def newly_signed(process: Lms, old_kid: str) -> str:
    """A token signed with another key; the announcement takes a second at most."""
    deadline = time.monotonic() + 1.0
    while time.monotonic() < deadline:
        token = await token_from(process)
        if kid_of(token) != old_kid:
            return token
    raise AssertionError("the old key still signs")


async def test_a_known_key_stops_verifying_when_it_retires(empty_database: Settings) -> None:
    platform = load_platform(empty_database)
    await run_setups(platform, False)
    async with application(platform) as process:
        old = await token_from(process)
        async with process.context.unit_of_work() as uow:
            await signing_keys.rotate(uow)
        keys = platform.service(AccessTokens).keys
        assert await keys.verifying(process.context, kid_of(old)) is not None
        await process.sql(
            "UPDATE auth_signing_key SET retires_at = now() + interval '1 second' WHERE retires_at > now()"
        )
        keys.hear(signing_keys.KEYS_TOPIC)
        assert await keys.verifying(process.context, kid_of(old)) is not None
        await asyncio.sleep(1.1)
        assert await keys.verifying(process.context, kid_of(old)) is None


async def test_another_secret_means_other_keys(empty_database: Settings) -> None:
    platform = load_platform(empty_database)
    await run_setups(platform, False)
    async with application(platform) as process:
        token = await token_from(process)
    changed = empty_database.model_copy(update={"secret_key": "another secret, as long as it should be"})
    async with application(load_platform(changed)) as process:
        assert await status(process, token) == 401
        assert kid_of(await token_from(process)) != kid_of(token)


async def test_the_metadata_names_where_the_keys_are(lms: Lms) -> None:
    answer = await lms.client.get("/auth/.well-known/oauth-authorization-server")
    assert answer.status_code == 200
    found = answer.json()
    base = found["issuer"].removesuffix("/auth")
    keys = await lms.client.get(found["jwks_uri"].removeprefix(base))
    assert keys.json()["keys"]
    assert (await lms.client.post(found["token_endpoint"].removeprefix(base))).status_code == 422


async def test_keys_that_were_read_before_an_announcement_are_read_again(lms: Lms) -> None:
    keys = signing_keys.SigningKeys()
    await keys.signing(lms.context)
    assert keys.loaded is not None
    reading = asyncio.create_task(keys.load(lms.context))
    await asyncio.sleep(0)
    keys.hear(signing_keys.KEYS_TOPIC)
    await reading
    assert keys.loaded is None
    await keys.signing(lms.context)
    assert keys.loaded is not None
