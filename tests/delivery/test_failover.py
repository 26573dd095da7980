"""Several providers as one: who is asked, in which order, and who rests."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from inspect import signature
from typing import Any

import pytest

from app.config import Settings, SettingsError
from app.delivery.courier import MARK_S, PATIENCE_S, Courier
from app.delivery.outbox import LEASE, MOST_S
from app.delivery.senders import Outgoing, Reason, Receipt, SendFailed, http, smtp
from app.delivery.senders.failover import ENOUGH_S, OPEN_AFTER, REST_S, Circuit, Failover
from app.delivery.senders.registry import senders_of
from tests.providers import ACCOUNT, answers, closes, hangs, message, nobody, provider

P, C, T, TH, U = Reason.PERMANENT, Reason.CONFIGURATION, Reason.TRANSIENT, Reason.THROTTLED, Reason.UNKNOWN
Outcome = Exception | None


class Dial:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Scripted:
    """A sender that does what it is told, and then sends."""

    channel = "sms"

    def __init__(self, name: str, *outcomes: Outcome) -> None:
        self.name, self.outcomes, self.asked = name, list(outcomes), 0
        self.before: Callable[[], object] = lambda: None

    def send(self, _: Outgoing) -> Receipt:
        self.asked += 1
        self.before()
        outcome = self.outcomes.pop(0) if self.outcomes else None
        if outcome:
            raise outcome
        return Receipt(self.name, f"{self.name}-{self.asked}")


def fails(reason: Reason, retry_after: int | None = None) -> SendFailed:
    return SendFailed(reason, "it said no", retry_after)


class House:
    """Some scripted providers behind one Failover, with the clock in hand."""

    def __init__(self, *outcomes: list[Outcome], routes: Mapping[str, tuple[str, ...]] | None = None) -> None:
        self.clock = Dial()
        self.senders = [Scripted("abc"[n], *given) for n, given in enumerate(outcomes)]
        self.failover = Failover("sms", {s.name: s for s in self.senders}, routes or {}, self.clock)

    def send(self, **changes: Any) -> str:
        """Who took a message."""
        return self.failover.send(message(**changes)).provider

    def refusal(self, **changes: Any) -> SendFailed:
        with pytest.raises(SendFailed) as failed:
            self.failover.send(message(**changes))
        return failed.value

    @property
    def asked(self) -> list[int]:
        return [sender.asked for sender in self.senders]


@pytest.mark.covers("fault F14")
@pytest.mark.parametrize("reason", [T, TH, C])
def test_the_next_one_is_asked_at_once(reason: Reason) -> None:
    house = House([fails(reason)], [])
    assert house.send() == "b"
    assert house.asked == [1, 1]


@pytest.mark.parametrize("reason", [P, U])
def test_after_a_permanent_or_unknown_failure_nobody_else_is_asked(reason: Reason) -> None:
    house = House([fails(reason)], [])
    failure = house.refusal()
    assert (failure.reason, failure.provider, failure.text) == (reason, "a", "a: it said no")
    assert house.asked == [1, 0]


def test_each_is_asked_once_and_the_last_one_s_words_are_passed_on() -> None:
    house = House([fails(T)], [fails(TH)], [fails(C)])
    failure = house.refusal()
    assert (failure.reason, failure.provider, failure.text) == (C, "c", "c: it said no")
    assert house.asked == [1, 1, 1]


def test_what_failed_before_somebody_took_the_message_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    out = message()
    with caplog.at_level(logging.WARNING):
        House([fails(C)], []).failover.send(out)
    assert caplog.messages == [f"a did not take message {out.id}: it said no (configuration)"]


def test_a_sender_that_stumbles_may_have_sent_it(caplog: pytest.LogCaptureFixture) -> None:
    house = House([KeyError("oops")], [])
    failure = house.refusal()
    assert (failure.reason, failure.provider) == (U, "a")
    assert "oops" not in failure.text
    assert house.send(avoid="a") == "b"


@pytest.mark.parametrize(
    ("country", "asked"),
    [("IN", "b"), ("NP", "c"), ("US", "a"), ("", "a")],
)
def test_the_country_says_who_is_asked_first(country: str, asked: str) -> None:
    house = House([], [], [], routes={"IN": ("b", "a"), "NP": ("c",), "*": ("a", "c")})
    assert house.send(country=country) == asked


def test_who_is_not_on_the_route_is_never_asked() -> None:
    house = House([], [fails(T)], [fails(T)], routes={"IN": ("b", "c")})
    assert house.refusal(country="IN").provider == "c"
    assert house.asked == [0, 1, 1]
    assert house.send(country="US") == "a"  # no route: the usual order


def test_who_may_have_sent_it_already_is_asked_last() -> None:
    house = House([], [fails(T)], [fails(T)])
    assert house.send(avoid="b") == "a"
    assert house.send(avoid="a") == "a"
    assert house.asked == [2, 1, 1]
    assert house.send(avoid="gone") == "a"


def test_one_that_keeps_failing_rests_then_one_message_probes_it() -> None:
    house = House([fails(T)] * (OPEN_AFTER + 1), [])
    a, _ = house.senders
    for _ in range(10):
        assert house.send() == "b"
    assert a.asked == OPEN_AFTER
    house.clock.now += REST_S + 0.1
    assert [house.send() for _ in range(5)] == ["b"] * 5
    assert a.asked == OPEN_AFTER + 1  # the probe failed: it rests again
    house.clock.now += REST_S + 0.1
    assert [house.send() for _ in range(5)] == ["a"] * 5  # the probe got through: it is back


def test_while_one_probes_the_others_wait_for_its_answer() -> None:
    house = House([fails(T)] * OPEN_AFTER, [])
    a, _ = house.senders
    for _ in range(OPEN_AFTER):
        house.send()
    house.clock.now += REST_S + 0.1
    meanwhile: list[str] = []
    a.before = lambda: meanwhile.append(house.send()) if not meanwhile else None
    assert house.send() == "a"
    assert meanwhile == ["b"]


def test_a_success_between_failures_starts_the_count_again() -> None:
    house = House([fails(T), fails(T), None, fails(T), fails(T), None], [])
    assert [house.send() for _ in range(6)] == ["b", "b", "a", "b", "b", "a"]


@pytest.mark.parametrize(("reason", "rests"), [(T, True), (TH, True), (U, True), (C, False), (P, False)])
def test_only_failures_of_the_provider_itself_make_it_rest(reason: Reason, rests: bool) -> None:
    """Numbers of a country that is not enabled, or that are none, must not take it from everybody else."""
    house = House([fails(reason)] * OPEN_AFTER, [])
    for _ in range(OPEN_AFTER):
        try:
            house.send()
        except SendFailed:
            assert reason in (P, U)
    assert house.send() == ("b" if rests else "a")


def test_one_that_asks_for_a_wait_rests_as_long() -> None:
    house = House([fails(TH, 120)], [])
    assert house.send() == "b"
    house.clock.now += 119
    assert house.send() == "b"
    house.clock.now += 2
    assert house.send() == "a"
    assert house.asked == [2, 2]


def test_a_later_failure_does_not_shorten_a_rest() -> None:
    circuit = Circuit()
    for failure in (fails(TH, 600), fails(T), fails(T), fails(T)):  # the others were on their way
        circuit.note(failure, 0)
    assert not circuit.lets_through(599)
    assert circuit.lets_through(601)


@pytest.mark.parametrize(("first", "second", "wait"), [(60, 20, 20), (20, 60, 20), (None, 60, None), (60, None, None)])
def test_the_shortest_wait_counts_if_all_ask_for_one(first: int | None, second: int | None, wait: int | None) -> None:
    assert House([fails(TH, first)], [fails(TH, second)]).refusal().retry_after == wait


def test_when_all_rest_nobody_is_asked_and_it_is_transient() -> None:
    house = House([fails(TH, 60)], [fails(TH, 60)])
    house.refusal()
    failure = house.refusal()
    assert (failure.reason, failure.retry_after, failure.provider) == (T, None, "")
    assert house.asked == [1, 1]


def test_no_further_one_is_begun_when_the_message_has_taken_long() -> None:
    house = House([fails(T)], [fails(T)], [])
    for sender in house.senders[:2]:
        sender.before = lambda: setattr(house.clock, "now", house.clock.now + ENOUGH_S * 0.6)
    assert house.refusal().provider == "b"
    assert house.asked == [1, 1, 0]


@pytest.mark.parametrize("sender", [http, smtp])
def test_a_message_is_sent_and_marked_before_another_courier_may_take_it(sender: Any) -> None:
    """The courier begins one in the first half of its lease, and the last provider may be asked after `ENOUGH_S`."""
    assert LEASE.total_seconds() / 2 == MOST_S > ENOUGH_S + sender.WHOLE_S + MARK_S


@pytest.mark.parametrize("sender", [http, smtp])
def test_a_courier_that_stops_waits_as_long_as_a_send_and_its_mark_may_take(sender: Any) -> None:
    [waits] = [each.default for name, each in signature(Courier.stop).parameters.items() if name == "patience"]
    assert waits == PATIENCE_S > ENOUGH_S + sender.WHOLE_S + MARK_S + 1


def test_fifty_threads_see_one_circuit() -> None:
    """Never more than one probe at a time, and the count of failures is exact."""
    house = House([fails(T)] * OPEN_AFTER, [])
    a, _ = house.senders
    for _ in range(OPEN_AFTER):
        house.send()
    house.clock.now += REST_S + 0.1
    running, most, lock = 0, 0, threading.Lock()

    def probe() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.05)
        with lock:
            running -= 1
        raise fails(T)

    a.before = probe
    with ThreadPoolExecutor(50) as pool:
        taken = list(pool.map(lambda _: house.send(), range(500)))
    assert set(taken) == {"b"}
    assert (a.asked, most) == (OPEN_AFTER + 1, 1)
    assert house.failover._circuits["a"].failures == OPEN_AFTER + 1
    a.before = lambda: None
    house.clock.now += REST_S + 0.1
    with ThreadPoolExecutor(50) as pool:
        taken = list(pool.map(lambda _: house.send(), range(500)))
    assert taken[-1] == "a"


def sms(**changes: Any) -> Failover:
    sender = senders_of(Settings(_env_file=None, **ACCOUNT | changes))["sms"]
    assert isinstance(sender, Failover)
    return sender


@pytest.mark.covers("fault F14")
def test_when_the_first_provider_is_down_the_next_has_the_same_text_within_two_seconds() -> None:
    with provider() as taking:
        one = sms(
            sms_provider="twilio,gupshup,msg91", twilio_base_url=nobody(), gupshup_base_url=taking.base,
            msg91_base_url=taking.base,
        )  # fmt: skip
        out = message()
        started = time.monotonic()
        assert one.send(out).provider == "gupshup"
        assert time.monotonic() - started < 2
        assert taking.request.form["msg"] == out.text


def test_real_senders_take_turns_by_country_and_by_what_went_wrong() -> None:
    with provider() as taking:
        one = sms(sms_provider="twilio,msg91,gupshup", sms_routes="IN:msg91,gupshup;*:twilio", **_at(taking.base))
        assert one.send(message(country="US", recipient="+12025550123")).provider == "twilio"
        taking.script = [answers(429, Retry_After="30")]
        assert one.send(message()).provider == "gupshup"
        assert one.send(message()).provider == "gupshup"  # msg91 rests
        taking.script = [closes]
        with pytest.raises(SendFailed) as failed:
            one.send(message())
        assert (failed.value.reason, failed.value.provider) == (U, "gupshup")
        assert [request.path for request in taking.requests[1:]] == [
            "/api/v5/flow/", "/GatewayAPI/rest", "/GatewayAPI/rest", "/GatewayAPI/rest",
        ]  # fmt: skip


def test_one_that_hangs_makes_nobody_send_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.delivery.senders.http.READ_S", 0.2)
    with provider() as taking:
        one = sms(sms_provider="gupshup,twilio", **_at(taking.base))
        taking.script = [hangs]
        with pytest.raises(SendFailed) as failed:
            one.send(message())
        assert failed.value.reason is U
        assert len(taking.requests) == 1
        assert one.send(message(avoid="gupshup")).provider == "twilio"


def _at(base: str) -> dict[str, str]:
    return {f"{name}_base_url": base for name in ("twilio", "msg91", "gupshup")}


def test_one_name_needs_no_failover() -> None:
    assert senders_of(Settings(_env_file=None, **ACCOUNT, sms_provider="twilio"))["sms"].name == "twilio"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no.such.module.Sender", "SMS_PROVIDER: cannot find no.such.module.Sender"),
        ("tests.people.NoSuchSender", "SMS_PROVIDER: cannot find tests.people.NoSuchSender"),
        ("app.delivery.senders.resend.ResendSender", "sends email, not sms"),
        ("json.loads", "SMS_PROVIDER: cannot make json.loads"),
        ("os.path", "SMS_PROVIDER: cannot make os.path"),
        ("builtins.str", "SMS_PROVIDER: builtins.str is no sender"),
        ("app.config.Settings", "SMS_PROVIDER: app.config.Settings is no sender"),
    ],
)
def test_a_provider_that_is_none_stops_the_start(name: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        senders_of(Settings(_env_file=None, **ACCOUNT, sms_provider=f"twilio,{name}"))


class OwnSender:
    """As an operator's own, whose answers are lost."""

    name: Any = "own"
    channel = "sms"

    def __init__(self, _settings: Settings) -> None:
        pass

    def send(self, _: Outgoing) -> Receipt:
        raise fails(U)


OWN = f"{__name__}.OwnSender"


def test_a_class_that_raises_when_it_is_made_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(_sender: OwnSender, settings: Settings) -> None:
        raise KeyError(settings.twilio_token.get_secret_value())

    monkeypatch.setattr(OwnSender, "__init__", make)
    with pytest.raises(SettingsError) as stopped:
        senders_of(Settings(_env_file=None, **ACCOUNT, sms_provider=OWN))
    assert str(stopped.value) == f"SMS_PROVIDER: cannot make {OWN} (KeyError)"


@pytest.mark.parametrize("name", ["", "n" * 33, "näme", "two\nlines", None, 7])
def test_a_name_that_no_message_can_remember_stops_the_start(monkeypatch: pytest.MonkeyPatch, name: Any) -> None:
    monkeypatch.setattr(OwnSender, "name", name)
    with pytest.raises(SettingsError, match=f"SMS_PROVIDER: {OWN} needs a name of 1 to 32"):
        senders_of(Settings(_env_file=None, **ACCOUNT, sms_provider=OWN))


def test_one_of_a_long_path_is_asked_last_too_after_its_answer_was_lost() -> None:
    """A message remembers 32 characters of who may have sent it."""
    one = sms(sms_provider=f"{OWN},console", sms_routes=f"IN:{OWN},console")
    assert len(OWN) > 32
    with pytest.raises(SendFailed) as failed:
        one.send(message())
    assert 0 < len(failed.value.provider) <= 32
    assert one.send(message(avoid=failed.value.provider)).provider == "console"


def test_two_that_no_message_could_tell_apart_stop_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "other.delivery.test_failover", sys.modules[__name__])
    with pytest.raises(SettingsError, match="SMS_PROVIDER: the last 32 characters of two names are the same"):
        sms(sms_provider=f"{OWN},other.delivery.test_failover.OwnSender")
