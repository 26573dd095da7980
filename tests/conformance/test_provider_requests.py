"""What goes out to each provider, in the form that it asks for."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from email.headerregistry import Address
from pathlib import Path
from urllib.parse import unquote_plus

import pytest

from app.delivery.senders import Outgoing, Reason, SendFailed
from tests.providers import ACCOUNT, CHANNELS, SECRETS, Provider, message, provider

HINDI = "123456 साइन इन करने के लिए आपका कोड है। ५ मिनट तक मान्य।"
EVERYTHING = "{#var#}" * 6  # up to 180 characters of any text


@pytest.fixture
def taking() -> Iterator[Provider]:
    with provider() as opened:
        yield opened


def dlt(folder: Path, *tables: str) -> Path:
    path = folder / "dlt.toml"
    path.write_text("".join(f'[[template]]\ntext = "{EVERYTHING}"\n{table}\n' for table in tables))
    return path


@pytest.mark.parametrize("name", CHANNELS)
def test_every_request_is_one_post_and_no_key_stands_in_its_address(taking: Provider, name: str) -> None:
    taking.sender(name).send(message(CHANNELS[name]))
    sent = taking.request
    assert (sent.method, sent.query) == ("POST", {})
    assert not any(secret in sent.path for secret in SECRETS)
    assert sent.headers["Host"] == taking.base.removeprefix("http://")
    assert sent.headers["User-Agent"]
    assert sent.headers["Accept"]


@pytest.mark.parametrize("name", CHANNELS)
def test_a_base_address_may_have_a_path(taking: Provider, name: str) -> None:
    with pytest.raises(SendFailed) as failed:
        taking.sender(name, **{f"{name}_base_url": f"{taking.base}/through/a/proxy/"}).send(message(CHANNELS[name]))
    assert failed.value.reason is Reason.CONFIGURATION  # the stand-in knows no such page
    assert taking.request.path.startswith("/through/a/proxy/")


@pytest.mark.parametrize("name", CHANNELS)
def test_the_environment_names_no_proxy_and_no_password(
    taking: Provider, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login stranger password stranger")
    monkeypatch.setenv("HOME", str(tmp_path))
    for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    for variable, value in {"ACCOUNT_SID": "ACother", "AUTH_TOKEN": "other", "REGION": "ie1", "EDGE": "dublin"}.items():
        monkeypatch.setenv(f"TWILIO_{variable}", value)
    assert taking.sender(name).send(message(CHANNELS[name])).provider_id


@pytest.mark.parametrize("name", CHANNELS)
def test_many_threads_share_a_sender(taking: Provider, name: str) -> None:
    sender = taking.sender(name)
    codes = [f"{n}" for n in range(987600, 987620)]
    threads = [threading.Thread(target=sender.send, args=(message(CHANNELS[name], code),)) for code in codes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(code for code in codes for r in taking.requests if code in r.body) == codes


@pytest.mark.covers("asvs 4.2.5")
@pytest.mark.parametrize("name", CHANNELS)
def test_the_longest_of_everything_makes_a_request_that_servers_take(
    taking: Provider, name: str, tmp_path: Path
) -> None:
    """Lines of the head stay below what common servers take of one, 4 KiB, whatever is long: it goes into the body."""
    long = {"sms": "+" + "9" * 15, "email": "a" * 64 + "@" + ".".join(["b" * 61] * 3) + ".com"}[CHANNELS[name]]
    words = "123456789 " + "\U0001f511" * 1500
    everything = message(
        CHANNELS[name], "123456789", recipient=long, brand="\U0001f511" * 60, subject="\U0001f511" * 180, text=words,
        html=f"<p>{words}</p>",
    )  # fmt: skip
    given = {"public_url": "https://" + "a" * 60 + ".example.com/" + "p" * 200, "brand_name": "\U0001f511" * 60}
    assert taking.sender(name, **given).send(everything).provider_id
    sent = taking.request
    assert long.removeprefix("+") in unquote_plus(sent.body)
    assert len(sent.path) + sum(map(len, sent.query.values())) < 200
    assert max(len(f"{head}: {value}") for head, value in sent.headers.items()) < 4096
    assert len(sent.body) < 128 * 1024


def test_twilio_gets_a_form_with_number_sender_and_text(taking: Provider) -> None:
    receipt = taking.sender("twilio").send(message(text=HINDI))
    assert taking.request.form == {
        "To": "+919876543210", "From": ACCOUNT["twilio_phone"], "Body": HINDI, "ValidityPeriod": "300",
    }  # fmt: skip
    assert receipt.provider_id == f"SM{1:032x}"


@pytest.mark.parametrize(
    ("seconds", "period"), [(180, "180"), (61, "61"), (6, "6"), (1, "6"), (36_000, "36000"), (90_000, "36000")]
)
def test_twilio_stops_trying_when_the_code_expires(taking: Provider, seconds: int, period: str) -> None:
    taking.sender("twilio").send(message(seconds=seconds))
    assert taking.request.form["ValidityPeriod"] == period


def test_twilio_keeps_trying_a_notice(taking: Provider) -> None:
    taking.sender("twilio").send(message(code=""))
    assert "ValidityPeriod" not in taking.request.form


def test_twilio_reports_to_the_public_address_about_this_message(taking: Provider) -> None:
    out = message()
    taking.sender("twilio", public_url="https://auth.example.com/").send(out)
    assert taking.request.form["StatusCallback"] == f"https://auth.example.com/api/webhooks/twilio?mid={out.id}"


@pytest.mark.parametrize(
    ("phone", "parameter"), [("MG0123456789", "MessagingServiceSid"), ("+15005550006", "From"), ("CLINIC", "From")]
)
def test_twilio_s_sender_is_a_number_a_name_or_a_service(taking: Provider, phone: str, parameter: str) -> None:
    taking.sender("twilio", twilio_phone=phone).send(message())
    assert {name: value for name, value in taking.request.form.items() if value == phone} == {parameter: phone}
    assert {"From", "MessagingServiceSid"} & taking.request.form.keys() == {parameter}


def test_msg91_gets_the_usual_template_with_the_code(taking: Provider) -> None:
    receipt = taking.sender("msg91").send(message())
    assert taking.request.headers["authkey"] == ACCOUNT["msg91_auth_key"]
    assert taking.request.json == {
        "template_id": "65f0c0ffee", "short_url": "0", "recipients": [{"mobiles": "919876543210", "OTP": "123456"}],
    }  # fmt: skip
    assert receipt.provider_id == f"{1:032x}"


def test_msg91_gets_its_variables_by_their_names(taking: Provider, tmp_path: Path) -> None:
    path = dlt(
        tmp_path,
        'provider = "msg91"\nkind = "code.signin"\nlanguage = "hi"\nprovider_id = "65f0h1nd1"\n'
        'variables = { Otp_1 = "code", MIN = "minutes", WHO = "brand" }',
    )
    taking.sender("msg91", dlt_file=path).send(message(language="hi", brand="B" * 40))
    assert taking.request.json["template_id"] == "65f0h1nd1"
    assert taking.request.json["recipients"] == [
        {"mobiles": "919876543210", "Otp_1": "123456", "MIN": "5", "WHO": "B" * 30}
    ]


@pytest.mark.parametrize(
    ("changes", "settings"),
    [({"code": ""}, {}), ({}, {"msg91_template_id": ""})],
    ids=["a notice", "a code"],
)
def test_msg91_can_send_nothing_that_has_no_template(taking: Provider, changes: dict, settings: dict) -> None:
    with pytest.raises(SendFailed, match="no template for") as failed:
        taking.sender("msg91", **settings).send(message(**changes))
    assert failed.value.reason is Reason.CONFIGURATION
    assert taking.requests == []


def test_gupshup_gets_the_account_in_the_body_and_the_text(taking: Provider) -> None:
    receipt = taking.sender("gupshup").send(message())
    assert taking.request.form == {
        "method": "SendMessage", "auth_scheme": "plain", "v": "1.1", "format": "text", "msg_type": "TEXT",
        "userid": "2000012345", "password": "gupshup-s3cret", "send_to": "919876543210",
        "msg": "123456 is your Latchkey code",
    }  # fmt: skip
    assert receipt.provider_id == f"{1:032x}"


def test_gupshup_is_told_what_is_not_plain_text(taking: Provider) -> None:
    taking.sender("gupshup").send(message(text=HINDI))
    assert (taking.request.form["msg_type"], taking.request.form["msg"]) == ("Unicode_text", HINDI)


def test_gupshup_gets_the_ids_of_the_registered_template(taking: Provider, tmp_path: Path) -> None:
    path = dlt(
        tmp_path,
        'provider = "gupshup"\nkind = "code.*"\nlanguage = "en"\n'
        'dlt_id = "1107160000000000001"\nentity_id = "1101160000000000002"\nsender = "CLINIC"',
        'provider = "gupshup"\nkind = "code.phone"\nlanguage = "en"\ndlt_id = "1107160000000000003"',
    )
    sender = taking.sender("gupshup", dlt_file=path)
    sender.send(message())
    sender.send(message(kind="code.phone"))
    sender.send(message(language="hi", text=HINDI))
    names = ("dltTemplateId", "principalEntityId", "mask")
    assert [[sent.form.get(name) for name in names] for sent in taking.requests] == [
        ["1107160000000000001", "1101160000000000002", "CLINIC"],
        ["1107160000000000003", None, None],
        ["1107160000000000001", "1101160000000000002", "CLINIC"],
    ]
    assert "is your Latchkey code" in taking.requests[-1].form["msg"]


def mail(**changes: str) -> Outgoing:
    return message("email", text="कोड 123456\n", html="<p>कोड <b>123456</b></p>", **changes)


def test_sendgrid_gets_a_mail_without_tracking(taking: Provider) -> None:
    out = mail()
    receipt = taking.sender("sendgrid", brand_name="Clinic & Co").send(out)
    assert taking.request.json == {
        "personalizations": [{"to": [{"email": "jane@example.com"}]}],
        "from": {"email": "no-reply@clinic.example", "name": "Clinic & Co"},
        "subject": out.subject,
        "content": [{"type": "text/plain", "value": out.text}, {"type": "text/html", "value": out.html}],
        "headers": {"Auto-Submitted": "auto-generated"},
        "custom_args": {"message_id": str(out.id)},
        "tracking_settings": {"click_tracking": {"enable": False}, "open_tracking": {"enable": False}},
    }
    assert receipt.provider_id == f"{1:032x}"


def test_resend_gets_a_mail_that_it_sends_once_however_often_it_is_repeated(taking: Provider) -> None:
    out = mail()
    sender = taking.sender("resend", brand_name="Clinic, Jane & Co")
    receipt = sender.send(out)
    assert taking.request.json == {
        "from": str(Address("Clinic, Jane & Co", addr_spec="no-reply@clinic.example")),
        "to": ["jane@example.com"],
        "subject": out.subject,
        "text": out.text,
        "html": out.html,
        "headers": {"Auto-Submitted": "auto-generated"},
    }
    assert receipt.provider_id == f"{1:032x}"
    assert sender.send(out) == receipt
    assert sender.send(replace(out, text="fewer minutes")).provider_id is None  # taken before, and so not again
    assert {sent.headers["Idempotency-Key"] for sent in taking.requests} == {str(out.id)}
