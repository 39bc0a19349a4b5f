"""What other plugins may ask of files, and what files tells them."""

from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, exists, table
from sqlalchemy import column as sql_column

from lms_core.sdk import Event, Extension, UnitOfWork

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
    replaces_id: UUID | None


def file_lives(column: Any) -> ColumnElement[bool]:
    """A condition: the file that `column` names is not deleted."""
    file = table("files_file", sql_column("id"), sql_column("is_deleted")).alias()
    return exists().where(file.c.id == column, ~file.c.is_deleted).correlate_except(file)


@dataclass(frozen=True)
class FileType(Extension):
    """A type of file that a plugin adds to those that institutions may take.

    `check` names a function ("package.module:name") that says of a path whether the bytes are of this type. It runs
    in a child process with limits and without our secrets. With `by_default` every institution takes the type that
    has no list of its own.
    """

    content_type: str
    check: str
    by_default: bool = True

    def claims(self) -> frozenset[str]:
        """The type."""
        return frozenset({self.content_type})


@dataclass(frozen=True)
class FileProcessor(Extension):
    """Something that is made of files of some types once they are ready; clients see it as `derivatives.<name>`.

    `function` names a function ("package.module:name") of a path, a content type, a folder for what it writes, and
    `Limits`; it returns `Derived` and raises `Refused`, both of `lms_files.extraction_jobs`. It runs in a child
    process with limits and without our secrets, and may run more than once.
    """

    name: str
    content_types: frozenset[str]
    function: str

    def claims(self) -> frozenset[str]:
        """The name, for each type."""
        return frozenset(f"{self.name} of {content_type}" for content_type in self.content_types)


class FileLibrary(ABC):
    """Questions about files, and who may read them."""

    @abstractmethod
    async def known_among(self, uow: UnitOfWork, file_ids: Collection[UUID]) -> dict[UUID, FileSummary]:
        """Those of some files that live, and that the actor may read."""

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

    @abstractmethod
    async def keep(self, uow: UnitOfWork, file_ids: Collection[UUID]) -> None:
        """Files that were handed in: they are neither renamed nor replaced from now on, nor deleted by their owners."""


class FileUploaded(Event, name="files.uploaded.v1"):
    """The bytes have arrived, and are to be verified."""

    file_id: UUID


class FileReady(Event, name="files.ready.v1"):
    """A file was verified and can be downloaded."""

    file_id: UUID


class FileReplaced(Event, name="files.replaced.v1"):
    """A file that others may show has another content, under its old id; its text is found anew."""

    file_id: UUID


class FileDiscarded(Event, name="files.discarded.v1"):
    """Nothing came of an upload: it was rejected or cancelled, or expired."""

    file_id: UUID


class TextExtracted(Event, name="files.text_extracted.v1"):
    """The text of a file can be read page by page."""

    file_id: UUID
