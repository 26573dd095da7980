"""What every sender promises, the fakes of the tests among them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote_plus

import pytest

from app.config import Settings
from app.delivery.senders import Receipt, Sender
from app.delivery.senders.console import ConsoleSender
from app.delivery.senders.smtp import SmtpSender
from tests.mail import smtp_server
from tests.people import MemorySender
from tests.providers import CHANNELS, SECRETS, message, provider

Arrived = Callable[[], list[str]]

DLT = """
[[template]]
provider = "msg91"
kind = "code.*"
language = "en"
text = "{#var#}{#var#}{#var#}{#var#}{#var#}{#var#}"
provider_id = "65f0c0ffee"
variables = { OTP = "code" }

[[template]]
provider = "msg91"
kind = "notice.password_changed"
language = "en"
text = "{#var#}{#var#}{#var#}{#var#}{#var#}{#var#}"
provider_id = "65f0decade"
"""


@pytest.fixture(params=["console email", "console sms", "memory email", "memory sms", "smtp", *CHANNELS])
def outfit(request, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[tuple[Sender, Arrived]]:
    """A sender and a way to see what arrived."""
    name, _, channel = request.param.partition(" ")
    if name == "console":
        yield ConsoleSender(channel), lambda: capsys.readouterr().out.splitlines()  # noqa: PLW0108
    elif name == "memory":
        memory = MemorySender(channel)
        yield memory, lambda: [f"{m.recipient} {m.subject} {m.text}" for m in memory.messages]
    elif name == "smtp":
        with smtp_server(tmp_path) as (mailbox, settings, _):
            smtp = SmtpSender(Settings(_env_file=None, **settings))
            yield smtp, lambda: [str(m) for m in mailbox.mails]
            smtp._drop()
    else:
        (tmp_path / "dlt.toml").write_text(DLT + DLT.replace("msg91", "gupshup"))
        with provider() as taking:
            sender = taking.sender(name, dlt_file=tmp_path / "dlt.toml")
            yield sender, lambda: [unquote_plus(r.body) for r in taking.requests]


def test_it_names_itself_and_its_channel(outfit: tuple[Sender, Arrived]) -> None:
    sender, _ = outfit
    assert sender.name
    assert sender.channel in ("email", "sms")


@pytest.mark.parametrize("code", ["123456", "012345678", ""])
def test_a_message_arrives_once_with_its_code_at_its_recipient(outfit: tuple[Sender, Arrived], code: str) -> None:
    sender, arrived = outfit
    out = message(sender.channel, code)
    receipt = sender.send(out)
    assert isinstance(receipt, Receipt)
    assert receipt.provider == sender.name
    assert receipt.provider_id is None or 0 < len(receipt.provider_id) <= 128
    [line] = arrived()
    assert code in line
    assert out.recipient.lstrip("+") in line or out.masked in line


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


def test_a_longest_message_of_any_script_arrives(outfit: tuple[Sender, Arrived]) -> None:
    sender, arrived = outfit
    words = "123456 साइन इन करने के लिए आपका कोड है। " + "\u00e4" * 1500
    sender.send(message(sender.channel, subject="\u00e4" * 120, text=words, html=f"<p>{words}</p>"))
    assert len(arrived()) == 1


@pytest.mark.covers("attack A75")
def test_no_sender_logs_a_code_a_recipient_or_a_key(
    outfit: tuple[Sender, Arrived], caplog: pytest.LogCaptureFixture
) -> None:
    sender, _ = outfit
    out = message(sender.channel)
    with caplog.at_level(logging.DEBUG):
        sender.send(out)
    ours = [r.getMessage() for r in caplog.records if not r.name.startswith("mail.")]  # the mail server of the tests
    for secret in (out.code, out.recipient.lstrip("+"), *SECRETS):
        assert not any(secret in line for line in ours)


def test_the_console_says_for_whom_and_what_and_how_long(capsys: pytest.CaptureFixture[str]) -> None:
    ConsoleSender("email").send(message("email"))
    ConsoleSender("sms").send(message("sms", ""))
    assert capsys.readouterr().out.splitlines() == [
        "OTP for j***@example.com: 123456 (sign-in, valid 5 minutes)",
        "Notice to +91******3210: Your Latchkey password was changed",
    ]
