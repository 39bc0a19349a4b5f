"""ETags: `"<version>.<hash of the body>"`, so that reads are validated by bytes and writes by the row's version."""

from hashlib import blake2b

from lms_core.errors import Problem


def etag(version: int, body: bytes) -> str:
    """A strong ETag (RFC 9110 §8.8.3)."""
    return f'"{version}.{blake2b(body, digest_size=8).hexdigest()}"'


def check_if_match(if_match: str | None, version: int) -> None:
    """Raise 412 unless the header is absent, `*`, or names this version of the row (RFC 9110 §13.1.1)."""
    if if_match is None or if_match.strip() == "*":
        return
    tags = [tag.strip() for tag in if_match.split(",")]
    if not any(tag.startswith(f'"{version}.') and tag.endswith('"') for tag in tags):
        raise Problem(
            412, "precondition_failed", "It was changed since you read it; read it again and repeat your change."
        )


def is_unchanged(if_none_match: str | None, tag: str) -> bool:
    """Whether the caller already has these bytes (weak comparison, RFC 9110 §13.1.2)."""
    if if_none_match is None:
        return False
    tags = [part.strip().removeprefix("W/") for part in if_none_match.split(",")]
    return "*" in tags or tag in tags
