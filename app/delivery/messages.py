"""The words of a message: subject, text and HTML from the templates of one folder, a folder within it a language.

A translator writes one text file a message and `words.txt`; the HTML is the same paragraphs in `mail.html`, escaped.
`TEMPLATES_DIR` has the same shape, and what stands there wins.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from jinja2 import Environment, FileSystemLoader, StrictUndefined, TemplateError, TemplateNotFound, select_autoescape

from app.config import Settings
from app.delivery import clients

TEMPLATES = Path(__file__).with_name("templates")
ENGLISH = "en"  # what is not translated is said in English

NoTemplate = TemplateNotFound
Unmade = TemplateError


@dataclass(frozen=True, slots=True)
class Words:
    subject: str
    text: str
    html: str


def languages(settings: Settings) -> tuple[str, ...]:
    """The languages that there are templates for, English first."""
    return _languages(settings.templates_dir)


@cache
def _languages(own: Path | None) -> tuple[str, ...]:
    folders = [folder for root in _roots(own) if root.is_dir() for folder in root.iterdir() if folder.is_dir()]
    found = {folder.name for folder in folders if (folder / "words.txt").exists()}
    return (ENGLISH, *sorted(found - {ENGLISH}))


def _roots(own: Path | None) -> tuple[Path, ...]:
    return (own, TEMPLATES) if own else (TEMPLATES,)


@cache
def _environment(own: Path | None) -> Environment:
    loader = FileSystemLoader(_roots(own))
    return Environment(loader=loader, autoescape=select_autoescape(["html"]), undefined=StrictUndefined)


def render(
    settings: Settings,
    kind: str,
    channel: str,
    facts: dict[str, Any],
    *,
    language: str,
    code: str = "",
    minutes: int = 0,
) -> Words:
    """The words of one message. `kind`: `code.<purpose>` or `notice.<what>`. Raises NoTemplate, Unmade, KeyError."""
    page = _Page(settings, language)
    known = page.known | {"code": code, "minutes": minutes} | page.readable(facts)
    name = kind
    if code:
        name, known["act"] = "code", kind.partition(".")[2]
    subject, text = _split(page.text(f"{name}.txt", known))
    if channel == "sms":
        family = "code" if code else "notice"
        short = page.text(f"{family}.sms.txt", known | {"subject": subject}).strip()
        return Words(subject, _for_autofill(settings, short, code), "")
    paragraphs = [p for p in text.split("\n\n") if p]
    preview = paragraphs[0].partition("\n")[0]
    html = page.html(known | {"subject": subject, "paragraphs": paragraphs, "preview": preview})
    return Words(subject, text + "\n", html)


class _Page:
    """The templates of one language with what every message knows."""

    def __init__(self, settings: Settings, language: str) -> None:
        self._environment = _environment(settings.templates_dir)
        self._language = language
        lines = self.text("words.txt", {}).splitlines()
        self._words = dict(line.split(": ", 1) for line in lines if ": " in line)
        self.known: dict[str, Any] = {
            "brand": settings.brand_name,
            "logo": settings.brand_logo_url,
            "color": settings.brand_color,
            "support": settings.support_email,
            "language": language,
            "words": self._words,
        }

    def text(self, name: str, known: dict[str, Any]) -> str:
        places = [f"{self._language}/{name}", f"{ENGLISH}/{name}"]
        return self._environment.select_template(places).render(known)

    def html(self, known: dict[str, Any]) -> str:
        return self._environment.get_template("mail.html").render(known)

    def readable(self, facts: dict[str, Any]) -> dict[str, Any]:
        found = dict(facts)
        if "at" in found:
            found["at"] = self._date(found["at"])
        if "until" in found:
            found["until"] = self._date(found["until"])
        if "client" in found:
            found["client"] = clients.name(found["client"])
        return found

    def _date(self, text: str) -> str:
        at = datetime.fromisoformat(text)
        month = self._words["months"].split(",")[at.month - 1]
        return f"{at.day} {month} {at.year}, {at:%H:%M} UTC"


def _split(rendered: str) -> tuple[str, str]:
    head, _, body = rendered.partition("\n")
    return head.removeprefix("Subject: ").strip(), body.strip()


def _for_autofill(settings: Settings, text: str, code: str) -> str:
    """The lines that let phones and browsers fill a code in: Android's app hash, and last the origin that it is
    for (WebOTP, 'Origin-bound one-time codes delivered via SMS').
    """
    host = urlsplit(settings.public_url).hostname if settings.public_url else None
    lines = [settings.android_app_hash, f"@{host} #{code}" if host else ""] if code else []
    extra = [line for line in lines if line]
    return "\n\n".join([text, "\n".join(extra)]) if extra else text
