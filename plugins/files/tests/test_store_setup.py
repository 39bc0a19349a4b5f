"""`lms files setup-store`: a good store, and what it says of bad ones."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from click.testing import CliRunner
from lms_files import store_setup
from lms_files.commands import commands
from lms_files.storage import Store, store_of, store_of_process
from lms_files.store_setup import CONTENT, Answer, Doubtful, Failed, Visit, compared
from typer.main import get_command

from lms_core.config import Settings
from lms_core.platform import load_platform
from lms_core.sdk import Context, Unavailable

NOTHING = "http://127.0.0.1:9"
CHECKS = 14


@pytest.fixture(autouse=True)
def buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Buckets of one test alone."""
    name = uuid4().hex
    monkeypatch.setenv("LMS_FILES__INCOMING_BUCKET", f"in-{name}")
    monkeypatch.setenv("LMS_FILES__CLEAN_BUCKET", f"clean-{name}")


@pytest.fixture
async def store(settings: Settings) -> AsyncIterator[Store]:
    """The store that the command sees."""
    context = Context.create(load_platform(settings))
    async with store_of_process(context):
        yield store_of(context)
    await context.close()


async def run(settings: Settings, *options: str, **changes: str) -> tuple[int, list[str]]:
    """The command: its exit code and lines."""
    platform = load_platform(settings.model_copy(update=changes))
    result = await asyncio.to_thread(CliRunner().invoke, get_command(commands), ["setup-store", *options], obj=platform)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout.splitlines()


def failures(lines: list[str]) -> list[str]:
    """The lines that say what failed."""
    return [line for line in lines if line.startswith("FAIL")]


async def probes(store: Store) -> list[str]:
    """Everything in both buckets."""
    left = [found.key async for found in store.left_over()]
    return left + [found.key async for found in store.clean_objects()]


async def test_a_good_store_is_well_twice_in_a_row(settings: Settings, store: Store) -> None:
    for options in ((), (), ("--check",)):
        code, lines = await run(settings, *options)
        assert (code, [line[:6] for line in lines]) == (0, ["ok    "] * CHECKS), lines
        assert await probes(store) == []
    assert [rule["ID"] for rule in await store.lifecycle_rules(store.incoming)] == ["lms-left-over"]


async def test_the_public_endpoint_is_checked_as_such(settings: Settings) -> None:
    public = settings.s3_endpoint.replace("127.0.0.1", "localhost")
    code, lines = await run(settings, s3_public_endpoint=public, cors_origins="https://a.example,https://b.example")
    assert (code, failures(lines)) == (0, [])
    assert len([line for line in lines if "LMS_S3_PUBLIC_ENDPOINT" in line]) == 8


async def test_checking_makes_no_buckets(settings: Settings, store: Store) -> None:
    code, lines = await run(settings, "--check")
    assert code == 1
    assert [f"There is no bucket {store.incoming}" in line for line in failures(lines)] == [True]
    assert not await store.has_bucket(store.incoming)
    assert not await store.has_bucket(store.clean)


async def test_checking_sets_no_rules(settings: Settings, store: Store) -> None:
    await store.make_buckets()
    code, lines = await run(settings, "--check")
    assert code == 0
    (warning,) = [line for line in lines if line.startswith("warn")]
    assert "no lifecycle rule of ours" in warning
    assert await store.lifecycle_rules(store.incoming) == []


async def test_wrong_keys(settings: Settings) -> None:
    for changes, words in (
        ({"s3_secret_key": "wrong"}, "correct LMS_S3_SECRET_KEY"),
        ({"s3_access_key": "wrong"}, "correct it"),
    ):
        code, lines = await run(settings, **changes)
        assert code == 1
        assert words in failures(lines)[0]


async def test_nothing_listens(settings: Settings, store: Store) -> None:
    code, lines = await run(settings, s3_public_endpoint=NOTHING)
    assert code == 1
    assert len(failures(lines)) == 2
    assert all("LMS_S3_PUBLIC_ENDPOINT" in line and "no answer" in line for line in failures(lines))
    assert await probes(store) == []
    code, lines = await run(settings, s3_endpoint=NOTHING, s3_public_endpoint=settings.s3_endpoint)
    assert (code, len(lines), len(failures(lines))) == (1, 3, 3)


async def test_a_bucket_that_anybody_reads(settings: Settings, store: Store) -> None:
    await store.make_buckets()
    statement = {
        "Effect": "Allow",
        "Principal": "*",
        "Action": ["s3:GetObject"],
        "Resource": [f"arn:aws:s3:::{store.clean}/*"],
    }
    async with store.asked() as client:
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        await client.put_bucket_policy(Bucket=store.clean, Policy=policy)
    code, lines = await run(settings)
    assert (code, len(failures(lines))) == (1, 1)
    assert f"Anybody can read the bucket {store.clean}" in failures(lines)[0]


async def test_origins_that_may_not_come(settings: Settings, store: Store) -> None:
    store.origins = ["https://a.example"]
    await store.make_buckets()
    origins = {"cors_origins": "https://a.example,https://b.example"}
    code, lines = await run(settings, "--check", **origins)
    assert code == 1
    assert ["https://b.example" in line and store.incoming in line for line in failures(lines)] == [True, True]
    assert (await run(settings, **origins))[0] == 0


async def test_etags_that_browsers_do_not_see(settings: Settings, store: Store) -> None:
    await store.make_buckets()
    async with store.asked() as client:
        rule = {"AllowedOrigins": ["*"], "AllowedMethods": ["POST", "PUT"], "AllowedHeaders": ["*"]}
        await client.put_bucket_cors(Bucket=store.incoming, CORSConfiguration={"CORSRules": [rule]})
    _, lines = await run(settings, "--check")
    assert ["expose the header ETag" in line for line in failures(lines)] == [True]


async def test_a_store_without_rules_is_told_what_to_set(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*asked: object) -> None:
        raise Unavailable("No.", "store_away")

    monkeypatch.setattr(Store, "allow_origins", refuse)
    monkeypatch.setattr(Store, "expire_left_overs", refuse)
    code, lines = await run(settings)
    warnings = [line for line in lines if line.startswith("warn")]
    # Without a rule SeaweedFS lets all origins in, so the preflight is well.
    assert (code, len(warnings)) == (0, 2)
    assert "expose the header ETag" in warnings[0]
    assert "aborted in both buckets" in warnings[1]


async def test_a_store_that_takes_no_forms(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*asked: object, **more: str) -> Answer:
        return Answer(501, {}, b"NotImplemented")

    monkeypatch.setattr(store_setup, "send_form", refuse)
    code, lines = await run(settings)
    [refused] = failures(lines)
    assert (code, "set multipart_from_mb to 0" in refused) == (1, True)
    monkeypatch.setenv("LMS_FILES__MULTIPART_FROM_MB", "0")
    code, lines = await run(settings)
    assert (code, failures(lines)) == (0, [])


async def test_a_store_that_ignores_the_etag_of_a_copy(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    whole_copy, copy_in_parts = Store.publish, Store.copy_in_parts

    async def publish(store: Store, key: str, etag: str, *more: str) -> None:
        await whole_copy(store, key, (await store.find(store.incoming, key)).etag, *more)

    async def parts(store: Store, key: str, etag: str, *more: object) -> None:
        await copy_in_parts(store, key, (await store.find(store.incoming, key)).etag, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(Store, "copy_in_parts", parts)
    monkeypatch.setenv("LMS_FILES__MAX_UPLOAD_MB", "512")
    code, lines = await run(settings)
    assert code == 0
    assert ["keep max_upload_mb at 512" in line for line in lines if line.startswith("warn")] == [True]
    monkeypatch.setenv("LMS_FILES__MAX_UPLOAD_MB", "513")
    assert (await run(settings))[0] == 1
    monkeypatch.setattr(Store, "publish", publish)
    code, lines = await run(settings)
    assert code == 1
    assert "can't be used safely" in failures(lines)[0]


@pytest.mark.parametrize(
    ("check", "words"),
    [
        (store_setup.strangers_are_refused, "Anybody can read"),
        (store_setup.forms_are_bound, "one byte more"),
        (store_setup.downloads_are_bound, "wrong signature"),
        (store_setup.browsers_may_come, "may not POST"),
    ],
)
async def test_a_store_that_does_all_that_it_is_asked(
    store: Store, monkeypatch: pytest.MonkeyPatch, check: Callable[[Visit], Awaitable[str]], words: str
) -> None:
    async def ask(method: str, url: str, *more: object, **options: object) -> Answer:
        headers = {"content-disposition": 'attachment; filename="probe.txt"', "access-control-allow-methods": "*"}
        return Answer(200, headers, CONTENT)

    await store.make_buckets()
    monkeypatch.setattr(store_setup, "ask", ask)
    with pytest.raises(Failed, match=words):
        await check(Visit(store, store.endpoint, "LMS_S3_ENDPOINT", False))


async def test_probes_go_when_the_command_is_interrupted(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    async def interrupt(*asked: object) -> None:
        raise asyncio.CancelledError

    monkeypatch.setattr(store, "publish", interrupt)
    with pytest.raises(asyncio.CancelledError):
        [finding async for finding in store_setup.examine(store, changes=True)]
    assert await probes(store) == []


def test_clocks() -> None:
    now = datetime.now(UTC)
    assert compared(now, now - timedelta(seconds=60)) == "they differ by 60 s"
    with pytest.raises(Doubtful, match="61 s"):
        compared(now, now + timedelta(seconds=61))
    with pytest.raises(Failed, match="301 s"):
        compared(now - timedelta(seconds=301), now)
