"""CSV files of people who use spreadsheets: rows by column name, and refusals that say where."""

from __future__ import annotations

import codecs
import csv
import io
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from lms_core.errors import Invalid
from lms_core.inputs import UNSEEN

DELIMITERS = ",;\t"
LONGEST_CELL = 1_000
FORMULA = re.compile(r"'*[=+\-@]")
# The largest file has one cell that is too long, and it is to be said where.
csv.field_size_limit(1 << 30)


@dataclass(frozen=True)
class Column:
    """A column that an import knows; what is not `required` may be missing or empty."""

    name: str
    summary: str
    required: bool = False


@dataclass(frozen=True)
class CellError:
    """What is wrong with a cell, or with a whole row when `column` is None."""

    column: str | None
    code: str
    detail: str


@dataclass(frozen=True)
class Row:
    """A row of the file: the line on which it ends, and its cells by column; white space around them is gone."""

    line: int
    cells: dict[str, str]
    errors: list[CellError] = field(default_factory=list)


def read_table(content: bytes, columns: Sequence[Column], most_rows: int) -> list[Row]:
    """The rows of a CSV file with a header; UTF-8, or UTF-16 with its mark; commas, semicolons or tabs.

    A cell or row that is wrong by itself comes with its errors. Raises Invalid when the file as a whole cannot be read.
    """
    text = decode(content)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter_of(text), strict=True)
    try:
        lines = [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        raise refused("csv_broken", f"Line {reader.line_num} is no CSV ({error}).", reader.line_num) from None
    if not lines:
        raise refused("csv_empty", "The file is empty; its first line names the columns.", 1)
    names = header(lines[0][1], columns)
    if len(lines) == 1:
        raise refused("csv_empty", "The file has no rows, only the names of the columns.", 1)
    if len(lines) - 1 > most_rows:
        raise refused(
            "too_many_rows", f"The file has {len(lines) - 1} rows; split it into files of {most_rows} at most.", 1
        )
    required = [column.name for column in columns if column.required]
    return [row_of(line, cells, names, required) for line, cells in lines[1:]]


def decode(content: bytes) -> str:
    """The text; says on which line the first byte is that is no text."""
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = 1 + (0 if wide else content.count(b"\n", 0, error.start))
        raise refused("csv_not_utf8", f"Line {line} is not UTF-8; save the file as CSV UTF-8.", line) from None
    if "\0" in text:
        line = 1 + text.count("\n", 0, text.index("\0"))
        raise refused("csv_not_text", f"Line {line} holds a NUL, so this is no CSV file.", line)
    return text


def delimiter_of(text: str) -> str:
    """What separates the names of the columns."""
    first = re.split("[\r\n]", text.lstrip(), maxsplit=1)[0]
    return max(DELIMITERS, key=first.count)


def header(cells: Sequence[str], columns: Sequence[Column]) -> list[str]:
    """The columns' names in the file's order; Invalid for unknown, double and missing ones."""
    names = [cell.strip().casefold().replace(" ", "_") for cell in cells]
    known = [column.name for column in columns]
    for name in names:
        if name not in known:
            raise refused("unknown_column", f"There is no column {name[:100]!r}; known are {', '.join(known)}.", 1)
        if names.count(name) > 1:
            raise refused("double_column", f"The column {name} is there twice.", 1)
    for column in columns:
        if column.required and column.name not in names:
            raise refused("missing_column", f"The column {column.name} is missing.", 1)
    return names


def row_of(line: int, cells: Sequence[str], names: Sequence[str], required: Sequence[str]) -> Row:
    """One row, with what is wrong with it."""
    errors = []
    if len(cells) != len(names):
        errors.append(CellError(None, "wrong_number_of_cells", f"The row has {len(cells)} cells, not {len(names)}."))
    found = {name: armed(unicodedata.normalize("NFC", cell.strip())) for name, cell in zip(names, cells, strict=False)}
    for name, cell in found.items():
        if len(cell) > LONGEST_CELL:
            errors.append(CellError(name, "cell_too_long", f"Longer than {LONGEST_CELL} characters."))
        elif UNSEEN.search(cell):
            errors.append(
                CellError(name, "control_character", "Holds a line break, a tab or another control character.")
            )
        elif not cell and name in required:
            errors.append(CellError(name, "missing", "Must not be empty."))
    return Row(line, found, errors)


def write_table(names: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A CSV file that `read_table` reads back as it was, and in which a spreadsheet finds no formula."""
    written = io.StringIO()
    writer = csv.writer(written)
    writer.writerow(names)
    writer.writerows([defused(cell) for cell in row] for row in rows)
    return written.getvalue()


def defused(cell: str) -> str:
    """A cell that no spreadsheet takes for a formula: with an apostrophe before what would begin one (OWASP).

    Before an apostrophe that stands in front of such a sign already, too, so that `armed` gives back every cell.
    """
    return f"'{cell}" if FORMULA.match(cell) else cell


def armed(cell: str) -> str:
    """A cell without the apostrophe of `defused`."""
    return cell[1:] if cell.startswith("'") and FORMULA.match(cell[1:]) else cell


def refused(code: str, detail: str, line: int) -> Invalid:
    """422 for a file; the place is its line."""
    return Invalid(code, detail, ("file", line))
