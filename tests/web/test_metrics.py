"""What is counted, when, and that no stranger can make it grow."""

from __future__ import annotations

import re
import secrets
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from app import create_app, figures
from app.core.audit import Event
from app.core.challenges import CHANNELS
from app.crypto import passwords
from app.crypto.passwords import Hasher
from app.delivery import tally, upkeep
from app.delivery.senders import Reason, SendFailed
from app.delivery.senders.counted import Counted
from app.errors import NotFound, Overloaded, Unavailable
from app.web import problems
from app.work import Work, run
from tests.authenticator import enrol
from tests.conftest import World
from tests.figures import Scrape
from tests.lanes import Lane
from tests.people import MemorySender
from tests.providers import message
from tests.web.test_webhooks import PUBLIC, STATUS, TOKEN, ask, sent_by, twilio


@pytest.fixture
def open_world(make_world: Any) -> World:
    return make_world(metrics_public=True)


def scrape(world: World) -> Scrape:
    response = world.app.test_client().get("/metrics")
    assert response.status_code == 200
    return Scrape(response.text)


def risen(before: Scrape, after: Scrape, name: str, **labels: str) -> float:
    return after.total(name, **labels) - before.total(name, **labels)


@pytest.mark.one_lane("postgresql")
def test_requests_are_counted_and_timed_by_route_and_status(open_world: World) -> None:
    before = scrape(open_world)
    open_world.api().get("/api/auth/me")
    open_world.api().get("/api/auth/challenges/00000000-0000-0000-0000-000000000000")
    open_world.app.test_client().get("/nowhere/at/all")
    after = scrape(open_world)
    me, asked = {"route": "/api/auth/me", "method": "GET"}, {"route": "/api/auth/challenges/<uuid:challenge_id>"}
    assert risen(before, after, "latchkey_requests_total", **me, status="401") == 1
    assert risen(before, after, "latchkey_requests_total", **asked, status="410") == 1
    assert risen(before, after, "latchkey_requests_total", route="none", status="404") == 1
    assert risen(before, after, "latchkey_request_duration_seconds_count", **me) == 1
    assert risen(before, after, "latchkey_request_duration_seconds_bucket", **me, le="+Inf") == 1
    assert risen(before, after, "latchkey_refusals_total", code="token_missing") == 1


@pytest.mark.one_copy
def test_a_code_is_counted_when_it_is_sent_and_when_it_comes_back(open_world: World) -> None:
    way = {"channel": "email", "provider": "memory"}
    before = scrape(open_world)
    open_world.person().sign_up()
    between = scrape(open_world)
    assert risen(before, between, "latchkey_codes_sent_total", **way) == 1
    assert risen(before, between, "latchkey_codes_verified_total", **way) == 0, "counted later: no request waits for it"
    assert tally.count_proven(open_world.kit) == 1
    assert tally.count_proven(open_world.kit) == 0
    after = scrape(open_world)
    assert risen(before, after, "latchkey_codes_verified_total", **way) == 1
    assert risen(before, after, "latchkey_events_total", event="signup.completed") == 1
    assert risen(before, after, "latchkey_hash_wait_seconds_count") >= 1


@pytest.mark.one_copy
@pytest.mark.one_lane("postgresql")
def test_upkeep_counts_the_codes_that_came_back(open_world: World) -> None:
    before = figures.CODES_VERIFIED.labels("email", "memory")._value.get()
    keeper = upkeep.Upkeep(open_world.kit)
    open_world.person().sign_up()
    open_world.clock.advance(seconds=6)
    keeper.tick()
    assert figures.CODES_VERIFIED.labels("email", "memory")._value.get() == before + 1


@pytest.mark.one_copy
@pytest.mark.one_lane("postgresql")
def test_what_came_back_waits_while_the_database_is_away(open_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    before = scrape(open_world)
    people = [open_world.person().sign_up() for _ in range(3)]
    monkeypatch.setattr(tally, "_ways", lambda *_, **__: (_ for _ in ()).throw(Unavailable()))
    with pytest.raises(Unavailable):
        tally.count_proven(open_world.kit)
    monkeypatch.undo()
    assert tally.count_proven(open_world.kit) == len(people)
    assert risen(before, scrape(open_world), "latchkey_codes_verified_total", channel="email") == 3


@pytest.mark.one_lane("postgresql")
def test_a_code_of_an_app_is_none_that_was_sent(open_world: World) -> None:
    person = open_world.person().sign_up()
    app = enrol(open_world, person)
    tally.count_proven(open_world.kit)
    asked = person.ask_signin().ok()
    person.api.post("/api/auth/login/verify", {"challenge_id": asked["challenge_id"], "otp": app.fresh()}).ok()
    assert tally.count_proven(open_world.kit) == 0


@pytest.mark.one_lane("postgresql")
def test_a_report_counts_a_code_as_delivered_once(make_world: Any) -> None:
    world = make_world(public_url=PUBLIC, twilio_token=TOKEN, metrics_public=True)
    world.sends_at_once = False
    way = {"channel": "sms", "provider": "twilio"}
    before = scrape(world)
    sent_by(world, "twilio")
    assert [twilio(world, STATUS) for _ in range(3)] == [204] * 3
    after = scrape(world)
    assert risen(before, after, "latchkey_codes_sent_total", **way) == 1
    assert risen(before, after, "latchkey_codes_delivered_total", **way) == 1


@pytest.mark.one_lane("postgresql")
def test_a_report_of_a_message_whose_answer_was_lost_counts_it_as_sent_too(make_world: Any) -> None:
    world = make_world(public_url=PUBLIC, twilio_token=TOKEN, metrics_public=True)
    world.sends_at_once = False
    before = scrape(world)
    ask(world)
    [row] = world.rows(tally.OutboxMessage)
    assert twilio(world, STATUS, query=f"mid={row.id}") == 204
    after = scrape(world)
    for stage in ("sent", "delivered"):
        assert risen(before, after, f"latchkey_codes_{stage}_total", channel="sms", provider="twilio") == 1


class Refusing(MemorySender):
    name = "refusing"

    def __init__(self, *failures: Exception | None) -> None:
        super().__init__("email")
        self.failures = list(failures)

    def send(self, outgoing: Any) -> Any:
        if not self.failures:
            return super().send(outgoing)
        failure = self.failures.pop(0)
        if failure:
            raise failure
        return None


@pytest.mark.parametrize("reason", Reason)
def test_each_attempt_of_a_provider_is_counted_by_what_came_of_it(reason: Reason) -> None:
    def attempts(outcome: str) -> float:
        return figures.SENDS.labels("email", "refusing", outcome)._value.get()

    sender = Counted(Refusing(SendFailed(reason, "said no"), ZeroDivisionError(), None))
    before = {outcome: attempts(outcome) for outcome in (reason, "unknown", "taken")}
    for failure in (SendFailed, ZeroDivisionError, TypeError):  # the last forgot to return a Receipt
        with pytest.raises(failure):
            sender.send(message("email"))
    assert sender.send(message("email")).provider == "refusing"
    assert (sender.name, sender.channel) == ("refusing", "email")
    assert attempts("taken") == before["taken"] + 1
    assert attempts(reason) == before[reason] + (3 if reason is Reason.UNKNOWN else 1)
    assert attempts("unknown") == before["unknown"] + (3 if reason is Reason.UNKNOWN else 2)


@pytest.mark.one_lane("postgresql")
def test_a_template_that_breaks_while_the_service_runs_is_seen_at_the_first_code_and_when_that_is_given_up(
    make_world: Any, tmp_path: Path
) -> None:
    """No sender is asked, and the message waits for its next try: neither attempts nor lag tell of it."""
    words = tmp_path / "en" / "code.txt"
    words.parent.mkdir()
    words.write_text("Subject: x\n\n{{ code }}")
    world = make_world(metrics_public=True, templates_dir=tmp_path)
    world.person().sign_up()
    words.write_text("Subject: x\n\n{{ code }")
    before = scrape(world)
    world.person().ask_signup().ok()
    seen = scrape(world)
    assert risen(before, seen, "latchkey_messages_unmade_total", channel="email") == 1
    assert risen(before, seen, "latchkey_messages_dropped_total") == 0
    for _ in range(160):
        world.clock.advance(seconds=2)
        world.deliver()
    after = scrape(world)
    assert risen(before, after, "latchkey_messages_unmade_total", channel="email") > 5
    assert risen(before, after, "latchkey_messages_dropped_total", channel="email", why="unmade") == 1
    assert risen(before, after, "latchkey_sends_total") == 0
    assert after.value("latchkey_outbox_lag_seconds", channel="email") == 0


@pytest.mark.one_lane("postgresql")
@pytest.mark.parametrize(
    ("bound", "why"),
    [
        ({"sms_cap_per_day": 1}, "shield_day"),
        ({"sms_cap_per_country": 1}, "shield_country"),
        ({"sms_prices": "*:1", "sms_budget_per_day": "1.5"}, "shield_budget"),
    ],
)
def test_messages_for_which_the_day_is_spent_are_counted_by_what_is(
    make_world: Any, bound: dict[str, Any], why: str
) -> None:
    world = make_world(metrics_public=True, ratelimit=False, **bound)
    before = scrape(world)
    for number in ("+919876543210", "+919876500210", "+919876400210"):
        world.api().post("/api/v1/auth/send-otp", {"mobile_number": number}).ok()
    after = scrape(world)
    assert risen(before, after, "latchkey_messages_dropped_total", channel="sms", why=why) == 2
    assert risen(before, after, "latchkey_messages_dropped_total") == 2


@pytest.mark.one_lane("postgresql")
@pytest.mark.parametrize(("reason", "why"), [(Reason.PERMANENT, "permanent"), ("words of its own", "other")])
def test_what_a_provider_will_not_have_is_counted_under_a_word_of_ours(
    open_world: World, monkeypatch: pytest.MonkeyPatch, reason: Any, why: str
) -> None:
    """An operator's own sender may say anything."""
    open_world.sends_at_once, before = False, scrape(open_world)
    open_world.person().ask_signup().ok()
    sender = Refusing(*[SendFailed(reason, "said no") for _ in range(200)])
    monkeypatch.setattr(open_world.courier, "_senders", {"email": sender})
    for _ in range(200):
        open_world.courier.round("email")
        open_world.clock.advance(seconds=2)
    after = scrape(open_world)
    assert risen(before, after, "latchkey_messages_dropped_total", channel="email", why=why) == 1
    assert risen(before, after, "latchkey_messages_dropped_total") == 1


@pytest.mark.one_lane("postgresql")
def test_a_report_that_a_message_will_not_arrive_counts_it_as_dropped(make_world: Any) -> None:
    world = make_world(public_url=PUBLIC, twilio_token=TOKEN, metrics_public=True)
    world.sends_at_once, before = False, scrape(world)
    sent_by(world, "twilio")
    assert [twilio(world, STATUS | {"MessageStatus": "undelivered", "ErrorCode": "30005"}) for _ in range(2)] == [
        204
    ] * 2
    risen_by = risen(before, scrape(world), "latchkey_messages_dropped_total", channel="sms", why="reported")
    assert risen_by == 1


@pytest.mark.one_lane("postgresql")
@pytest.mark.parametrize("fault", [ZeroDivisionError(), Unavailable()])
def test_upkeep_that_fails_is_counted_by_its_duty_and_keeps_no_other_from_being_done(
    open_world: World, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise fault

    keeper, before = upkeep.Upkeep(open_world.kit), scrape(open_world)
    open_world.person().sign_up()
    monkeypatch.setattr(upkeep.seals, "is_waiting", fails)
    monkeypatch.setattr(upkeep.retention, "purge", fails)
    open_world.clock.advance(hours=2)
    for _ in range(2):
        with pytest.raises(type(fault)):
            keeper.tick()
    keeper.tick()
    after = scrape(open_world)
    for duty in upkeep.DUTIES:
        expected = 1 if duty in ("seal", "purge") else 0
        assert risen(before, after, "latchkey_upkeep_failures_total", duty=duty) == expected, duty


@pytest.mark.one_lane("postgresql")
def test_a_unit_counts_what_it_committed_and_nothing_else(world: World) -> None:
    seen = figures.EVENTS.labels(Event.SIGNIN_REFUSED.value)
    begun, tries = seen._value.get(), []

    def story(work: Work, end: Exception | None, undone: int = 0) -> None:
        tries.append(work)
        work.count(figures.EVENTS, Event.SIGNIN_REFUSED.value)
        if len(tries) <= undone:
            raise DBAPIError("undone by another", None, Exception(1213))
        if end:
            raise end

    with pytest.raises(ZeroDivisionError):
        run(world.kit, lambda work: story(work, ZeroDivisionError()))
    assert seen._value.get() == begun, "a fault leaves nothing behind"
    with pytest.raises(NotFound):
        run(world.kit, lambda work: story(work, NotFound()))
    assert seen._value.get() == begun + 1, "a refusal is a fact"
    tries.clear()
    run(world.kit, lambda work: story(work, None, undone=2))
    assert (len(tries), seen._value.get()) == (3, begun + 2)


@pytest.mark.one_lane("postgresql")
@pytest.mark.covers("attack A75")
def test_a_stranger_makes_no_series(open_world: World) -> None:
    """Whatever is sent in whatever place: after the first time, no new series and no new label."""

    def junk() -> None:
        client, word = open_world.app.test_client(), secrets.token_hex(6)
        headers = {
            "X-Request-ID": word,
            "User-Agent": word,
            "Origin": f"https://{word}.example",
            "Host": f"{word}.example",
        }
        client.open(f"/{word}", method=word.upper())
        client.open("/api/auth/me", method=word.upper())
        client.get("/api/auth/me", headers={**headers, "Authorization": f"Bearer {word}"})
        client.get(f"/docs/static/{word}", headers=headers)
        client.get(f"/api/auth/challenges/{word}", headers=headers)
        client.post(f"/api/webhooks/msg91/{word}", headers=headers, data=word)
        client.post(
            "/api/auth/login", headers=headers, json={"identifier": f"{word}@{word}.example", "password": word * 2}
        )
        client.post(
            "/api/auth/signup",
            headers=headers,
            json={"email": f"{word}@example.com", "password": word, "channel": word},
        )
        client.post(
            "/api/v1/auth/send-otp",
            headers=headers,
            json={"mobile_number": "+91987654" + str(secrets.randbelow(9000) + 1000)},
        )
        client.post("/api/auth/login", headers=headers, data=word)

    junk()
    open_world.deliver()
    before = set(scrape(open_world).samples)
    for _ in range(4):
        junk()
    open_world.deliver()
    after = set(scrape(open_world).samples)
    assert after == before
    assert {dict(labels)["method"] for name, labels in after if name == "latchkey_requests_total"} <= {"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "other"}  # fmt: skip


@pytest.mark.one_lane("postgresql")
def test_every_code_event_and_why_begins_at_zero(open_world: World) -> None:
    samples = scrape(open_world).samples
    codes = {dict(labels)["code"] for name, labels in samples if name == "latchkey_refusals_total"}
    events = {dict(labels)["event"] for name, labels in samples if name == "latchkey_events_total"}
    assert codes == {refused.code for refused in problems.STATUS} | {problems.FAULT}
    assert events == set(Event)
    dropped = [dict(labels) for name, labels in samples if name == "latchkey_messages_dropped_total"]
    assert {(each["channel"], each["why"]) for each in dropped} == set(product(CHANNELS, tally.WHYS))
    duties = {dict(labels)["duty"] for name, labels in samples if name == "latchkey_upkeep_failures_total"}
    assert duties == set(upkeep.DUTIES)


def test_what_waits_is_shown_by_channel_with_its_age(open_world: World) -> None:
    open_world.sends_at_once = False
    quiet = scrape(open_world)
    assert quiet.value("latchkey_outbox_lag_seconds", channel="email") == 0.0
    for _ in range(2):
        open_world.person().ask_signup().ok()
    open_world.clock.advance(seconds=90)
    seen = scrape(open_world)
    due = {"channel": "email", "state": "due"}
    assert (seen.value("latchkey_outbox_messages", **due), seen.value("latchkey_outbox_messages", channel="sms", state="due")) == (2.0, 0.0)  # fmt: skip
    assert 90 <= seen.value("latchkey_outbox_lag_seconds", channel="email") < 91
    failing = Refusing(*[SendFailed(Reason.TRANSIENT, "not now") for _ in range(2)])
    usual, open_world.courier._senders = open_world.courier._senders, {"email": failing}
    open_world.courier.round("email")
    open_world.courier._senders = usual
    seen = scrape(open_world)
    assert seen.value("latchkey_outbox_messages", **due) == 0.0
    assert seen.value("latchkey_outbox_messages", channel="email", state="later") == 2.0


def test_a_long_queue_is_counted_up_to_a_bound(open_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    open_world.sends_at_once = False
    for _ in range(3):
        open_world.person().ask_signup().ok()
    monkeypatch.setattr(tally, "MOST", 2)
    assert scrape(open_world).value("latchkey_outbox_messages", channel="email", state="due") == 2.0


def test_connections_in_use_go_back_to_none(open_world: World) -> None:
    idle = figures.POOL_USED._value.get()
    with open_world.engine.connect(), open_world.engine.connect():
        assert figures.POOL_USED._value.get() == idle + 2
    assert figures.POOL_USED._value.get() == idle
    with open_world.engine.connect() as connection:
        connection.invalidate()
    assert figures.POOL_USED._value.get() == idle
    open_world.person().sign_up()
    assert figures.POOL_USED._value.get() == idle
    open_world.engine.dispose()
    open_world.api().get("/health/live")
    assert run(open_world.kit, lambda work: work.db.scalar(sa.select(1))) == 1
    assert figures.POOL_SIZE._value.get() == open_world.engine.pool.size()  # type: ignore[attr-defined]


def test_a_pool_that_is_used_up_is_counted(open_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    before, open_world.sends_at_once = scrape(open_world), False
    monkeypatch.setattr(open_world.engine.pool, "_timeout", 0.05)
    held = [open_world.engine.connect() for _ in range(open_world.engine.pool.size())]  # type: ignore[attr-defined]
    try:
        answer = open_world.api().post("/api/auth/login", {"identifier": "a@example.com", "password": "x" * 8})
    finally:
        for connection in held:
            connection.close()
    assert (answer.status, answer.code) == (503, "unavailable")
    assert risen(before, scrape(open_world), "latchkey_database_pool_timeouts_total") >= 1


@pytest.mark.covers("fault F01")
def test_without_the_database_there_are_figures_and_they_say_so(lane: Lane) -> None:
    url = sa.make_url(lane.database_url)
    gone = (
        "sqlite:////no/such/folder/x.db"
        if lane.name == "sqlite"
        else url.set(port=1).render_as_string(hide_password=False)
    )
    app = create_app(lane.settings(database_url=gone, redis_url=None))
    idle = figures.POOL_USED._value.get()
    own = {"Authorization": f"Bearer {app.extensions['courier'].kit.settings.api_key.get_secret_value()}"}
    response = app.test_client().get("/metrics", headers=own)
    assert response.status_code == 200, "the key of the environment needs no database"
    seen = Scrape(response.text)
    assert seen.value("latchkey_database_up") == 0.0
    assert "latchkey_outbox_messages" in seen.names()
    assert figures.POOL_USED._value.get() == idle, "what could not be opened was never in use"


def test_the_hasher_tells_how_long_each_caller_waited(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    hasher = Hasher(memory_kib=8, time_cost=1, slots=1, queue=2, waited=waits.append)
    clock = iter((10.0, 10.25, 20.0, 21.0))
    monkeypatch.setattr(passwords, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    hasher.hash(b"x")
    hasher._slots.acquire()
    monkeypatch.setattr(passwords, "PATIENCE_S", 0.01)
    with pytest.raises(Overloaded):
        hasher.hash(b"y")
    assert waits == [0.25, 1.0], "who gave up waited, too"


def test_no_figure_has_a_label_that_could_hold_what_a_caller_wrote() -> None:
    known = {"route", "method", "status", "code", "event", "channel", "provider", "outcome", "why", "duty"}
    declared = [figure for figure in vars(figures).values() if hasattr(figure, "_labelnames")]
    assert len(declared) >= 12
    assert {name for figure in declared for name in figure._labelnames} <= known
    assert all(re.fullmatch(r"latchkey_[a-z_]+", figure._name) for figure in declared)
