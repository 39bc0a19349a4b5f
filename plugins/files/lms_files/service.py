"""The rules for files that are there: who reads them, under which name, and where the bytes are."""

import asyncio
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

from fastapi import Response
from lms_courses.contracts import COURSE
from sqlalchemy import Uuid, and_, bindparam, func, or_
from sqlalchemy import update as sql_update
from sqlmodel import col, select

from lms_core.sdk import (
    Invalid,
    JsonBytes,
    Listing,
    NotFound,
    Paging,
    Point,
    StateConflict,
    UnitOfWork,
    UploadedFiles,
    alive,
    among,
    delete,
)
from lms_files import versions
from lms_files.content_types import is_harmless_name
from lms_files.contracts import FileLibrary, FileReady, FileSummary, file_lives
from lms_files.derivatives import PICTURE_TYPE, picture_key
from lms_files.filenames import attachment
from lms_files.models import File, FilePage
from lms_files.schemas import FileRead, FileUpdate, VersionRead
from lms_files.storage import DOWNLOAD_SECONDS, store_of
from lms_files.workplaces import workplace

CURRENT = col(File.replaces_id).is_(None)
LIVES = or_(CURRENT, file_lives(col(File.replaces_id)))
"""A version goes with the file that it is one of."""

FILES = Listing(
    File,
    FileRead,
    filters={
        "course_id": col(File.course_id) == bindparam("course_id", type_=Uuid()),
        "state": col(File.state) == bindparam("state"),
    },
    where=CURRENT,
)
FILE_POINT = Point(File, FileRead, where=LIVES)
VERSIONS = Listing(
    File,
    VersionRead,
    filters={"file_id": col(File.replaces_id) == bindparam("file_id", type_=Uuid())},
    where=and_(col(File.state) == "ready", LIVES),
)


async def find_readable(uow: UnitOfWork, id: UUID) -> File:
    """A live file that the actor may read; NotFound."""
    readable = uow.readable(File)
    statement = select(File).where(File.id == id, alive(File), LIVES, readable.write(File))
    file = (await uow.session.execute(statement, readable.parameters)).scalar_one_or_none()
    if file is None:
        raise NotFound("files.file", id)
    return file


async def refuse_unless_own_or(uow: UnitOfWork, permission: str, id: UUID) -> None:
    """404 when the actor may not know the file; 403 unless it is still theirs, or they have the permission on it."""
    file = await find_readable(uow, id)
    if not await is_still_own(uow, file):
        await uow.require(permission, File, id)


async def is_still_own(uow: UnitOfWork, file: File) -> bool:
    """Whether the actor owns it, and a course that they left or a class that reads it leave it to them to change it."""
    if file.owner_id != uow.access.actor_id:
        return False
    if file.course_id is None or await uow.can("files.read_all", COURSE, file.course_id):
        return True
    return not await is_read_by_all(uow, file) and await uow.can("files.request", COURSE, file.course_id)


async def is_read_by_all(uow: UnitOfWork, file: File) -> bool:
    """Whether the class reads it; a version is nobody's to read, but belongs to what the class reads."""
    shown = select(File.shared).where(File.id == (file.replaces_id or file.id))
    return bool((await uow.session.execute(shown)).scalar_one())


async def update(uow: UnitOfWork, id: UUID, data: FileUpdate, if_match: str | None) -> Response:
    """Give it another name; what is in it never changes."""
    await refuse_unless_own_or(uow, "files.edit", id)
    file = await uow.lock(File, id, if_match)
    refuse_kept(file)
    if data.filename is not None:
        if not is_harmless_name(file.content_type, data.filename):
            raise Invalid(
                "filename_not_allowed", "A file may not be named like a program; keep its ending.", ("body", "filename")
            )
        file.filename = data.filename
    return await FILE_POINT.after_write(uow, id)


def refuse_kept(file: File) -> None:
    """409 for what was handed in."""
    if file.kept:
        raise StateConflict("file_handed_in", "This file was handed in and stays as it is; upload another one.")


async def remove(uow: UnitOfWork, id: UUID, if_match: str | None = None) -> Response:
    """Delete it; what shows it stays, and answers 404 for it."""
    await refuse_unless_own_or(uow, "files.delete", id)
    file = await uow.lock(File, id, if_match)
    if file.kept and not await uow.can("files.delete", File, id):
        refuse_kept(file)
    return await delete(uow, File, id, if_match)


async def list_versions(uow: UnitOfWork, paging: Paging, id: UUID) -> Response:
    """What a file held before, for those who may change it."""
    await refuse_unless_own_or(uow, "files.edit", id)
    return await VERSIONS.page(uow, paging, file_id=id)


async def make_current(uow: UnitOfWork, id: UUID, version_id: UUID, if_match: str | None) -> Response:
    """The file holds again what it held then; what it holds now becomes a version."""
    await refuse_unless_own_or(uow, "files.edit", id)
    # In the order in which a new version takes its place.
    version = await version_of(uow, id, version_id)
    file = await uow.lock(File, id, if_match)
    refuse_kept(file)
    await versions.exchange(uow, file, version)
    uow.emit(FileReady(file_id=id))
    return await FILE_POINT.after_write(uow, id)


async def version_of(uow: UnitOfWork, id: UUID, version_id: UUID) -> File:
    """For change; what is no version of the file, such as somebody else's, is answered as what does not exist."""
    try:
        version = await uow.lock(File, version_id)
    except NotFound:
        raise NotFound("files.version", version_id) from None
    if version.replaces_id != id or version.state != "ready":
        raise NotFound("files.version", version_id)
    return version


async def download(uow: UnitOfWork, id: UUID, redirect: bool, variant: str | None) -> Response:
    """Where the bytes are, for five minutes."""
    file = await find_readable(uow, id)
    if file.state != "ready" or file.clean_key is None:
        raise StateConflict("file_not_ready", f"The file is {file.state}; it can be downloaded once it is ready.")
    key, content_type, filename = file.clean_key, file.content_type, file.filename
    if variant is not None:
        refuse_without_picture(file, variant)
        key, content_type = picture_key(str(file.sha256), variant), PICTURE_TYPE
        filename = f"{filename.rpartition('.')[0] or filename}.webp"
    expires_at = datetime.now(UTC) + timedelta(seconds=DOWNLOAD_SECONDS)
    url = await store_of(uow.context).download_url(key, content_type, attachment(filename))
    if redirect:
        return Response(status_code=307, headers={"Location": url, "Cache-Control": "no-store"})
    return JsonBytes({"url": url, "expires_at": expires_at}, headers={"Cache-Control": "no-store"})


def refuse_without_picture(file: File, variant: str) -> None:
    """409 while there may be one yet, 404 when there is none."""
    state = file.derivatives.get(variant, {}).get("state", "none")
    if state == "pending":
        raise StateConflict("file_not_ready", f"The {variant} is still being made; try again shortly.")
    if state != "ready":
        raise NotFound("picture")


class Library(FileLibrary):
    """Answers other plugins' questions."""

    async def known_among(self, uow: UnitOfWork, file_ids: Collection[UUID]) -> dict[UUID, FileSummary]:
        """In one statement."""
        readable = uow.readable(File)
        statement = select(File).where(among(col(File.id), file_ids), alive(File), LIVES, readable.write(File))
        files = (await uow.session.execute(statement, readable.parameters)).scalars()
        return {
            file.id: FileSummary(
                file.id,
                file.filename,
                file.content_type,
                file.size,
                file.state,
                file.course_id,
                file.owner_id,
                file.replaces_id,
            )
            for file in files
        }

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

    async def keep(self, uow: UnitOfWork, file_ids: Collection[UUID]) -> None:
        """One update of those for which it is a change."""
        if file_ids:
            await uow.session.execute(
                sql_update(File)
                .where(col(File.id).in_(file_ids), ~col(File.kept))
                .values(kept=True, version=File.version + 1, updated_at=func.now())
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
        with workplace() as folder:
            path = Path(folder) / "content"
            await store.download(store.clean, file.clean_key, path, most_bytes)
            return await asyncio.to_thread(path.read_bytes)
