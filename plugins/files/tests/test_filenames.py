"""Names of files, coming in and going out."""

from __future__ import annotations

import pytest
from lms_files.filenames import attachment, clean_filename
from lms_files.storage import MAX_PARTS, PART_BYTES, part_sizes


@pytest.mark.parametrize(
    ("given", "cleaned"),
    [
        ("essay.pdf", "essay.pdf"),
        ("/etc/../a.pdf", "a.pdf"),
        ("C:\\fakepath\\a.pdf", "a.pdf"),
        ("a\r\nSet-Cookie: b.pdf", "aSet-Cookie: b.pdf"),
        ("fdp.\u202eexe.pdf", "fdp.exe.pdf"),
        ("e\u0301.pdf", "é.pdf"),
        ("نمی\u200cدانم.pdf", "نمی\u200cدانم.pdf"),
        ("fdp.\u061cexe.pdf", "fdp.exe.pdf"),
        ("a.pdf. ..", "a.pdf"),
        ("a\u2028b.pdf", "ab.pdf"),
        (".hidden", ".hidden"),
    ],
)
def test_cleaned(given: str, cleaned: str) -> None:
    assert clean_filename(given) == cleaned


@pytest.mark.parametrize("given", ["", " ", "..", "a/", "\u202e", "\t", "x" * 256])
def test_no_names(given: str) -> None:
    with pytest.raises(ValueError):
        clean_filename(given)


def test_header_of_a_plain_name() -> None:
    assert attachment("essay 1.pdf") == "attachment; filename=\"essay 1.pdf\"; filename*=UTF-8''essay%201.pdf"


@pytest.mark.parametrize("size", [1, PART_BYTES, PART_BYTES + 1, 5 << 30])
def test_parts_make_the_whole(size: int) -> None:
    sizes = part_sizes(size)
    assert sum(sizes) == size
    assert 0 < len(sizes) <= MAX_PARTS
    assert all(part >= PART_BYTES for part in sizes[:-1])
