"""Pieces of SQL that many statements need: ids in arrays, texts to look for, look-ups row by row."""

from __future__ import annotations

import unicodedata
import uuid
from collections.abc import Iterable
from datetime import timedelta
from typing import Any, cast

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Exists,
    Select,
    String,
    TableValuedAlias,
    Uuid,
    any_,
    bindparam,
    column,
    extract,
    func,
    literal,
    literal_column,
    select,
)
from sqlalchemy import cast as cast_to
from sqlalchemy.sql.selectable import LateralFromClause

CLOCKS_APART = literal(timedelta(hours=1))
"""More than the clock that an id was made by may differ from the database's, which says when."""


def id_at(moment: Any) -> ColumnElement[uuid.UUID]:
    """An SQL expression: the least id that can be made at a moment, to find by ids what happened when."""
    milliseconds = func.greatest(func.floor(extract("epoch", moment) * 1000), 0)
    digits = func.lpad(func.to_hex(cast_to(milliseconds, BigInteger)), 12, "0")
    return cast_to(digits.concat("0" * 20), Uuid())


def among(column: Any, ids: Iterable[uuid.UUID]) -> ColumnElement[bool]:
    """`column = ANY(array)`: for any number of ids, where `IN` takes a parameter each and 32,767 at most."""
    return cast(ColumnElement[bool], column == any_(literal(list(ids), ARRAY(Uuid()))))


def among_texts(column: Any, texts: Iterable[str]) -> ColumnElement[bool]:
    """The same for texts."""
    return cast(ColumnElement[bool], column == any_(literal(list(texts), ARRAY(String()))))


def like_pattern(text: str) -> str:
    """Text to look for in names, which are kept as NFC, with what LIKE gives a meaning to taken literally."""
    return unicodedata.normalize("NFC", text).replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def given_ids(name: str) -> TableValuedAlias:
    """A table with one column, `id`: the ids that a parameter holds, to look each of them up.

    PostgreSQL is kept from seeing how many there are: it would plan anew for each call, to find one row, in as long as
    finding it takes.
    """
    kind = ARRAY(Uuid())
    array = cast_to(select(bindparam(name, type_=kind)).scalar_subquery(), kind)
    return func.unnest(array).table_valued(column("id", Uuid()), name=name).render_derived()


def exists_for_each(*conditions: ColumnElement[bool]) -> Exists:
    """EXISTS, looked up for each row that a list comes to.

    By itself PostgreSQL may read all of the other table first, for a hash or a join: for a page of 50 rows as much work
    as for all there are. It leaves alone what has an OFFSET.
    """
    return select(literal_column("1")).where(*conditions).offset(literal_column("0")).exists()


def looked_up_for_each(statement: Select[*tuple[Any, ...]]) -> LateralFromClause:
    """Rows to join with, looked up for each row of what `statement` is correlated to, in the same way."""
    return statement.offset(literal_column("0")).lateral()
