"""Delivery reports: proven as each provider does it; forward moves only; they prove nothing about a number."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import pytest
from twilio.request_validator import RequestValidator

from app.delivery.senders import Outgoing, Reason, Receipt, SendFailed
from app.models import OutboxMessage, User
from app.web import limits
from tests.conftest import World
from tests.people import MemorySender

TOKEN, SECRET = "12345678901234567890123456789012", "s3cr3t-Path-Segment-of-40-random-characters"
PUBLIC = "https://auth.example.com"
NUMBER = "+919876543210"


class Named(MemorySender):
    """A sender by the name of a provider, with ids as that provider makes them."""

    def __init__(self, name: str) -> None:
        super().__init__("sms")
        self.name = name

    def send(self, message: Outgoing) -> Receipt:
        self.messages.append(message)
        return Receipt(self.name, f"{self.name}-{len(self.messages)}")


@pytest.fixture
def hooked(make_world: Any) -> World:
    world = make_world(public_url=PUBLIC, twilio_token=TOKEN, webhook_secret=SECRET)
    world.sends_at_once = False
    return world


def ask(world: World) -> dict[str, Any]:
    return world.api().post("/api/v1/auth/send-otp", {"mobile_number": NUMBER}).ok().body


def sent_by(world: World, provider: str) -> dict[str, Any]:
    """A code that a provider has taken; its challenge."""
    asked = ask(world)
    deliver(world, Named(provider))
    return asked


def deliver(world: World, sender: Any) -> None:
    couriers = [app.extensions["courier"] for app in (world.app, *world.copies)]
    usual = world.courier._senders
    for courier in couriers:
        courier._senders = {**usual, "sms": sender}
    try:
        world.deliver()
    finally:
        for courier in couriers:
            courier._senders = usual


def message(world: World) -> OutboxMessage:
    [row] = world.rows(OutboxMessage)
    return row


def delivery(world: World) -> str:
    return message(world).state


def twilio(
    world: World, form: dict[str, str], *, query: str = "", url: str | None = None, signed: dict[str, str] | None = None,
    token: str = TOKEN,
) -> int:  # fmt: skip
    """Call back as Twilio does. `url`, `signed`: what the signature is made over instead."""
    path = "/api/webhooks/twilio" + (f"?{query}" if query else "")
    signature = RequestValidator(token).compute_signature(url or PUBLIC + path, form if signed is None else signed)
    return post(world, path, data=form, headers={"X-Twilio-Signature": signature})


def post(world: World, path: str, **given: Any) -> int:
    return world.app.test_client().post(path, **given).status_code


STATUS = {
    "MessageSid": "twilio-1",
    "SmsSid": "twilio-1",
    "AccountSid": "AC1",
    "To": NUMBER,
    "MessageStatus": "delivered",
}


def test_the_signature_of_twilio_s_own_documentation_verifies() -> None:
    """The example of Twilio's security page: our way to compute it, and the library's, give the published value."""
    url = "https://mycompany.com/myapp.php?foo=1&bar=2"
    form = {"CallSid": "CA1234567890ABCDE", "Caller": "+14158675310", "Digits": "1234", "From": "+14158675310", "To": "+18005551212"}  # fmt: skip
    text = url + "".join(name + form[name] for name in sorted(form))
    mac = hmac.new(b"12345", text.encode(), hashlib.sha1).digest()
    assert base64.b64encode(mac).decode() == "GvWf1cFY/Q7PnoempGyD5oXAezc="
    assert RequestValidator("12345").validate(url, form, "GvWf1cFY/Q7PnoempGyD5oXAezc=")


def test_a_signed_report_is_taken(hooked: World) -> None:
    sent_by(hooked, "twilio")
    assert delivery(hooked) == "sent"
    assert twilio(hooked, STATUS) == 204
    assert delivery(hooked) == "delivered"


@pytest.mark.covers("fault F15")
@pytest.mark.parametrize(
    "forged",
    [
        {"signed": STATUS | {"MessageStatus": "failed"}},
        {"signed": {k: v for k, v in STATUS.items() if k != "To"}},
        {"url": "https://auth.example.com/api/webhooks/other"},
        {"url": "http://auth.example.com/api/webhooks/twilio"},
        {"url": "https://evil.example.com/api/webhooks/twilio"},
        {"query": "mid=1", "url": PUBLIC + "/api/webhooks/twilio"},
        {"token": TOKEN[:-1] + "3"},
    ],
    ids=["another value", "a missing parameter", "another path", "another scheme", "another host", "another query", "another token"],
)  # fmt: skip
def test_another_signature_is_refused_and_audited(hooked: World, forged: dict[str, Any]) -> None:
    sent_by(hooked, "twilio")
    assert twilio(hooked, STATUS, **forged) == 403
    assert delivery(hooked) == "sent"
    assert [row.reason for row in hooked.audit(event="request.refused")] == ["forbidden"]


def test_one_flipped_bit_is_refused(hooked: World) -> None:
    sent_by(hooked, "twilio")
    right = bytearray(
        base64.b64decode(RequestValidator(TOKEN).compute_signature(PUBLIC + "/api/webhooks/twilio", STATUS))
    )
    for bit in range(0, 160, 8):
        flipped = bytearray(right)
        flipped[bit // 8] ^= 1 << (bit % 7)
        headers = {"X-Twilio-Signature": base64.b64encode(flipped).decode()}
        assert post(hooked, "/api/webhooks/twilio", data=STATUS, headers=headers) == 403


@pytest.mark.parametrize("signature", ["", "x", "\xe9" * 28, "A" * 4000])
def test_junk_for_a_signature_is_refused(hooked: World, signature: str) -> None:
    assert post(hooked, "/api/webhooks/twilio", data=STATUS, headers={"X-Twilio-Signature": signature}) == 403


def test_a_host_that_the_caller_names_counts_for_nothing(hooked: World) -> None:
    """The URL is rebuilt from the settings: a forwarded host cannot choose what the signature is held against."""
    url = "https://evil.example.com/api/webhooks/twilio"
    signature = RequestValidator(TOKEN).compute_signature(url, STATUS)
    headers = {"X-Twilio-Signature": signature, "Host": "evil.example.com", "X-Forwarded-Host": "evil.example.com"}
    assert post(hooked, "/api/webhooks/twilio", data=STATUS, headers=headers) == 403


def test_a_json_body_must_be_covered_by_the_signature(hooked: World) -> None:
    body = json.dumps(STATUS)
    plain = {"X-Twilio-Signature": RequestValidator(TOKEN).compute_signature(PUBLIC + "/api/webhooks/twilio", {})}
    assert post(hooked, "/api/webhooks/twilio", data=body, content_type="application/json", headers=plain) == 403
    query = f"bodySHA256={hashlib.sha256(body.encode()).hexdigest()}"
    url = f"{PUBLIC}/api/webhooks/twilio?{query}"
    covered = {"X-Twilio-Signature": RequestValidator(TOKEN).compute_signature(url, {})}
    path = f"/api/webhooks/twilio?{query}"
    assert post(hooked, path, data=body, content_type="application/json", headers=covered) == 204
    assert post(hooked, path, data=body + " ", content_type="application/json", headers=covered) == 403


@pytest.mark.parametrize("query", ["bodySHA256=", "bodySHA256", "bodySHA256=&bodySHA256=x", "%62odySHA256=1"])
def test_a_body_whose_hash_is_not_told_is_covered_by_nothing(hooked: World, query: str) -> None:
    signature = RequestValidator(TOKEN).compute_signature(f"{PUBLIC}/api/webhooks/twilio?{query}", {})
    for headers in ({}, {"X-Twilio-Signature": signature}):
        assert (
            post(hooked, f"/api/webhooks/twilio?{query}", data="x", content_type="text/plain", headers=headers) == 403
        )


def test_unknown_parameters_and_the_explicit_port_are_fine(hooked: World) -> None:
    sent_by(hooked, "twilio")
    form = STATUS | {"SomethingNew": "x", "RawDlrDoneDate": "2611211000"}
    assert twilio(hooked, form, url="https://auth.example.com:443/api/webhooks/twilio") == 204
    assert delivery(hooked) == "delivered"


def test_without_a_public_url_or_token_nothing_is_taken(make_world: Any) -> None:
    for settings in ({"public_url": PUBLIC}, {"twilio_token": TOKEN}):
        assert twilio(make_world(**settings), STATUS) == 403
        flood = post(make_world(**settings), "/api/webhooks/twilio", data=b"a" * 70_000)
        assert flood == 403, "nobody reads what nobody can prove"


def test_refused_reports_are_limited_by_address_and_right_ones_are_not(make_world: Any) -> None:
    world = make_world(public_url=PUBLIC, twilio_token=TOKEN, webhook_secret=SECRET, ratelimit=True)
    most, more = int(limits.GUESSES.split()[0]), 50  # on a slow machine some get through where the minute turns
    assert {twilio(world, STATUS) for _ in range(most + 10)} == {204}
    refused = [twilio(world, STATUS, token=TOKEN[:-1] + "3") for _ in range(most + more)]
    assert set(refused) == {403, 429}
    assert refused.count(429) in range(more // 2, more + 2)
    wrong = [post(world, "/api/webhooks/msg91/x", json={}) for _ in range(most + more)]
    assert set(wrong) == {404, 429}, "each route has its own"
    assert wrong.count(429) in range(more // 2, more + 2)
    late = world.app.test_client().post("/api/webhooks/twilio")
    assert (late.status_code, late.get_json()["code"]) == (429, "rate_limited")
    assert 1 <= int(late.headers["Retry-After"]) <= 60


def test_what_fails_here_is_limited_too(make_world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world(public_url=PUBLIC, twilio_token=TOKEN, ratelimit=True)
    most, more = int(limits.GUESSES.split()[0]), 50
    monkeypatch.setattr("app.web.webhooks.reports.twilio", lambda *_: 1 / 0)
    failed = [twilio(world, STATUS) for _ in range(most + more)]
    assert set(failed) == {500, 429}
    assert failed.count(429) in range(more // 2, more + 2)


PROVIDERS: dict[str, dict[str, Any]] = {
    "twilio": {"sent": "sent", "delivered": "delivered", "failed": "undelivered"},
    "msg91": {"delivered": "1", "failed": "9"},
    "gupshup": {"delivered": "SUCCESS", "failed": "FAILURE"},
}


def report(world: World, provider: str, word: str, *, provider_id: str | None = None, number: str = NUMBER) -> int:
    """A report in the provider's own words that a message was sent, delivered, or failed for good."""
    at, digits = provider_id or f"{provider}-1", number.lstrip("+")
    if provider == "twilio":
        form = STATUS | {"MessageSid": at, "SmsSid": at, "To": number, "MessageStatus": PROVIDERS["twilio"][word]}
        return twilio(world, form | ({"ErrorCode": "30005"} if word == "failed" else {}))
    if provider == "msg91":
        event = {"requestId": at, "number": digits, "status": PROVIDERS["msg91"][word], "desc": "x"}
        return post(world, f"/api/webhooks/msg91/{SECRET}", json=event)
    event = {"externalId": at, "status": PROVIDERS["gupshup"][word], "phoneNo": digits, "errCode": "000" if word == "delivered" else "003"}  # fmt: skip
    return world.app.test_client().get(f"/api/webhooks/gupshup/{SECRET}?{urlencode(event)}").status_code


@pytest.mark.parametrize("provider", PROVIDERS)
def test_each_provider_s_report_is_read(hooked: World, provider: str) -> None:
    sent_by(hooked, provider)
    assert report(hooked, provider, "delivered") == 204
    assert delivery(hooked) == "delivered"


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_failure_for_good_is_shown_and_audited(hooked: World, provider: str) -> None:
    sent_by(hooked, provider)
    assert report(hooked, provider, "failed") == 204
    assert delivery(hooked) == "failed"
    [row] = hooked.audit(event="message.dropped")
    assert (row.reason, row.facts["why"].split()[0]) == ("reported", provider)


SHAPES = {
    "msg91 v2": ("msg91", {"data": {"data": json.dumps([{"senderId": "CLINIC", "requestId": "msg91-1", "report": [{"date": "x", "number": "919876543210", "status": "1", "desc": "DELIVERED"}]}])}}),
    "msg91 v3": ("msg91", {"json": {"requestId": "msg91-1", "number": "919876543210", "status": "1"}}),
    "msg91 new": ("msg91", {"json": {"requestId": "msg91-1", "telNum": "919876543210", "status": "Delivered", "UUID": "u"}}),
    "gupshup array": ("gupshup", {"json": [{"externalId": "gupshup-1", "eventType": "DELIVERED", "eventTs": 1763720000000, "destAddr": "919876543210", "errCode": "000"}]}),
    "gupshup field": ("gupshup", {"data": {"response": json.dumps([{"externalId": "gupshup-1", "eventType": "DELIVERED", "destAddr": 919876543210}])}}),
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_of_a_report_is_read(hooked: World, shape: str) -> None:
    provider, given = SHAPES[shape]
    sent_by(hooked, provider)
    assert post(hooked, f"/api/webhooks/{provider}/{SECRET}", **given) == 204
    assert delivery(hooked) == "delivered"


@pytest.mark.parametrize("provider", ["msg91", "gupshup"])
@pytest.mark.parametrize("secret", ["x", SECRET[:-1], SECRET + "x", SECRET.upper(), "%C3%A9"])
def test_another_path_segment_is_not_there(hooked: World, provider: str, secret: str) -> None:
    sent_by(hooked, provider)
    assert post(hooked, f"/api/webhooks/{provider}/{secret}", json={}) == 404


def test_without_a_secret_there_is_no_such_path(world: World) -> None:
    assert post(world, "/api/webhooks/msg91/", json={}) == 404
    assert post(world, "/api/webhooks/msg91/x", json={}) == 404


JUNK: list[dict[str, Any]] = [
    {"data": b"\xff\xfe"}, {"data": b"[" * 30_000, "content_type": "application/json"}, {"json": None}, {"json": 7}, {"json": "x"},
    {"json": [1, None, "x", [], {}]}, {"json": {"requestId": {"a": 1}, "status": ["1"]}}, {"data": {"data": "{"}}, {"data": {"data": "[[]]"}},
    {"json": [{"requestId": "msg91-1", "report": [None, 1, {"status": None}]}]}, {"json": {"externalId": "", "status": "SUCCESS"}},
]  # fmt: skip


@pytest.mark.covers("attack A62")
@pytest.mark.parametrize("junk", JUNK, ids=lambda junk: repr(junk)[:40])
def test_junk_changes_nothing(hooked: World, junk: dict[str, Any]) -> None:
    sent_by(hooked, "msg91")
    for provider in ("msg91", "gupshup"):
        assert post(hooked, f"/api/webhooks/{provider}/{SECRET}", **junk) == 204
    assert delivery(hooked) == "sent"


def test_a_flood_of_a_body_is_refused(hooked: World) -> None:
    for path in (f"/api/webhooks/msg91/{SECRET}", "/api/webhooks/twilio"):
        for kind in ("application/json", "application/x-www-form-urlencoded"):
            assert post(hooked, path, data=b"a" * 70_000, content_type=kind) == 413


def test_duplicates_and_disorder_are_harmless(hooked: World) -> None:
    sent_by(hooked, "twilio")
    for word in ("delivered", "delivered", "sent", "failed", "sent"):
        assert report(hooked, "twilio", word) == 204
    assert delivery(hooked) == "delivered"
    assert hooked.audit(event="message.dropped") == []


def test_a_late_delivery_wins_over_a_failure(hooked: World) -> None:
    sent_by(hooked, "twilio")
    report(hooked, "twilio", "failed")
    report(hooked, "twilio", "delivered")
    assert delivery(hooked) == "delivered"


def test_a_report_about_another_number_or_message_is_ignored(hooked: World) -> None:
    sent_by(hooked, "twilio")
    report(hooked, "twilio", "delivered", number="+919876543211")
    report(hooked, "twilio", "delivered", provider_id="twilio-2")
    report(hooked, "msg91", "delivered", provider_id="twilio-1")
    assert delivery(hooked) == "sent"


def test_a_message_that_a_provider_lost_goes_out_by_another_with_the_same_code(hooked: World) -> None:
    sent_by(hooked, "msg91")
    event = {"requestId": "msg91-1", "number": NUMBER.lstrip("+"), "status": "2"}
    assert post(hooked, f"/api/webhooks/msg91/{SECRET}", json=event) == 204
    row = message(hooked)
    assert (row.state, row.avoid) == ("queued", "msg91")
    other = Named("gupshup")
    deliver(hooked, other)
    [copy] = other.messages
    assert copy.avoid == "msg91"
    answer = hooked.api().post("/api/v1/auth/verify-otp", {"mobile_number": NUMBER, "otp": copy.code})
    assert answer.status == 200
    assert post(hooked, f"/api/webhooks/msg91/{SECRET}", json=event) == 204  # once more, too late
    assert delivery(hooked) == "sent"


def test_a_lost_message_whose_code_is_used_or_expired_is_not_sent_again(hooked: World) -> None:
    sent_by(hooked, "msg91")
    hooked.clock.advance(minutes=4)
    post(hooked, f"/api/webhooks/msg91/{SECRET}", json={"requestId": "msg91-1", "status": "2"})
    assert delivery(hooked) == "failed"


def test_lost_by_every_provider_it_ends(hooked: World) -> None:
    sent_by(hooked, "msg91")
    for _ in range(4):
        post(hooked, f"/api/webhooks/msg91/{SECRET}", json={"requestId": message(hooked).provider_id, "status": "2"})
        deliver(hooked, Named("msg91"))
    assert delivery(hooked) == "failed"
    assert message(hooked).attempts == 3


class Busy(Named):
    """Is throttled for some messages, and takes what comes after."""

    def __init__(self, name: str, times: int) -> None:
        super().__init__(name)
        self.times = times

    def send(self, message: Outgoing) -> Receipt:
        self.times -= 1
        if self.times >= 0:
            raise SendFailed(Reason.THROTTLED, "busy")
        return super().send(message)


def test_a_message_that_waited_for_its_provider_and_is_then_lost_goes_out_by_another(hooked: World) -> None:
    """Tries that sent nothing are none of those that providers may lose."""
    ask(hooked)
    first = Busy("msg91", 4)
    for _ in range(60):
        deliver(hooked, first)
        hooked.clock.advance(seconds=1)
    assert len(first.messages) == 1
    lost = {"requestId": "msg91-1", "number": NUMBER.lstrip("+"), "status": "2"}
    assert post(hooked, f"/api/webhooks/msg91/{SECRET}", json=lost) == 204
    other = Named("gupshup")
    deliver(hooked, other)
    assert [m.code for m in other.messages] == [m.code for m in first.messages]
    assert delivery(hooked) == "sent"


def test_after_unknown_a_report_keeps_it_from_being_sent_again(hooked: World) -> None:
    """The provider took the message, its answer was lost, and then its callback names our id."""

    class LosesItsAnswer(Named):
        def send(self, out: Outgoing) -> Receipt:
            super().send(out)
            raise SendFailed(Reason.UNKNOWN, "no answer", provider="twilio")

    ask(hooked)
    sender = LosesItsAnswer("twilio")
    deliver(hooked, sender)
    row = message(hooked)
    assert (row.state, row.avoid) == ("queued", "twilio")
    assert 14 <= (row.next_attempt_at - hooked.clock.now).total_seconds() <= 16
    form = STATUS | {"MessageStatus": "sent", "MessageSid": "SM9", "SmsSid": "SM9"}
    assert twilio(hooked, form, query=f"mid={row.id}") == 204
    hooked.clock.advance(seconds=20)
    deliver(hooked, sender)
    assert len(sender.messages) == 1
    assert (message(hooked).provider_id, delivery(hooked)) == ("SM9", "sent")


def test_after_unknown_and_no_report_another_provider_sends_the_same_code(hooked: World) -> None:
    class Hangs(Named):
        def send(self, out: Outgoing) -> Receipt:
            super().send(out)
            raise SendFailed(Reason.UNKNOWN, "no answer", provider=self.name)

    ask(hooked)
    first, second = Hangs("twilio"), Named("msg91")
    deliver(hooked, first)
    hooked.clock.advance(seconds=10)
    deliver(hooked, second)
    assert second.messages == [], "a report may still come"
    hooked.clock.advance(seconds=6)
    deliver(hooked, second)
    assert [m.code for m in second.messages] == [m.code for m in first.messages]
    assert second.messages[0].avoid == "twilio"


class CalledBack(Named):
    """Twilio, whose report comes before its own answer is written down."""

    def __init__(self, world: World, said: dict[str, str]) -> None:
        super().__init__("twilio")
        self.world, self.said = world, said

    def send(self, message: Outgoing) -> Receipt:
        receipt = super().send(message)
        twilio(self.world, self.said | {"MessageSid": "twilio-1"}, query=f"mid={message.id}")
        return receipt


def test_a_report_that_comes_while_the_courier_still_holds_the_message(hooked: World) -> None:
    """The report stands."""
    ask(hooked)
    deliver(hooked, CalledBack(hooked, STATUS))
    assert delivery(hooked) == "delivered"


def test_what_is_reported_as_delivered_is_not_audited_as_dropped(hooked: World) -> None:
    """The provider's answer is lost, and its report comes before the courier has given up."""

    class Unheard(Named):
        def send(self, out: Outgoing) -> Receipt:
            twilio(hooked, STATUS | {"MessageSid": "twilio-1"}, query=f"mid={out.id}")
            raise SendFailed(Reason.PERMANENT, "an answer that means nothing")

    ask(hooked)
    deliver(hooked, Unheard("twilio"))
    assert [row.state for row in hooked.rows(OutboxMessage)] == ["delivered"]
    assert hooked.audit(event="message.dropped") == []


LOST = STATUS | {"MessageStatus": "undelivered", "ErrorCode": "30008"}


@pytest.mark.parametrize("said", [STATUS, LOST])
def test_the_notice_of_an_erasure_is_forgotten_also_if_its_report_comes_first(hooked: World, said: dict) -> None:
    person = hooked.person(email="", phone=NUMBER).sign_up()
    hooked.deliver()
    person.api.delete("/api/auth/me", person.token).ok()
    deliver(hooked, CalledBack(hooked, said))
    assert [row.recipient for row in hooked.rows(OutboxMessage) if row.kind == "notice.account_erased"] == []


@pytest.mark.covers("fault F15")
def test_a_report_never_proves_a_number(hooked: World) -> None:
    asked = sent_by(hooked, "twilio")
    report(hooked, "twilio", "delivered")
    answer = hooked.api().post("/api/v1/auth/verify-otp", {"mobile_number": NUMBER, "otp": "000000"})
    assert answer.code == "invalid_code"
    assert hooked.count(User) == 0
    assert asked["destination"] == "+91******3210"


def test_a_late_sent_does_not_undo_a_loss(hooked: World) -> None:
    sent_by(hooked, "twilio")
    assert twilio(hooked, LOST) == 204
    assert twilio(hooked, STATUS | {"MessageStatus": "sent"}) == 204
    other = Named("msg91")
    deliver(hooked, other)
    assert len(other.messages) == 1


def test_a_loss_that_is_reported_twice_is_one(hooked: World) -> None:
    sent_by(hooked, "twilio")
    assert twilio(hooked, LOST) == 204

    class Interrupted(Named):
        def send(self, out: Outgoing) -> Receipt:
            receipt = super().send(out)
            assert twilio(hooked, LOST) == 204
            return receipt

    other = Interrupted("msg91")
    deliver(hooked, other)
    assert len(other.messages) == 1
    assert delivery(hooked) == "sent"


class Hanging(Named):
    """Takes messages, and its answers are lost."""

    def send(self, message: Outgoing) -> Receipt:
        super().send(message)
        raise SendFailed(Reason.UNKNOWN, "no answer", provider=self.name)


@pytest.mark.parametrize("code", ["30008", "30005"])
def test_a_loss_told_late_takes_no_message_from_the_provider_that_has_it_by_now(hooked: World, code: str) -> None:
    """The first one's answer was lost, and its report comes while the next one sends."""
    ask(hooked)
    deliver(hooked, Hanging("twilio"))
    hooked.clock.advance(seconds=16)

    class Interrupted(Named):
        def send(self, out: Outgoing) -> Receipt:
            receipt = super().send(out)
            assert twilio(hooked, LOST | {"ErrorCode": code}, query=f"mid={out.id}") == 204
            return receipt

    other = Interrupted("msg91")
    for _ in range(3):
        deliver(hooked, other)
        hooked.clock.advance(seconds=16)
    assert len(other.messages) == 1
    row = message(hooked)
    assert (row.state, row.provider, row.provider_id) == ("sent", "msg91", "msg91-1")
    assert hooked.audit(event="message.dropped") == []


def test_a_loss_that_is_told_before_the_next_one_has_it_is_not_waited_for(hooked: World) -> None:
    ask(hooked)
    deliver(hooked, Hanging("twilio"))
    assert twilio(hooked, LOST, query=f"mid={message(hooked).id}") == 204
    other = Named("msg91")
    deliver(hooked, other)
    assert [m.avoid for m in other.messages] == ["twilio"]


def test_where_there_is_no_other_provider_a_loss_is_the_end(make_world: Any) -> None:
    world = make_world(public_url=PUBLIC, twilio_token=TOKEN, sms_provider="twilio")
    world.sends_at_once = False
    sent_by(world, "twilio")
    assert twilio(world, LOST) == 204
    assert delivery(world) == "failed"


ODD = [
    {"requestId": "a\x00b", "status": "1"}, {"requestId": "a\ud800b", "status": "1"}, {"externalId": "a\x00b", "eventType": "DELIVERED"},
    {"requestId": "msg91-1", "status": "1", "number": "\u096f\u0967"}, {"requestId": 10**4000, "status": 1}, {"requestId": "msg91-1", "status": 10**4200},
    {"externalId": "gupshup-1", "eventType": "FAILED", "errCode": "\x00\ud800"},
]  # fmt: skip


@pytest.mark.parametrize("odd", range(len(ODD)))
def test_odd_characters_and_numbers_are_no_fault(hooked: World, odd: int) -> None:
    sent_by(hooked, "msg91")
    for provider in ("msg91", "gupshup"):
        path = f"/api/webhooks/{provider}/{SECRET}"
        assert post(hooked, path, data=json.dumps(ODD[odd]), content_type="application/json") == 204
    assert (
        hooked.app.test_client().get(f"/api/webhooks/gupshup/{SECRET}?externalId=a%00b&status=SUCCESS").status_code
        == 204
    )
    assert twilio(hooked, STATUS | {"MessageSid": "a\x00b", "ErrorCode": "\x00"}) == 204


def test_a_secret_in_the_alphabet_of_base64_is_a_part_of_a_path(make_world: Callable[..., World]) -> None:
    secret = "s3cr3tPathSegmentOf40RandomCharactersXYZw+8="
    world = make_world(public_url="https://auth.example.com", webhook_secret=secret)
    assert world.app.test_client().post(f"/api/webhooks/msg91/{secret}", json=[]).status_code == 204
