"""What answers promise: every field of the documented model and no other, each of its type."""

from __future__ import annotations

import itertools
import json
from typing import Any

import httpx2
from mounted import routes_of
from pydantic import TypeAdapter, ValidationError

from lms_core.testing import Lms


class Promises:
    """The documented models of all routes' good answers."""

    def __init__(self, lms: Lms) -> None:
        self.adapters: dict[tuple[str, str, int], TypeAdapter[Any]] = {}
        for route in routes_of(lms):
            documented = {route.original_route.status_code or 200: route.original_route.response_model}
            documented |= {int(status): one["model"] for status, one in route.responses.items() if "model" in one}
            for method, (status, model) in itertools.product(route.methods, documented.items()):
                if model is not None:
                    self.adapters[method, route.path, status] = TypeAdapter(model)

    def broken(self, method: str, path: str, answer: httpx2.Response) -> str | None:
        """How a good answer differs from what is documented; None when it does not, or there is nothing in it."""
        if not answer.content or "json" not in answer.headers["Content-Type"]:
            return None
        adapter = self.adapters.get((method, path, answer.status_code))
        if adapter is None:
            return f"no model for {answer.status_code}"
        try:
            # What a model need not have may be left out.
            promised = json.loads(adapter.dump_json(adapter.validate_json(answer.text), exclude_unset=True))
        except ValidationError as error:
            return str(error)
        return difference(promised, answer.json(), "")


def difference(promised: Any, given: Any, place: str) -> str | None:
    """The first place at which fields or types differ."""
    if isinstance(promised, dict) and isinstance(given, dict):
        if promised.keys() != given.keys():
            return f"{place}: promised {sorted(promised)}, given {sorted(given)}"
        return next(filter(None, (difference(promised[name], given[name], f"{place}.{name}") for name in given)), None)
    if isinstance(promised, list) and isinstance(given, list) and len(promised) == len(given):
        pairs = enumerate(zip(promised, given, strict=True))
        return next(filter(None, (difference(one, other, f"{place}[{n}]") for n, (one, other) in pairs)), None)
    return None if kind_of(promised) is kind_of(given) else f"{place}: promised {promised!r}, given {given!r}"


def kind_of(value: Any) -> type:
    """Of JSON's types; it has one for numbers."""
    return float if type(value) is int else type(value)
