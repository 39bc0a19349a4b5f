"""Reading rows out to clients: one row, or pages in keyset order; from a `select()` to bytes in one statement."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Annotated, Any, Generic, TypeVar
from urllib.parse import quote, urlencode
from uuid import UUID

import msgspec
from fastapi import Depends, Query, Request, Response
from pydantic import BaseModel
from sqlalchemy import (
    ColumnElement,
    DateTime,
    Float,
    Integer,
    Select,
    String,
    Uuid,
    and_,
    bindparam,
    case,
    func,
    inspect,
    literal_column,
    select,
    true,
    tuple_,
    union_all,
)
from sqlmodel import col

from lms_core.conditions import looked_up_for_each
from lms_core.db import Record, Table
from lms_core.errors import NotFound, Problem
from lms_core.etags import etag, is_unchanged
from lms_core.kinds import alive, kind_name
from lms_core.permissions import Filter
from lms_core.statements import Read
from lms_core.uow import UnitOfWork

Item = TypeVar("Item")
Readable = Callable[[UnitOfWork], Filter]
ENCODER = msgspec.json.Encoder(decimal_format="number")
MAX_CURSOR_CHARACTERS = 1_000
# How many rows are read for a page, the one that shows that there is another included.
READ_AT_ONCE = (11, 51, 101)
WALKED = 200
"""Rows that are asked one by one for a page of somebody who may read what hangs under places far above."""
KEY_TYPES: dict[type, Any] = {
    datetime: DateTime(timezone=True),
    float: Float(),
    int: Integer(),
    str: String(),
    UUID: Uuid(),
}


class Page(BaseModel, Generic[Item]):
    """One page of a list; `next_cursor` is null on the last."""

    items: list[Item]
    next_cursor: str | None


@dataclass(frozen=True)
class Paging:
    """What the caller asked for: how many, from where, and of which request (for the `Link` header)."""

    limit: int
    cursor: str | None
    request: Request

    @property
    def most(self) -> int:
        """How many rows to read: a few sizes, which stand in the SQL.

        PostgreSQL plans a statement whose LIMIT is a parameter for a tenth of the table, and so anew for every request.
        """
        return next(size for size in READ_AT_ONCE if size > self.limit)

    def after(self, uow: UnitOfWork, fingerprint: str, types: list[type]) -> list[Any] | None:
        """The key after which the page begins, None for the first; 400 for a cursor of another list or filter."""
        if self.cursor is None:
            return None
        return open_cursor(uow.context.platform.derived_key("cursor"), fingerprint, self.cursor, types)

    def answer(self, uow: UnitOfWork, fingerprint: str, items: list[Any], end: list[Any]) -> Response:
        """The page, from up to one item more than asked for; `end` is the key of the last item that is shown."""
        cursor = None
        headers = {}
        if len(items) > self.limit:
            secret = uow.context.platform.derived_key("cursor")
            cursor = seal_cursor(secret, fingerprint, [plain(value) for value in end])
            headers["Link"] = f'<{next_link(self.request, cursor)}>; rel="next"'
        return JsonBytes({"items": items[: self.limit], "next_cursor": cursor}, headers=headers)


async def page_params(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=100, description="How many items at most")] = 50,
    cursor: Annotated[str | None, Query(description="`next_cursor` of the page before")] = None,
) -> Paging:
    """The dependency behind `PageParams`."""
    return Paging(limit, cursor, request)


PageParams = Annotated[Paging, Depends(page_params)]


class JsonBytes(Response):
    """Rows to bytes by msgspec; asyncpg's UUIDs and times are taken as they are."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """The body."""
        return ENCODER.encode(content)


class Written(Response):
    """JSON that is written already, with an ETag: no header needs another look."""

    def __init__(self, body: bytes, status: int, tag: str) -> None:
        self.status_code, self.body, self.background = status, body, None
        self.raw_headers = [
            (b"content-length", str(len(body)).encode()),
            (b"content-type", b"application/json"),
            (b"etag", tag.encode()),
        ]


def bad_cursor() -> Problem:
    """400: a cursor was edited, or belongs to another list or filter."""
    return Problem(400, "invalid_cursor", "This cursor does not belong to this list; start again without a cursor.")


def seal_cursor(secret: bytes, fingerprint: str, values: list[Any]) -> str:
    """A cursor: the last row's key and a seal over it and the filter; lower-case and URL-safe."""
    payload = msgspec.msgpack.encode(values)
    seal = hmac.digest(secret, fingerprint.encode() + b"\0" + payload, sha256)[:10]
    return base64.b32encode(seal + payload).decode().rstrip("=").lower()


def open_cursor(secret: bytes, fingerprint: str, cursor: str, types: list[type]) -> list[Any]:
    """The key in a cursor; 400 when it is not one of ours for this filter."""
    if len(cursor) > MAX_CURSOR_CHARACTERS:
        raise bad_cursor()
    try:
        raw = base64.b32decode(cursor.upper() + "=" * (-len(cursor) % 8))
        seal, payload = raw[:10], raw[10:]
        expected = hmac.digest(secret, fingerprint.encode() + b"\0" + payload, sha256)[:10]
        values = msgspec.msgpack.decode(payload, type=list)
        if not hmac.compare_digest(seal, expected) or seal_cursor(secret, fingerprint, values) != cursor:
            raise bad_cursor()
        return [msgspec.convert(value, type=kind) for value, kind in zip(values, types, strict=True)]
    except (ValueError, msgspec.MsgspecError):
        raise bad_cursor() from None


@dataclass(frozen=True)
class Guarded:
    """A column that whoever has the permission on the row sees as it is, and everybody else as `otherwise`."""

    permission: str
    whole: Any
    otherwise: Any


class Listing:
    """A list that clients page through.

    `filters` are conditions over bound parameters named like the filter; only those that are given appear in the
    SQL. What the caller may not read is left out by the kind's read rules. Each form of the statement (which
    filters, which sort of access, first page or later) is compiled once. A column may be `Guarded`, and may use
    `ACTOR_ID`. `made` turns the columns, which may then be others than those of the answer, into the item.
    What is asked for by an id is planned once for all ids; not so without `plan_once`, for what some ids have
    thousands of and others few. Raises TypeError for an `order` that pages cannot go by.
    """

    def __init__(
        self,
        model: type[Record],
        out: type[BaseModel],
        filters: Mapping[str, ColumnElement[bool]] | None = None,
        columns: Mapping[str, Any] | None = None,
        order: tuple[Any, ...] | None = None,
        descending: bool = True,
        where: ColumnElement[bool] | None = None,
        readable: Readable | None = None,
        made: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
        plan_once: bool = True,
    ) -> None:
        self.model, self.out, self.made, self.plan_once = model, out, made, plan_once
        self.filters = dict(filters or {})
        self.columns = dict(columns or {})
        self.order = order or (model.id,)
        for column in self.order:
            if column.type.python_type not in KEY_TYPES or column.expression.nullable:
                raise TypeError(
                    f"No list goes by {column.key}: pages need UUIDs, texts, numbers or moments, never NULL."
                )
        self.descending = descending
        self.where = where
        self.readable: Readable = readable or (lambda uow: uow.readable(table_of(model)))
        self.reads: dict[Hashable, Read] = {}
        self.names = tuple(out.model_fields)
        self.guarded = sorted({column.permission for column in self.columns.values() if isinstance(column, Guarded)})
        shown = set(self.names) - set(self.columns) if made is None else set()
        # What the order goes by is read once, where the answer has it as it is.
        self.apart = tuple(column for column in self.order if column.key not in shown)
        self.key_names = [column.key if column.key in shown else f"key_{column.key}" for column in self.order]

    def guards(self, uow: UnitOfWork) -> dict[str, Filter]:
        """On which rows the caller has each permission that guards a column."""
        return {
            name: uow.context.platform.rules.permitted(uow.access, name, table_of(self.model), f"guard{number}_")
            for number, name in enumerate(self.guarded)
        }

    def selected(self, guards: Mapping[str, Filter]) -> list[Any]:
        """The columns of the answer, or those of which it is made."""
        mapped = inspect(self.model).columns
        names = self.names if self.made is None else self.columns
        chosen = []
        for name in names:
            column = self.columns[name] if name in self.columns else mapped[name]
            if isinstance(column, Guarded):
                # Asked of the rows of one page: to gather all where one may could be everything.
                may = guards[column.permission].write(self.model)
                column = case((may, column.whole), else_=column.otherwise)
            chosen.append(column.label(name))
        return chosen

    def item(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """What the client gets of a row."""
        if self.made is not None:
            return self.made(decoded({name: row[name] for name in self.columns}))
        return dict(zip(self.names, row.values(), strict=False)) if self.apart else dict(row)

    def keys(self) -> list[tuple[str, type]]:
        """Names and types of the keyset order."""
        return [(f"after_{column.key}", column.type.python_type) for column in self.order]

    def read(self, uow: UnitOfWork, given: tuple[str, ...], later: bool, most: int) -> tuple[Read, dict[str, Any]]:
        """The compiled statement for this form of the request, and the values that access adds."""
        readable, guards = self.readable(uow), self.guards(uow)
        form = (given, later, most, readable.shape, *(guard.shape for guard in guards.values()))
        if form not in self.reads:
            # What is found by what it hangs under needs no other plan for other values; others depend on how many there are.
            plan_once = self.plan_once and (is_below(given) or (readable.gathers and not given))
            self.reads[form] = Read(self.statement(given, later, most, readable, guards), plan_once)
        return self.reads[form], values_of(readable, guards)

    def statement(
        self,
        given: tuple[str, ...],
        later: bool,
        most: int,
        readable: Filter,
        guards: Mapping[str, Filter],
    ) -> Select[*tuple[Any, ...]]:
        """The rows of a page, and one more."""
        conditions = [alive(self.model), *([] if self.where is None else [self.where])]
        conditions += [self.filters[name] for name in given]
        if later:
            after = tuple_(*(bindparam(name, type_=KEY_TYPES[kind]) for name, kind in self.keys()))
            key = tuple_(*self.order)
            conditions.append(key < after if self.descending else key > after)
        columns = [*self.selected(guards), *(column.label(f"key_{column.key}") for column in self.apart)]

        def first(chosen: Sequence[Any], most: int, *others: ColumnElement[bool]) -> Select[*tuple[Any, ...]]:
            statement = select(*chosen).where(*conditions, *others)
            return statement.order_by(*map(self.directed, self.order)).limit(literal_column(str(most)))

        if is_below(given):
            # Below one thing rows are asked one by one: to gather all that one may read first could be everything.
            return first(columns, most, readable.write(self.model))
        everything = first(columns, most, readable.write_list(self.model))
        if not readable.gathers:
            return everything
        return self.nearest_first(everything, first([col(self.model.id), *self.order], WALKED), columns, readable, most)

    def nearest_first(
        self,
        everything: Select[*tuple[Any, ...]],
        walked: Select[*tuple[Any, ...]],
        columns: Sequence[Any],
        readable: Filter,
        most: int,
    ) -> Select[*tuple[Any, ...]]:
        """The same page as of `everything`, which is asked only when there is too little among the rows walked by.

        Who may read much finds a page there; who may read little gathers that, which is little.
        """
        passed = walked.subquery()
        row = select(*columns).where(col(self.model.id) == passed.c.id, readable.write(self.model))
        found = looked_up_for_each(row)
        in_order = [self.directed(passed.c[column.key]) for column in self.order]
        limit: ColumnElement[int] = literal_column(str(most))
        near = select(found).join_from(passed, found, true()).order_by(*in_order).limit(limit).cte("near")
        count = select(func.count())
        is_short = count.select_from(near).scalar_subquery() < limit
        has_more = count.select_from(walked.subquery()).scalar_subquery() == literal_column(str(WALKED))
        is_passed = col(self.model.id).in_(select(walked.subquery().c.id))
        far = everything.where(is_short, has_more, ~is_passed).subquery()
        both = union_all(select(near), select(far)).subquery()
        return select(both).order_by(*(self.directed(both.c[name]) for name in self.key_names)).limit(limit)

    def directed(self, key: Any) -> Any:
        """A part of the order, in its direction."""
        return key.desc() if self.descending else key.asc()

    async def page(self, uow: UnitOfWork, paging: Paging, **filters: Any) -> Response:
        """One page as an answer, with its `Link` header; filters that are None count as not given."""
        given = {name: value for name, value in filters.items() if value is not None}
        # A list of ids stands for the caller ("mine") and may grow between two pages.
        fingerprint = f"{self.model.__name__}?{urlencode(sorted((k, '' if isinstance(v, list) else str(v)) for k, v in given.items()))}"
        keys = self.keys()
        after = paging.after(uow, fingerprint, [kind for _, kind in keys])
        if self.readable(uow).never:
            return JsonBytes({"items": [], "next_cursor": None})
        read, access_values = self.read(uow, tuple(sorted(given)), after is not None, paging.most)
        values = {name: value for (name, _), value in zip(keys, after or (), strict=after is not None)}
        found = await read.all(uow.reader, **access_values, **given, **values)
        rows = found[: paging.limit + 1]
        items = [self.item(row) for row in rows]
        ends = [[row[name] for name in self.key_names] for row in rows[: paging.limit][-1:]]
        return paging.answer(uow, fingerprint, items, ends[0] if ends else [])


def is_below(given: Sequence[str]) -> bool:
    """Whether a list is asked for by something that its rows hang under."""
    return any(name.endswith("_id") for name in given)


def table_of(model: type[Record]) -> type[Table]:
    """Only kinds have read rules; a list of anything else says itself what is readable."""
    if not issubclass(model, Table):
        raise TypeError(f"{model.__name__} is no Table; give its list or point a `readable`.")
    return model


def decoded(row: dict[str, Any]) -> dict[str, Any]:
    """The same row, its JSON columns parsed: one pool gives them as PostgreSQL writes them, the other parsed.

    What a write answers with and what a read does have to be the same bytes, for the sake of their ETag.
    """
    for name, value in row.items():
        if type(value) is msgspec.Raw:
            row[name] = msgspec.json.decode(value)
    return row


def values_of(readable: Filter, guards: Mapping[str, Filter]) -> dict[str, Any]:
    """What the conditions of one statement are asked with."""
    values = dict(readable.parameters)
    for guard in guards.values():
        values |= guard.parameters
    return values


def plain(value: Any) -> Any:
    """asyncpg's own UUID type as text, everything else as it is."""
    return str(value) if isinstance(value, UUID) else value


def next_link(request: Request, cursor: str) -> str:
    """The same request with another cursor, as a reference relative to the host (RFC 8288)."""
    query = request.scope["query_string"].decode("latin-1").split("&")
    kept = [part for part in query if part and not part.startswith("cursor=")]
    return f"{quote(request.scope['path'])}?{'&'.join([*kept, f'cursor={cursor}'])}"


class Point:
    """One row by its id, as clients see it.

    `where` may narrow it by parameters that `get` is given (the parent that the URL names, say).
    """

    def __init__(
        self,
        model: type[Record],
        out: type[BaseModel],
        columns: Mapping[str, Any] | None = None,
        readable: Readable | None = None,
        where: ColumnElement[bool] | None = None,
        made: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
    ) -> None:
        self.listing = Listing(model, out, columns=columns, readable=readable, made=made)
        self.where: ColumnElement[bool] = true() if where is None else where
        self.model, self.out = model, out
        self.reads: dict[Hashable, Read] = {}
        self.reads_after_write: dict[Hashable, Read] = {}

    def statement(self, condition: ColumnElement[bool], guards: Mapping[str, Filter]) -> Any:
        """The select for one row."""
        return select(*self.listing.selected(guards), self.model.version.label("row_version")).where(  # type: ignore[attr-defined]
            col(self.model.id) == bindparam("row_id", type_=Uuid()), alive(self.model), condition
        )

    async def get(self, uow: UnitOfWork, id: UUID, **values: Any) -> Response:
        """The row with its ETag, 304 when the caller has it already, NotFound when they may not know it."""
        readable, guards = self.listing.readable(uow), self.listing.guards(uow)
        if readable.never:
            raise NotFound(kind_name(self.model), id)
        form = (readable.shape, *(guard.shape for guard in guards.values()))
        if form not in self.reads:
            self.reads[form] = Read(self.statement(and_(self.where, readable.write(self.model)), guards), True)
        row = await self.reads[form].one(uow.reader, **values_of(readable, guards), row_id=id, **values)
        if row is None:
            raise NotFound(kind_name(self.model), id)
        return self.answer(dict(row))

    async def after_write(self, uow: UnitOfWork, id: UUID, status: int = 200) -> Response:
        """The row as this transaction left it, with its new ETag."""
        return self.answer(await self.row(uow, id), status)

    async def row(self, uow: UnitOfWork, id: UUID) -> dict[str, Any]:
        """The columns of a live row, whoever may read it, as this transaction sees it. Raises NotFound."""
        readable, guards = self.listing.readable(uow), self.listing.guards(uow)
        form = tuple(guard.shape for guard in guards.values())
        if form not in self.reads_after_write:
            self.reads_after_write[form] = Read(self.statement(true(), guards))
        values = {**values_of(readable, guards), "actor_id": uow.access.actor_id, "row_id": id}
        row = await self.reads_after_write[form].one(uow.session, **values)
        if row is None:
            raise NotFound(kind_name(self.model), id)
        return dict(row)

    def answer(self, row: dict[str, Any], status: int = 200) -> Response:
        """Bytes with an ETag."""
        version = row.pop("row_version")
        row = decoded(row)
        body = ENCODER.encode(row if self.listing.made is None else self.listing.made(row))
        return Written(body, status, etag(version, body))


def with_304(response: Response, if_none_match: str | None) -> Response:
    """304 without a body when the caller already has these bytes."""
    if if_none_match is None:
        return response
    tag = response.headers.get("ETag")
    if tag is not None and response.status_code == 200 and is_unchanged(if_none_match, tag):
        return Response(status_code=304, headers={"ETag": tag})
    return response
