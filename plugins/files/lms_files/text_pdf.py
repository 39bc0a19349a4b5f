"""PDF: the text of its pages, and a picture of the first one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pypdfium2
from pypdfium2 import raw

from lms_files.extraction_jobs import Refused


def open_pdf(path: Path) -> pypdfium2.PdfDocument:
    """Raises Refused with `encrypted` if it takes a password to read, and with `broken`."""
    try:
        return pypdfium2.PdfDocument(path)
    except pypdfium2.PdfiumError as error:
        locked = error.err_code in (raw.FPDF_ERR_PASSWORD, raw.FPDF_ERR_SECURITY)
        raise Refused("encrypted" if locked else "broken", str(error)) from error


def check_pdf(path: Path) -> None:
    """Raises Refused with `broken`. A password is no damage: the file is taken, only its text stays unknown."""
    try:
        open_pdf(path).close()
    except Refused as refused:
        if refused.reason != "encrypted":
            raise


def pdf_pages(path: Path) -> Iterator[Iterator[str]]:
    """The text of each page."""
    with open_pdf(path) as document:
        for number in range(len(document)):
            yield _page_text(document, number)


def _page_text(document: pypdfium2.PdfDocument, number: int) -> Iterator[str]:
    page = document[number]
    # PDFium marks a word that was divided at a line's end with U+FFFE.
    yield page.get_textpage().get_text_bounded().replace("\r\n", "\n").replace("\ufffe\n", "").replace("\ufffe", "")
    # Or each page's objects stay in memory until the end of the document.
    page.close()


def picture_of_pdf(path: Path, target: Path, side: int) -> tuple[int, int]:
    """The first page as a WebP picture; returns width and height in pixels. Raises Refused as `open_pdf` does."""
    # Imported here since text needs no pictures.
    from lms_files.images import write_picture

    with open_pdf(path) as document:
        if not len(document):
            raise Refused("unsupported", "no page")
        page = document[0]
        scale = side / max(page.get_size())
        return write_picture(page.render(scale=scale).to_pil(), target, side)
