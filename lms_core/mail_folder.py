"""The folder of mails that nobody sends: in development it is the mailbox of everybody."""

from __future__ import annotations

from email import message_from_bytes
from email.policy import SMTPUTF8
from pathlib import Path


def keep_mail(data: Path, key: str, content: bytes) -> None:
    """Write a mail into a data folder, so that only this user may read it, whole or not at all."""
    path = data / "mails" / f"{key}.eml"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    unfinished.touch(mode=0o600)
    unfinished.write_bytes(content)
    unfinished.replace(path)


class MailFolder:
    """The folder, for somebody who watches what comes."""

    def __init__(self, data: Path) -> None:
        self.path = data / "mails"
        self.changed_at = 0
        self.seen: dict[Path, int] = {}

    def new_mails(self) -> list[tuple[Path, str]]:
        """What came, or was written again, since the last call: its path, and its text as a person reads it."""
        try:
            changed_at = self.path.stat().st_mtime_ns
            if changed_at == self.changed_at:
                return []
            found = {path: path.stat().st_mtime_ns for path in sorted(self.path.glob("*.eml"))}
            mails = [(path, readable(path)) for path, at in found.items() if self.seen.get(path) != at]
        except FileNotFoundError:
            # Somebody cleans up at this moment; what is left is seen the next time.
            return []
        self.changed_at, self.seen = changed_at, found
        return mails


def readable(path: Path) -> str:
    """A kept mail: to whom, about what, and its text."""
    message = message_from_bytes(path.read_bytes(), policy=SMTPUTF8)
    body = message.get_payload(decode=True)
    text = body.decode(errors="replace").strip() if isinstance(body, bytes) else ""
    return f"To: {message['To']}\nSubject: {message['Subject']}\n\n{text}"
