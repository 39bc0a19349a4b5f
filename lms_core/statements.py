"""Statements that are compiled once: reads on the read pool or in a transaction, and writes.

docs/performance.md has what a read on the pool takes, and what entities would.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Mapping, Sequence
from functools import cache
from typing import Any

import msgspec
from sqlalchemy import JSON, LargeBinary, Select, String, bindparam, inspect, text
from sqlalchemy.dialects.postgresql import asyncpg as asyncpg_dialect
from sqlalchemy.engine import Dialect
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import BindParameter

from lms_core.db import Database, Record
from lms_core.session import DirectSession, Rows


class ConstantsInside(asyncpg_dialect.PGCompiler_asyncpg):
    """Writes what the code itself says (`role = 'student'`) into the SQL, where SQLAlchemy would send it beside.

    Of a parameter PostgreSQL does not know what it will be: it leaves a partial index alone, or plans anew for each call,
    which can take ten times as long as the rest. What a client sends is never a constant.
    """

    def visit_bindparam(self, bindparam: BindParameter[Any], *places: Any, **options: Any) -> str:
        """A constant, or `$n`."""
        options["literal_binds"] = options.get("literal_binds") or is_constant(bindparam)
        written: str = super().visit_bindparam(bindparam, *places, **options)  # type: ignore[no-untyped-call]
        return written


def is_constant(part: BindParameter[Any]) -> bool:
    """Text, a number or a truth value of the code's own, or several for an `IN`; what has a name may be given later."""
    values = part.value if part.expanding and isinstance(part.value, Sequence) else [part.value]
    return part.unique and all(isinstance(value, str | int) for value in values)


DIALECT: Dialect = asyncpg_dialect.dialect()  # type: ignore[no-untyped-call]
DIALECT.statement_compiler = ConstantsInside


class Compiled:
    """A statement that is compiled once; `bindparam`s become keyword arguments.

    Building a statement anew and finding it again in SQLAlchemy's cache takes longer than PostgreSQL does.
    """

    def __init__(self, statement: Any) -> None:
        compiled = statement.compile(dialect=DIALECT)
        assert isinstance(compiled, SQLCompiler)
        open_names = {name for part, name in compiled.bind_names.items() if part.required}
        state = compiled.construct_expanded_state(dict.fromkeys(open_names), escape_names=False)
        self.sql = state.statement
        self.names = tuple(state.positiontup or ())
        self.fixed: Mapping[str, Any] = {
            name: value for name, value in state.parameters.items() if name not in open_names
        }
        json_names = {name for part, name in compiled.bind_names.items() if isinstance(part.type, JSON)}
        self.json_places = tuple(number for number, name in enumerate(self.names) if name in json_names)

    def arguments(self, given: Mapping[str, Any]) -> list[Any]:
        """The positional arguments of the compiled statement."""
        values = {**self.fixed, **given} if self.fixed else given
        return [values[name] for name in self.names]

    def in_transaction(self, session: DirectSession, given: Mapping[str, Any]) -> Awaitable[Rows]:
        """Every row as this transaction sees it, what waits to be flushed included.

        This and what calls it hand on what they would only wait for: a coroutine more costs time for each answer.
        """
        arguments = self.arguments(given)
        # What is JSON a read connection writes by itself; here the type does, which is left out.
        for number in self.json_places:
            if arguments[number] is not None:
                arguments[number] = json.dumps(arguments[number])
        return session.fetch(self.sql, arguments)


class Read(Compiled):
    """A compiled `select()`. It runs on the read pool, or, given a session, in its transaction and with what that wrote.

    It is the same SQL in both, but in a transaction JSON comes parsed. With `plan_once` PostgreSQL keeps one plan on the
    read pool for whatever the values are: for what is found by an id. Read rules make long statements, whose planning
    takes up to five times as long as the rest. Else it may plan anew for other values.
    """

    def __init__(self, statement: Select[*tuple[Any, ...]], plan_once: bool = False) -> None:
        super().__init__(statement)
        self.plan_once = plan_once

    def all(self, source: Database | DirectSession, **given: Any) -> Awaitable[Rows]:
        """Every row."""
        if isinstance(source, DirectSession):
            return self.in_transaction(source, given)
        return source.read(self.sql, self.arguments(given), self.plan_once)

    async def one(self, source: Database | DirectSession, **given: Any) -> Mapping[str, Any] | None:
        """The first row, or None."""
        rows = await self.all(source, **given)
        return rows[0] if rows else None


class Write(Compiled):
    """A compiled `insert()`, `update()` or `delete()`, or several in one statement, for what writes do most.

    No session sees what it changes: say it to the audit trail with `uow.record`.
    """

    def run(self, session: DirectSession, **given: Any) -> Awaitable[Rows]:
        """Do it; the rows that it returns."""
        return self.in_transaction(session, given)


ENCODER = msgspec.json.Encoder(enc_hook=str)


def as_json(rows: Sequence[Mapping[str, Any]]) -> str:
    """Many rows as one parameter: the driver takes longer to write them as an array for each column."""
    return ENCODER.encode(rows).decode()


@cache
def inserting(model: type[Record], columns: tuple[str, ...]) -> Write:
    """An insert of `rows`, given `as_json`, each with these columns; of none with bytes, which JSON cannot hold."""
    kept = inspect(model).local_table.columns
    if any(isinstance(kept[name].type, LargeBinary) for name in columns):
        raise TypeError(f"{model.__name__} has bytes in one of {', '.join(columns)}; insert those with a Write.")
    table, listed = model.__tablename__, ", ".join(map(DIALECT.identifier_preparer.quote, columns))
    statement = f"""
        INSERT INTO {table} ({listed})
        SELECT {listed} FROM json_populate_recordset(CAST(NULL AS {table}), CAST(:rows AS json))
    """
    return Write(text(statement).bindparams(bindparam("rows", type_=String())))
