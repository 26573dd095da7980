"""The SMTP sender against a real server."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from app.config import Settings
from app.core import identifiers
from app.delivery.senders import Outgoing, Reason, SendFailed
from app.delivery.senders import smtp as smtp_module
from app.delivery.senders.registry import senders_of
from app.delivery.senders.smtp import SmtpSender
from app.errors import ValidationFailed
from tests.conftest import World
from tests.mail import make_certificate, pouring_server, smtp_server, terse_server
from tests.providers import dead_addresses, provider


def message(**changes: Any) -> Outgoing:
    usual = {
        "id": uuid4(), "user_id": None, "kind": "code.signin", "channel": "email", "recipient": "jane@example.com",
        "masked": "j***@example.com", "code": "123456", "minutes": 5, "subject": "123456 is your Latchkey code",
        "text": "Your code: 123456\n.\nH\u00e4", "html": "<p>123456</p>", "language": "en",
    }  # fmt: skip
    return Outgoing(**(usual | changes))


Opener = Callable[[dict[str, Any]], SmtpSender]


@pytest.fixture
def sender() -> Iterator[Opener]:
    """Senders, whose kept connections are closed at the end."""
    opened: list[SmtpSender] = []

    def make(settings: dict[str, Any]) -> SmtpSender:
        opened.append(SmtpSender(Settings(_env_file=None, **settings)))
        return opened[-1]

    yield make
    for one in opened:
        one._drop()


@pytest.mark.covers("asvs 12.3.4")
@pytest.mark.parametrize("tls", ["none", "starttls", "ssl"])
def test_a_mail_arrives_as_it_was_written(
    sender: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tls: str
) -> None:
    with smtp_server(tmp_path, tls) as (mailbox, settings, certificate):
        if certificate:
            monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        out = message()
        receipt = sender(settings).send(out)
    [mail] = mailbox.mails
    assert (mail["To"], mail["From"]) == ("jane@example.com", "Latchkey <no-reply@clinic.example>")
    assert mail["Subject"] == "123456 is your Latchkey code"
    assert mail["Message-ID"] == receipt.provider_id == f"<{out.id}@clinic.example>"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail.get_body(("plain",)).get_content().splitlines() == ["Your code: 123456", ".", "H\u00e4"]
    assert mail.get_body(("html",)).get_content().strip() == "<p>123456</p>"
    assert mailbox.envelopes[0].rcpt_tos == ["jane@example.com"]


def test_one_connection_carries_many_mails(sender: Opener, tmp_path: Path) -> None:
    with smtp_server(tmp_path) as (mailbox, settings, _):
        one = sender(settings)
        for _ in range(5):
            one.send(message())
    assert (len(mailbox.mails), mailbox.connections) == (5, 1)


def test_a_connection_that_the_server_closed_is_opened_again(sender: Opener, tmp_path: Path) -> None:
    with smtp_server(tmp_path) as (mailbox, settings, _):
        one = sender(settings)
        one.send(message())
        one._open.sock.shutdown(socket.SHUT_RDWR)  # as an idle time-out of the server does
        one.send(message())
    assert (len(mailbox.mails), mailbox.connections) == (2, 2)


def test_it_signs_in_where_the_server_asks(sender: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with smtp_server(tmp_path, "starttls", ("clinic", "s3cret")) as (mailbox, settings, certificate):
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        sender(settings).send(message())
        assert len(mailbox.mails) == 1
        with pytest.raises(SendFailed) as failed:
            sender(settings | {"smtp_password": "wrong"}).send(message())
    assert failed.value.reason is Reason.CONFIGURATION
    assert "wrong" not in failed.value.text


REPLIES = [
    ("RCPT", "550 5.1.1 <jane@example.com> no such user", Reason.PERMANENT),
    ("RCPT", "556 5.1.10 no mail at all", Reason.PERMANENT),
    ("RCPT", "552 5.2.2 mailbox full for good", Reason.PERMANENT),
    ("RCPT", "550 jane@mail.example.com is nobody", Reason.PERMANENT),
    ("RCPT", "551 User not local", Reason.PERMANENT),
    ("RCPT", "553 mailbox name not allowed", Reason.PERMANENT),
    ("RCPT", "554 5.7.1 <jane@example.com>: Relay access denied", Reason.CONFIGURATION),
    ("RCPT", "554 5.7.1 Client host blocked", Reason.CONFIGURATION),
    ("RCPT", "553 5.7.1 Sender address rejected: not owned by user", Reason.CONFIGURATION),
    ("RCPT", "530 5.7.0 Must issue a STARTTLS command first", Reason.CONFIGURATION),
    ("RCPT", "530 Authentication required", Reason.CONFIGURATION),
    ("RCPT", "535 Authentication failed", Reason.CONFIGURATION),
    ("RCPT", "550 5.1.7 Bad sender's address syntax", Reason.CONFIGURATION),
    ("RCPT", "550 5.1.8 Sender's domain not found", Reason.CONFIGURATION),
    ("RCPT", "554 5.3.0 Mail system error", Reason.CONFIGURATION),
    ("RCPT", "550 5.4.6 Routing loop", Reason.CONFIGURATION),
    ("RCPT", "503 5.5.1 Need MAIL first", Reason.CONFIGURATION),
    ("RCPT", "550 5.4.5 Daily user sending quota exceeded", Reason.THROTTLED),
    ("RCPT", "450 4.2.1 mailbox busy", Reason.TRANSIENT),
    ("RCPT", "421 4.3.2 shutting down", Reason.TRANSIENT),
    ("RCPT", "452 4.2.2 mailbox full", Reason.TRANSIENT),
    ("DATA", "554 5.7.1 looks like spam", Reason.PERMANENT),
    ("DATA", "550 5.4.5 Daily user sending quota exceeded", Reason.THROTTLED),
    ("DATA", "451 4.3.0 try later", Reason.TRANSIENT),
]


@pytest.mark.covers("fault F11")
@pytest.mark.parametrize(("verb", "reply", "reason"), REPLIES, ids=[r for _, r, _ in REPLIES])
def test_a_refusal_is_classed_by_its_number(
    sender: Opener, tmp_path: Path, verb: str, reply: str, reason: Reason
) -> None:
    with smtp_server(tmp_path) as (mailbox, settings, _):
        mailbox.replies = {verb: [reply]}
        one = sender(settings)
        with pytest.raises(SendFailed) as failed:
            one.send(message())
        assert failed.value.reason is reason
        assert reply[:3] in failed.value.text
        assert "jane" not in failed.value.text
        one.send(message())
    assert len(mailbox.mails) == 1


@pytest.mark.parametrize("change", [{"smtp_password": "p\u00e4ss"}, {"smtp_username": "j\u00e4ne"}])
def test_an_account_that_smtp_cannot_carry_is_ours_to_mend(
    sender: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, str]
) -> None:
    with smtp_server(tmp_path, "starttls", ("clinic", "s3cret")) as (_, settings, certificate):
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        with pytest.raises(SendFailed) as failed:
            sender(settings | change).send(message())
    assert (failed.value.reason, failed.value.__cause__) == (Reason.CONFIGURATION, None)
    assert not any(value in failed.value.text for value in change.values())


def test_an_unreachable_server_is_transient(sender: Opener) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        settings = {"smtp_server": "127.0.0.1", "smtp_port": taken.getsockname()[1], "sender_email": "a@b.example"}
        with pytest.raises(SendFailed) as failed:
            sender(settings).send(message())
    assert failed.value.reason is Reason.TRANSIENT


@pytest.mark.covers("asvs 12.3.1", "fault F13")
def test_without_the_encryption_that_was_asked_for_nothing_is_sent(sender: Opener, tmp_path: Path) -> None:
    with smtp_server(tmp_path, "none") as (mailbox, settings, _), pytest.raises(SendFailed) as failed:
        sender(settings | {"smtp_tls": "starttls"}).send(message())
    assert failed.value.reason is Reason.CONFIGURATION
    assert mailbox.mails == mailbox.envelopes == []


@pytest.mark.covers("asvs 12.3.2", "asvs 12.3.4", "fault F13")
@pytest.mark.parametrize("tls", ["starttls", "ssl"])
def test_a_certificate_that_is_not_trusted_or_another_hosts_is_refused(
    sender: Opener, tmp_path: Path, monkeypatch, tls: str
) -> None:
    with smtp_server(tmp_path, tls) as (mailbox, settings, certificate):
        with pytest.raises(SendFailed) as failed:
            sender(settings).send(message())
        assert failed.value.reason is Reason.CONFIGURATION
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        with pytest.raises(SendFailed):
            sender(settings | {"smtp_server": "127.0.0.1"}).send(message())
        monkeypatch.setenv("SSL_CERT_FILE", str(make_certificate(tmp_path, "other.example")))
        with pytest.raises(SendFailed):
            sender(settings).send(message())
    assert mailbox.mails == []


@pytest.mark.covers("fault F12")
@pytest.mark.parametrize("banner", [b"", b"220 hello\r\n"])
def test_a_server_that_hangs_is_given_up(sender: Opener, monkeypatch: pytest.MonkeyPatch, banner: bytes) -> None:
    monkeypatch.setattr(smtp_module, "TIMEOUT_S", 0.3)
    with terse_server(greeting=banner) as settings, pytest.raises(SendFailed) as failed:
        started = time.monotonic()
        sender(settings).send(message())
    assert failed.value.reason is Reason.TRANSIENT
    assert time.monotonic() - started < 1


@pytest.mark.covers("fault F12")
def test_no_answer_after_the_message_is_unknown(
    sender: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smtp_module, "WHOLE_S", 0.5)
    with smtp_server(tmp_path) as (mailbox, settings, _):
        mailbox.hang_at = "accept"
        one = sender(settings)
        with pytest.raises(SendFailed) as failed:
            one.send(message())
        assert failed.value.reason is Reason.UNKNOWN
        one.send(message())
    assert len(mailbox.mails) == 2


def test_a_server_that_looks_through_mail_before_it_takes_it_gets_the_time(
    sender: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Longer than any other step may take: else each try would be delivered."""
    monkeypatch.setattr(smtp_module, "TIMEOUT_S", 0.5)
    with smtp_server(tmp_path) as (mailbox, settings, _):
        mailbox.thinks_s = 1.0
        sender(settings).send(message())
    assert len(mailbox.mails) == 1


def test_a_line_that_begins_with_a_dot_arrives_as_it_was(sender: Opener, tmp_path: Path) -> None:
    """RFC 5321, section 4.5.2."""
    with smtp_server(tmp_path) as (mailbox, settings, _):
        sender(settings).send(message(text=".\n..\n.a dot\nend"))
    [mail] = mailbox.mails
    assert mail.get_body(("plain",)).get_content().splitlines() == [".", "..", ".a dot", "end"]  # type: ignore[union-attr]


@pytest.mark.covers("attack A57")
@pytest.mark.parametrize("subject", ["a\r\nBcc: v@example.com", "a\nX: y", "a\u2028b", "\x00"])
def test_no_line_break_gets_into_a_header(sender: Opener, tmp_path: Path, subject: str) -> None:
    with smtp_server(tmp_path) as (mailbox, settings, _):
        try:
            sender(settings).send(message(subject=subject))
        except ValueError:
            return
    [mail] = mailbox.mails
    assert mail["Bcc"] is None
    assert set(mail.keys()) == {
        "From",
        "To",
        "Subject",
        "Date",
        "Message-ID",
        "Auto-Submitted",
        "MIME-Version",
        "Content-Type",
    }


@pytest.mark.parametrize(
    "words", ["Latchkey \u00b7 help@clinic.example", "\u0906\u092a\u0915\u093e \u0915\u094b\u0921", "\u0915" * 400]
)
def test_a_relay_that_takes_seven_bits_gets_no_eight(sender: Opener, tmp_path: Path, words: str) -> None:
    """RFC 6152: letters of eight are for servers that say so, and announced to them. Others may spoil them."""
    with smtp_server(tmp_path) as (mailbox, settings, _):
        sender(settings).send(message(text=f"123456\n{words}\n", html=f"<p>{words}</p>"))
    assert mailbox.envelopes[0].content.isascii()
    [mail] = mailbox.mails
    assert mail.get_body(("plain",)).get_content().splitlines() == ["123456", words]  # type: ignore[union-attr]
    assert mail.get_body(("html",)).get_content().strip() == f"<p>{words}</p>"  # type: ignore[union-attr]


@pytest.mark.covers("attack A57")
@pytest.mark.parametrize(
    "local",
    ["o'b!#$%&*+-/=?^_`{|}~", "=?x", "x?=", "=?utf-8?q?x", "a=?utf-8?q?b?=", "=?utf-8?q?=0d=0abcc=3av=40e.com?=", "=?us-ascii?q?victim=40bank.example=2c?=", "=?utf-8?q?b?=.x", "=?zzz*en?q??="],
)  # fmt: skip
def test_a_mail_names_whom_it_goes_to(sender: Opener, tmp_path: Path, local: str) -> None:
    """An address may look like an encoded word (RFC 2047), which would be read as another one. Such are nobody's."""
    try:
        address = identifiers.email(f"{local}@example.com").value
    except ValidationFailed:
        assert re.fullmatch(r".*=\?.*\?=.*", local)
        return
    with smtp_server(tmp_path) as (mailbox, settings, _):
        sender(settings).send(message(recipient=address))
    assert f"\r\nTo: {address}\r\n".encode() in mailbox.envelopes[0].content
    assert mailbox.envelopes[0].rcpt_tos == [address]


@pytest.mark.covers("attack A57")
def test_no_address_is_taken_that_would_be_read_as_another(world: World) -> None:
    details = {"email": "=?us-ascii?q?victim=40bank.example=2cx?=@example.com", "password": "correct horse 7"}
    refused = world.api().post("/api/auth/signup", details)
    assert (refused.status, refused["errors"][0]["code"]) == (422, "invalid_email")


def test_a_server_that_dawdles_at_every_step_is_given_up_in_time(
    sender: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smtp_module, "WHOLE_S", 1.0)

    def dawdle(_line: bytes) -> bytes:
        time.sleep(0.4)
        return b"250 OK\r\n"

    with terse_server(dawdle) as settings, pytest.raises(SendFailed):
        started = time.monotonic()
        sender(settings).send(message())
    assert time.monotonic() - started < 2


@pytest.mark.covers("fault F12")
@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize(
    "said", [(b"2", b""), (b"250-x\r\n", b""), (b"2", b"220 hello\r\n"), (b"250-x\r\n", b"220 hello\r\n")]
)
def test_a_server_whose_reply_drips_is_given_up_in_time(
    sender: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: tuple[bytes, bytes], tls: bool
) -> None:
    """No mail of the service would go out meanwhile, by none of its couriers."""
    monkeypatch.setattr(smtp_module, "TIMEOUT_S", 0.4)
    certificate = make_certificate(tmp_path) if tls else None
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    failed: list[SendFailed] = []

    def send(settings: dict[str, Any]) -> None:
        with pytest.raises(SendFailed) as refused:
            sender(settings).send(message())
        failed.append(refused.value)

    drop, greeting = said
    with pouring_server(drop, 0.02, greeting, certificate) as settings:
        sending = threading.Thread(target=send, args=(settings,), daemon=True)
        sending.start()
        sending.join(3)
        assert not sending.is_alive()
    assert [each.reason for each in failed] == [Reason.TRANSIENT]


def test_a_reply_without_an_end_is_no_matter_of_memory(sender: Opener) -> None:
    with pouring_server(b"250-" + b"x" * 4000 + b"\r\n", 0.0001) as settings:
        started = time.monotonic()
        with pytest.raises(SendFailed) as failed:
            sender(settings).send(message())
    assert failed.value.reason is Reason.TRANSIENT
    assert time.monotonic() - started < 2


@pytest.mark.covers("fault F12")
def test_a_host_of_many_dead_addresses_is_given_up_in_time(sender: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the mail servers of the large providers have, where the host lets no SMTP out."""
    for name, seconds in {"TIMEOUT_S": 0.4, "WHOLE_S": 0.5}.items():
        monkeypatch.setattr(smtp_module, name, seconds)
    with dead_addresses() as port:
        started = time.monotonic()
        with pytest.raises(SendFailed) as failed:
            sender({"smtp_server": "dead.example", "smtp_port": port, "smtp_tls": "none", "sender_email": "a@b.example"}).send(message())  # fmt: skip
    assert failed.value.reason is Reason.TRANSIENT
    assert time.monotonic() - started < 2


def test_a_server_that_falls_silent_after_a_mail_takes_the_next_one_s_time_once(
    sender: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kept connection says nothing any more, and neither does a new one: not the time of a send for each."""
    monkeypatch.setattr(smtp_module, "WHOLE_S", 2.0)
    monkeypatch.setattr(smtp_module, "TIMEOUT_S", 1.8)
    monkeypatch.setattr(smtp_module, "ALIVE_S", 0.2, raising=False)
    words = {
        b"ehlo": b"250 x\r\n",
        b"mail": b"250 OK\r\n",
        b"rcpt": b"250 OK\r\n",
        b"data": b"354 go on\r\n",
        b".\r\n": b"250 OK\r\n",
    }

    def once(line: bytes) -> bytes:
        return words.pop(next((word for word in words if line.lower().startswith(word)), b""), b"")

    with terse_server(once) as settings:
        one = sender(settings)
        one.send(message())
        started = time.monotonic()
        with pytest.raises(SendFailed) as failed:
            one.send(message())
        assert failed.value.reason is Reason.TRANSIENT
        assert time.monotonic() - started < 2.4


@pytest.mark.parametrize("step", ["mail", "data"])
def test_a_spent_quota_is_a_matter_of_time(sender: Opener, step: str) -> None:
    def refuse(line: bytes) -> bytes:
        return (
            b"550-5.4.5 Daily user sending\r\n550 5.4.5 quota exceeded\r\n"
            if line.startswith(step.encode())
            else b"250 OK\r\n"
        )

    with terse_server(refuse) as settings, pytest.raises(SendFailed) as failed:
        sender(settings).send(message())
    assert failed.value.reason is Reason.THROTTLED


@pytest.mark.parametrize("reply", ["554 5.7.1 <jane@example.com>: Relay access denied", "550 5.4.5 quota exceeded"])
def test_what_is_not_the_recipient_s_fault_goes_out_by_the_next_provider(tmp_path: Path, reply: str) -> None:
    with smtp_server(tmp_path) as (mailbox, settings, _), provider() as taking:
        mailbox.replies = {"RCPT": [reply, "550 5.1.1 no such user"]}
        given = taking.settings | settings | {"email_provider": "smtp,sendgrid"}
        both = senders_of(Settings(_env_file=None, **given))["email"]
        assert both.send(message()).provider == "sendgrid"
        with pytest.raises(SendFailed):
            both.send(message())
    assert (mailbox.mails, len(taking.requests)) == ([], 1)


@pytest.mark.parametrize("step", ["greeting", "mail"])
def test_a_refusal_of_ourselves_is_not_the_recipient_s_fault(sender: Opener, step: str) -> None:
    greeting = b"554 5.7.1 no\r\n" if step == "greeting" else b"220 hello\r\n"

    def refuse(line: bytes) -> bytes:
        return b"550 5.7.1 sign in first\r\n" if line.startswith(b"mail") else b"250 OK\r\n"

    with terse_server(refuse, greeting) as settings, pytest.raises(SendFailed) as failed:
        sender(settings).send(message())
    assert failed.value.reason is Reason.CONFIGURATION
