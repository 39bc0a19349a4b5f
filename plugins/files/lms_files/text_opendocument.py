"""The text of OpenDocument: texts, presentations, drawings, spreadsheets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

from lxml import etree

from lms_files.extraction_jobs import Refused

TEXT = "{urn:oasis:names:tc:opendocument:xmlns:text:1.0}"
TABLE = "{urn:oasis:names:tc:opendocument:xmlns:table:1.0}"
DRAW = "{urn:oasis:names:tc:opendocument:xmlns:drawing:1.0}"
OFFICE = "{urn:oasis:names:tc:opendocument:xmlns:office:1.0}"
BLOCKS = (TEXT + "p", TEXT + "h")
WHITESPACE = {TEXT + "s": " ", TEXT + "tab": "\t", TEXT + "line-break": "\n"}
# What was deleted while changes were tracked, and remarks beside the text.
LEFT_OUT = (TEXT + "tracked-changes", OFFICE + "annotation")


def opendocument_pages(path: Path) -> Iterator[Iterator[str]]:
    """Each slide, drawing page or sheet; a text document is one page.

    Raises Refused with `encrypted` or `broken`.
    """
    body = _content(path).find(OFFICE + "body")
    if body is None:
        raise Refused("broken", "no body")
    kind = next(body.iterchildren(), body)
    pages = list(kind.iterchildren(DRAW + "page", TABLE + "table"))
    if not kind.tag.endswith("}text") and pages:
        for page in pages:
            yield _text(page)
    else:
        yield _text(kind)


def _content(path: Path) -> etree._Element:
    with ZipFile(path) as archive:
        if b"encryption-data" in archive.read("META-INF/manifest.xml"):
            raise Refused("encrypted")
        # No entities of the file's own, nothing from elsewhere, and the parser's limits on depth and size kept.
        # Comments and instructions go, since text would end at them.
        parser = etree.XMLParser(
            resolve_entities=False,
            no_network=True,
            load_dtd=False,
            huge_tree=False,
            remove_comments=True,
            remove_pis=True,
        )
        with archive.open("content.xml") as content:
            tree = etree.parse(content, parser)
    if tree.docinfo.doctype:
        raise Refused("broken", "content.xml declares a document type")
    root = tree.getroot()
    etree.strip_elements(root, *LEFT_OUT, with_tail=False)
    return root


def _text(element: etree._Element) -> Iterator[str]:
    """The text of all paragraphs below `element`, each on its line, cells of a row divided by tabs."""
    # Not recursive: elements come as they start and end.
    inside = 0
    for event, node in etree.iterwalk(element, events=("start", "end")):
        if node.tag in BLOCKS:
            inside += 1 if event == "start" else -1
        if event == "start":
            if inside:
                yield WHITESPACE.get(node.tag, "") + (node.text or "")
            continue
        if node.tag in BLOCKS:
            yield "\t" if node.getparent().tag == TABLE + "table-cell" else "\n"
        elif node.tag == TABLE + "table-row":
            yield "\n"
        if inside:
            yield node.tail or ""
