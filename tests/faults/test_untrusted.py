"""Databases and mail servers whose certificate is not to be trusted: nothing is said to them, and the log says why."""

from __future__ import annotations

import logging
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from app import create_app
from app.config import Settings
from app.delivery.senders.smtp import SmtpSender
from app.models import OutboxMessage
from tests.conftest import World
from tests.lanes import CHEAP, SECRETS
from tests.mail import make_certificate, smtp_server
from tests.people import Api, flask_transport
from tests.test_logs import Lines, lines

__all__ = ["lines"]

SSL_REQUEST = 80877103  # PostgreSQL: "may we speak TLS?"
MYSQL_TLS, MYSQL_PLAIN = 0x0200_8000 | 0x8A08, 0x0200_8000 | 0x8208  # what a server can; 0x800 is TLS
SIGN_IN = {"identifier": "a@example.com", "password": "x" * 8}
Greet = Callable[[socket.socket], bool]  # what comes before the handshake; False: there will be none


def postgresql(connection: socket.socket) -> bool:
    """Says yes to TLS, as every server that has it."""
    while struct.unpack("!ii", connection.recv(8))[1] != SSL_REQUEST:
        connection.sendall(b"N")  # another encryption, of Kerberos
    connection.sendall(b"S")
    return True


def postgresql_without(connection: socket.socket) -> bool:
    """Somebody between us and the server says that it has no TLS, and would take the password in the clear."""
    while connection.recv(8):
        connection.sendall(b"N")
    return False


def mariadb(connection: socket.socket) -> bool:
    """Greets first (protocol 10); the client asks for TLS with its first packet."""
    connection.sendall(_greeting(MYSQL_TLS))
    return bool(connection.recv(36))


def mariadb_without(connection: socket.socket) -> bool:
    connection.sendall(_greeting(MYSQL_PLAIN))
    return not connection.recv(512)


def _greeting(can: int) -> bytes:
    salt = b"12345678\x00", b"123456789012\x00"
    low, high = can & 0xFFFF, can >> 16
    body = b"\x0a10.11.0\x00" + struct.pack("<I", 1) + salt[0] + struct.pack("<HBHHB", low, 45, 2, high, 21)
    body += bytes(10) + salt[1] + b"mysql_native_password\x00"
    return struct.pack("<I", len(body))[:3] + b"\x00" + body


@contextmanager
def impostor(certificate: Path, greet: Greet) -> Iterator[tuple[int, list[bytes]]]:
    """A server with a certificate of its own making: its port, and what it was told once TLS was agreed upon."""
    told: list[bytes] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    def serve() -> None:
        with suppress(OSError):  # the listener is closed at the end
            while True:
                connection, _ = listener.accept()
                connection.settimeout(5)
                with connection, suppress(OSError, struct.error):  # a client that hangs up
                    if greet(connection):
                        told.append(context.wrap_socket(connection, server_side=True).recv(512))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1], told
        listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.covers("asvs 16.3.4", "asvs 12.3.1", "asvs 12.3.2")
@pytest.mark.parametrize("scheme", ["postgresql", "mysql"])
@pytest.mark.parametrize("what", ["not trusted", "of another host", "no encryption"])
def test_a_database_that_cannot_prove_who_it_is_gets_nothing_and_the_log_says_why(
    tmp_path: Path, lines: Lines, scheme: str, what: str
) -> None:
    """`cause` tells it from a database that is away: nobody will mend the one by waiting for the other."""
    greets: dict[tuple[str, bool], Greet] = {
        ("postgresql", True): postgresql,
        ("postgresql", False): postgresql_without,
        ("mysql", True): mariadb,
        ("mysql", False): mariadb_without,
    }
    own, other = make_certificate(tmp_path), make_certificate(tmp_path, "other.example")
    trusted, host = (other, "localhost") if what == "not trusted" else (own, "127.0.0.1")
    checks = f"sslmode=verify-full&sslrootcert={trusted}" if scheme == "postgresql" else f"ssl_ca={trusted}"
    with impostor(own, greets[scheme, what != "no encryption"]) as (port, told):
        url = f"{scheme}://latchkey:canary-of-a-password@{host}:{port}/latchkey?{checks}"
        settings = Settings(_env_file=None, database_url=url, **SECRETS, **CHEAP)
        app = create_app(settings)
        logging.getLogger("latchkey").addHandler(lines)  # a new app has set its own
        answer = Api(flask_transport(app)).post("/api/auth/login", SIGN_IN)
    assert (answer.status, answer.code) == (503, "unavailable")
    assert "TLS" not in str(answer.body)
    assert [line["cause"] for line in lines.parsed if "cause" in line] == ["OperationalError TLS"]
    assert [words for words in told if words] == [], "nothing was said to it"
    assert "canary" not in "".join(lines.written)


@pytest.mark.one_lane
@pytest.mark.covers("asvs 16.3.4")
@pytest.mark.parametrize("tls", ["starttls", "ssl"])
def test_a_mail_server_that_is_not_trusted_is_named_as_the_reason(
    world: World, tmp_path: Path, lines: Lines, tls: str
) -> None:
    world.sends_at_once = False
    world.person(email="jane@example.com").ask_signup().ok()
    usual: Any = world.courier._senders
    with smtp_server(tmp_path, tls) as (mailbox, settings, _):
        world.courier._senders = {"email": SmtpSender(Settings(_env_file=None, **settings))}
        try:
            world.courier.round("email")
        finally:
            world.courier._senders = usual
    [row] = world.rows(OutboxMessage)
    [line] = [line for line in lines.parsed if line["logger"] == "latchkey.courier"]
    assert (line["level"], line["message_id"]) == ("warning", str(row.id))
    assert "was not sent: SSLCertVerificationError: TLS" in line["message"]
    assert "jane@example.com" not in "".join(lines.written)
    assert mailbox.mails == []
