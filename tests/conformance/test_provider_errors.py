"""What each sender makes of a provider that refuses, stumbles, hangs or talks nonsense."""

from __future__ import annotations

import smtplib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.config import Settings
from app.delivery.senders import Outgoing, Reason, SendFailed, http
from app.delivery.senders.smtp import SmtpSender
from tests import providers
from tests.mail import make_certificate, terse_server
from tests.providers import (
    CHANNELS,
    SECRETS,
    Provider,
    Step,
    answers,
    dead_addresses,
    full_house,
    message,
    nobody,
    provider,
)

P, C, T, TH, U = Reason.PERMANENT, Reason.CONFIGURATION, Reason.TRANSIENT, Reason.THROTTLED, Reason.UNKNOWN
every_provider = pytest.mark.parametrize("name", CHANNELS)


@pytest.fixture(scope="module")
def _standing() -> Iterator[Provider]:
    with provider() as opened:
        yield opened


@pytest.fixture
def taking(_standing: Provider) -> Provider:
    _standing.requests.clear()
    _standing.script.clear()
    return _standing


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time-outs of fractions of a second."""
    for name, seconds in {"CONNECT_S": 0.1, "READ_S": 0.12, "WHOLE_S": 0.2}.items():
        monkeypatch.setattr(http, name, seconds)


def refusal(taking: Provider, name: str, **changes: Any) -> SendFailed:
    """How sending one message failed. Whatever it was, it took one request at most and tells no secrets."""
    out = message(CHANNELS[name])
    before = len(taking.requests)
    with pytest.raises(SendFailed) as failed:
        taking.sender(name, **changes).send(out)
    assert len(taking.requests) - before <= 1
    assert_discreet(failed.value, out)
    return failed.value


def assert_discreet(failure: SendFailed, out: Outgoing) -> None:
    digits = out.recipient.lstrip("+")
    for secret in (out.code, digits, digits[-7:], *SECRETS):
        assert secret not in failure.text
    assert len(failure.text) < 200


def loud(body: str = "") -> str:
    """A text of a provider that repeats what it was sent."""
    return body + " 919876543210 +919876543210 jane@example.com 123456 " + " ".join(SECRETS)


STATUSES = [
    (400, P), (401, C), (402, C), (403, C), (404, C), (405, C), (408, T), (409, T), (413, P), (418, C), (422, P),
    (425, T), (429, TH), (500, T), (502, T), (503, T), (504, T), (599, T),
]  # fmt: skip


@pytest.mark.covers("fault F14")
@every_provider
@pytest.mark.parametrize(("status", "reason"), STATUSES)
def test_a_status_without_a_better_word(taking: Provider, name: str, status: int, reason: Reason) -> None:
    taking.script = [answers(status, loud("<html>"))]
    failure = refusal(taking, name)
    if (name, status) == ("resend", 409):  # of its idempotency key
        assert failure.reason is U
        return
    assert failure.reason is reason
    assert str(status) in failure.text
    assert failure.retry_after is None
    assert taking.sender(name).send(message(CHANNELS[name])).provider == name  # it works again at once


@pytest.mark.covers("asvs 15.3.2")
@every_provider
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_never_followed(taking: Provider, name: str, status: int) -> None:
    taking.script = [answers(status, Location=f"{taking.base}/elsewhere")]
    assert refusal(taking, name).reason is C
    assert len(taking.requests) == 1


WAITS = [
    ("7", 7), ("0", 0), ("3600", 3600), ("999999999999", 3600), ("9" * 20_000, 3600), ("-5", None), ("1.5", None),
    ("soon", None), ("Wed, 21 Oct 2026 07:28:00 GMT", None), ("", None), ("\u0665", None),
]  # fmt: skip


@every_provider
@pytest.mark.parametrize(("value", "seconds"), WAITS, ids=[value[:20] for value, _ in WAITS])
def test_how_long_to_wait_is_passed_on_within_reason(
    taking: Provider, name: str, value: str, seconds: int | None
) -> None:
    taking.script = [answers(429, Retry_After=value.encode().decode("latin-1"))]
    failure = refusal(taking, name)
    assert failure.reason is TH
    assert failure.retry_after == seconds


@every_provider
def test_a_provider_in_trouble_may_say_how_long_too(taking: Provider, name: str) -> None:
    taking.script = [answers(503, Retry_After="20")]
    failure = refusal(taking, name)
    assert (failure.reason, failure.retry_after) == (T, 20)


JUNK = [
    "", "null", "[]", '"success"', "{}", "0", "true", "<html>Sign in to the network</html>", "[" * 30_000, "success",
    "success |", "success | 1 |", "error", "|||", "\x00\ufffd", '{"sid": null, "id": null}', '{"sid": "", "id": ""}',
    '{"sid": 1, "id": 2}', '{"sid": {}, "id": []}', '{"type": "success"}', '{"type": "success", "message": null}',
    '{"type": "success", "message": {}}', '{"type": ["error"]}', '{"code": [1], "errors": 1}', '{"code": "919876543210"}',
]  # fmt: skip


@pytest.mark.covers("fault F14", "attack A39")
@every_provider
@pytest.mark.parametrize("body", JUNK, ids=[body[:40] or "nothing" for body in JUNK])
def test_junk_under_a_good_status_is_no_acceptance(taking: Provider, name: str, body: str) -> None:
    """It comes from something in between, so the next provider may be tried at once; a double costs little."""
    taking.script = [answers(200, body)]
    assert refusal(taking, name).reason is T


@pytest.mark.parametrize("body", JUNK, ids=[body[:40] or "nothing" for body in JUNK])
def test_twilio_s_status_alone_is_no_acceptance(taking: Provider, body: str) -> None:
    taking.script = [answers(201, body)]
    assert refusal(taking, "twilio").reason is T


def test_sendgrid_s_status_alone_is_acceptance(taking: Provider) -> None:
    taking.script = [answers(202, "junk")]
    assert taking.sender("sendgrid").send(message("email")).provider_id is None


@every_provider
@pytest.mark.parametrize("body", JUNK, ids=[body[:40] or "nothing" for body in JUNK])
def test_junk_under_a_bad_status_says_what_the_status_says(taking: Provider, name: str, body: str) -> None:
    taking.script = [answers(400, body), answers(401, body)]
    assert refusal(taking, name).reason is P
    assert refusal(taking, name).reason is C


@pytest.mark.covers("fault F14")
@every_provider
def test_a_refused_connection_is_transient(taking: Provider, name: str) -> None:
    assert refusal(taking, name, **{f"{name}_base_url": nobody()}).reason is T


@pytest.mark.covers("fault F14")
@every_provider
def test_a_connection_that_is_not_taken_in_time_is_transient(taking: Provider, hurried: None, name: str) -> None:
    started = time.monotonic()
    with full_house() as address:
        assert refusal(taking, name, **{f"{name}_base_url": address}).reason is T
    assert time.monotonic() - started < 2


def test_a_host_of_many_dead_addresses_is_given_up_in_time(taking: Provider, hurried: None) -> None:
    with dead_addresses() as port:
        started = time.monotonic()
        assert refusal(taking, "resend", resend_base_url=f"http://dead.example:{port}").reason is T
    assert time.monotonic() - started < 2


@pytest.mark.parametrize("base", ["http://host.invalid", "http://a..example"])
def test_an_address_that_cannot_be_is_said_to_be_so(taking: Provider, base: str) -> None:
    assert refusal(taking, "resend", resend_base_url=base).reason is (T if base.endswith(".invalid") else C)


SILENCES = {
    "closes": providers.closes,
    "resets": providers.resets,
    "hangs": providers.hangs,
    "drips its headers": providers.drips_headers,
    "drips its body": providers.drips_body,
    "never ends": providers.never_ends,
    "breaks off": providers.breaks_off,
    "speaks another protocol": lambda line, _: (line.wfile.write(b"220 smtp.example ESMTP\r\n"), providers.closes(line, _)),
    "has a huge body": answers(200, "x" * 5_000_000),
}  # fmt: skip


@pytest.mark.covers("fault F14")
@every_provider
@pytest.mark.parametrize("silence", SILENCES)
def test_without_a_whole_answer_it_is_unknown_and_soon_so(
    taking: Provider, hurried: None, name: str, silence: str
) -> None:
    step: Step = SILENCES[silence]
    taking.script = [step]
    started = time.monotonic()
    failure = refusal(taking, name)
    assert failure.reason is U
    assert time.monotonic() - started < 2
    assert len(taking.requests) == 1


@every_provider
@pytest.mark.parametrize("key", ["line\nbreak", "\u0915\u0941\u0902\u091c\u0940", "nul\x00", "\udcff"])
def test_a_key_of_strange_characters_is_refused_without_repeating_it(taking: Provider, name: str, key: str) -> None:
    setting = {"twilio": "twilio_token", "gupshup": "gupshup_password", "msg91": "msg91_auth_key"}
    failure = refusal(taking, name, **{setting.get(name, f"{name}_api_key"): key})
    assert failure.reason is C
    assert key not in failure.text


TWILIO = {
    20003: C, 20429: TH, 21211: P, 21212: C, 21408: C, 21603: C, 21606: C, 21608: C, 21609: C, 21610: P, 21612: C,
    21614: P, 21657: C, 21659: C, 21660: C, 21661: C, 21701: C, 21702: C, 21703: C, 21704: C, 21705: C, 30003: T, 30005: P, 30006: P, 30007: C, 30008: T, 30034: C,
}  # fmt: skip


@pytest.mark.parametrize(("code", "reason"), TWILIO.items())
@pytest.mark.parametrize("shape", ["old", "rfc 9457"])
def test_twilio_s_codes(taking: Provider, code: int, reason: Reason, shape: str) -> None:
    status = {20003: 401, 20429: 429, 21408: 403}.get(code, 400)
    body = {
        "code": code,
        "message": loud(),
        "more_info": f"https://www.twilio.com/docs/errors/{code}",
        "status": status,
    }
    if shape == "rfc 9457":
        body |= {"type": "https://twilio.com/errors", "title": loud(), "detail": loud()}
    taking.script = [answers(status, body)]
    failure = refusal(taking, "twilio")
    assert failure.reason is reason
    assert str(code) in failure.text


@pytest.mark.parametrize("code", [99999, 0, -1, 10**30, "21211", "919876543210", None, [20003], {"a": 1}, True, 1.5])
def test_a_code_that_twilio_does_not_have_means_what_the_status_means(taking: Provider, code: Any) -> None:
    taking.script = [answers(400, {"code": code, "message": loud()}), answers(503, {"code": code})]
    assert refusal(taking, "twilio").reason is P
    assert refusal(taking, "twilio").reason is T


def test_a_code_under_429_waits_as_it_is_asked_to(taking: Provider) -> None:
    taking.script = [answers(429, {"code": 20429, "status": 429}, Retry_After="4")]
    failure = refusal(taking, "twilio")
    assert (failure.reason, failure.retry_after) == (TH, 4)
    assert "20429" in failure.text


MSG91 = {
    "Invalid authkey": C, "Authentication failure": C, "Unauthorized": C, "IP is not whitelisted": C,
    "Flow id missing": C, "template id missing or invalid.": C, "Invalid sender ID": C, "Insufficient balance": C,
    "Expired user account": C, "Number of variables does not fit the template": C, "Country not enabled": C,
    "Invalid mobile number": P, "Mobile no. not found": P, "101 missing mobile": P, "201": C, "203": C, "302": C, "311": U,
    "Request discarded because same request was generated twice within 10 seconds": U, "duplicate request": U,
    "Max limit reached for this mobile": TH, "Too many requests": TH,
    "Something else": T, "": T, "1e309 \u0915": T,
}  # fmt: skip


@pytest.mark.parametrize("status", [200, 400])
@pytest.mark.parametrize(("words", "reason"), MSG91.items())
def test_msg91_s_words(taking: Provider, status: int, words: str, reason: Reason) -> None:
    taking.script = [answers(status, {"type": "error", "message": words})]
    assert refusal(taking, "msg91").reason is reason


@pytest.mark.parametrize(
    ("code", "reason"), {"101": P, "201": C, "203": C, "302": C, "311": U, 418: C, 7: T, None: T}.items()
)
def test_msg91_s_codes(taking: Provider, code: Any, reason: Reason) -> None:
    taking.script = [answers(200, {"type": "error", "code": code, "message": loud()})]
    assert refusal(taking, "msg91").reason is reason


GUPSHUP = {
    "100": T, "101": C, "102": C, "103": C, "104": C, "105": P, "106": C, "107": C, "108": C, "109": C, "175": C,
    "999": T, "919876543210": T, "": T, "1 0 5": T,
}  # fmt: skip


@pytest.mark.parametrize(("code", "reason"), GUPSHUP.items())
@pytest.mark.parametrize("shape", ["error | {} | {}", "ERROR|{}|{}", "  error  |  {}  |  {}  \n"])
def test_gupshup_s_codes(taking: Provider, shape: str, code: str, reason: Reason) -> None:
    taking.script = [answers(200, shape.format(code, loud()))]
    assert refusal(taking, "gupshup").reason is reason


def test_a_message_that_resend_has_in_hand_may_have_been_sent(taking: Provider) -> None:
    taking.script = [answers(409, {"statusCode": 409, "name": "concurrent_idempotent_requests", "message": loud()})]
    assert refusal(taking, "resend").reason is U


@pytest.mark.parametrize(
    ("name", "account"),
    [
        ("twilio", {"twilio_token": "wrong"}),
        ("msg91", {"msg91_auth_key": "wrong"}),
        ("gupshup", {"gupshup_password": "wrong"}),
        ("sendgrid", {"sendgrid_api_key": "wrong"}),
        ("sendgrid", {"sender_email": "stranger@clinic.example"}),
        ("resend", {"resend_api_key": "wrong"}),
    ],
)
def test_the_account_of_another_is_the_operator_s_to_mend(taking: Provider, name: str, account: dict[str, str]) -> None:
    assert refusal(taking, name, **account).reason is C


@pytest.mark.parametrize("name", ["twilio", "msg91", "gupshup"])
def test_a_number_that_is_none_is_permanent(taking: Provider, name: str) -> None:
    out = message(recipient="+0")
    with pytest.raises(SendFailed) as failed:
        taking.sender(name).send(out)
    assert failed.value.reason is P


@pytest.mark.covers("asvs 12.3.2", "asvs 12.3.1")
@every_provider
def test_only_a_trusted_certificate_of_the_right_host_is_spoken_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    certificate = make_certificate(tmp_path)
    with provider(certificate) as secure:
        assert refusal(secure, name).reason is C
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        elsewhere = secure.base.replace("localhost", "127.0.0.1")
        assert refusal(secure, name, **{f"{name}_base_url": elsewhere}).reason is C
        assert secure.requests == []
        secure.sender(name).send(message(CHANNELS[name]))
        assert len(secure.requests) == 1
        plain = secure.base.replace("https", "http")
        assert refusal(secure, name, **{f"{name}_base_url": plain}).reason is U


def test_a_server_without_tls_is_transient(taking: Provider) -> None:
    secure = taking.base.replace("http", "https")
    assert refusal(taking, "resend", resend_base_url=secure).reason is T
    assert taking.requests == []


@pytest.mark.parametrize(("reply", "reason"), [(b"554 5.7.1 no", P), (b"451 4.3.0 later", T)])
def test_a_mail_server_that_will_not_have_the_message_has_not_got_it(reply: bytes, reason: Reason) -> None:
    """Refused at DATA, before a word of it: not 'unknown'."""

    def refuse(line: bytes) -> bytes:
        return reply + b"\r\n" if line.startswith(b"data") else b"250 OK\r\n"

    with terse_server(refuse) as settings, pytest.raises(SendFailed) as failed:
        SmtpSender(Settings(_env_file=None, **settings)).send(message("email"))
    assert failed.value.reason is reason
    assert isinstance(failed.value.__cause__, smtplib.SMTPDataError)
