"""docs/events.md is what the code says, and every event is what events may be."""

from __future__ import annotations

from datetime import date, datetime
from typing import get_args
from uuid import UUID

from running import REPOSITORY

from lms_core.event_catalog import describe, events_of
from lms_core.testing import Lms
from lms_core.types import Event

PRIMITIVES = {UUID, str, int, bool, date, datetime, type(None)}


async def test_the_page_is_made_from_the_code(lms: Lms) -> None:
    made = describe(lms.context.platform)
    written = (REPOSITORY / "docs" / "events.md").read_text()
    assert made == written, "Make it anew: lms events describe > docs/events.md"


async def test_events_hold_primitives_and_say_what_happened(lms: Lms) -> None:
    found = list(events_of(Event))
    assert len(found) > 20
    for event in found:
        assert event.__doc__, event
        for name, field in event.model_fields.items():
            kinds = set(get_args(field.annotation) or (field.annotation,))
            assert kinds <= PRIMITIVES, (event.event_name, name)
