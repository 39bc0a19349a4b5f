"""Walking database and store both ways: what differs is said, and put right where it can be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from hashlib import sha256
from uuid import uuid4

import pytest
import samples
from browser import downloaded, finish, upload
from click.testing import CliRunner
from lms_files import differences
from lms_files.commands import commands
from lms_files.contracts import FileUploaded
from lms_files.derivatives import picture_key
from lms_files.differences import Difference
from lms_files.lifecycle import content_key
from lms_files.storage import Store, store_of
from lms_files.verification import verify
from typer.main import get_command

from lms_core.config import Settings
from lms_core.platform import load_platform
from lms_core.testing import Lms, School


async def said_of(lms: Lms, word: str, read: bool = False) -> list[Difference]:
    """The differences that name this; other tests leave theirs in the same bucket."""
    return [one async for one in differences.differences(lms.context, read) if word in one.text]


async def test_a_lost_thumbnail_is_made_anew(lms: Lms, school: School) -> None:
    file = await finish(lms, school.teacher, samples.pdf([uuid4().hex]))
    assert await said_of(lms, file["id"]) == []
    await store_of(lms.context).delete_clean(picture_key(file["sha256"], "thumbnail"))
    [lost] = await said_of(lms, file["id"])
    assert lost.text == f"The thumbnail of file {file['id']} is missing."
    assert await lost.repair(lms.context)
    await lms.work_off()
    assert await said_of(lms, file["id"]) == []
    assert (await downloaded(school.teacher, file["id"], variant="thumbnail")).content[8:12] == b"WEBP"


async def test_bytes_that_changed_in_the_store_are_found_by_reading(lms: Lms, school: School) -> None:
    content = samples.pdf([uuid4().hex])
    file = await finish(lms, school.teacher, content)
    [row] = await lms.sql("SELECT clean_key FROM files_file WHERE id = :id", id=file["id"])
    await store_of(lms.context).put_clean(row["clean_key"], content[:-1] + b" ", "application/pdf")
    assert await said_of(lms, row["clean_key"]) == []
    [changed] = await said_of(lms, row["clean_key"], read=True)
    assert "has the SHA-256" in changed.text
    assert file["id"] in changed.text
    # Nobody here has the right bytes.
    assert not await changed.repair(lms.context)
    await store_of(lms.context).put_clean(row["clean_key"], content, "application/pdf")


async def test_an_object_that_no_file_has_is_removed(lms: Lms, monkeypatch: pytest.MonkeyPatch) -> None:
    key = f"clean/zz/{uuid4().hex}"
    store = store_of(lms.context)
    await store.put_clean(key, b"left over", "text/plain")
    # It may belong to work that is going on.
    assert await said_of(lms, key) == []
    monkeypatch.setattr(differences, "LEFT_ALONE_FOR", timedelta(seconds=-60))
    [unknown] = await said_of(lms, key)
    assert await unknown.repair(lms.context)
    assert await said_of(lms, key) == []


@pytest.mark.parametrize("what", ["content", "thumbnail"])
async def test_who_uploads_what_is_being_removed_has_it(
    lms: Lms, school: School, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    content = samples.pdf([uuid4().hex])
    gone = await finish(lms, school.teacher, content)
    for statement in (
        "DELETE FROM files_page WHERE file_id = :id",
        "DELETE FROM files_file WHERE id = :id",
        "DELETE FROM files_content WHERE sha256 = :sha256",
    ):
        await lms.sql(statement, **{name: gone[name] for name in ("id", "sha256") if f":{name}" in statement})
    key = content_key(gone["sha256"]) if what == "content" else picture_key(gone["sha256"], "thumbnail")
    monkeypatch.setattr(differences, "LEFT_ALONE_FOR", timedelta(seconds=-60))
    [stray] = await said_of(lms, key)
    whole, uploads = Store.delete_clean, []

    async def slowly(self: Store, key: str) -> None:
        uploads.append(asyncio.create_task(finish(lms, school.student, content)))
        await asyncio.sleep(1.5)
        await whole(self, key)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "delete_clean", slowly)
        assert await stray.repair(lms.context)
    file = await uploads[0]
    await lms.sql("UPDATE core_delivery SET next_attempt_at = now() WHERE done_at IS NULL")
    await lms.work_off()
    assert (await school.student.get(f"/files/{file['id']}")).json()["state"] == "ready"
    assert (await downloaded(school.student, file["id"])).content == content
    assert (await downloaded(school.student, file["id"], variant="thumbnail")).content[8:12] == b"WEBP"
    # What a file has by now stays.
    assert await stray.repair(lms.context)
    assert (await downloaded(school.student, file["id"])).content == content
    assert (await downloaded(school.student, file["id"], variant="thumbnail")).status_code == 200


async def test_what_is_not_copied_yet_is_no_difference(
    lms: Lms, school: School, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = samples.pdf([uuid4().hex])
    file = await upload(school.teacher, content)

    async def die(*arguments: object) -> None:
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "publish", die)
        with pytest.raises(RuntimeError):
            await verify(lms.context, FileUploaded(file_id=file["id"]))
    id = sha256(content).hexdigest()
    assert await said_of(lms, id) == []
    # However old the content is: its only file is still at work.
    await lms.sql("UPDATE files_content SET created_at = now() - interval '1 day' WHERE sha256 = :id", id=id)
    assert await said_of(lms, id) == []
    await lms.work_off()
    assert (await downloaded(school.teacher, file["id"])).content == content


async def test_a_content_without_files_and_object_is_forgotten(lms: Lms) -> None:
    id = sha256(uuid4().bytes).hexdigest()
    await lms.sql("INSERT INTO files_content (sha256, size, key) VALUES (:id, 5, :key)", id=id, key=content_key(id))
    assert await said_of(lms, id) == []
    await lms.sql("UPDATE files_content SET created_at = now() - interval '1 day' WHERE sha256 = :id", id=id)
    [left] = await said_of(lms, id)
    assert await left.repair(lms.context)
    assert await said_of(lms, id) == []
    assert await lms.sql("SELECT 1 FROM files_content WHERE sha256 = :id", id=id) == []


async def test_a_picture_of_what_is_missing_is_not_repaired(lms: Lms, school: School) -> None:
    content = samples.pdf([uuid4().hex])
    file = await finish(lms, school.teacher, content)
    for key in (picture_key(file["sha256"], "preview"), content_key(file["sha256"])):
        await store_of(lms.context).delete_clean(key)
    lost, picture = await said_of(lms, file["id"])
    assert ("is missing" in lost.text, picture.text.startswith("The preview")) == (True, True)
    assert not await lost.repair(lms.context)
    assert not await picture.repair(lms.context)
    assert (await school.teacher.get(f"/files/{file['id']}")).json()["derivatives"]["preview"]["state"] == "ready"
    await store_of(lms.context).put_clean(content_key(file["sha256"]), content, "application/pdf")
    [picture] = await said_of(lms, file["id"])
    assert await picture.repair(lms.context)
    await lms.work_off()
    assert await said_of(lms, file["id"]) == []


async def run(settings: Settings, *options: str) -> tuple[int, str, str]:
    """`lms files verify`: its exit code, and what it says on both outputs."""
    platform = load_platform(settings)
    result = await asyncio.to_thread(CliRunner().invoke, get_command(commands), ["verify", *options], obj=platform)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


async def test_what_the_command_says(lms: Lms, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = lms.context.settings
    code, said, error = await run(settings.model_copy(update={"s3_endpoint": "http://127.0.0.1:9"}))
    assert (code, said, error.count("\n"), "does not answer" in error) == (2, "", 1, True)

    async def can_be_repaired(context: object) -> bool:
        return True

    for found, options, ended in (
        ([], (), (0, "No differences.\n")),
        ([Difference("One.", can_be_repaired), Difference("Two.")], (), (1, "One.\nTwo.\n")),
        ([Difference("One.", can_be_repaired), Difference("Two.")], ("--repair",), (1, "One. Repaired.\nTwo.\n")),
        ([Difference("One.", can_be_repaired)], ("--repair",), (0, "One. Repaired.\n")),
    ):

        async def differences_found(
            context: object, read: bool, found: list[Difference] = found
        ) -> AsyncIterator[Difference]:
            for one in found:
                yield one

        monkeypatch.setattr("lms_files.commands.differences", differences_found)
        assert (await run(settings, *options))[:2] == ended


async def test_a_quota_that_is_wrong_is_counted_anew(lms: Lms, school: School) -> None:
    content = samples.pdf(["words"])
    await finish(lms, school.teacher, content)
    id = str(school.teacher.id)
    await lms.sql("UPDATE files_quota SET used_bytes = 1, reserved_bytes = 7 WHERE id = :id", id=id)
    [wrong] = await said_of(lms, id)
    assert await wrong.repair(lms.context)
    assert await said_of(lms, id) == []
    room = (await school.teacher.get("/files/limits/me")).json()
    assert (room["used_bytes"], room["reserved_bytes"]) == (len(content), 0)
