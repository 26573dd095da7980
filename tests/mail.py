"""A real SMTP server for tests: it takes mail like any other, or refuses and hangs as it is told."""

from __future__ import annotations

import asyncio
import datetime
import email
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tools import servers


@dataclass
class Mailbox:
    """What arrived, as a mail program would read it."""

    mails: list[EmailMessage] = field(default_factory=list)
    envelopes: list[Envelope] = field(default_factory=list)
    connections: int = 0
    replies: dict[str, list[str]] = field(default_factory=dict)  # at a verb: refuse with these, in turn
    judge: Callable[[str, str], str | None] | None = None  # (verb, recipient) -> refuse with this
    on_message: Callable[[], None] | None = None  # called when a message was taken, before the answer
    hang_at: str = ""  # "accept": after taking the message; the answer never comes
    thinks_s: float = 0.0  # before it answers a message that it has taken
    stuck_at: str = ""  # EHLO, RCPT, or DATA after its last dot: no client gets past it while it stands here

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Envelope) -> str:
        refused = self._refusal("DATA", envelope.rcpt_tos[-1])
        if refused:
            return refused
        self.envelopes.append(envelope)
        self.mails.append(email.message_from_bytes(envelope.content, policy=default))  # type: ignore[arg-type]
        if self.on_message:
            self.on_message()
        await self._stuck("DATA")
        await asyncio.sleep(self.thinks_s)
        if self.hang_at == "accept":
            self.hang_at = ""
            await asyncio.sleep(12)
        return "250 taken"

    async def handle_RCPT(self, _server: Any, _session: Any, envelope: Envelope, address: str, _options: Any) -> str:
        await self._stuck("RCPT")
        refused = self._refusal("RCPT", address)
        if refused:
            return refused
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_EHLO(
        self, _server: Any, session: Any, _envelope: Any, hostname: str, responses: list[str]
    ) -> list[str]:
        self.connections += 1
        session.host_name = hostname
        await self._stuck("EHLO")
        return responses

    async def _stuck(self, verb: str) -> None:
        while self.stuck_at == verb:
            await asyncio.sleep(0.05)

    def _refusal(self, verb: str, recipient: str) -> str | None:
        waiting = self.replies.get(verb)
        if waiting:
            return waiting.pop(0)
        return self.judge(verb, recipient) if self.judge else None

    def to(self, address: str) -> list[EmailMessage]:
        return [mail for mail in self.mails if mail["To"] == address]

    def code(self, _channel: str, address: str, patience: float = 15.0) -> str:
        """The newest code in the mails to an address; waits for one."""
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            found = [
                code for mail in self.to(address) for code in re.findall(r"^(\d{6}) is your", str(mail["Subject"]))
            ]
            if found:
                return found[-1]
            time.sleep(0.05)
        raise AssertionError(f"no code arrived at {address}")

    def new_code(self, address: str, seen: int, patience: float = 15.0) -> str:
        """The newest code, once more than `seen` mails are there."""
        deadline = time.monotonic() + patience
        while len(self.to(address)) <= seen and time.monotonic() < deadline:
            time.sleep(0.05)
        return self.code("email", address, 1)


@contextmanager
def smtp_server(
    folder: Path, tls: str = "none", login: tuple[str, str] | None = None, port: int = 0
) -> Iterator[tuple[Mailbox, dict[str, Any], Path | None]]:
    """A server on a free port: (its mailbox, the settings to reach it, the certificate to trust)."""
    mailbox = Mailbox()
    certificate = make_certificate(folder) if tls != "none" else None
    context = _server_context(certificate) if certificate else None
    options: dict[str, Any] = {}
    if login:
        options = {"authenticator": _Login(login), "auth_required": True, "auth_require_tls": tls == "starttls"}
    controller = _Controller(mailbox, tls, context, options, port or servers.free_port())
    controller.start()
    port = controller.port
    settings = {
        "email_provider": "smtp", "smtp_server": "localhost", "smtp_port": port, "smtp_tls": tls,
        "sender_email": "no-reply@clinic.example",
    }  # fmt: skip
    if login:
        settings |= {"smtp_username": login[0], "smtp_password": login[1]}
    try:
        yield mailbox, settings, certificate
    finally:
        controller.stop()


class _Controller(Controller):
    def __init__(
        self, mailbox: Mailbox, tls: str, context: ssl.SSLContext | None, options: dict[str, Any], port: int
    ) -> None:
        self._tls, self._context, self._options = tls, context, options
        super().__init__(mailbox, hostname="127.0.0.1", port=port, ssl_context=context if tls == "ssl" else None)

    def factory(self) -> SMTP:
        starttls = {"tls_context": self._context, "require_starttls": True} if self._tls == "starttls" else {}
        return SMTP(self.handler, enable_SMTPUTF8=False, timeout=60, **starttls, **self._options)


class _Login:
    def __init__(self, login: tuple[str, str]) -> None:
        self._login = login

    def __call__(self, _server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> AuthResult:
        right = isinstance(data, LoginPassword) and (data.login.decode(), data.password.decode()) == self._login
        return AuthResult(success=right, handled=right)


@contextmanager
def terse_server(
    reply: Callable[[bytes], bytes] = lambda _line: b"", greeting: bytes = b"220 hello\r\n"
) -> Iterator[dict[str, Any]]:
    """A server that takes one connection, greets and answers each line with `reply`, or never where that is empty.
    Yields the settings to reach it.
    """

    def serve() -> None:
        connection, _ = listener.accept()
        with connection, connection.makefile("rb") as lines, suppress(OSError):  # the client may give up
            connection.sendall(greeting)
            for line in lines:
                connection.sendall(reply(line))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        port = listener.getsockname()[1]
        yield {"smtp_server": "127.0.0.1", "smtp_port": port, "smtp_tls": "none", "sender_email": "a@b.example"}


@contextmanager
def pouring_server(
    drop: bytes, pause: float, greeting: bytes = b"", tls: Path | None = None
) -> Iterator[dict[str, Any]]:
    """A server that takes one connection, greets, takes a line if it did, and then pours drops of a reply without an
    end. Yields the settings to reach it.
    """

    def serve() -> None:
        with suppress(OSError):  # the client gives up
            connection, _ = listener.accept()
            with _server_context(tls).wrap_socket(connection, server_side=True) if tls else connection as opened:
                opened.sendall(greeting)
                if greeting:
                    opened.recv(1024)
                while not over.wait(pause):
                    opened.sendall(drop)

    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        port, how = listener.getsockname()[1], "ssl" if tls else "none"
        try:
            yield {"smtp_server": "localhost", "smtp_port": port, "smtp_tls": how, "sender_email": "a@b.example"}
        finally:
            over.set()


def make_certificate(folder: Path, name: str = "localhost") -> Path:
    """A self-signed certificate and its key in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / f"{name}.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    return path


def _server_context(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context
