"""The rules for files that are there: who reads them, under which name, and where the bytes are."""

import asyncio
import tempfile
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from fastapi import Response
from sqlalchemy import JSON, Uuid, bindparam, func
from sqlalchemy import update as sql_update
from sqlmodel import col, select

from lms_core.sdk import (
    Invalid,
    JsonBytes,
    Listing,
    NotFound,
    Point,
    StateConflict,
    UnitOfWork,
    UploadedFiles,
    alive,
    delete,
)
from lms_files.content_types import is_allowed
from lms_files.contracts import FileLibrary, FileSummary
from lms_files.derivatives import THUMBNAIL_TYPE, thumbnail_key
from lms_files.filenames import attachment
from lms_files.models import File, FilePage
from lms_files.schemas import FileRead, FileUpdate
from lms_files.storage import DOWNLOAD_SECONDS, store_of


def object_of(**columns: Any) -> Any:
    """A JSON object of columns; those without a value are left out."""
    pairs = [part for name, column in columns.items() for part in (name, column)]
    return func.json_strip_nulls(func.json_build_object(*pairs), type_=JSON())


COLUMNS = {
    "derivatives": func.json_build_object(
        "text",
        object_of(
            state=File.text_state, pages=File.text_pages, characters=File.text_characters, reason=File.text_reason
        ),
        "thumbnail",
        object_of(
            state=File.thumbnail_state,
            width=File.thumbnail_width,
            height=File.thumbnail_height,
            reason=File.thumbnail_reason,
        ),
        type_=JSON(),
    )
}
FILES = Listing(
    File,
    FileRead,
    filters={
        "course_id": col(File.course_id) == bindparam("course_id", type_=Uuid()),
        "state": col(File.state) == bindparam("state"),
    },
    columns=COLUMNS,
)
FILE_POINT = Point(File, FileRead, columns=COLUMNS)


async def find_readable(uow: UnitOfWork, id: UUID) -> File:
    """A live file that the actor may read; NotFound."""
    readable = uow.readable(File)
    statement = select(File).where(File.id == id, alive(File), readable.write(File))
    file = (await uow.session.execute(statement, readable.parameters)).scalar_one_or_none()
    if file is None:
        raise NotFound("files.file", id)
    return file


async def refuse_unless_own_or(uow: UnitOfWork, permission: str, id: UUID) -> None:
    """404 when the actor may not know the file; 403 unless it is theirs, or they have the permission on it."""
    file = await find_readable(uow, id)
    if file.owner_id != uow.access.actor_id:
        await uow.require(permission, File, id)


async def update(uow: UnitOfWork, id: UUID, data: FileUpdate, if_match: str | None) -> Response:
    """Give it another name; what is in it never changes."""
    await refuse_unless_own_or(uow, "files.edit", id)
    file = await uow.lock(File, id, if_match)
    if data.filename is not None:
        if not is_allowed(file.content_type, data.filename):
            raise Invalid(
                "filename_not_allowed", "A file may not be named like a program; keep its ending.", ("body", "filename")
            )
        file.filename = data.filename
    return await FILE_POINT.after_write(uow, id)


async def remove(uow: UnitOfWork, id: UUID, if_match: str | None) -> Response:
    """Delete it; what shows it stays, and answers 404 for it."""
    await refuse_unless_own_or(uow, "files.delete", id)
    return await delete(uow, File, id, if_match)


async def download(uow: UnitOfWork, id: UUID, redirect: bool, thumbnail: bool) -> Response:
    """Where the bytes are, for five minutes."""
    file = await find_readable(uow, id)
    if file.clean_key is None:
        raise StateConflict("file_not_ready", f"The file is {file.state}; it can be downloaded once it is ready.")
    key, content_type, filename = file.clean_key, file.content_type, file.filename
    if thumbnail:
        refuse_without_thumbnail(file)
        key, content_type = thumbnail_key(file), THUMBNAIL_TYPE
        filename = f"{filename.rpartition('.')[0] or filename}.webp"
    expires_at = datetime.now(UTC) + timedelta(seconds=DOWNLOAD_SECONDS)
    url = await store_of(uow.context).download_url(key, content_type, attachment(filename))
    if redirect:
        return Response(status_code=307, headers={"Location": url, "Cache-Control": "no-store"})
    return JsonBytes({"url": url, "expires_at": expires_at}, headers={"Cache-Control": "no-store"})


def refuse_without_thumbnail(file: File) -> None:
    """409 while there may be one yet, 404 when there is none."""
    if file.thumbnail_state == "pending":
        raise StateConflict("file_not_ready", "The thumbnail is still being made; try again shortly.")
    if file.thumbnail_state != "ready":
        raise NotFound("thumbnail")


class Library(FileLibrary):
    """Answers other plugins' questions."""

    async def find(self, uow: UnitOfWork, file_id: UUID) -> FileSummary | None:
        """A live and readable file."""
        try:
            file = await find_readable(uow, file_id)
        except NotFound:
            return None
        return FileSummary(
            file.id, file.filename, file.content_type, file.size, file.state, file.course_id, file.owner_id
        )

    async def pages(self, uow: UnitOfWork, file_id: UUID) -> list[tuple[int, str]]:
        """Its text."""
        statement = select(FilePage.number, FilePage.text).where(FilePage.file_id == file_id)
        rows = await uow.session.execute(statement.order_by(col(FilePage.number)))
        return [(number, text) for number, text in rows]

    async def lock(self, uow: UnitOfWork, file_ids: Collection[UUID]) -> None:
        """In the order of their ids."""
        await uow.session.execute(
            select(File.id).where(col(File.id).in_(file_ids)).order_by(col(File.id)).with_for_update()
        )

    async def share(self, uow: UnitOfWork, file_ids: Collection[UUID], shared: bool) -> None:
        """One update of those for which it is a change."""
        if file_ids:
            await uow.session.execute(
                sql_update(File)
                .where(col(File.id).in_(file_ids), col(File.shared).is_not(shared), alive(File))
                .values(shared=shared, version=File.version + 1, updated_at=func.now())
            )


class Uploads(UploadedFiles):
    """Hands whole files to what reads them in this process."""

    async def read(self, uow: UnitOfWork, file_id: UUID, most_bytes: int) -> bytes:
        """Looked up in a transaction of its own, so that none is open while the store answers."""
        async with uow.context.unit_of_work(uow.access) as reading:
            file = await find_readable(reading, file_id)
        if file.clean_key is None:
            raise StateConflict("file_not_ready", f"The file is {file.state}; it can be read once it is ready.")
        if file.size > most_bytes:
            raise Invalid("file_too_large", f"The file is larger than {most_bytes} bytes.", ("body", "file_id"))
        store = store_of(uow.context)
        with tempfile.TemporaryDirectory(prefix="lms-read-") as folder:
            path = Path(folder) / "content"
            await store.download(store.clean, file.clean_key, path, most_bytes)
            return await asyncio.to_thread(path.read_bytes)
