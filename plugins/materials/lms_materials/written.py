"""What people write into requests: texts of a bounded size, and addresses of web pages."""

from typing import Annotated

from pydantic import AfterValidator, StringConstraints

from lms_core.sdk import Field

MAX_BYTES = 256 * 1024


def fits(text: str) -> str:
    """Bytes count, not characters."""
    if len(text.encode()) > MAX_BYTES:
        raise ValueError("is longer than 256 KiB in UTF-8")
    return text


# White space at the beginning is part of markdown: four spaces make code of what follows.
LongText = Annotated[
    str,
    StringConstraints(strip_whitespace=False),
    AfterValidator(fits),
    Field(description="At most 256 KiB in UTF-8"),
]
Url = Annotated[str, StringConstraints(pattern=r"^(?i:https?)://[^\s/]+\S*$", max_length=2_000)]
