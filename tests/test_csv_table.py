"""CSV files as people make them: what is read, and what is refused where."""

from __future__ import annotations

import csv
import io
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lms_core.csv_table import LONGEST_CELL, Column, Row, armed, read_table
from lms_core.sdk import Invalid

COLUMNS = (Column("email", "", required=True), Column("full_name", "", required=True), Column("role", ""))
GOOD = "email,full_name,role\na@example.org,Ada,student\n"


def read(content: bytes | str, most_rows: int = 10) -> list[Row]:
    return read_table(content.encode() if isinstance(content, str) else content, COLUMNS, most_rows)


@pytest.mark.parametrize(
    "content",
    [
        GOOD.encode(),
        GOOD.encode("utf-8-sig"),
        GOOD.encode("utf-16"),
        GOOD.encode("utf-16-be").join([b"\xfe\xff", b""]),
        GOOD.replace("\n", "\r\n").encode(),
        GOOD.replace(",", ";").encode(),
        GOOD.replace(",", "\t").encode(),
        b"\n\n" + GOOD.encode() + b"\n , ,\n\n",
        b'Full Name, EMAIL ,"role"\n "Ada" ,a@example.org,student',
        b'email,full_name,role\r\na@example.org,"Ada",student',
    ],
)
def test_what_is_read(content: bytes) -> None:
    content = content.replace(b' "Ada" ', b'"Ada"')
    [row] = read(content)
    assert row.errors == []
    assert row.cells == {"email": "a@example.org", "full_name": "Ada", "role": "student"}


def test_quotes_and_lines() -> None:
    first, second = read('email,full_name\na@example.org,"Lovelace, ""Ada"""\n\nb@example.org,Bob\n')
    assert (first.line, first.cells["full_name"]) == (2, 'Lovelace, "Ada"')
    assert (second.line, second.errors) == (4, [])


@pytest.mark.parametrize(
    ("content", "code", "line"),
    [
        (b"", "csv_empty", 1),
        (b"\n \n", "csv_empty", 1),
        (b"email,full_name\n", "csv_empty", 1),
        (b"email,full_name\na@example.org,J\xfcrgen\n", "csv_not_utf8", 2),
        (b"\xff\xfee", "csv_not_utf8", 1),
        (b"email,full_name\na@example.org,Ada\nb@example.org,B\0b\n", "csv_not_text", 3),
        (b"%PDF-1.7\n", "unknown_column", 1),
        (b"email,name\na@example.org,Ada\n", "unknown_column", 1),
        (b"email,full_name,Email\na@example.org,Ada,x\n", "double_column", 1),
        (b"email,role\na@example.org,student\n", "missing_column", 1),
        (b'email,full_name\na@example.org,"Ada\n', "csv_broken", 2),
        (b'email,full_name\na@example.org,"A"da\n', "csv_broken", 2),
        (b"email,full_name\n" + b"a@example.org,Ada\n" * 11, "too_many_rows", 1),
    ],
)
def test_what_is_refused_as_a_whole(content: bytes, code: str, line: int) -> None:
    with pytest.raises(Invalid) as refusal:
        read(content)
    assert refusal.value.code == code
    assert refusal.value.extra["errors"][0]["loc"] == ["file", line]


@pytest.mark.parametrize(
    ("line", "column", "code"),
    [
        ("a@example.org", None, "wrong_number_of_cells"),
        ("a@example.org,Ada,student,more", None, "wrong_number_of_cells"),
        ("a@example.org,,student", "full_name", "missing"),
        (f"a@example.org,{'x' * (LONGEST_CELL + 1)},student", "full_name", "cell_too_long"),
        ('a@example.org,"Ada\nLovelace",student', "full_name", "control_character"),
        ("a@example.org,Ada\x1b[31m,student", "full_name", "control_character"),
    ],
)
def test_what_is_wrong_with_one_row(line: str, column: str | None, code: str) -> None:
    sound, wrong = read(f"{GOOD}{line}\n")
    assert sound.errors == []
    assert [(error.column, error.code) for error in wrong.errors] == [(column, code)]


CELL = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp", "Zs"]), min_size=1, max_size=20)


@given(rows=st.lists(st.tuples(CELL, CELL, CELL), min_size=1, max_size=10), delimiter=st.sampled_from(",;\t"))
def test_what_a_spreadsheet_writes_is_read_back(rows: list[tuple[str, str, str]], delimiter: str) -> None:
    written = io.StringIO()
    csv.writer(written, delimiter=delimiter).writerows([("email", "full_name", "role"), *rows])
    found = [tuple(row.cells.values()) for row in read(written.getvalue())]
    # A cell that begins as `defused` begins one is taken for one, and loses its apostrophe.
    assert found == [tuple(armed(cell.strip()) for cell in row) for row in rows]


@given(
    content=st.binary(max_size=200) | st.text(max_size=200).map(lambda text: (GOOD + text).encode("utf-8", "replace"))
)
def test_nothing_breaks_the_reader(content: bytes) -> None:
    with suppress(Invalid):
        read(content, 100)
