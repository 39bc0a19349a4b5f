"""Backups in a bucket: only what is new travels, what is there is whole until the end, and what differs is refused."""

from hashlib import sha256
from pathlib import Path

import pytest
from lms_files.backup_shelf import Bucket, client_of, place

from lms_core.backup import Kept, Manifest, object_path, write_manifest
from lms_core.backup_shelf import MANIFEST, pull, push
from lms_core.sdk import Context, StartRefused, new_id
from lms_core.testing import Lms


def backup(folder: Path, contents: dict[str, bytes]) -> None:
    """A folder as `lms backup create` writes it."""
    (folder / "database-1").mkdir(parents=True, exist_ok=True)
    (folder / "database-1" / "toc.dat").write_bytes(b"a dump")
    objects = {}
    for name, content in contents.items():
        path = object_path(folder, "files", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        objects[name] = Kept(size=len(content), sha256=sha256(content).hexdigest())
    database = {"database-1/toc.dat": Kept(size=6, sha256=sha256(b"a dump").hexdigest())}
    write_manifest(
        folder,
        Manifest(
            made_at="2026-01-01T00:00:00Z", version="1", lineages={}, database=database, objects={"files": objects}
        ),
    )


@pytest.fixture
async def address(lms: Lms) -> str:
    found = f"s3://backups-{new_id()}/a school"
    async with client_of(lms.context) as client:
        await client.create_bucket(Bucket=place(found)[0])
    return found


async def done(context: Context, folder: Path, address: str) -> str:
    return " ".join([line async for line in push(context, folder, address)])


async def test_only_what_is_new_travels_and_what_is_needed_no_more_goes(lms: Lms, address: str, tmp_path: Path) -> None:
    folder, context = tmp_path / "backup", lms.context
    backup(folder, {"a": b"first", "b": b"second"})
    assert "3 files, 3 of them new" in await done(context, folder, address)
    assert "3 files, 0 of them new" in await done(context, folder, address)
    backup(folder, {"b": b"second", "c": b"third"})
    assert "3 files, 1 of them new" in await done(context, folder, address)
    there = await Bucket().sizes(context, address)
    assert set(there) == {
        MANIFEST, "database-1/toc.dat", *(object_path(Path(), "files", name).as_posix() for name in "bc")
    }  # fmt: skip
    back = tmp_path / "back"
    assert [line async for line in pull(context, address, back)]
    assert object_path(back, "files", "c").read_bytes() == b"third"


async def test_what_differs_is_refused_both_ways(lms: Lms, address: str, tmp_path: Path) -> None:
    folder, context = tmp_path / "backup", lms.context
    with pytest.raises(StartRefused, match="no whole backup"):
        [line async for line in pull(context, address, tmp_path / "none")]
    backup(folder, {"a": b"first"})
    await done(context, folder, address)
    object_path(folder, "files", "a").write_bytes(b"firsT")
    with pytest.raises(StartRefused, match="nothing was copied"):
        await done(context, folder, address)
    # The same size, other bytes: as if the bucket had lost them.
    await Bucket().put(
        context, address, object_path(Path(), "files", "a").as_posix(), object_path(folder, "files", "a")
    )
    with pytest.raises(StartRefused, match="damaged"):
        [line async for line in pull(context, address, tmp_path / "back")]
    assert not (tmp_path / "back" / MANIFEST).exists()


@pytest.mark.parametrize("wrong", ["backups/school", "ftp://backups/school", "s3://there-is-no-such-bucket/school"])
async def test_an_address_that_cannot_be(lms: Lms, tmp_path: Path, wrong: str) -> None:
    backup(tmp_path, {})
    with pytest.raises(StartRefused, match=r"no address|no such bucket"):
        await done(lms.context, tmp_path, wrong)
