"""What other plugins may ask of files, and what files tells them."""

from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, exists, table
from sqlalchemy import column as sql_column

from lms_core.sdk import Event, UnitOfWork

FILE = "files.file"
"""The kind, for cascades."""


@dataclass(frozen=True)
class FileSummary:
    """A live file, as other plugins see it."""

    id: UUID
    filename: str
    content_type: str
    size: int
    state: str
    course_id: UUID | None
    owner_id: UUID


def file_lives(column: Any) -> ColumnElement[bool]:
    """A condition: the file that `column` names is not deleted."""
    file = table("files_file", sql_column("id"), sql_column("is_deleted"))
    return exists().where(file.c.id == column, ~file.c.is_deleted)


class FileLibrary(ABC):
    """Questions about files, and who may read them."""

    @abstractmethod
    async def find(self, uow: UnitOfWork, file_id: UUID) -> FileSummary | None:
        """A live file that the actor may read."""

    @abstractmethod
    async def pages(self, uow: UnitOfWork, file_id: UUID) -> list[tuple[int, str]]:
        """The text of a file by page number, whether it lives or not: an index is asked with `file_lives` later.

        Pages without text are left out.
        """

    @abstractmethod
    async def lock(self, uow: UnitOfWork, file_ids: Collection[UUID]) -> None:
        """Hold files until the transaction ends, so that two who are about to share them take turns."""

    @abstractmethod
    async def share(self, uow: UnitOfWork, file_ids: Collection[UUID], shared: bool) -> None:
        """Let everybody who takes part in the files' course read them, or only their owners and those who teach there.

        Files of those who teach begin shared, those of students do not. What is deleted stays as it is.
        """


class FileUploaded(Event, name="files.uploaded.v1"):
    """The bytes have arrived, and are to be verified."""

    file_id: UUID


class FileReady(Event, name="files.ready.v1"):
    """A file was verified and can be downloaded."""

    file_id: UUID


class FileDiscarded(Event, name="files.discarded.v1"):
    """Nothing came of an upload: it was rejected or cancelled, or expired."""

    file_id: UUID


class TextExtracted(Event, name="files.text_extracted.v1"):
    """The text of a file can be read page by page."""

    file_id: UUID
