"""The routes of the application under test."""

from __future__ import annotations

from typing import Any

from lms_core.http import guarded_routes
from lms_core.testing import Lms


def routes_of(lms: Lms) -> list[Any]:
    """All that are guarded, as mounted."""
    return guarded_routes(lms.client._transport.app.app.app)  # type: ignore[attr-defined]
