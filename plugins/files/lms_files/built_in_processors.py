"""What is made of every file that allows it: its text, a thumbnail, and a preview; runs in the limited child process."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from lms_files import content_types
from lms_files.extraction_jobs import Derived, Limits, Refused


def text(path: Path, content_type: str, folder: Path, limits: Limits) -> Derived:
    """The text, page by page. Raises Refused."""
    return Derived(pages=pages_of(path, content_type, limits))


def thumbnail(path: Path, content_type: str, folder: Path, limits: Limits) -> Derived:
    """A small picture. Raises Refused."""
    return picture(path, content_type, folder / "thumbnail.webp", limits.thumbnail_side, limits)


def preview(path: Path, content_type: str, folder: Path, limits: Limits) -> Derived:
    """A picture in which a page can be read. Raises Refused."""
    return picture(path, content_type, folder / "preview.webp", limits.preview_side, limits)


def pages_of(path: Path, content_type: str, limits: Limits) -> Iterable[Iterable[str]]:
    """The pages of a document, each as pieces of text, read as they are asked for. Raises Refused."""
    if content_type in content_types.PDF_TYPES:
        from lms_files.text_pdf import pdf_pages

        return pdf_pages(path)
    if content_type in content_types.TEXT_TYPES:
        from lms_files.text_plain import plain_pages

        return plain_pages(path, limits)
    if content_type in content_types.HTML_TYPES:
        from lms_files.text_html import html_pages

        return html_pages(path, limits)
    if content_type in content_types.OPEN_XML_TYPES | content_types.OPEN_DOCUMENT_TYPES:
        from lms_files.archives import check_archive

        check_archive(path, limits)
        return office_pages(path, content_type)
    raise Refused("unsupported")


def office_pages(path: Path, content_type: str) -> Iterator[Iterator[str]]:
    """The pages of an office document."""
    from lms_files import text_office

    if content_type == content_types.DOCX:
        return text_office.docx_pages(path)
    if content_type == content_types.PPTX:
        return text_office.pptx_pages(path)
    if content_type == content_types.XLSX:
        return text_office.xlsx_pages(path)
    from lms_files.text_opendocument import opendocument_pages

    return opendocument_pages(path)


def picture(path: Path, content_type: str, target: Path, side: int, limits: Limits) -> Derived:
    """A picture of which no side is longer than `side` pixels, written to `target`. Raises Refused."""
    if content_type in content_types.IMAGE_TYPES:
        from lms_files.images import picture_of_image

        width, height = picture_of_image(path, content_type, target, side, limits)
    elif content_type in content_types.PDF_TYPES:
        from lms_files.text_pdf import picture_of_pdf

        width, height = picture_of_pdf(path, target, side)
    else:
        raise Refused("unsupported")
    return Derived({"width": width, "height": height}, picture=target)
