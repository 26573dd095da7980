"""The words of a message: subject, text and HTML from the templates of one folder, a folder within it a language.

A translator writes one text file a message and `words.txt`, the words that they share; the HTML is the same paragraphs
in `mail.html`, escaped: the code alone in a paragraph is shown large, lines of `label: value` become a table.

`TEMPLATES_DIR` has the same shape, and what stands there wins, file by file and word by word; a change of a file there
needs no restart. What a language lacks is said in English.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cache, lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from jinja2 import (
    BaseLoader,
    ChoiceLoader,
    Environment,
    FileSystemLoader,
    FunctionLoader,
    StrictUndefined,
    Template,
    TemplateSyntaxError,
    select_autoescape,
)
from jinja2.exceptions import TemplatesNotFound

from app.config import Settings
from app.delivery import clients

TEMPLATES = Path(__file__).with_name("templates")
# By name. Read at the start: an upgrade changes the files under a service that runs on, and knows less than they say.
SHIPPED = {
    path.relative_to(TEMPLATES).as_posix(): path.read_text("utf-8")
    for path in TEMPLATES.rglob("[!.]*.*")
    if path.suffix in (".txt", ".html")  # and nothing that an editor or an archive has left there
}
ENGLISH = "en"  # what is not translated is said in English
TAG = re.compile(r"(?=.{2,16}$)[a-z]{2,3}(-[A-Za-z0-9]{2,8})*")  # of a language (RFC 5646), as long as is stored
# What stands behind the brand colour, and the contrast to it (WCAG 2.2: 4.5 for AA, 7 for AAA).
LIGHT, DARK = ("#f4f5f7", 4.5), ("#1f2329", 7.0)
# What breaks lines, or turns the words after it around.
BREAKS = re.compile(r"[\x00-\x20\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")


class Unmade(Exception):
    """A template is broken; the text names it."""


class NoTemplate(Unmade, LookupError):
    """There is no such message."""


@dataclass(frozen=True, slots=True)
class Words:
    subject: str
    text: str
    html: str


@dataclass(frozen=True, slots=True)
class Paragraph:
    text: str

    @property
    def lines(self) -> list[str]:
        return self.text.split("\n")

    @property
    def rows(self) -> list[tuple[str, str]]:
        """Label and value of each line, if all of several have them."""
        pairs = [(label, value) for label, colon, value in (line.partition(": ") for line in self.lines) if colon]
        return pairs if len(pairs) == len(self.lines) > 1 else []


def languages(settings: Settings) -> tuple[str, ...]:
    """The languages that there are templates for, English first."""
    return _languages(settings.templates_dir)


@cache
def _languages(own: Path | None) -> tuple[str, ...]:
    folders = own.iterdir() if own and own.is_dir() else ()
    theirs = {folder.name for folder in folders if any(folder.glob("*.txt"))}
    ours = {name.partition("/")[0] for name in SHIPPED if name.endswith(".txt")}
    return (ENGLISH, *sorted(filter(TAG.fullmatch, (theirs | ours) - {ENGLISH})))


@cache
def _environment(own: Path | None) -> Environment:
    ours: BaseLoader = FunctionLoader(_shipped)
    loader = ChoiceLoader([FileSystemLoader(own, encoding="utf-8-sig"), ours]) if own else ours
    return Environment(loader=loader, autoescape=select_autoescape(["html"]), undefined=StrictUndefined)


def _shipped(name: str) -> tuple[str, str, Callable[[], bool]] | None:
    return (SHIPPED[name], str(TEMPLATES / name), lambda: True) if name in SHIPPED else None


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
    """The words of one message. `kind`: `code.<purpose>` or `notice.<what>`. Raises NoTemplate, Unmade."""
    family, _, what = kind.partition(".")
    about = {"kind": kind, "act": what, "channel": channel, "code": code, "minutes": minutes}
    page = _Page(settings, language, facts | about)
    if family == "code":
        page.must_know(what)
    name = f"{family}.txt" if family == "code" else f"{kind}.txt"
    subject, paragraphs = page.letter(name)
    if channel == "sms":
        short = page.text(f"{family}.sms.txt", subject=subject).strip()
        return Words(subject, _for_autofill(settings, short, code), "")
    html = page.html(name, subject=subject, paragraphs=paragraphs, preview=_preview(paragraphs, code))
    return Words(subject, "\n\n".join(p.text for p in [*paragraphs, Paragraph(page.sender)]) + "\n", html)


class _Page:
    """The templates of one message with what they may say."""

    def __init__(self, settings: Settings, language: str, facts: dict[str, Any]) -> None:
        self._own = settings.templates_dir
        self._environment = _environment(settings.templates_dir)
        self._language = language if language in languages(settings) else ENGLISH
        brand, support = _on_one_line(settings.brand_name), _on_one_line(settings.support_email)
        self.sender = f"{brand} · {support}" if support else brand
        self._known = {name: _on_one_line(fact) for name, fact in facts.items()} | {
            "brand": brand,
            "support": support,
            "sender": self.sender,
            "logo": settings.brand_logo_url,
            "color": _readable(settings.brand_color, *LIGHT),
            "color_in_the_dark": _readable(settings.brand_color, *DARK),
        }

    def must_know(self, act: str) -> None:
        if act not in self._words(ENGLISH):
            raise NoTemplate(f"code.{act}")

    def letter(self, name: str) -> tuple[str, list[Paragraph]]:
        """Subject and paragraphs of a message."""
        head, _, body = self.text(name).lstrip().partition("\n")
        if not head.startswith("Subject:"):
            raise Unmade(f"{self._translated(name).filename}: must begin with 'Subject:'")
        parts = ("\n".join(map(str.strip, part.strip().split("\n"))) for part in re.split(r"\n\s*\n", body))
        return _on_one_line(head.removeprefix("Subject:")), [Paragraph(part) for part in parts if part]

    def text(self, name: str, **more: Any) -> str:
        template = self._translated(name)
        return self._filled(template, _language(template), more)

    def html(self, name: str, **more: Any) -> str:
        """The mail around the paragraphs of a text, in that one's language."""
        return self._filled(self._template("mail.html"), _language(self._translated(name)), more)

    def _translated(self, name: str) -> Template:
        return self._template(f"{self._language}/{name}", f"{ENGLISH}/{name}")

    def _template(self, *places: str) -> Template:
        with _named(places[0]):
            try:
                return self._environment.select_template(places)
            except TemplatesNotFound as error:
                raise NoTemplate(places[0]) from error

    def _filled(self, template: Template, language: str, more: dict[str, Any]) -> str:
        words = self._words(language)
        with _named(str(template.filename)):
            said = _said(self._known, words) | {"words": words, "language": language}
            return template.render(self._known | said | more)

    def _words(self, language: str) -> dict[str, str]:
        """The shared words of a language: the operator's over ours over the English ones."""
        found: dict[str, str] = {}
        for spoken in (ENGLISH, language):
            name = f"{spoken}/words.txt"
            found |= _pairs(SHIPPED.get(name, "")) | (_read_words(self._own / name) if self._own else {})
        return found


def _language(template: Template) -> str:
    return (template.name or "").partition("/")[0]


def _read_words(path: Path) -> dict[str, str]:
    with _named(str(path)):  # also what cannot be looked at: a folder that is closed to us, or is none
        try:
            return _words_of(path, path.stat().st_mtime_ns)
        except FileNotFoundError:
            return {}


@lru_cache(maxsize=100)
def _words_of(path: Path, _changed_at: int) -> dict[str, str]:
    return _pairs(path.read_text("utf-8-sig"))


@lru_cache(maxsize=100)
def _pairs(text: str) -> dict[str, str]:
    lines = (line.partition(":") for line in text.splitlines())
    return {key.strip(): words.strip() for key, colon, words in lines if colon}


@contextmanager
def _named(place: str) -> Iterator[None]:
    """Say of whatever goes wrong with a template which one it is."""
    try:
        yield
    except Unmade:
        raise
    except TemplateSyntaxError as error:
        raise Unmade(f"{error.filename or place}, line {error.lineno}: {error.message}") from error
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        inside = [f"{f.filename}, line {f.lineno}" for f in frames if f.filename.endswith((".txt", ".html"))]
        raise Unmade(f"{inside[-1] if inside else place}: {type(error).__name__}: {error}") from error


def _on_one_line(fact: Any) -> Any:
    return BREAKS.sub(" ", fact).strip() if isinstance(fact, str) else fact


def _said(facts: dict[str, Any], words: dict[str, str]) -> dict[str, str]:
    """The facts that are said in words: times, and the program."""
    said: dict[str, str] = {name: _date(facts[name], words) for name in ("at", "until") if name in facts}
    if "client" in facts:
        program, system = clients.find(facts["client"])
        program = words.get(program, program)
        both = _put(words["client"], program=program, system=system)
        said["client"] = both if program and system else program or system or words["unknown"]
    return said


def _date(text: str, words: dict[str, str]) -> str:
    at, months = datetime.fromisoformat(text), words["months"].split(",")
    if len(months) != 12:
        raise Unmade("words.txt: `months` must be 12 names with commas between them, not " + words["months"])
    return _put(
        words["date"], day=str(at.day), month=months[at.month - 1].strip(), year=str(at.year), time=f"{at:%H:%M}"
    )


def _put(pattern: str, **values: str) -> str:
    return re.sub(r"\{(\w+)\}", lambda found: values.get(found[1], found[0]), pattern)


def _preview(paragraphs: list[Paragraph], code: str) -> str:
    """What a list of mails shows beside the subject: the beginning, without the code that the subject has."""
    return " ".join(line for p in paragraphs[:3] if p.text != code and not p.rows for line in p.lines)


def _for_autofill(settings: Settings, text: str, code: str) -> str:
    """The lines that let phones and browsers fill a code in: Android's app hash, which may stand anywhere, and in the
    last line the domain whose pages and apps it is for, always by https ('Origin-bound one-time codes delivered via
    SMS'). It is the one of passkeys: iOS offers the code to that domain and those below it, and to nobody else.
    """
    origin = f"@{settings.rp_id} #{code}" if urlsplit(settings.public_url).scheme == "https" and settings.rp_id else ""
    extra = [line for line in (settings.android_app_hash, origin) if line and code]
    return "\n\n".join([text, "\n".join(extra)]) if extra else text


@cache
def _readable(color: str, behind: str, contrast: float) -> str:
    """A colour, made lighter or darker until it can be read on what is behind it."""
    aim = 255 if _luminance(_channels(behind)) < 0.5 else 0
    mixed = ([round(c + (aim - c) * step / 20) for c in _channels(color)] for step in range(21))
    return next("#" + bytes(c).hex() for c in mixed if _contrast(c, _channels(behind)) >= contrast)


def _channels(color: str) -> list[int]:
    return list(bytes.fromhex(color.removeprefix("#")))


def _contrast(one: list[int], other: list[int]) -> float:
    dark, light = sorted((_luminance(one), _luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def _luminance(channels: list[int]) -> float:
    """How bright a colour is (WCAG 2.2, relative luminance)."""
    linear = [c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(share * c for share, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
