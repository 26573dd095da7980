"""The words of messages."""

from __future__ import annotations

import html
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from app.config import Settings
from app.core import challenges
from app.delivery import clients, messages
from app.delivery.outbox import INVITE, Notice
from app.delivery.senders.console import WORDS

ROOT = Path(__file__).resolve().parent.parent.parent
BRAND, SUPPORT = "Clinic & Co", "help@clinic.example"
SETTINGS = Settings(_env_file=None, brand_name=BRAND, support_email=SUPPORT)
CODES = [f"code.{purpose}" for purpose in (*challenges.SENT, INVITE)]
TO_PEOPLE = [kind for kind in Notice if kind is not Notice.SHIELD_CLOSED]
LANGUAGES = messages.languages(SETTINGS)
EVERY = [(kind, language) for kind in (*CODES, *Notice) for language in LANGUAGES]
FACTS: dict[str, Any] = {
    "at": "2026-11-21T10:00:00+00:00", "ip": "203.0.113.5", "client": "Mozilla/5.0 (X11; Linux x86_64; rv:120.0) Gecko/20100101 Firefox/120.0", "changed": "email", "now": "n***@example.com",
    "type": "totp", "left": 2, "country": "IN", "sent": 100, "verified": 7, "until": "2026-11-21T11:00:00+00:00",
}  # fmt: skip


def settings_of(**values: Any) -> Settings:
    return Settings(_env_file=None, **({"brand_name": BRAND, "support_email": SUPPORT} | values))


def made(
    kind: str, channel: str = "email", language: str = "en", settings: Settings = SETTINGS, *, code: str = "012345",
    minutes: int = 5, facts: dict[str, Any] = FACTS,
) -> messages.Words:  # fmt: skip
    code = code if kind.startswith("code.") else ""
    return messages.render(settings, kind, channel, facts, language=language, code=code, minutes=minutes)


class Seen(HTMLParser):
    """What a mail program makes of a page: its elements, whether they close, and the words that are shown."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(page)
        self.close()
        self.words = " ".join(self.words.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br"):
            self.open.append("hidden" if "display:none" in (dict(attrs).get("style") or "") else tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() in (tag, "hidden"), tag

    def handle_data(self, data: str) -> None:
        if not {"hidden", "head", "style", "title"} & set(self.open):
            self.words += " " + data


# What they say


@pytest.mark.parametrize("kind", CODES)
def test_a_code_message_says_what_it_is_for_and_how_long(kind: str) -> None:
    words = made(kind)
    assert words.subject == "012345 is your Clinic & Co code"
    assert "valid for 5 minutes." in words.text
    assert kind in WORDS
    sms = made(kind, "sms", minutes=1)
    assert sms.text.startswith("012345 is your Clinic & Co code to ")
    assert "1 minute." in sms.text


@pytest.mark.covers("nist N60", "asvs 6.3.7")
@pytest.mark.parametrize("kind", TO_PEOPLE)
def test_a_notice_says_when_from_where_and_what_to_do(kind: Notice) -> None:
    words = made(kind)
    assert "Clinic & Co" in words.subject
    for part in ("21 November 2026, 10:00 UTC", "203.0.113.5", "Firefox on Linux"):
        assert part in words.text
        assert part in words.html
    assert re.search(r"not you|was you", words.text)
    assert not re.search(r"\d{6}", words.text)
    sms = made(kind, "sms")
    assert sms.text.startswith(
        f"{words.subject.replace('e-mail address', 'phone number', kind != Notice.CONTACT_CHANGED)}. "
    )
    assert re.search(r"Not you\? |was not you", sms.text)
    assert "\n" not in sms.text


@pytest.mark.parametrize(("kind", "language"), EVERY)
@pytest.mark.parametrize("support", [SUPPORT, ""])
def test_every_message_is_whole_in_every_language(kind: str, language: str, support: str) -> None:
    settings = settings_of(support_email=support)
    words, sms = made(kind, "email", language, settings), made(kind, "sms", language, settings)
    for text in (words.subject, words.text, sms.text):
        assert not re.search(r"[<>{}]|None|&amp;|  |\n\n\n| [.,।]", text), text
    assert words.text == words.text.strip() + "\n"
    assert sms.html == ""
    assert BRAND in words.subject
    assert support in words.text
    for text in (words.text, sms.text):
        assert (language == "hi") == bool(re.search("[\u0900-\u097f]", text))
        assert not re.search("[\u0966-\u096f]", text)  # figures are Western in every language


@pytest.mark.covers("attack A57", "attack A53", "attack A24")
def test_no_message_holds_a_link() -> None:
    for path in messages.TEMPLATES.rglob("*"):
        if path.is_file():
            assert "http" not in path.read_text(), path
    for kind, language in EVERY:
        assert not [
            tag
            for tag, _ in Seen(made(kind, "email", language).html).elements
            if tag in ("a", "form", "script", "link")
        ]


@pytest.mark.covers("attack A57")
def test_what_a_stranger_sends_does_not_stand_in_official_mail() -> None:
    hostile = "Your account is suspended. Confirm at https://evil.example/ \r\nBcc: v@example.com\u2028" + "y" * 500
    words = made(Notice.SIGNUP_TRIED, facts=FACTS | {"client": hostile})
    assert "Device: unknown\n" in words.text
    for part in ("evil", "suspended", "Bcc", "yyy"):
        assert part not in words.text + words.html + words.subject


@pytest.mark.parametrize(
    ("agent", "english", "hindi"),
    [
        ("Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0 Safari/537.36 Edg/120", "Edge on Windows", "Windows पर Edge"),
        ("Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0 Mobile Safari/537.36", "Chrome on Android", "Android पर Chrome"),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1 Version/17.0 Mobile Safari/604.1", "Safari on iPhone", "iPhone पर Safari"),
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1 Version/17.0 Safari/605.1", "Safari on Mac", "Mac पर Safari"),
        ("okhttp/4.12", "App on Android", "Android पर ऐप"),
        ("Clinic/7 CFNetwork/1490 Darwin/23.2", "App on iOS/macOS", "iOS/macOS पर ऐप"),
        ("Dart/3.2 (dart:io)", "App", "ऐप"),
        ("curl/8.4", "curl", "curl"),
        ("something on Linux", "Linux", "Linux"),
        ("", "unknown", "अज्ञात"),
    ],
)  # fmt: skip
def test_usual_programs_are_named(agent: str, english: str, hindi: str) -> None:
    assert f"Device: {english}\n" in made(Notice.NEW_SIGNIN, facts=FACTS | {"client": agent}).text
    assert f"डिवाइस: {hindi}\n" in made(Notice.NEW_SIGNIN, "email", "hi", facts=FACTS | {"client": agent}).text


def test_a_program_is_only_what_the_list_has() -> None:
    known = {name for _, name in (*clients.PROGRAMS, *clients.SYSTEMS)} | {""}
    assert set(clients.find("<b>Firefox/1</b> on Windows 95, see evil.example")) <= known


def test_a_message_to_a_phone_speaks_of_the_phone_number() -> None:
    for kind in (Notice.SIGNUP_TRIED, Notice.CHANGE_TRIED):
        assert "your phone number" in made(kind, "sms").text
        assert "your e-mail address" in made(kind).subject
        assert "फ़ोन नंबर" in made(kind, "sms", "hi").text
        assert "ई-मेल" in made(kind, "email", "hi").subject


def test_an_unknown_message_is_told_apart_from_a_broken_one() -> None:
    for kind in ("notice.nothing", "code.nothing"):
        with pytest.raises(messages.NoTemplate) as raised:
            made(kind)
        assert isinstance(raised.value, LookupError)


# How the mail looks


@pytest.mark.parametrize(("kind", "language"), EVERY)
def test_the_html_is_the_text_in_other_clothes(kind: str, language: str) -> None:
    words = made(kind, "email", language)
    shown = Seen(words.html)
    heading = [] if kind.startswith("code.") else [words.subject]
    text = re.sub(r"^([^:\n.।]+): ", r"\1 ", words.text, flags=re.MULTILINE)  # the labels of a table have no colon
    assert shown.words == " ".join([BRAND, *heading, *text.split()])
    assert shown.open == []


@pytest.mark.parametrize("code", ["012345", "012345678"])
@pytest.mark.parametrize("language", LANGUAGES)
def test_the_code_stands_alone_and_is_one_run(code: str, language: str) -> None:
    words = made("code.signin", "email", language, code=code)
    assert code in words.text.splitlines()
    assert f">{code}</td>" in words.html
    assert words.html.count(code) == 2  # the title and the box
    assert "user-select:all" in words.html


def test_a_figure_elsewhere_is_not_taken_for_the_code() -> None:
    words = made("code.signin", settings=settings_of(brand_name="Studio 012345"))
    assert "nobody from Studio 012345 will ever" in words.html
    assert words.html.count(">012345</td>") == 1


def test_an_operator_may_begin_with_the_code(tmp_path: Path) -> None:
    own = put(tmp_path, en__code_dot_txt="Subject: {{ brand }}\n\n{{ code }}\n\nThat is your code.\nKeep it.")
    assert ">012345</td>" in made("code.signin", settings=own).html
    assert "That is your code.<br>Keep it.</p>" in made("code.signin", settings=own).html


@pytest.mark.parametrize(("kind", "language"), EVERY)
def test_the_mail_is_right_without_its_style_sheet(kind: str, language: str) -> None:
    """Some programs drop it, and some the head: then the inline styles and attributes carry the mail."""
    page = made(kind, "email", language).html
    seen = Seen(page)
    tables = [attributes for tag, attributes in seen.elements if tag == "table"]
    assert all(table.get("role") == "presentation" for table in tables)
    assert (tables[0]["lang"], tables[0]["dir"]) == (language, "ltr")
    assert dict(seen.elements)["html"]["lang"] == language
    for tag, attributes in seen.elements:
        if {"text", "quiet", "brand"} & set((attributes.get("class") or "").split()):
            style = attributes["style"] or ""
            assert re.search(r"(^|;)color:#[0-9a-f]{6};", style), (tag, style)
            assert "font-family:" in style
            assert "font-size:" in style
    assert not re.search(r"url\(|@import|@font-face|src=", page)
    assert len(page) < 20_000  # Gmail cuts at 102 kB


def test_the_preview_is_hidden_and_says_more_than_the_subject() -> None:
    words = made("code.signin")
    hidden = re.search(r'<div style="display:none;mso-hide:all;[^"]*">(.*?)</div>', words.html)
    assert hidden
    preview = re.sub(r"\s+", " ", re.sub("[\u034f\u200c\u00a0]", "", html.unescape(hidden[1])))
    assert (
        preview
        == "Use this code to sign in. It works once and is valid for 5 minutes. Do not share it: nobody from Clinic & Co will ever ask you for it."
    )
    notice = Seen(made(Notice.PASSWORD_CHANGED).html)
    assert not notice.words.startswith("The password of your account")


@pytest.mark.covers("asvs 14.2.3")
def test_the_logo_is_the_only_picture_and_is_named() -> None:
    page = made("code.signin", settings=settings_of(brand_logo_url="https://cdn.clinic.example/logo.png?a=1&b=2")).html
    pictures = [attributes for tag, attributes in Seen(page).elements if tag == "img"]
    assert [(picture["src"], picture["alt"]) for picture in pictures] == [
        ("https://cdn.clinic.example/logo.png?a=1&b=2", BRAND)
    ]


def luminance(color: str) -> float:
    parts = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize(
    "color", ["#1b1f24", "#000000", "#00001a", "#7a0019", "#0b6e4f", "#0057ff", "#ffd400", "#FFFFFF", "#808080"]
)
def test_the_brand_colour_can_be_read_by_day_and_by_night(color: str) -> None:
    page = made("code.signin", settings=settings_of(brand_color=color)).html
    night = re.search(r"@media \(prefers-color-scheme: dark\) \{(.*?)\n  \}", page, re.DOTALL)
    assert night
    rules = {
        name: dict(re.findall(r"([\w-]+): (#\w+) !important", body))
        for name, body in re.findall(r"\.(\w+) \{(.*?)\}", night[1])
    }
    for behind in ("page", "card", "box"):
        for name in ("text", "quiet", "brand", "digits"):
            assert contrast(rules[name]["color"], rules[behind]["background"]) >= 4.5, (name, behind)
    for style in (
        attributes["style"] or ""
        for tag, attributes in Seen(page).elements
        if "brand" in (attributes.get("class") or "")
    ):
        by_day = re.findall(r"(?:^|;)color:(#\w+);", style)[0]
        assert contrast(by_day, "#ffffff") >= contrast(by_day, "#f4f5f7") >= 4.5
        assert contrast(color, "#f4f5f7") < 4.5 or by_day == color.lower()


@pytest.mark.covers("attack A57")
@pytest.mark.parametrize(("kind", "language"), EVERY)
def test_hostile_values_break_neither_the_page_nor_the_lines(kind: str, language: str) -> None:
    hostile = '"><script>alert(1)</script>\r\nBcc: v@example.com\n\n@evil.example #000000\u2028\u202e'
    settings = settings_of().model_copy(update={"brand_name": hostile, "support_email": hostile})
    facts = FACTS | {"ip": hostile, "now": hostile, "country": hostile, "changed": "sms"}
    words, usual = made(kind, "email", language, settings, facts=facts), made(kind, "email", language)
    assert "<script" not in words.html
    seen = [tag for tag, _ in Seen(words.html).elements]
    assert seen == [tag for tag, _ in Seen(usual.html).elements]
    assert not re.search("[\r\n\u2028\u202e]", words.subject)
    assert len(words.text.splitlines()) == len(usual.text.splitlines())
    assert len(made(kind, "sms", language, settings, facts=facts).text.splitlines()) == 1


# What the operator changes


def put(root: Path, **files: str) -> Settings:
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return settings_of(templates_dir=root)


def test_a_file_and_a_word_of_the_operator_win_alone(tmp_path: Path) -> None:
    own = put(
        tmp_path,
        hi__code_dot_txt="\ufeffSubject: {{ code }} - {{ brand }}\n\n{{ words[act] }}\n\n{{ code }}",
        hi__words_dot_txt="signin:अंदर आने",
        en__words_dot_txt="client: {program}, {system}",
    )
    words = made("code.signin", "email", "hi", own)
    assert words.subject == "012345 - Clinic & Co"
    assert words.text.splitlines()[0] == "अंदर आने"
    assert made("code.recovery", "email", "hi", own).text.splitlines()[0] == "पासवर्ड रीसेट करने"
    assert made("code.signin", "sms", "hi", own).text.startswith("अंदर आने के लिए")
    assert "Firefox, Linux" in made(Notice.NEW_SIGNIN, settings=own).text
    assert "Linux पर Firefox" in made(Notice.NEW_SIGNIN, "email", "hi", own).text
    assert made("code.signin", settings=own).text == made("code.signin").text
    assert messages.languages(own) == LANGUAGES


def test_an_upgrade_of_the_folder_under_a_running_service_changes_none_of_its_words(tmp_path: Path) -> None:
    """Until it is restarted, it has the words that fit what it knows."""
    shutil.copytree(ROOT / "app", tmp_path / "app", ignore=shutil.ignore_patterns("__pycache__"))
    program = """
from pathlib import Path
from app.config import Settings
from app.delivery import messages
for path in Path("app/delivery/templates").rglob("*.*"):
    path.write_text("{{ of_tomorrow }}")
words = messages.render(Settings(_env_file=None), "code.signin", "email", {}, language="hi", code="012345", minutes=5)
print(words.text, words.html)
"""
    ran = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "012345" in ran.stdout


def test_an_operator_s_change_needs_no_restart(tmp_path: Path) -> None:
    own = put(tmp_path, en__code_dot_txt="Subject: one\n\n{{ code }}", en__words_dot_txt="client: {program}")
    assert made("code.signin", settings=own).subject == "one"
    put(tmp_path, en__code_dot_txt="Subject: two\n\n{{ code }}")
    os.utime(tmp_path / "en" / "code.txt", (1, 1))
    assert made("code.signin", settings=own).subject == "two"


def test_an_operator_has_another_page_around_the_words(tmp_path: Path) -> None:
    own = put(tmp_path, mail_dot_html="<b>{{ brand }}</b>{% for p in paragraphs %}<i>{{ p.text }}</i>{% endfor %}")
    assert made("code.signin", settings=own).html.startswith("<b>Clinic &amp; Co</b><i>Use this code to sign in.</i>")


def test_a_language_is_added_and_says_in_english_what_it_lacks(tmp_path: Path) -> None:
    own = put(
        tmp_path,
        fr__words_dot_txt="signin: vous connecter\nmonths: janvier,février,mars,avril,mai,juin,juillet,août,septembre,octobre,novembre,décembre\n",
        fr__code_dot_txt="Subject: {{ code }} : votre code {{ brand }}\n\nUtilisez ce code pour {{ words[act] }}.\n\n{{ code }}\n",
        fr__notice_dot_new_signin_dot_txt="Subject: Nouvelle connexion à {{ brand }}\n\nBonjour.\n\n{% include [language ~ '/where.txt', 'en/where.txt'] %}\n",
        notes__readme_dot_txt="not a language",
    )
    assert messages.languages(own) == ("en", "fr", "hi")
    code = made("code.signin", "email", "fr", own)
    assert code.text.startswith("Utilisez ce code pour vous connecter.")
    assert 'lang="fr"' in code.html
    assert made("code.recovery", "email", "fr", own).text.startswith(
        "Utilisez ce code pour reset your password."
    )  # the word that lacks
    notice = made(Notice.NEW_SIGNIN, "email", "fr", own)
    assert "When: 21 novembre 2026, 10:00 UTC" in notice.text  # the shared file that lacks
    english = made(Notice.PASSWORD_CHANGED, "email", "fr", own)  # the message that lacks: English as a whole
    assert english == made(Notice.PASSWORD_CHANGED, settings=own)
    assert 'lang="en"' in english.html
    assert made("code.signin", "sms", "fr", own).text == made("code.signin", "sms").text
    assert made("code.signin", "email", "xx", own) == made("code.signin", settings=own)
    assert messages.languages(settings_of(templates_dir=tmp_path / "absent")) == LANGUAGES


@pytest.mark.parametrize(
    ("name", "text", "named"),
    [
        ("en/code.txt", "Subject: x\n\n{% if %}", "en/code.txt, line 3: "),
        ("en/code.txt", "Subject: x\n\n{{ nothing }}", "en/code.txt, line 3: UndefinedError: 'nothing' is undefined"),
        ("en/code.txt", "Subject: x\n\n{{ 1 // 0 }}", "en/code.txt, line 3: ZeroDivisionError"),
        ("en/code.txt", "Subject: x\n{% include 'absent.txt' %}", "en/code.txt, line 2: TemplateNotFound"),
        ("en/code.txt", "Subject: x\n{% include ['absent.txt'] %}", "en/code.txt, line 2: TemplatesNotFound"),
        ("en/code.txt", "Subject: x\n{% include 'en/code.txt' %}", "en/code.txt, line 2: RecursionError"),
        ("en/code.txt", "no subject", "en/code.txt: must begin with 'Subject:'"),
        ("en/code.txt", b"Subject: \xff", "en/code.txt: UnicodeDecodeError"),
        ("mail.html", "{{ nothing.at.all }}", "mail.html, line 1: UndefinedError"),
        ("en/words.txt", b"signin: \xff", "en/words.txt: UnicodeDecodeError"),
    ],
)  # fmt: skip
def test_a_broken_template_is_named(tmp_path: Path, name: str, text: str | bytes, named: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(messages.Unmade, match=re.escape(named)) as raised:
        made("code.signin", settings=settings_of(templates_dir=tmp_path))
    assert not isinstance(raised.value, LookupError)


def test_a_broken_template_stops_no_other_message(tmp_path: Path) -> None:
    own = put(
        tmp_path,
        en__code_dot_txt="{% broken",
        hi__where_dot_txt="{{ nothing }}",
        en__words_dot_txt="months: Jan,Feb\nno colon\n: no key\nsignin:\n",
    )
    assert made("code.signin", "email", "hi", own) == made("code.signin", "email", "hi")
    assert made(Notice.SHIELD_CLOSED, "email", "hi", own) == made(Notice.SHIELD_CLOSED, "email", "hi")
    with pytest.raises(messages.Unmade, match=r"en/code\.txt"):
        made("code.signin", settings=own)
    with pytest.raises(messages.Unmade, match=r"hi/where\.txt, line 1: UndefinedError"):
        made(Notice.NEW_SIGNIN, "email", "hi", own)
    with pytest.raises(messages.Unmade, match=r"words\.txt: `months` must be 12 names"):
        made(Notice.NEW_SIGNIN, settings=own)


# SMS

USUAL = {"brand_name": "Latchkey", "public_url": "https://auth.example.com", "android_app_hash": "FA+9qCX9VSu"}
GSM_7 = set(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
TWICE = set("^{}\\[~]|€\f")  # with an escape before them


def segments(text: str) -> int:
    """How many SMS a text is (3GPP TS 23.038 and 23.040)."""
    if set(text) <= GSM_7 | TWICE:
        units, alone, joined = sum(2 if c in TWICE else 1 for c in text), 160, 153
    else:
        units, alone, joined = len(text.encode("utf-16-be")) // 2, 70, 67
    return 1 if units <= alone else -(-units // joined)


def test_the_last_lines_let_phones_fill_the_code_in() -> None:
    both = made("code.signin", "sms", settings=settings_of(**USUAL, otp_length=6))
    text, *rest = both.text.split("\n")
    assert text.endswith("Do not share it.")
    assert rest == ["", "FA+9qCX9VSu", "@auth.example.com #012345"]
    for language in LANGUAGES:
        lines = made("code.phone", "sms", language, settings_of(**USUAL)).text.splitlines()
        assert lines[-2:] == ["FA+9qCX9VSu", "@auth.example.com #012345"]


@pytest.mark.parametrize(
    ("values", "lines"),
    [
        ({}, []),
        ({"public_url": "https://auth.example.com:8443/base/"}, ["", "@auth.example.com #012345"]),
        ({"public_url": "https://auth.example.com", "passkey_rp_id": "example.com"}, ["", "@example.com #012345"]),
        ({"public_url": "http://localhost:5000"}, []),  # the origin of the last line is always one of https
        ({"android_app_hash": "FA+9qCX9VSu"}, ["", "FA+9qCX9VSu"]),
    ],
)
def test_the_lines_are_those_that_are_set(values: dict[str, str], lines: list[str]) -> None:
    assert made("code.signin", "sms", settings=settings_of(**values)).text.split("\n")[1:] == lines


def test_only_a_message_with_a_code_by_sms_has_the_lines() -> None:
    settings = settings_of(**USUAL)
    for kind in Notice:
        assert "\n" not in made(kind, "sms", settings=settings).text
    assert "@auth.example.com #" not in made("code.signin", settings=settings).text


@pytest.mark.parametrize("kind", CODES)
@pytest.mark.parametrize(("code", "app_hash"), [("012345", "FA+9qCX9VSu"), ("012345678", "")])
def test_a_code_fits_its_segments(kind: str, code: str, app_hash: str) -> None:
    settings = settings_of(**USUAL | {"android_app_hash": app_hash})
    english = made(kind, "sms", "en", settings, code=code, minutes=10).text
    assert segments(english) == 1
    assert len(english.encode()) <= 140  # what Android's SMS Retriever reads
    assert segments(made(kind, "sms", "hi", settings, code=code, minutes=10).text) <= 2


@pytest.mark.parametrize("kind", TO_PEOPLE)
@pytest.mark.parametrize("support", [SUPPORT, ""])
def test_a_notice_by_sms_is_short(kind: Notice, support: str) -> None:
    settings = settings_of(**USUAL | {"support_email": support})
    assert segments(made(kind, "sms", "en", settings).text) == 1
    assert segments(made(kind, "sms", "hi", settings).text) <= 2
