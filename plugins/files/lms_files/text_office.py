"""The text of Office Open XML: documents, presentations, workbooks.

Each library is imported by the function that needs it: a job reads one file, and starting must be quick.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lxml.etree import _Element
    from openpyxl.worksheet._read_only import ReadOnlyWorksheet

WORD = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
DRAWING = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
COMPATIBILITY = "{http://schemas.openxmlformats.org/markup-compatibility/2006}"


def docx_pages(path: Path) -> Iterator[Iterator[str]]:
    """A document as one page: where pages break is decided by the printer."""
    from docx import Document

    yield _runs(Document(str(path)).element.body, WORD)


def pptx_pages(path: Path) -> Iterator[Iterator[str]]:
    """Each slide, with its notes."""
    from pptx import Presentation

    for slide in Presentation(str(path)).slides:
        roots = [slide.element]
        if slide.has_notes_slide:
            roots.append(slide.notes_slide.element)
        yield chain.from_iterable(_runs(root, DRAWING) for root in roots)


def _runs(root: _Element, namespace: str) -> Iterator[str]:
    """Text in the order of the document, a line for each paragraph, also those in tables, text boxes and insertions."""
    paragraph, text, run = namespace + "p", namespace + "t", namespace + "r"
    tab, breaks = namespace + "tab", (namespace + "br", namespace + "cr")
    fallback = COMPATIBILITY + "Fallback"
    for node in root.iter(paragraph, text, tab, *breaks):
        if node.tag == paragraph:
            yield "\n"
        elif next(node.iterancestors(fallback), None) is not None:
            # The same text again, for programs that don't know the newer way to draw it.
            continue
        elif node.tag == text:
            yield node.text or ""
        elif node.tag in breaks:
            yield "\n"
        elif node.getparent().tag == run:
            # Elsewhere a tab element defines a tab stop.
            yield "\t"


def xlsx_pages(path: Path) -> Iterator[Iterator[str]]:
    """Each sheet: its name, then a line for each row, the cells divided by tabs; formulas as their stored results."""
    from openpyxl import load_workbook

    # By the open file: a path without one of Excel's extensions is refused.
    with path.open("rb") as file:
        for sheet in load_workbook(file, read_only=True, data_only=True, keep_links=False).worksheets:
            # Or the sheet's own claim about its size makes rows of thousands of empty cells.
            sheet.reset_dimensions()
            yield _rows(sheet)


def _rows(sheet: ReadOnlyWorksheet) -> Iterator[str]:
    yield f"{sheet.title}\n"
    for row in sheet.iter_rows(values_only=True):
        cells = ["" if cell is None else str(cell) for cell in row]
        if any(cells):
            yield "\t".join(cells).rstrip("\t") + "\n"
