"""Every hook is documented with an example, and some plugin of ours uses it."""

from __future__ import annotations

import inspect

import pytest

from lms_core import hookspecs
from lms_core.testing import Lms

pytestmark = pytest.mark.anyio
HOOKS = [name for name in vars(hookspecs) if name.startswith("lms_")]


@pytest.mark.parametrize("name", HOOKS)
async def test_it_is_documented_and_used(lms: Lms, name: str) -> None:
    documentation = inspect.getdoc(getattr(hookspecs, name)) or ""
    assert "Example: `return [" in documentation
    assert any(hasattr(plugin.module, name) for plugin in lms.context.platform.plugins), f"nobody implements {name}"
