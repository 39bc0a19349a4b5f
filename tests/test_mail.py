"""Mail against a real SMTP server: what arrives, what is tried again, what is given up, and what is never sent in clear."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from lms_core.config import load_settings
from lms_core.errors import StartRefused, Unavailable
from lms_core.mail_folder import MailFolder, keep_mail
from lms_core.sdk import send_mail
from lms_core.testing import Lms

TEXT = "Hello Ada,\n\n.a line that begins with a dot\nund Grüße\n"


@dataclass
class Post:
    """What the server took, and what it answers instead when that is set."""

    taken: list[Envelope] = field(default_factory=list)
    to_recipient: str = ""
    to_data: str = ""

    async def handle_RCPT(self, server: SMTP, session: Session, envelope: Envelope, address: str, options: Any) -> str:  # noqa: N802
        if not self.to_recipient:
            envelope.rcpt_tos.append(address)
        return self.to_recipient or "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        if not self.to_data:
            self.taken.append(envelope)
        return self.to_data or "250 OK"

    def message(self) -> EmailMessage:
        """The only one."""
        [envelope] = self.taken
        assert isinstance(envelope.content, bytes)
        found = message_from_bytes(envelope.content, policy=policy.SMTPUTF8)
        assert isinstance(found, EmailMessage)
        return found


@asynccontextmanager
async def listening(post: Post, **options: Any) -> AsyncIterator[int]:
    """A real SMTP server in this loop; its port."""
    make = partial(SMTP, post, enable_SMTPUTF8=True, hostname="localhost", **options)
    server = await asyncio.get_running_loop().create_server(make, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.fixture
async def post(lms: Lms, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Post]:
    """A server without TLS, to which the system sends."""
    post = Post()
    async with listening(post) as port:
        point_at(lms, monkeypatch, f"smtp+plain://127.0.0.1:{port}")
        yield post


def point_at(lms: Lms, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setattr(lms.context.settings, "smtp_url", url)
    monkeypatch.setattr(lms.context.settings, "mail_from", "school@example.org")


async def send(lms: Lms, key: str = "", to: str = "ada@example.org") -> None:
    await send_mail(lms.context, key or f"test-{uuid4()}", to, "Grüße", TEXT)


async def test_what_is_sent_arrives(lms: Lms, post: Post) -> None:
    await send(lms, "test-1")
    message = post.message()
    assert (message["To"], message["From"], message["Subject"]) == ("ada@example.org", "school@example.org", "Grüße")
    assert message["Message-ID"].startswith("<test-1@")
    assert message["Auto-Submitted"] == "auto-generated"
    assert message.get_content().replace("\r\n", "\n") == TEXT


async def test_the_same_key_is_the_same_message(lms: Lms, post: Post) -> None:
    await send(lms, "test-1")
    await send(lms, "test-1")
    first, second = [message_from_bytes(bytes(envelope.content or b""))["Message-ID"] for envelope in post.taken]
    assert first == second


async def test_an_address_in_any_script(lms: Lms, post: Post) -> None:
    await send(lms, to="jürgen@bücher.example")
    assert post.message()["To"] == "jürgen@bücher.example"


@pytest.mark.parametrize(("to_recipient", "to_data"), [("550 no such mailbox", ""), ("", "554 looks like spam")])
async def test_a_final_no_is_given_up(lms: Lms, post: Post, to_recipient: str, to_data: str) -> None:
    post.to_recipient, post.to_data = to_recipient, to_data
    await send(lms)
    assert post.taken == []


@pytest.mark.parametrize(("to_recipient", "to_data"), [("450 greylisted", ""), ("", "452 the disk is full")])
async def test_a_no_for_now_is_tried_again(lms: Lms, post: Post, to_recipient: str, to_data: str) -> None:
    post.to_recipient, post.to_data = to_recipient, to_data
    with pytest.raises(Unavailable):
        await send(lms)
    post.to_recipient = post.to_data = ""
    await send(lms)
    assert len(post.taken) == 1


async def test_a_server_that_is_away_is_waited_for(lms: Lms, monkeypatch: pytest.MonkeyPatch) -> None:
    point_at(lms, monkeypatch, "smtp+plain://127.0.0.1:1")
    with pytest.raises(Unavailable):
        await send(lms)


async def test_a_server_that_hides_tls_gets_nothing(lms: Lms, post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    point_at(lms, monkeypatch, lms.context.settings.smtp_url.replace("smtp+plain", "smtp"))
    with pytest.raises(Unavailable):
        await send(lms)
    assert post.taken == []


def check(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
    return AuthResult(success=(data.login, data.password) == (b"ada@school", b"a:b/c"), handled=False)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """One for localhost, with its key, that nobody vouches for."""
    key = ed25519.Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, None)
    )
    path = tmp_path / "localhost.pem"
    path.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + made.public_bytes(Encoding.PEM)
    )
    return path


async def test_with_tls_and_a_password(lms: Lms, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    post = Post()
    options = {"tls_context": tls, "require_starttls": True, "auth_required": True, "authenticator": check}
    async with listening(post, **options) as port:
        point_at(lms, monkeypatch, f"smtp://ada%40school:a%3Ab%2Fc@localhost:{port}")
        with pytest.raises(Unavailable, match="certificate"):
            await send(lms)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        await send(lms)
        assert len(post.taken) == 1
        point_at(lms, monkeypatch, f"smtp://ada%40school:wrong@localhost:{port}")
        with pytest.raises(Unavailable):
            await send(lms)
        assert len(post.taken) == 1


@pytest.mark.parametrize("key", ["", "../up", "a/b", "A", "a" * 101, "new\nline"])
async def test_a_key_is_no_path(lms: Lms, key: str) -> None:
    with pytest.raises(ValueError, match="is no key"):
        await send_mail(lms.context, key, "ada@example.org", "Subject", "Text")


def test_the_folder_shows_each_mail_once(tmp_path: Path) -> None:
    folder = MailFolder(tmp_path)
    assert folder.new_mails() == []
    keep_mail(tmp_path, "one", b"To: ada@example.org\nSubject: Hello\n\nText\n")
    assert folder.new_mails() == [
        (tmp_path / "mails" / "one.eml", "To: ada@example.org\nSubject: Hello\n\nText"),
    ]
    assert folder.new_mails() == []
    keep_mail(tmp_path, "two", b"\xff no mail at all")
    [(path, _)] = folder.new_mails()
    assert path.name == "two.eml"
    assert {path.stat().st_mode & 0o077 for path in (tmp_path / "mails").iterdir()} == {0}


@pytest.mark.parametrize(
    ("url", "sender", "what"),
    [
        ("http://mail.example.org", "a@example.org", "LMS_SMTP_URL is not usable"),
        ("smtp://", "a@example.org", "LMS_SMTP_URL is not usable"),
        ("smtp://mail.example.org", "nobody", "LMS_MAIL_FROM is not usable"),
        ("smtp://mail.example.org", "", "LMS_MAIL_FROM is missing"),
        ("smtp://mail.example.org:port", "a@example.org", "LMS_SMTP_URL is not usable"),
    ],
)
def test_wrong_settings_are_refused_at_start(monkeypatch: pytest.MonkeyPatch, url: str, sender: str, what: str) -> None:
    monkeypatch.setenv("LMS_SMTP_URL", url)
    monkeypatch.setenv("LMS_MAIL_FROM", sender)
    with pytest.raises(StartRefused, match=what):
        load_settings()
