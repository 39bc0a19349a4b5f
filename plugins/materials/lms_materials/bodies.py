"""What teachers and students write: HTML is cleaned; markdown in which something is meant to run is refused.

Markdown stays as it is written, so this is a first line: who shows it cleans what they rendered, as docs/materials.md says.
Everything here takes time in proportion to the text.
"""

import re
from collections import Counter
from html import unescape

import nh3

from lms_core.sdk import Invalid

LINE_END = re.compile(r"\r\n|\n|\r")
# As CommonMark has them (section 4.5), but only at the left margin, where no list or quotation can end them.
FENCE = re.compile(r"(`{3,})[^`]*|(~{3,}).*")
CLOSING = re.compile(r" {0,3}(`{3,}|~{3,})[ \t]*")
ANY_FENCE = re.compile("```|~~~")
# HTML in which a blank line ends nothing (section 4.6), where it begins.
RAW = re.compile(r" {0,3}<(?:[!?]|/?(?:pre|script|style|textarea)\b)", re.IGNORECASE)
A_TAG = re.compile(r"<[a-z!/?]", re.IGNORECASE)
# Elements that run, load or take over something, wherever an HTML parser finds them.
ELEMENTS = re.compile(
    r"</?(?:script|style|i?frame|frameset|object|embed|applet|form|input|button|textarea|select|svg|math|link|meta|base"
    r"|template|noscript|noembed|noframes|xmp|plaintext|portal|audio|video|source|track|marquee)\b",
    re.IGNORECASE,
)
# As attributes, in quotes or not: one that is quoted for one parser is not for another.
HANDLERS = re.compile(
    r"[\s/\"'`]on(?:abort|after|anim|aux|before|begin|blur|can|change|click|close|context|copy|cue|cut|dbl|drag|drop|dur"
    r"|emptied|end|error|focus|form|full|got|hash|input|invalid|key|lang|load|lost|message|mouse|offline|online|page"
    r"|paste|pause|play|pointer|pop|progress|rate|repeat|reset|resize|scroll|search|seek|select|show|stalled|start|storage"
    r"|submit|suspend|time|toggle|touch|transition|unhandled|unload|volume|wait|webkit|wheel)[a-z]*\s*=",
    re.IGNORECASE,
)
# In a paragraph that has a tag with an attribute, whatever begins like one: browsers learn new ones.
PART_OF_TAG = re.compile(r"<[a-z]|[>=]", re.IGNORECASE)
ANY_HANDLER = re.compile(r"[\s/\"'`]on[a-z]+\s*=", re.IGNORECASE)
STYLE = re.compile(r"[\s/\"'`](?:style|srcdoc|formaction)\s*=", re.IGNORECASE)
# Where an address may stand: behind a bracket or an equals sign, or as a reference's.
ADDRESSES = re.compile(r"(?:[(<=\"']|\]:)\s*(?:javascript|vbscript|data:text/html)(?::|;|,)", re.IGNORECASE)
# What browsers drop from addresses.
DROPPED = re.compile("[\x00-\x08\x0b-\x1f\x7f\u00ad\u200b-\u200f\ufeff\t\n]")


# Elements that end where the next one begins; all others nest, and cleaning takes the square of the depth.
UNNESTED = frozenset(
    [
        "p",
        "li",
        "dt",
        "dd",
        "option",
        "optgroup",
        "tr",
        "td",
        "th",
        "thead",
        "tbody",
        "tfoot",
        "colgroup",
        "rt",
        "rp",
        "area",
        "base",
        "br",
        "col",
        "embed",
        "hr",
        "img",
        "input",
        "link",
        "meta",
        "source",
        "track",
        "wbr",
    ]
)
TAG = re.compile(r"<(/?)([a-z][^\s/>]*)", re.IGNORECASE)
MAX_DEPTH = 256


def cleaned(body: str, body_format: str) -> str:
    """The text as it may be stored: HTML without what could run, markdown as it is. Raises Invalid."""
    if body_format == "html":
        if depth(body) > MAX_DEPTH:
            raise Invalid(
                "html_too_deep",
                f"More than {MAX_DEPTH} elements stand inside of each other; close some, or leave them out.",
                ("body", "body"),
            )
        return nh3.clean(body)
    if (active := find_active(without_code(body))) is not None:
        raise Invalid(
            "html_not_allowed",
            f"{active.strip()[:60]!r} could run in a browser; put it between fences at the left margin, or leave it out.",
            ("body", "body"),
        )
    return body


def depth(html: str) -> int:
    """How many elements are open at once at most, if those that are closed twice are not counted against others."""
    opened: Counter[str] = Counter()
    now = most = 0
    for closing, name in TAG.findall(html):
        name = name.lower()
        if name in UNNESTED:
            continue
        if not closing:
            opened[name] += 1
            now += 1
            most = max(most, now)
        elif opened[name]:
            opened[name] -= 1
            now -= 1
    return most


def without_code(text: str) -> str:
    """Markdown without its code, as far as that is certain; where it is not, nothing more is taken for code."""
    kept: list[str] = []
    paragraph: list[str] = []
    fence = ""
    certain = True
    for line in LINE_END.split(text):
        if fence:
            closing = CLOSING.fullmatch(line)
            if closing is not None and closing[1][0] == fence[0] and len(closing[1]) >= len(fence):
                fence = ""
            continue
        opening = FENCE.fullmatch(line)
        if certain and opening is not None and not any(map(A_TAG.search, paragraph)):
            fence = opening[1] or opening[2]
        elif ANY_FENCE.search(line) or RAW.match(line):
            # Perhaps a fence in a list, or none at all inside of HTML: what comes after it could be either.
            certain = False
        if fence or not line.strip(" \t"):
            kept += outside_spans(paragraph) if certain else paragraph
            paragraph = []
        if not fence:
            paragraph.append(line)
    return "\n".join([*kept, *(outside_spans(paragraph) if certain else paragraph)])


def outside_spans(paragraph: list[str]) -> list[str]:
    """A paragraph without what stands between backticks on one line; all of it, where one is left over or HTML begins."""
    found = []
    for line in paragraph:
        if "\\`" in line:
            return paragraph
        runs = re.finditer("`+", line)
        rest, position = "", 0
        for opening in runs:
            rest += line[position : opening.start()]
            closing = next((run for run in runs if len(run[0]) == len(opening[0])), None)
            if closing is None:
                return paragraph
            position = closing.end()
        found.append(rest + line[position:])
    return paragraph if any(map(A_TAG.search, found)) else found


def find_active(text: str) -> str | None:
    """Something in markdown, without its code, that is meant to run."""
    found = ADDRESSES.search(DROPPED.sub("", unescape(text)))
    if found is None and A_TAG.search(text):
        found = ELEMENTS.search(text) or HANDLERS.search(text) or STYLE.search(text)
        for paragraph in re.split(r"\n[ \t]*\n", text):
            if found is None and has_attribute(paragraph):
                found = ANY_HANDLER.search(paragraph)
    return None if found is None else found[0]


def has_attribute(paragraph: str) -> bool:
    """Whether an equals sign stands in a tag."""
    inside = False
    for part in PART_OF_TAG.finditer(paragraph):
        if part[0] != "=":
            inside = part[0] != ">"
        elif inside:
            return True
    return False
