"""What every sender promises, the fakes of the tests among them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from app.config import Settings
from app.delivery.senders import Outgoing, Receipt, Sender
from app.delivery.senders.console import ConsoleSender
from app.delivery.senders.smtp import SmtpSender
from tests.mail import smtp_server
from tests.people import MemorySender

Arrived = Callable[[], list[str]]


@pytest.fixture(params=["console email", "console sms", "memory email", "memory sms", "smtp"])
def outfit(request, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[tuple[Sender, Arrived]]:
    """A sender and a way to see what arrived."""
    name, _, channel = request.param.partition(" ")
    if name == "console":
        yield ConsoleSender(channel), lambda: capsys.readouterr().out.splitlines()  # noqa: PLW0108
    elif name == "memory":
        memory = MemorySender(channel)
        yield memory, lambda: [f"{m.subject} {m.text}" for m in memory.messages]
    else:
        with smtp_server(tmp_path) as (mailbox, settings, _):
            smtp = SmtpSender(Settings(_env_file=None, **settings))
            yield smtp, lambda: [str(m) for m in mailbox.mails]
            smtp._drop()


def message(channel: str, code: str = "123456") -> Outgoing:
    words = f"{code} is your Latchkey code" if code else "Your Latchkey password was changed"
    kind = "code.signin" if code else "notice.password_changed"
    recipient, masked = (
        ("jane@example.com", "j***@example.com") if channel == "email" else ("+919876543210", "+91******3210")
    )
    return Outgoing(
        id=uuid4(), user_id=None, kind=kind, channel=channel, recipient=recipient, masked=masked, language="en",
        subject=words, text=words, html=f"<p>{words}</p>", code=code, minutes=5, seconds=300,
    )  # fmt: skip


def test_it_names_itself_and_its_channel(outfit: tuple[Sender, Arrived]) -> None:
    sender, _ = outfit
    assert sender.name
    assert sender.channel in ("email", "sms")


@pytest.mark.parametrize("code", ["123456", ""])
def test_a_message_arrives_once_with_its_code(outfit: tuple[Sender, Arrived], code: str) -> None:
    sender, arrived = outfit
    receipt = sender.send(message(sender.channel, code))
    assert isinstance(receipt, Receipt)
    assert receipt.provider == sender.name
    [line] = arrived()
    assert code in line


def test_messages_do_not_get_mixed_up(outfit: tuple[Sender, Arrived]) -> None:
    sender, arrived = outfit
    codes = ["111111", "222222", "333333"]
    for code in codes:
        sender.send(message(sender.channel, code))
    lines = arrived()
    assert [[code in line for code in codes] for line in lines] == [
        [True, False, False],
        [False, True, False],
        [False, False, True],
    ]


def test_the_console_says_for_whom_and_what_and_how_long(capsys: pytest.CaptureFixture[str]) -> None:
    ConsoleSender("email").send(message("email"))
    ConsoleSender("sms").send(message("sms", ""))
    assert capsys.readouterr().out.splitlines() == [
        "OTP for j***@example.com: 123456 (sign-in, valid 5 minutes)",
        "Notice to +91******3210: Your Latchkey password was changed",
    ]
