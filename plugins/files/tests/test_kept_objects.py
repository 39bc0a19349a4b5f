"""What a backup takes of the store: whole, and without being held up by what is lost."""

from pathlib import Path

import pytest
from browser import finish
from lms_files.kept_objects import StoredFiles
from lms_files.storage import store_of

from lms_core.testing import Lms, School

CONTENT = b"Words of a text that somebody wrote"


async def test_an_object_is_copied_whole_whatever_may_be_uploaded_now(
    lms: Lms, school: School, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = await finish(lms, school.teacher, CONTENT, "text/plain", "a.txt", course_id=school.course["id"])
    [content] = await lms.sql("SELECT key FROM files_content WHERE sha256 = :sha256", sha256=file["sha256"])
    store, name, copy = store_of(lms.context), f"clean/{content['key']}", tmp_path / "copy"
    monkeypatch.setattr(store, "largest_upload", 3)
    assert await StoredFiles().fetch(lms.context, name, copy)
    assert copy.read_bytes() == CONTENT
    await store.delete_clean(content["key"])
    assert not await StoredFiles().fetch(lms.context, name, copy)
    # And back.
    await StoredFiles().put(lms.context, name, copy)
    assert (await store.find(store.clean, content["key"])).size == len(CONTENT)
