"""Templates registered for Indian routes: read from their file, and held against what would be sent."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from app.config import Settings, SettingsError
from app.core import challenges
from app.delivery import courier as couriers
from app.delivery import dlt
from app.delivery.dlt import LONGEST_VALUE, Registered
from app.delivery.senders import Reason, SendFailed
from app.delivery.senders.registry import senders_of
from app.models import OutboxMessage, User
from tests.conftest import World
from tests.lanes import CHEAP, ROOT, SECRETS
from tests.people import MemorySender
from tests.providers import ACCOUNT, Provider, Request, message, nobody, provider
from tools import servers

GOOD = """
[[template]]
provider = "gupshup"
kind = "code.signin"
language = "en"
text = "{#var#} is your Latchkey code to sign in. Valid {#var#}. Do not share it."
dlt_id = "1107160000000000001"
"""
OWN = {
    "en/code.sms.txt": '{{ code }} is your {{ brand }} code to {{ words[act] }}. Valid {{ minutes }} minute{{ "" if minutes == 1 else "s" }}. Do not share it.',
    "en/notice.sms.txt": "{{ brand }}: {{ subject }}. Not you?",
    "en/notice.contact_changed.txt": "Subject: Your {{ brand }} {{ words[changed] }} was changed\n\nIt was.",
    "en/words.txt": "signin: sign in\nsms: phone number\nemail: e-mail address\n",
    "hi/code.sms.txt": "{{ code }} आपका {{ brand }} कोड है।",
}
Loader = Callable[..., Registered]


@pytest.fixture
def load(tmp_path: Path) -> Loader:
    """Loads a file of this text; the words of messages are the ones above."""
    for name, text in OWN.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, "utf-8")

    def load(text: str | bytes, provider: str = "gupshup", **settings: Any) -> Registered:
        path = tmp_path / "dlt.toml"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        given = {"dlt_file": path, "templates_dir": tmp_path} | settings
        return dlt.load(Settings(_env_file=None, **given), provider)

    return load


def refusal(load: Loader, text: str | bytes, provider: str = "gupshup", **settings: Any) -> str:
    with pytest.raises(SettingsError) as refused:
        load(text, provider, **settings)
    lines = str(refused.value).splitlines()
    assert lines
    assert all(line.startswith("DLT_FILE: ") for line in lines)
    return str(refused.value)


def test_the_example_in_the_module_fits_the_words_that_are_sent(tmp_path: Path) -> None:
    lines = [line[4:] for line in (dlt.__doc__ or "").splitlines() if line.startswith("    ")]
    (tmp_path / "dlt.toml").write_text("\n".join(lines))
    settings = Settings(_env_file=None, dlt_file=tmp_path / "dlt.toml", brand_name="Clinic")
    [template] = dlt.load(settings, "gupshup").templates
    assert template.registration() == {"dltTemplateId": "1107160000000000001"}


def test_the_example_in_the_documents_fits_the_words_that_are_sent(tmp_path: Path) -> None:
    page = (Path(dlt.__file__).parents[2] / "docs" / "delivery.md").read_text("utf-8")
    [example] = re.findall(r"^```toml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    settings = Settings(_env_file=None, dlt_file=tmp_path / "dlt.toml", brand_name="Clinic")
    for name, valid in (("gupshup", "Valid {#var#}."), ("msg91", "Valid {#var#} minutes.")):
        text = example.replace('"gupshup"', f'"{name}"').replace("Valid {#var#}.", valid)
        (tmp_path / "dlt.toml").write_text(text, "utf-8")
        [found] = dlt.load(settings, name).templates
        assert found.kind == dlt.EVERY_CODE
    assert found.values(message(minutes=3)) == {"OTP": "123456", "MIN": "3"}


def test_without_a_file_nothing_is_registered() -> None:
    assert dlt.load(Settings(_env_file=None), "gupshup").of(message()) is None


def test_a_template_that_fits_is_found_for_its_messages(load: Loader) -> None:
    registered = load(GOOD)
    assert registered.of(message()).registration() == {"dltTemplateId": "1107160000000000001"}
    assert registered.of(message(kind="code.phone")) is None
    assert registered.of(message(code="")) is None


def test_templates_of_another_provider_are_left_alone(load: Loader) -> None:
    assert load(GOOD, "msg91").templates == ()
    assert load(GOOD.replace("your", "a wrong"), "msg91").templates == ()


def test_another_text_stops_the_start_and_the_line_says_what_would_be_sent(load: Loader) -> None:
    line = refusal(load, GOOD + GOOD.replace("Do not share it.", "Keep it."))
    assert line == (
        "DLT_FILE: template 2 (gupshup, code.signin, en) has another text than code.signin: "
        "'000000 is your Latchkey code to sign in. Valid 3 minutes. Do not share it.'; "
        "register that, or change it in TEMPLATES_DIR"
    )


def test_the_last_minute_is_held_against_the_text_too(load: Loader) -> None:
    assert "Valid 1 minute." in refusal(load, GOOD.replace("Valid {#var#}.", "Valid {#var#} minutes."))


def test_the_lines_for_autofill_are_a_part_of_the_text(load: Loader) -> None:
    assert "@auth.example.com #000000" in refusal(load, GOOD, public_url="https://auth.example.com")
    load(GOOD.replace(" it.", " it.\\n\\n@auth.example.com #{#var#}"), public_url="https://auth.example.com")


def test_a_variable_stands_for_thirty_characters(load: Loader) -> None:
    text = GOOD.replace("your Latchkey code", "your {#var#} code")
    load(text, brand_name="B" * LONGEST_VALUE)
    assert "BBBB" in refusal(load, text, brand_name="B" * (LONGEST_VALUE + 1))
    load(text.replace("your {#var#}", "your {#var#}{#var#}"), brand_name="B" * 60)


def test_what_stands_in_the_text_is_no_pattern(load: Loader) -> None:
    refusal(load, GOOD.replace("Do not share it.", ".*"))


def test_one_template_may_serve_every_code(load: Loader) -> None:
    text = GOOD.replace("code.signin", "code.*").replace("to sign in", "to {#var#}")
    registered = load(text)
    for purpose in challenges.SENT:
        assert registered.of(message(kind=f"code.{purpose}"))
    assert registered.of(message(code="")) is None
    assert "has another text than code.signup" in refusal(load, GOOD.replace("code.signin", "code.*"))


def test_a_kind_s_own_template_comes_before_the_one_of_every_code(load: Loader) -> None:
    every = GOOD.replace("code.signin", "code.*").replace("to sign in", "to {#var#}").replace("0001", "0002")
    registered = load(every + GOOD)
    assert registered.of(message()).dlt_id.endswith("0001")
    assert registered.of(message(kind="code.phone")).dlt_id.endswith("0002")


def test_a_notice_is_held_against_the_text_for_either_address(load: Loader) -> None:
    text = GOOD.replace("code.signin", "notice.contact_changed")
    text = re.sub(r'text = ".*"', 'text = "Latchkey: Your Latchkey {#var#} was changed. Not you?"', text)
    assert load(text).of(message(code="", kind="notice.contact_changed"))
    assert "was changed" in refusal(load, text.replace("Latchkey {#var#} was", "Latchkey phone number was"))


def test_the_text_of_another_language(load: Loader) -> None:
    text = re.sub(r'text = ".*"', 'text = "{#var#} आपका Latchkey कोड है।"', GOOD.replace('"en"', '"hi"'))
    assert load(text).of(message(language="hi"))
    assert load(b"\xef\xbb\xbf" + text.encode()).of(message(language="hi"))  # as Notepad writes it
    assert "आपका" in refusal(load, text.replace("कोड", "अंक"))


UNKNOWN = {
    'kind = "code.signin"': [
        ('kind = "signin"', "template 1 (gupshup, signin, en) is of no kind that is sent; there are code.*, code."),
        ('kind = "code.sigin"', "is of no kind that is sent"),
        ('kind = "notice.*"', "is of no kind that is sent"),
        ('kind = "words"', "is of no kind that is sent"),
        ('kind = "notice.shield_closed"', "is of no kind that is sent"),
        ("", "template 1, kind: Field required"),
        ("kind = 5", "template 1, kind: Input should be a valid string"),
        ("kind = ", "is not TOML in UTF-8: Invalid value (at line 4"),
    ],
    'language = "en"': [
        ('language = "fr"', "template 1 (gupshup, code.signin, fr) is in no language that there is; there are en, "),
        ('language = "../en"', "is in no language that there is"),
    ],
    'provider = "gupshup"': [
        ('provider = "twilio"', "template 1, provider: Input should be 'msg91' or 'gupshup'"),
        ('provider = "gupshup"\nentityid = "1"', "template 1, entityid: Extra inputs are not permitted"),
        ('provider = "gupshup"\nvariables = { OTP = "pin" }', "template 1, variables, OTP: Input should be 'code', "),
        ('provider = "gupshup"\nprovider = "gupshup"', "is not TOML in UTF-8: Cannot overwrite a value"),
    ],
    'dlt_id = "1107160000000000001"': [
        ("dlt_id = 1107160000000000001", "template 1, dlt_id: Input should be a valid string"),
    ],
    "[[template]]": [
        ("[template]", "template: Input should be a valid list"),
        ("[[templates]]", "template: Field required"),
        ("[[template]]\n[[template]]", "template 1, provider: Field required"),
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("right", "wrong", "words"), [(right, *case) for right, cases in UNKNOWN.items() for case in cases]
)
def test_a_mistake_in_the_file_is_named(load: Loader, right: str, wrong: str, words: str) -> None:
    assert right in GOOD
    assert words in refusal(load, GOOD.replace(right, wrong))


@pytest.mark.parametrize("text", ["", "\n", "template = []", b"\xff\xfe\x00", "{", "[[template]]"])
def test_a_file_with_nothing_in_it_stops_the_start(load: Loader, text: str | bytes) -> None:
    assert re.search("template|TOML", refusal(load, text))


def test_every_mistake_has_a_line(load: Loader) -> None:
    lines = refusal(load, GOOD.replace("code.signin", "a") + GOOD + GOOD.replace("code.signin", "b")).splitlines()
    assert [line.split(" ")[2] for line in lines] == ["1", "3"]


def test_a_file_that_is_not_there_is_named(load: Loader, tmp_path: Path) -> None:
    missing = tmp_path / "missing.toml"
    assert f"cannot read {missing}: No such file" in refusal(load, "", dlt_file=missing)
    assert "cannot read" in refusal(load, "", dlt_file=tmp_path)


def test_a_template_of_ours_that_is_broken_is_named_too(load: Loader, tmp_path: Path) -> None:
    (tmp_path / "en" / "code.sms.txt").write_text("{{ coed }}")
    line = refusal(load, GOOD)
    assert "template 1 (gupshup, code.signin, en) cannot be held against code.signin, which cannot be made" in line
    assert "coed" in line


def msg91(variables: str = '{ OTP = "code", MIN = "minutes", NAME = "brand" }', more: str = "") -> str:
    text = GOOD.replace("gupshup", "msg91").replace("Valid {#var#}.", "Valid {#var#} minutes.")
    return f'{text}provider_id = "65f0c0ffee"\nvariables = {variables}\n{more}'


def test_msg91_gets_its_variables_cut_to_what_is_allowed(load: Loader) -> None:
    template = load(msg91(), "msg91").of(message())
    values = template.values(message(brand="B" * 60, minutes=7))
    assert values == {"OTP": "123456", "MIN": "7", "NAME": "B" * LONGEST_VALUE}


def test_a_code_is_never_longer_than_a_variable() -> None:
    with pytest.raises(ValidationError):
        Settings(_env_file=None, otp_length=LONGEST_VALUE + 1)
    assert max(m.le for m in Settings.model_fields["otp_length"].metadata if hasattr(m, "le")) < LONGEST_VALUE


def test_msg91_needs_its_own_id_and_a_place_for_the_code(load: Loader) -> None:
    without_id = msg91().replace("provider_id", "dlt_id_of_it").replace('dlt_id_of_it = "65f0c0ffee"\n', "")
    assert "template 1 (msg91, code.signin, en) needs `provider_id`" in refusal(load, without_id, "msg91")
    for variables in ("{}", '{ NAME = "brand" }'):
        assert 'needs `variables` with the name of one that is the "code"' in refusal(load, msg91(variables), "msg91")


def test_the_start_of_the_service_holds_the_templates_of_the_providers_in_use(load: Loader, tmp_path: Path) -> None:
    refusal(load, GOOD.replace("your", "a wrong"))  # the file is written
    given = ACCOUNT | {"dlt_file": tmp_path / "dlt.toml", "templates_dir": tmp_path}
    senders_of(Settings(_env_file=None, **given, sms_provider="twilio,msg91"))
    with pytest.raises(SettingsError, match="template 1"):
        senders_of(Settings(_env_file=None, **given, sms_provider="twilio,gupshup"))


NUMBER = "+919876543210"
HINDI = {"Accept-Language": "hi-IN,hi;q=0.9,en;q=0.5"}
HINDI_TEXT = "{#var#} के लिए आपका Latchkey कोड {#var#} है। {#var#} मिनट तक मान्य। किसी को न बताएँ।"


def table(name: str, language: str = "en", kind: str = "code.*", text: str = "") -> str:
    """A template of the words that are shipped."""
    valid = "{#var#}" if name == "gupshup" else "{#var#} minutes"
    usual = {"en": f"{{#var#}} is your Latchkey code to {{#var#}}. Valid {valid}. Do not share it.", "hi": HINDI_TEXT}
    variables = '{ OTP = "code", MIN = "minutes" }'
    return (
        f'[[template]]\nprovider = "{name}"\nkind = "{kind}"\nlanguage = "{language}"\n'
        f'text = "{text or usual[language]}"\ndlt_id = "{name}-{language}"\nprovider_id = "{name}-{language}"\n'
        f"variables = {variables}\n"
    )


@pytest.fixture
def taking() -> Iterator[Provider]:
    with provider() as opened:
        yield opened


def sent_by(world: World, taking: Provider, name: str, **settings: Any) -> Request:
    """The one request with which a provider got the code that waits."""
    sender = taking.sender(
        name, dlt_file=world.settings.dlt_file, templates_dir=world.settings.templates_dir, **settings
    )
    senders = {"email": MemorySender("email"), "sms": sender}
    couriers.Courier(world.kit, senders, couriers.new_bells()).round("sms")
    assert [row.state for row in world.rows(OutboxMessage, channel="sms", recipient=NUMBER)][-1] == "sent"
    return taking.request


@pytest.mark.parametrize("name", ["gupshup", "msg91"])
def test_a_code_that_is_asked_for_in_another_language_is_a_registered_text(
    make_world: Any, tmp_path: Path, taking: Provider, name: str
) -> None:
    (tmp_path / "dlt.toml").write_text(table(name), "utf-8")
    world = make_world(dlt_file=tmp_path / "dlt.toml")
    world.sends_at_once = False
    world.api(**HINDI).post("/api/v1/auth/send-otp", {"mobile_number": NUMBER}).ok()
    assert [row.language for row in world.rows(OutboxMessage)] == ["hi"]
    request = sent_by(world, taking, name, msg91_template_id="")
    if name == "msg91":
        assert request.json["template_id"] == "msg91-en"
        [to] = request.json["recipients"]
        assert (re.fullmatch(r"\d{6}", to["OTP"]) is not None, to["MIN"]) == (True, "3")
        return
    words = r"\d{6} is your Latchkey code to sign in or sign up\. Valid 3 minutes\. Do not share it\."
    assert re.fullmatch(words, request.form["msg"])
    assert (request.form["dltTemplateId"], request.form["msg_type"]) == ("gupshup-en", "TEXT")


@pytest.mark.parametrize(("language", "found"), [("en", "usual"), ("ta", "usual"), ("hi", "msg91-hi")])
def test_msg91_s_usual_template_comes_before_one_in_another_language(
    make_world: Any, tmp_path: Path, taking: Provider, language: str, found: str
) -> None:
    (tmp_path / "dlt.toml").write_text(table("msg91", "hi"), "utf-8")
    world = make_world(dlt_file=tmp_path / "dlt.toml")
    world.sends_at_once = False
    world.api(**{"Accept-Language": language}).post("/api/v1/auth/send-otp", {"mobile_number": NUMBER}).ok()
    assert sent_by(world, taking, "msg91", msg91_template_id="usual").json["template_id"] == found


def test_the_person_s_own_language_comes_before_english(make_world: Any, tmp_path: Path, taking: Provider) -> None:
    (tmp_path / "ta").mkdir()
    (tmp_path / "ta" / "words.txt").write_text("phone: உள்நுழைய\n", "utf-8")
    (tmp_path / "dlt.toml").write_text(table("gupshup") + table("gupshup", "hi"), "utf-8")
    world = make_world(dlt_file=tmp_path / "dlt.toml", templates_dir=tmp_path)
    owner = world.person(phone=NUMBER)
    owner.api.headers |= HINDI
    owner.sign_up(channel="sms")
    assert [user.language for user in world.rows(User)] == ["hi"]
    world.clock.advance(minutes=2)
    world.sends_at_once = False
    world.api(**{"Accept-Language": "ta"}).post("/api/v1/auth/send-otp", {"mobile_number": NUMBER}).ok()
    form = sent_by(world, taking, "gupshup").form
    assert form["dltTemplateId"] == "gupshup-hi"
    assert "आपका Latchkey कोड" in form["msg"]


def test_the_languages_are_tried_in_their_order(load: Loader) -> None:
    hindi = re.sub(r'text = ".*"', 'text = "{#var#} आपका Latchkey कोड है।"', GOOD.replace('"en"', '"hi"'))
    both, only = load(GOOD + hindi), load(hindi)
    for language, own, found in [("en", "hi", "en"), ("hi", "en", "hi"), ("ta", "hi", "hi"), ("ta", "", "en")]:
        assert both.of(message(language=language, own_language=own)).language == found
    assert only.of(message(language="en")).language == "hi"
    assert load(hindi.replace("signin", "*") + GOOD).of(message(language="hi")).kind == "code.*", "language before kind"


def test_a_notice_says_its_facts_in_the_language_of_its_template(tmp_path: Path, taking: Provider) -> None:
    advice = "Not you? Sign in, undo it and change your password now."
    text = "The {#var#} of your Latchkey account was changed. " + advice
    (tmp_path / "dlt.toml").write_text(table("gupshup", kind="notice.contact_changed", text=text), "utf-8")
    facts = dlt.FACTS | {"changed": "sms"}
    out = message(code="", kind="notice.contact_changed", language="hi", text="आपका फ़ोन नंबर बदला गया", facts=facts)
    taking.sender("gupshup", dlt_file=tmp_path / "dlt.toml").send(out)
    assert taking.request.form["msg"] == "The phone number of your Latchkey account was changed. " + advice


def test_with_a_file_gupshup_sends_no_text_to_india_that_is_not_registered(tmp_path: Path, taking: Provider) -> None:
    (tmp_path / "dlt.toml").write_text(table("gupshup", kind="code.signin", text=CODE_TO_SIGN_IN), "utf-8")
    sender = taking.sender("gupshup", dlt_file=tmp_path / "dlt.toml")
    with pytest.raises(SendFailed, match=r"no template for code\.phone") as failed:
        sender.send(message(kind="code.phone"))
    assert failed.value.reason is Reason.CONFIGURATION
    assert taking.requests == []
    sender.send(message(kind="code.phone", recipient="+9779812345678", country="NP"))
    sender.send(message(language="hi", text="कोड", recipient="+9779812345678", country="NP"))
    assert [(sent.form["msg"], sent.form.get("dltTemplateId")) for sent in taking.requests] == [
        ("123456 is your Latchkey code", None),
        ("कोड", None),
    ]


def test_a_template_that_was_broken_after_the_start_is_ours_to_mend(load: Loader, tmp_path: Path) -> None:
    registered = load(GOOD)
    out = message(language="hi", text="कोड")
    (tmp_path / "en" / "code.sms.txt").write_text("{{ coed }}")
    os.utime(tmp_path / "en" / "code.sms.txt", (1, 1))
    with pytest.raises(SendFailed, match="cannot be made in en") as failed:
        registered.words(out, registered.of(out))
    assert failed.value.reason is Reason.CONFIGURATION


def test_each_provider_of_a_list_sends_the_words_that_fit_it(tmp_path: Path, taking: Provider) -> None:
    (tmp_path / "dlt.toml").write_text(table("gupshup", kind="code.signin", text=CODE_TO_SIGN_IN), "utf-8")
    given = taking.settings | {"dlt_file": tmp_path / "dlt.toml"}

    def send(order: str, **changes: Any) -> str:
        settings = Settings(_env_file=None, **given | {"sms_provider": order}, **changes)
        senders_of(settings)["sms"].send(out)
        form = taking.requests.pop().form
        return form.get("Body") or form["msg"]

    out = message(language="hi", text="साइन इन कोड 123456")
    assert send("gupshup,twilio") == "123456 is your Latchkey code to sign in. Valid 5 minutes. Do not share it."
    given |= {"twilio_base_url": nobody()}
    assert send("twilio,gupshup") == "123456 is your Latchkey code to sign in. Valid 5 minutes. Do not share it."
    given |= {"twilio_base_url": taking.base}
    out = message(language="hi", kind="code.phone", text="साइन इन कोड 123456")
    assert send("gupshup,twilio") == "साइन इन कोड 123456", "gupshup has no template of it"


CODE_TO_SIGN_IN = "{#var#} is your Latchkey code to sign in. Valid {#var#}. Do not share it."
CODES = "code.signup, code.signin, code.recovery, code.change_phone, code.step_up, code.phone, code.invite"
ALL_BUT_SIGN_IN = CODES.replace("code.signin, ", "")


@pytest.mark.parametrize(
    ("providers", "tables", "usual", "lines"),
    [
        ("twilio,gupshup", table("gupshup") + table("gupshup", "hi"), "", []),
        ("twilio", table("gupshup"), "", []),
        ("gupshup", table("gupshup"), "", [f"gupshup in hi for {CODES}: these go in another language."]),
        (
            "gupshup,msg91",
            table("gupshup", kind="code.signin", text=CODE_TO_SIGN_IN),
            "",
            [
                f"msg91 for {CODES}: by it none of these goes to India.",
                f"gupshup for {ALL_BUT_SIGN_IN}: by it none of these goes to India.",
                "gupshup in hi for code.signin: these go in another language.",
            ],
        ),
        ("msg91", table("gupshup"), "65f0c0ffee", []),
    ],
)
def test_what_the_file_leaves_out_is_told(
    tmp_path: Path, providers: str, tables: str, usual: str, lines: list[str]
) -> None:
    (tmp_path / "dlt.toml").write_text(tables, "utf-8")
    given = {"sms_provider": providers, "msg91_template_id": usual, "dlt_file": tmp_path / "dlt.toml"}
    found = list(dlt.remarks(Settings(_env_file=None, **ACCOUNT | given)))
    assert found == [f"DLT_FILE has no template of {line}" for line in lines]
    assert list(dlt.remarks(Settings(_env_file=None, **ACCOUNT | given | {"dlt_file": None}))) == []


@pytest.mark.slow
@pytest.mark.parametrize("command", [("gunicorn", "-c", "gunicorn.conf.py"), ("app",), ("flask", "check-config")])
def test_it_is_told_at_the_start_and_by_check_config(tmp_path: Path, command: tuple[str, ...]) -> None:
    (tmp_path / "dlt.toml").write_text(table("gupshup"), "utf-8")
    given = SECRETS | CHEAP | ACCOUNT | {"argon2_memory_kib": 19_456, "argon2_time_cost": 2, "web_concurrency": 1}
    given |= {
        "environment": "production",
        "database_url": "postgresql://u:p@127.0.0.1:9/x",
        "port": servers.free_port(),
    }
    given |= {"email_provider": "resend", "sms_provider": "gupshup", "dlt_file": tmp_path / "dlt.toml"}
    environment = {"PATH": os.environ["PATH"], **{name.upper(): str(value) for name, value in given.items()}}
    with (tmp_path / "log").open("wb") as log:
        started = subprocess.Popen([sys.executable, "-m", *command], cwd=ROOT, env=environment, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 30
        while "DLT_FILE has no template of gupshup in hi for code.signup" not in (tmp_path / "log").read_text():
            assert time.monotonic() < deadline
            time.sleep(0.1)
    finally:
        started.terminate()
        started.wait(20)
