"""Which passwords are refused: too short or long, holding the address, or among those that are guessed first."""

from functools import cache
from itertools import pairwise
from pathlib import Path

from lms_auth.passwords import normal
from lms_auth.settings import AuthSettings
from lms_core.sdk import Invalid

MAX_LENGTH = 128
SHORTEST_LOCAL_PART = 3
DIFFERENT_CHARACTERS = 5
JUMPS = 3
ROWS = ("abcdefghijklmnopqrstuvwxyz", "01234567890", "qwertyuiop", "asdfghjkl", "zxcvbnm", "qwertzuiop", "azertyuiop")
NEIGHBOURS = frozenset(pair for row in ROWS for a, b in pairwise(row) for pair in (a + b, b + a, a + a, b + b))
SUBSTITUTES = {"0": "o", "3": "e", "4": "a", "5": "s", "7": "t", "8": "b", "9": "g", "@": "a", "$": "s"}
READINGS = (
    str.maketrans({**SUBSTITUTES, "1": "i", "!": "i", "|": "i"}),
    str.maketrans({**SUBSTITUTES, "1": "l", "!": "l", "|": "l"}),
)


def refuse_weak(
    settings: AuthSettings, password: str, email: str, loc: tuple[str | int, ...], institutions_ask: int | None = None
) -> None:
    """Raise Invalid for a password that somebody else could guess, or that is too short for the user's institutions."""
    text = normal(password)
    shortest = max(settings.password_min_length, institutions_ask or 0)
    if len(text) < shortest:
        raise Invalid("password_too_short", f"A password has at least {shortest} characters; choose a longer one.", loc)
    if len(text) > MAX_LENGTH:
        raise Invalid(
            "password_too_long", f"A password has at most {MAX_LENGTH} characters; choose a shorter one.", loc
        )
    folded = text.casefold()
    local_part = normal(email).casefold().strip().rpartition("@")[0]
    if len(local_part) >= SHORTEST_LOCAL_PART and local_part in folded:
        raise Invalid("password_contains_address", "This password contains your address; choose another.", loc)
    if is_simple(folded) or is_common(folded):
        raise Invalid("password_too_common", "This password is easily guessed; choose another.", loc)


def is_simple(folded: str) -> bool:
    """A few characters again and again, or walks along the alphabet, the digits or the keyboard."""
    jumps = sum(a + b not in NEIGHBOURS for a, b in pairwise(folded))
    return len(set(folded)) < DIFFERENT_CHARACTERS or jumps < JUMPS


def is_common(folded: str) -> bool:
    """Whether it is a common word (once or repeated), whatever stands around it and however it is spelled."""
    words = common_words()
    if "".join(filter(str.isalnum, folded)) in words:
        return True
    start = next((index for index, character in enumerate(folded) if character.isalpha()), len(folded))
    end = max((index for index, character in enumerate(folded) if character.isalpha()), default=-1)
    inner = folded[start : end + 1]
    readings = {folded.translate(table) for table in READINGS} | {inner.translate(table) for table in READINGS}
    return any(unrepeated("".join(filter(str.isalpha, reading))) in words for reading in readings)


def unrepeated(text: str) -> str:
    """`passwordpassword` is `password`."""
    return text[: (text + text).find(text, 1)] if text else text


@cache
def common_words() -> frozenset[str]:
    """The words that people take when they are asked for a password."""
    return frozenset(Path(__file__).with_name("common_passwords.txt").read_text(encoding="utf-8").split())
