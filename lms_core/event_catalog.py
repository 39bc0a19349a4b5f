"""Every event that the core and the enabled plugins state, as a page for people: docs/events.md is made by it."""

from __future__ import annotations

from collections.abc import Iterable
from inspect import cleandoc
from typing import Any, get_args

from lms_core.platform import Platform
from lms_core.types import Event

HEAD = """\
# Events

Made by `lms events describe > docs/events.md`; the suite compares it with the code.

An event is a fact, stored in the transaction that made it true, and delivered at least once to every handler below. It
holds ids and primitives only, and never changes: another shape is another version. A handler gets events about one
object in the order in which they were stated only as far as nothing fails; what must be in order asks the database.
"""


def describe(platform: Platform) -> str:
    """The page."""
    packages = {"lms_core", *(plugin.module.__name__.split(".")[0] for plugin in platform.plugins)}
    found = [event for event in events_of(Event) if event.__module__.split(".")[0] in packages]
    parts = [HEAD]
    for event in sorted(found, key=lambda event: event.event_name):
        parts.append(f"## {event.event_name}\n\n{' '.join(cleandoc(event.__doc__ or '').split())}\n")
        if event.model_fields:
            rows = [f"| `{name}` | {in_words(field.annotation)} |" for name, field in event.model_fields.items()]
            parts.append("\n".join(["| field | |", "| --- | --- |", *rows]) + "\n")
        handlers = [handler.name for handler in platform.handlers_of.get(event.event_name, ())]
        if handlers:
            parts.append(f"Handled by {', '.join(f'`{name}`' for name in sorted(handlers))}.\n")
    return "\n".join(parts)


def events_of(kind: type[Event]) -> Iterable[type[Event]]:
    """All that inherit from an event, however deep."""
    for below in kind.__subclasses__():
        if below.event_name:
            yield below
        yield from events_of(below)


def in_words(annotation: Any) -> str:
    """A field's type: `UUID`, or `UUID or nothing`."""
    alternatives = get_args(annotation)
    names = ["nothing" if kind is type(None) else kind.__name__ for kind in alternatives or (annotation,)]
    return " or ".join(names)
