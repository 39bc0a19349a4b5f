"""The first super admin: made once, whoever else tries at the same moment."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from lms_auth.first_super_admin import ensure_super_admin

from lms_core.sdk import Context, StartRefused
from lms_core.testing import Settings, load_platform


@pytest.fixture
async def empty(empty_database: Settings) -> AsyncIterator[Context]:
    """A context on a database in which nobody is."""
    context = Context.create(load_platform(empty_database))
    yield context
    await context.close()


def told(context: Context, **changes: str) -> None:
    """As if the environment, or a file of a secret, had said so."""
    context.settings = context.settings.model_copy(update=changes)


async def count(context: Context) -> int:
    reads = await context.database.read("SELECT count(*) FROM users_grant WHERE role = 'super_admin'", [])
    return int(reads[0][0])


async def test_the_password_is_shown_once(empty: Context) -> None:
    told(empty, admin_email="", admin_password="")
    [line] = await ensure_super_admin(empty, False)
    assert line.startswith("First super admin: admin@example.org / ")
    assert len(line.rpartition(" / ")[2]) >= 20
    assert await ensure_super_admin(empty, False) == ["Super admin: admin@example.org"]
    assert await count(empty) == 1


async def test_the_environment_decides(empty: Context) -> None:
    told(empty, admin_email="Ada@Example.org", admin_password="a rather long secret")
    assert await ensure_super_admin(empty, True) == [
        "First super admin: Ada@Example.org / the password of LMS_ADMIN_PASSWORD"
    ]
    assert await ensure_super_admin(empty, True) == [
        "Super admin: Ada@Example.org (LMS_ADMIN_PASSWORD is not used: there is a super admin already)"
    ]


async def test_two_at_once_make_one(empty: Context) -> None:
    lines = await asyncio.gather(*(ensure_super_admin(empty, False) for _ in range(4)))
    assert sorted(line.split(":")[0] for [line] in lines) == ["First super admin"] + ["Super admin"] * 3
    assert await count(empty) == 1


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("admin_password", "short", "LMS_ADMIN_PASSWORD is refused"),
        ("admin_password", "password1234", "easily guessed"),
        ("admin_email", "nobody", "LMS_ADMIN_EMAIL is not an e-mail address"),
    ],
)
async def test_what_cannot_be_is_refused_in_one_sentence(empty: Context, name: str, value: str, sentence: str) -> None:
    told(empty, **{name: value})
    with pytest.raises(StartRefused, match=sentence) as refused:
        await ensure_super_admin(empty, False)
    assert value not in str(refused.value) or name == "admin_email"
    assert await count(empty) == 0
