"""The storage layer against the real store: parts, large copies, listings, rules."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from lms_files import storage
from lms_files.settings import MIB, FilesSettings
from lms_files.storage import Store, StoredPart, part_size, part_sizes
from lms_files.storage_clients import Clients, ObjectChanged, ObjectMissing

from lms_core.sdk import Unavailable
from lms_core.testing import Lms

GIB = 1024 * MIB
TIB = 1024 * GIB
VIDEO = "video/mp4"


@pytest.fixture
async def store(lms: Lms) -> AsyncIterator[Store]:
    """A store with buckets of its own."""
    made = Store(lms.context)
    made.incoming, made.clean = f"in-{uuid4().hex}", f"clean-{uuid4().hex}"
    await made.make_buckets()
    yield made
    await made.clients.close()


async def sent(store: Store, key: str, upload_id: str, numbers: list[int], content: bytes) -> dict[int, str]:
    """PUT 5 MiB parts; their ETags."""
    async with store.asked(60) as client:
        return {
            number: (
                await client.upload_part(
                    Bucket=store.incoming, Key=key, UploadId=upload_id, PartNumber=number, Body=content
                )
            )["ETag"]
            for number in numbers
        }


async def unfinished_copies(store: Store) -> list[str]:
    """Keys of uploads in the clean bucket that nobody completed."""
    async with store.asked() as client:
        found = await client.list_multipart_uploads(Bucket=store.clean)
    return [upload["Key"] for upload in found.get("Uploads", ())]


@given(st.integers(1, 5 * TIB))
@example(1)
@example(100 * 512 * MIB)
@example(100 * 512 * MIB + 1)
@example(10_000 * 512 * MIB)
@example(10_000 * 512 * MIB + 1)
@example(5 * TIB)
def test_every_size_makes_parts_that_s3_takes(size: int) -> None:
    sizes = part_sizes(size)
    assert sum(sizes) == size
    assert 1 <= len(sizes) <= 10_000
    assert set(sizes[:-1]) <= {part_size(size)}
    assert 0 < sizes[-1] <= part_size(size)
    assert 16 * MIB <= part_size(size) <= 5 * GIB
    assert len(sizes) <= 100 or part_size(size) >= 512 * MIB


def test_files_up_to_what_s3_takes_can_be_allowed() -> None:
    assert FilesSettings(max_upload_mb=5 * MIB).max_upload_bytes == 5 * TIB
    with pytest.raises(ValueError):
        FilesSettings(max_upload_mb=5 * MIB + 1)


async def test_uploaded_parts_are_listed_page_by_page(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "LISTED_AT_ONCE", 1)
    content = bytes(5 * MIB)
    upload_id = await store.start_multipart("incoming/a", VIDEO)
    assert await store.uploaded_parts("incoming/a", upload_id) == []
    etags = await sent(store, "incoming/a", upload_id, [3, 1, 2], content)
    parts = await store.uploaded_parts("incoming/a", upload_id)
    assert parts == [StoredPart(number, etags[number], 5 * MIB) for number in (1, 2, 3)]
    await store.complete_multipart("incoming/a", upload_id, [(part.number, part.etag) for part in parts])
    assert (await store.find(store.incoming, "incoming/a")).size == 15 * MIB
    with pytest.raises(ObjectMissing):
        await store.uploaded_parts("incoming/a", upload_id)


async def test_an_aborted_or_unknown_upload_has_no_parts(store: Store) -> None:
    upload_id = await store.start_multipart("incoming/a", VIDEO)
    await store.abort_multipart("incoming/a", upload_id)
    for key, id in (("incoming/a", upload_id), ("incoming/b", upload_id), ("incoming/a", "unknown")):
        with pytest.raises(ObjectMissing):
            await store.uploaded_parts(key, id)


async def test_addresses_for_some_parts_only(store: Store) -> None:
    def numbers(urls: list[str]) -> list[int]:
        return [int(parse_qs(urlsplit(url).query)["partNumber"][0]) for url in urls]

    assert numbers(await store.part_urls("incoming/a", "id", 100 * MIB)) == list(range(1, 8))
    assert numbers(await store.part_urls("incoming/a", "id", 100 * MIB, [7, 2])) == [7, 2]
    assert await store.part_urls("incoming/a", "id", 100 * MIB, []) == []
    for wrong in (0, 8, -1):
        with pytest.raises(IndexError):
            await store.part_urls("incoming/a", "id", 100 * MIB, [wrong])


async def test_a_large_copy_is_the_same_as_a_small_one(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(storage, "PART_BYTES", 5 * MIB)
    content = os.urandom(26 * MIB + 7)
    await store.put_incoming("incoming/a", content, "text/html")
    etag = (await store.find(store.incoming, "incoming/a")).etag
    heads = []
    for threshold, name in ((len(content), "small"), (len(content) - 1, "large")):
        monkeypatch.setattr(storage, "SINGLE_COPY_BYTES", threshold)
        await store.publish("incoming/a", etag, name, VIDEO)
        await store.download(store.clean, name, tmp_path / name, len(content))
        assert (tmp_path / name).read_bytes() == content
        async with store.asked() as client:
            heads.append(await client.head_object(Bucket=store.clean, Key=name))
    small, large = [(head["ContentType"], head["ContentDisposition"], head["Metadata"]) for head in heads]
    assert small == large == (VIDEO, "attachment", {})
    assert [head["ETag"].endswith('-6"') for head in heads] == [False, True]
    assert await unfinished_copies(store) == []


async def test_a_large_copy_of_something_else_leaves_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "PART_BYTES", 5 * MIB)
    monkeypatch.setattr(storage, "SINGLE_COPY_BYTES", 1)
    await store.put_incoming("incoming/a", bytes(11 * MIB), VIDEO)
    etag = (await store.find(store.incoming, "incoming/a")).etag
    await store.put_incoming("incoming/a", bytes(11 * MIB - 1) + b"x", VIDEO)
    with pytest.raises(ObjectChanged):
        await store.publish("incoming/a", etag, "copy", VIDEO)
    with pytest.raises(ObjectMissing):
        await store.publish("incoming/b", etag, "copy", VIDEO)
    assert await unfinished_copies(store) == []
    with pytest.raises(ObjectMissing):
        await store.find(store.clean, "copy")


async def test_a_copy_that_is_replaced_half_way_leaves_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "PART_BYTES", 5 * MIB)
    monkeypatch.setattr(storage, "SINGLE_COPY_BYTES", 1)
    monkeypatch.setattr(storage, "COPIES_AT_ONCE", 1)
    await store.put_incoming("incoming/a", bytes(11 * MIB), VIDEO)
    etag = (await store.find(store.incoming, "incoming/a")).etag
    async with store.asked(storage.COPY_SECONDS) as client:
        copy_part, copied = client.upload_part_copy, []

    async def copy_then_replace(**asked: object) -> object:
        answer = await copy_part(**asked)
        copied.append(asked["PartNumber"])
        await store.put_incoming("incoming/a", os.urandom(11 * MIB), VIDEO)
        return answer

    monkeypatch.setattr(client, "upload_part_copy", copy_then_replace)
    with pytest.raises(ObjectChanged):
        await store.publish("incoming/a", etag, "copy", VIDEO)
    assert copied == [1]
    assert await unfinished_copies(store) == []


async def test_a_copy_whose_completion_is_answered_late_is_there(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "SINGLE_COPY_BYTES", 1)
    await store.put_incoming("incoming/a", b"content", VIDEO)
    etag = (await store.find(store.incoming, "incoming/a")).etag
    async with store.asked(storage.COPY_SECONDS) as client:
        complete = client.complete_multipart_upload

    async def complete_twice(**asked: object) -> object:
        await complete(**asked)
        return await complete(**{**asked, "UploadId": "gone"})

    monkeypatch.setattr(client, "complete_multipart_upload", complete_twice)
    await store.publish("incoming/a", etag, "copy", VIDEO)
    assert (await store.find(store.clean, "copy")).size == 7

    async def aborted(**asked: object) -> object:
        return await complete(**{**asked, "UploadId": "gone"})

    # The upload is there, so this must not be told as if it was missing.
    monkeypatch.setattr(client, "complete_multipart_upload", aborted)
    with pytest.raises(Unavailable):
        await store.publish("incoming/a", etag, "another", VIDEO)


async def test_the_clean_bucket_is_listed_and_emptied(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "LISTED_AT_ONCE", 2)
    for number in range(5):
        await store.put_clean(f"clean/{number}", b"x" * number, "text/plain")
    await store.put_clean("other", b"other", "text/plain")
    found = [(listed.key, listed.size) async for listed in store.clean_objects("clean/")]
    assert found == [(f"clean/{number}", number) for number in range(5)]
    everything = [listed async for listed in store.clean_objects()]
    assert len(everything) == 6
    assert all(listed.since.tzinfo for listed in everything)
    for _ in range(2):
        await store.delete_clean("other")
    assert len([listed async for listed in store.clean_objects()]) == 5


async def test_left_overs_of_a_folder(store: Store) -> None:
    for folder in ("a", "b"):
        await store.put_incoming(f"{folder}/object", b"x", "text/plain")
        await store.start_multipart(f"{folder}/upload", VIDEO)
    found = {(left.key, left.upload_id is None) async for left in store.left_over("a/")}
    assert found == {("a/object", True), ("a/upload", False)}


async def test_a_lifecycle_rule_of_somebody_else_stays(store: Store) -> None:
    theirs = {"ID": "theirs", "Status": "Enabled", "Filter": {"Prefix": "logs/"}, "Expiration": {"Days": 1}}
    async with store.asked() as client:
        await client.put_bucket_lifecycle_configuration(Bucket=store.clean, LifecycleConfiguration={"Rules": [theirs]})
    for bucket, names in ((store.clean, ["theirs", "lms-left-over"]), (store.incoming, ["lms-left-over"])):
        for _ in range(2):
            await store.expire_left_overs(bucket)
        rules = await store.lifecycle_rules(bucket)
        assert [rule["ID"] for rule in rules] == names
        assert rules[-1]["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 7}
        assert "Expiration" not in rules[-1]


async def test_keys_are_tried(lms: Lms, store: Store) -> None:
    await store.try_keys(store.endpoint)
    settings = lms.context.settings.model_copy(update={"s3_secret_key": "another"})
    right, store.clients = store.clients, Clients(type("Context", (), {"settings": settings})())
    with pytest.raises(Unavailable):
        await store.try_keys(store.endpoint)
    await store.clients.close()
    store.clients = right
