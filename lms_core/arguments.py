"""The arguments of an endpoint, taken from a request by a plan that is made once.

FastAPI finds out anew for each request what each parameter is, which takes longer than all the rest of a list. Where an
endpoint takes nothing but simple values from the path, the query and headers, and perhaps one model from a JSON body, and
all of that is as it should be, a plan gives the same arguments. For everything else it gives None, and FastAPI does its
own work: it says what is wrong.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from enum import Enum
from functools import cached_property
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin
from uuid import UUID

from fastapi import Request, Response, params
from fastapi.dependencies.models import Dependant
from pydantic import BaseModel

SIMPLE = (bool, date, datetime, Enum, float, int, NoneType, str, UUID)
PATH, QUERY, HEADERS, BODY = range(4)
WHOLE = ""
"""The name of a whole body, among the sources of arguments."""
Sources = tuple[Mapping[str, Any], Mapping[str, Any], Mapping[str, Any], Mapping[str, Any]]


@dataclass(frozen=True)
class Taken:
    """One argument: from which source, under which name, checked by FastAPI's own field."""

    name: str
    source: int
    alias: str
    field: Any
    is_required: bool
    default: Any


@dataclass(frozen=True)
class Plan:
    """What one function takes: values, perhaps the request, and what other functions make of the same."""

    name: str | None
    call: Callable[..., Any]
    taken: tuple[Taken, ...]
    request: str | None
    below: tuple[Plan, ...]

    def values(self, sources: Sources) -> dict[str, Any] | None:
        """The arguments that stand in the request, None when one is missing or not valid."""
        found = {}
        for one in self.taken:
            value = sources[one.source].get(one.alias)
            if value is None:
                if one.is_required:
                    return None
                found[one.name] = one.default
                continue
            found[one.name], errors = one.field.validate(value, found)
            if errors:
                return None
        return found

    def all_values(self, sources: Sources) -> list[dict[str, Any]] | None:
        """Those of this and of all below, in the order of `each`."""
        found = []
        for plan in self.in_order:
            values = plan.values(sources)
            if values is None:
                return None
            found.append(values)
        return found

    @cached_property
    def in_order(self) -> tuple[Plan, ...]:
        """All of them, as they are called."""
        return tuple(self.each())

    def each(self) -> Iterator[Plan]:
        """Those below first, as they are called."""
        for plan in self.below:
            yield from plan.each()
        yield self

    async def called(self, request: Request, values: Iterator[dict[str, Any]]) -> Any:
        """Call what is below, then this, with the values that `all_values` gave."""
        made: dict[str, Any] = {}
        for plan in self.below:
            value = await plan.called(request, values)
            if plan.name is not None:
                made[plan.name] = value
        arguments: dict[str, Any] = {**next(values), **made}
        if self.request is not None:
            arguments[self.request] = request
        return await self.call(**arguments)


def plan_of(dependant: Dependant) -> Plan | None:
    """The plan of an endpoint whose answers are made by itself (`-> Response`); None where it takes anything else."""
    answers = inspect.signature(dependant.call).return_annotation if dependant.call is not None else None
    if answers not in (Response, "Response"):
        return None
    plan = plan_of_call(dependant)
    if plan is None or max(Counter(each.call for each in plan.each()).values()) > 1:
        return None
    bodies = [one for each in plan.each() for one in each.taken if one.source == BODY]
    # FastAPI takes several bodies for the fields of one.
    return plan if len(bodies) <= 1 else None


def plan_of_call(dependant: Dependant) -> Plan | None:
    """The plan of one function and of what it depends on."""
    others = (
        dependant.cookie_params, dependant.websocket_param_name, dependant.http_connection_param_name,
        dependant.response_param_name, dependant.background_tasks_param_name,
        dependant.security_scopes_param_name, dependant.own_oauth_scopes,
    )  # fmt: skip
    if any(others) or dependant.call is None or not inspect.iscoroutinefunction(dependant.call):
        return None
    simple = ((PATH, dependant.path_params), (QUERY, dependant.query_params), (HEADERS, dependant.header_params))
    fields = [(source, field) for source, some in simple for field in some]
    below = [plan_of_call(one) for one in dependant.dependencies]
    if not all(is_simple(field) for _, field in fields) or not all(map(is_whole_body, dependant.body_params)):
        return None
    taken = (
        *(taken_from(source, field.alias, field) for source, field in fields),
        *(taken_from(BODY, WHOLE, field) for field in dependant.body_params),
    )
    known = tuple(plan for plan in below if plan is not None)
    return (
        Plan(dependant.name, dependant.call, taken, dependant.request_param_name, known)
        if len(known) == len(below)
        else None
    )


def taken_from(source: int, alias: str, field: Any) -> Taken:
    """One argument, with what FastAPI would find out about it for each request."""
    is_required = field.field_info.is_required()
    return Taken(field.name, source, alias, field, is_required, None if is_required else field.default)


def is_simple(field: Any) -> bool:
    """Whether a parameter is one value of a type whose text stands for itself, with a default that cannot change."""
    info = field.field_info
    default = None if info.is_required() else field.default
    aliases = {field.alias, field.validation_alias or field.alias}
    return (
        len(aliases) == 1
        and not info.validate_default
        and is_simple_type(info.annotation)
        and isinstance(default, SIMPLE)
    )


def is_whole_body(field: Any) -> bool:
    """Whether a parameter is a model that is all of a JSON body, or may be left out."""
    info = field.field_info
    options = get_args(info.annotation) or (info.annotation,)
    models = all(isinstance(one, type) and issubclass(one, (BaseModel, NoneType)) for one in options)
    # Forms and files are bodies, too.
    is_plain = type(info) is params.Body and not info.embed and not info.validate_default
    return models and is_plain and (info.is_required() or field.default is None)


def is_simple_type(annotation: Any) -> bool:
    """One of a few types, or a choice between them."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return is_simple_type(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return all(is_simple_type(one) for one in get_args(annotation))
    return origin is Literal or (isinstance(annotation, type) and issubclass(annotation, SIMPLE))
