"""The words of messages."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

import pytest

from app.config import Settings
from app.core import challenges
from app.delivery import clients, messages
from app.delivery.outbox import Notice
from app.delivery.senders.console import WORDS

SETTINGS = Settings(_env_file=None, brand_name="Clinic & Co", support_email="help@clinic.example")
FACTS: dict[str, Any] = {
    "at": "2026-11-21T10:00:00+00:00", "ip": "203.0.113.5", "client": "Mozilla/5.0 (X11; Linux x86_64; rv:120.0) Gecko/20100101 Firefox/120.0", "changed": "email", "now": "n***@example.com",
}  # fmt: skip


@pytest.mark.parametrize("purpose", challenges.SENT)
def test_a_code_message_says_what_it_is_for_and_how_long(purpose: str) -> None:
    words = messages.render(SETTINGS, f"code.{purpose}", "email", {}, language="en", code="012345", minutes=5)
    assert words.subject == "012345 is your Clinic & Co code"
    assert "012345" in words.text
    assert "5 minutes" in words.text
    assert words.html.count("012345") == 3  # the title, the preview of a list of mails, and the box
    assert f"code.{purpose}" in WORDS
    sms = messages.render(SETTINGS, f"code.{purpose}", "sms", {}, language="en", code="012345", minutes=1)
    assert sms.text.startswith("012345 is your Clinic & Co code to ")
    assert "1 minute." in sms.text
    assert len(sms.text) <= 160


@pytest.mark.covers("nist N60", "asvs 6.3.7")
@pytest.mark.parametrize("kind", [kind for kind in Notice if kind is not Notice.SHIELD_CLOSED])
def test_a_notice_says_when_from_where_and_what_to_do(kind: Notice) -> None:
    words = messages.render(SETTINGS, kind, "email", FACTS, language="en")
    assert "Clinic & Co" in words.subject
    for part in ("21 November 2026, 10:00 UTC", "203.0.113.5", "Firefox on Linux"):
        assert part in words.text
        assert part in words.html
    assert re.search(r"not you|was you", words.text)
    assert not re.search(r"\d{6}", words.text)
    sms = messages.render(SETTINGS, kind, "sms", FACTS, language="en")
    assert sms.text.startswith("Clinic & Co: ")
    assert "\n" not in sms.text


@pytest.mark.covers("attack A57", "attack A53")
def test_no_message_holds_a_link(tmp_path: Path) -> None:
    for path in messages.TEMPLATES.rglob("*"):
        if path.is_file():
            assert "http" not in path.read_text(), path


def test_the_html_is_the_text_in_other_clothes() -> None:
    words = messages.render(SETTINGS, Notice.PASSWORD_CHANGED, "email", FACTS, language="en")
    plain = html.unescape(re.sub(r"<[^>]+>", " ", words.html.split("<body")[1]))
    for paragraph in words.text.strip().split("\n\n"):
        assert " ".join(paragraph.split()) in " ".join(plain.split())


@pytest.mark.covers("attack A57")
def test_what_a_stranger_sends_does_not_stand_in_official_mail() -> None:
    hostile = "Your account is suspended. Confirm at https://evil.example/ \r\nBcc: v@example.com\u2028" + "y" * 500
    words = messages.render(SETTINGS, Notice.SIGNUP_TRIED, "email", FACTS | {"client": hostile}, language="en")
    assert "With: an unknown program" in words.text
    for part in ("evil", "suspended", "Bcc", "yyy"):
        assert part not in words.text + words.html + words.subject


@pytest.mark.parametrize(
    ("agent", "name"),
    [
        ("Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0 Safari/537.36 Edg/120", "Edge on Windows"),
        ("Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0 Mobile Safari/537.36", "Chrome on Android"),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1 Version/17.0 Mobile Safari/604.1", "Safari on an iPhone"),
        ("okhttp/4.12", "an Android app"),
        ("curl/8.4", "curl"),
        ("", "an unknown program"),
    ],
)  # fmt: skip
def test_usual_programs_are_named(agent: str, name: str) -> None:
    assert clients.name(agent) == name
