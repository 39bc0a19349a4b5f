"""Versions of a file: what it held before is kept in rows of their own, and can be made the current one again."""

from sqlalchemy import delete
from sqlmodel import col

from lms_core.sdk import UnitOfWork
from lms_files import processors
from lms_files.contracts import FileReplaced
from lms_files.models import File, FilePage

HELD = ("filename", "content_type", "size", "sha256", "content_id", "clean_key", "ready_at", "uploader_id")
"""What a file and a version of it exchange."""


async def exchange(uow: UnitOfWork, file: File, version: File) -> None:
    """The file holds what the version held, and the other way round; both are locked and ready."""
    for name in HELD:
        mine, other = getattr(file, name), getattr(version, name)
        setattr(file, name, other)
        setattr(version, name, mine)
    file.derivatives = processors.expected(uow.context, file.content_type)
    version.derivatives = processors.nothing(uow.context)
    await uow.session.execute(delete(FilePage).where(col(FilePage.file_id).in_([file.id, version.id])))
    uow.emit(FileReplaced(file_id=file.id))
