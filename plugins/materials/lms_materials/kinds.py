"""The kinds of materials: those that come with this plugin, and those that others add."""

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from lms_core.sdk import Context, Invalid
from lms_materials.contracts import MaterialKind


class NoContent(BaseModel):
    """The built-in kinds keep everything in fields of their own."""

    model_config = ConfigDict(extra="forbid")


BUILT_IN = (
    MaterialKind("page", "Text", NoContent),
    MaterialKind("document", "A file", NoContent),
    MaterialKind("link", "An address elsewhere", NoContent),
    MaterialKind("assignment", "Something that students hand in", NoContent),
)


def all_of(context: Context) -> list[MaterialKind]:
    """Those of all enabled plugins."""
    return context.platform.extensions_of(MaterialKind)


def find(context: Context, name: str) -> MaterialKind:
    """A kind by its name; 422 `unknown_kind` when no enabled plugin has it."""
    known = {kind.name: kind for kind in all_of(context)}
    if name not in known:
        raise Invalid(
            "unknown_kind", f"There is no such kind; take one of: {', '.join(sorted(known))}.", ("body", "kind")
        )
    return known[name]


def checked(kind: MaterialKind, content: dict[str, Any] | None) -> dict[str, Any] | None:
    """The content as its kind wants it; 422 when it is something else."""
    if kind in BUILT_IN and content is None:
        return None
    try:
        return kind.content.model_validate(content or {}).model_dump(mode="json")
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ("body", "content", *first["loc"])
        raise Invalid("invalid_input", f"The content is no {kind.name}: {first['msg']}.", place) from None
