"""What the core takes from a client: strict JSON, strict models, and text that PostgreSQL can store."""

from __future__ import annotations

import asyncio
import json
import re
import time
import unicodedata
from datetime import UTC, date, datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import Request
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    StringConstraints,
    TypeAdapter,
)

from lms_core.errors import Problem

MAX_BODY_BYTES = 1024 * 1024
MAX_DEPTH = 32
BODY_TIMEOUT_SECONDS = 20.0
# Control characters of ASCII and Latin-1, Unicode's line and paragraph ends, and overrides of the direction.
UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
# Formatting characters and spaces (Unicode's general categories).
BLANK = ("Cf", "Zs")
UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


class Input(BaseModel):
    """The base of every request body: unknown fields are refused, text loses surrounding white space."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True, allow_inf_nan=False)


def on_one_line(value: str) -> str:
    """A name stands in lists, mails and files: nothing in it ends a line, or turns what follows around.

    It is kept in one form (NFC), so that two that look the same are the same.
    """
    if UNSEEN.search(value):
        raise ValueError("must not hold line breaks, tabs or other characters that cannot be seen")
    if all(unicodedata.category(character) in BLANK for character in value):
        raise ValueError("must hold something that can be seen")
    return unicodedata.normalize("NFC", value)


Name = Annotated[str, StringConstraints(min_length=1, max_length=300), AfterValidator(on_one_line)]
Description = Annotated[str, StringConstraints(max_length=20_000)]


def named_once(ids: list[UUID]) -> list[UUID]:
    """No id stands there twice; for `AfterValidator`."""
    first: dict[UUID, int] = {}
    for index, id in enumerate(ids):
        if first.setdefault(id, index) != index:
            raise ValueError(f"names the same at {first[id]} and at {index}")
    return ids


FIRST_YEAR, LAST_YEAR = 1900, 2999
DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
NO_DAY = "is no day such as 2026-09-01"


def text_only(value: Any) -> Any:
    """Numbers would be taken for seconds since 1970, which say nothing about a time zone."""
    if not isinstance(value, (str, datetime)) or (isinstance(value, str) and value.strip("+-.").isdecimal()):
        raise ValueError("is no time such as 2026-09-01T08:00:00Z")
    return value


def in_utc(moment: datetime) -> datetime:
    """The same moment in UTC, of which years can be added and taken; the first and last of Python are PostgreSQL's infinity."""
    if not FIRST_YEAR <= moment.year <= LAST_YEAR:
        raise ValueError(f"lies outside of the years {FIRST_YEAR} to {LAST_YEAR}")
    return moment.astimezone(UTC)


Instant = Annotated[AwareDatetime, BeforeValidator(text_only), AfterValidator(in_utc)]
"""A moment with its time zone, kept in UTC; a naive one is refused."""


def day_only(value: Any) -> Any:
    """Numbers would be taken for seconds since 1970, and a moment is another day elsewhere."""
    if isinstance(value, datetime) or not isinstance(value, (str, date)):
        raise ValueError(NO_DAY)
    if isinstance(value, str) and not DAY.fullmatch(value):
        raise ValueError(NO_DAY)
    return value


def within_years(day: date) -> date:
    """A day of which others can be counted."""
    if not FIRST_YEAR <= day.year <= LAST_YEAR:
        raise ValueError(f"lies outside of the years {FIRST_YEAR} to {LAST_YEAR}")
    return day


Day = Annotated[date, BeforeValidator(day_only), AfterValidator(within_years)]
"""A day of the calendar, such as 2026-09-01; which moments it has depends on where."""
DAYS: TypeAdapter[date] = TypeAdapter(Day)


async def read_body(request: Request) -> bytes:
    """The whole body; 413 when it is too large, 408 when it comes too slowly.

    Leaves in the scope when the request had arrived: at its start, or when its body was complete if that was waited for.
    """
    # Runs only when reading has to wait: a body that is here already is read in one go, however late its turn comes.
    waits: list[bool] = []
    turn = asyncio.get_running_loop().call_soon(waits.append, True)
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > MAX_BODY_BYTES:
        raise too_large()
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise too_large()
    except TimeoutError:
        raise Problem(408, "body_too_slow", "The body did not arrive in time; send it again.") from None
    turn.cancel()
    if waits:
        request.scope["lms_arrived"] = time.monotonic()
    return bytes(body)


def too_large() -> Problem:
    """413."""
    return Problem(413, "body_too_large", f"A JSON body may have {MAX_BODY_BYTES} bytes at most; send less.")


def parse_json(body: bytes) -> Any:
    """The value in a JSON body (RFC 8259, UTF-8); 400 when it is malformed or too deep, 422 for unstorable text."""
    try:
        value = DECODER.decode(body.decode("utf-8"))
    except RecursionError:
        raise too_deep() from None
    except ValueError:
        raise Problem(400, "malformed_json", "The body is not valid JSON in UTF-8; correct it.") from None
    check_value(value, ["body"])
    return value


def refuse_constant(name: str) -> None:
    """NaN and Infinity are no JSON."""
    raise ValueError(name)


# Made once: `json.loads` makes one for each body.
DECODER = json.JSONDecoder(parse_constant=refuse_constant)


def too_deep() -> Problem:
    """400."""
    return Problem(400, "json_too_deep", f"JSON may be nested {MAX_DEPTH} deep at most; send a flatter body.")


def check_value(value: Any, loc: list[str | int]) -> None:
    """Refuse what is nested too deep, text with NUL or lone surrogates, and numbers that no column can hold."""
    if isinstance(value, (dict, list)) and len(loc) > MAX_DEPTH:
        raise too_deep()
    if isinstance(value, dict):
        for key, item in value.items():
            check_text(key, loc)
            check_value(item, [*loc, key])
    elif isinstance(value, list):
        for index, item in enumerate(value):
            check_value(item, [*loc, index])
    elif isinstance(value, str):
        check_text(value, loc)
    elif (isinstance(value, float) and (value != value or value in (float("inf"), float("-inf")))) or (
        isinstance(value, int) and not -(2**63) <= value < 2**63
    ):
        raise unusable(loc, "number_out_of_range", "This number is too large.")


def check_text(text: str, loc: list[str | int]) -> None:
    """Refuse text that cannot be stored."""
    if UNSTORABLE.search(text):
        raise unusable(
            [
                part[:100] if isinstance(part, str) else part
                for part in loc
                if not isinstance(part, str) or not UNSTORABLE.search(part)
            ],
            "unstorable_text",
            "Text may not contain NUL or lone surrogates.",
        )


def unusable(loc: list[str | int], kind: str, message: str) -> Problem:
    """422 at a place in the input."""
    return Problem(
        422,
        "invalid_input",
        f"{message} Correct it and send it again.",
        errors=[{"loc": loc, "msg": message, "type": kind}],
    )
