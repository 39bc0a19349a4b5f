"""JSON that PostgreSQL builds inside of a row: moments written as in every other answer, objects, the empty list."""

from typing import Any

from sqlalchemy import JSON, cast, func, literal

NONE_OF_THEM: Any = cast(literal("[]"), JSON())


def in_json(moment: Any) -> Any:
    """A moment by RFC 3339, in UTC."""
    return func.to_char(func.timezone("UTC", moment), 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')


def as_json(named: dict[str, Any]) -> Any:
    """An object of columns by their names."""
    return func.json_build_object(*(part for pair in named.items() for part in pair), type_=JSON())
