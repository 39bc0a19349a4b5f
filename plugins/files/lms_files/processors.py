"""Which types of file are taken here, and what is made of each: our own and what other plugins add."""

from typing import Any

from lms_core.sdk import Context
from lms_files import content_types
from lms_files.contracts import FileProcessor, FileType

TEXT = FileProcessor(
    "text",
    content_types.PDF_TYPES
    | content_types.TEXT_TYPES
    | content_types.HTML_TYPES
    | content_types.OPEN_XML_TYPES
    | content_types.OPEN_DOCUMENT_TYPES,
    "lms_files.built_in_processors:text",
)
THUMBNAIL = FileProcessor(
    "thumbnail", content_types.PDF_TYPES | content_types.IMAGE_TYPES, "lms_files.built_in_processors:thumbnail"
)
PREVIEW = FileProcessor("preview", THUMBNAIL.content_types, "lms_files.built_in_processors:preview")


def known_types(context: Context) -> frozenset[str]:
    """Everything that an institution may take."""
    added = {one.content_type for one in context.platform.extensions_of(FileType)}
    return frozenset(content_types.CHECKS) | added


def default_types(context: Context) -> frozenset[str]:
    """What an institution takes that has no list of its own."""
    added = {one.content_type for one in context.platform.extensions_of(FileType) if one.by_default}
    return content_types.DEFAULT_TYPES | added


def check_of(context: Context, content_type: str) -> str | None:
    """The function that knows a type which another plugin added."""
    added = {one.content_type: one.check for one in context.platform.extensions_of(FileType)}
    return None if content_type in content_types.CHECKS else added.get(content_type)


def processors_of(context: Context, content_type: str) -> dict[str, FileProcessor]:
    """What is made of files of this type, by name."""
    added = context.platform.extensions_of(FileProcessor)
    return {one.name: one for one in added if content_type in one.content_types}


def expected(context: Context, content_type: str) -> dict[str, dict[str, Any]]:
    """The derivatives of a file that is not there yet: those of this type are pending, there are none of the others."""
    ours = processors_of(context, content_type)
    names = [one.name for one in context.platform.extensions_of(FileProcessor)]
    return {name: {"state": "pending" if name in ours else "none"} for name in names}


def nothing(context: Context) -> dict[str, dict[str, Any]]:
    """The derivatives of a file that nothing is made of."""
    return {one.name: {"state": "none"} for one in context.platform.extensions_of(FileProcessor)}
