"""The shield against SMS pumping: caps, countries, money, the breaker; and that no caller sees a difference."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Any

import pytest
import sqlalchemy as sa

from app.core import identifiers, sends, shield
from app.delivery import compose
from app.delivery.courier import Courier, new_bells
from app.delivery.senders import Outgoing, Reason, Receipt, SendFailed
from app.models import OtpChallenge, OutboxMessage, Throttle, User
from app.work import run
from tests.authenticator import enrol
from tests.conftest import World
from tests.lanes import Lane
from tests.people import Answer, MemorySender
from tests.web import admins
from tests.web.test_phone import Phone

EVEN = {"sms_cap_per_prefix": 0}  # for what is not about prefixes
VERIFIED_EACH = 3


@pytest.fixture
def shielded(make_world: Any) -> Any:
    """Worlds with an open front door: what is tested is behind it."""
    return lambda **settings: make_world(ratelimit=False, **settings)


def ask(world: World, number: str) -> Answer:
    return world.api().post("/api/v1/auth/send-otp", {"mobile_number": number}).ok()


def asks_for_a_notice(world: World) -> None:
    """Somebody who has a phone alone gets another password; the SMS that tells of it waits."""
    owner = world.person(email="", phone="+919811122233").sign_up()
    world.sends_at_once = False
    change = {"current_password": owner.password, "new_password": "a new horse 42"}
    owner.api.post("/api/auth/change-password", change, owner.token).ok()


def sent(world: World) -> list[str]:
    world.deliver()
    return [m.recipient for m in world.senders["sms"].messages]


def reasons(world: World) -> Counter[str]:
    return Counter(row.reason for row in world.audit(event="message.dropped"))


def mobile(n: int, stem: str = "+9198") -> str:
    return f"{stem}{n:08d}"


def test_only_allowed_countries_get_sms_and_the_answer_is_the_same(shielded: Any) -> None:
    world = shielded(sms_allowed_countries=("IN",))
    answers = [ask(world, number) for number in ("+919876543210", "+447911123456")]
    assert sent(world) == ["+919876543210"]
    assert len({tuple(sorted(a.body)) for a in answers}) == 1
    shown = [world.api().get(f"/api/auth/challenges/{a['challenge_id']}")["delivery"] for a in answers]
    assert shown == ["sent", "sent"]
    assert reasons(world) == {"shield_not_allowed": 1}
    [row] = world.audit(event="message.dropped")
    assert row.subject == "+44******3456"


@pytest.mark.covers("attack A58", "asvs 2.4.1")
def test_adjacent_numbers_have_one_daily_cap(shielded: Any) -> None:
    world = shielded(sms_cap_per_prefix=5)
    for n in range(12):
        ask(world, mobile(76543000 + n))
    ask(world, mobile(76544000))
    assert len(sent(world)) == 6
    assert reasons(world) == {"shield_prefix": 7}
    world.clock.advance(days=1)
    world.senders["sms"].messages.clear()
    ask(world, mobile(76543020))
    assert len(sent(world)) == 1


@pytest.mark.covers("attack A58")
def test_a_number_that_shall_become_somebody_s_is_as_strange_as_any(shielded: Any) -> None:
    """The asker has an account, the number has nobody: a sign-up with a throwaway address buys no SMS."""
    world = shielded(sms_cap_per_prefix=5)
    asker = world.person().sign_up()
    for n in range(12):
        asker.api.post("/api/auth/change-phone", {"phone": mobile(76543000 + n)}, asker.token).ok()
    assert len(sent(world)) == 5
    assert reasons(world) == {"shield_prefix": 7}


def test_a_number_that_shall_become_somebody_s_gets_nothing_in_a_closed_country(shielded: Any) -> None:
    """Neither by a change nor as the second address of a sign-up, which is asked once the first is proven."""
    world = shielded(**EVEN)
    asker = world.person().sign_up()
    fill(world, 100, 0)
    world.senders["sms"].messages.clear()
    asker.api.post("/api/auth/change-phone", {"phone": "+917012345678"}, asker.token).ok()
    world.person(phone="+917012345679").sign_up()
    assert sent(world) == []
    assert reasons(world) == {"shield_closed": 2}


def test_one_number_in_twenty_spellings_has_one_budget(shielded: Any) -> None:
    world = shielded(**EVEN)
    spellings = [f"{plus}91{gap}98765{gap}43210" for plus in ("+", "00", " +", "+ ".strip()) for gap in ("", " ", "-", ".", " (0) "[:1])]  # fmt: skip
    answers = [world.api().post("/api/v1/auth/send-otp", {"mobile_number": s}).status for s in spellings]
    assert len(spellings) == 20
    assert Counter(answers) == {200: 3, 429: 17}
    assert len(sent(world)) == 3


def test_caps_by_country_and_in_all(shielded: Any) -> None:
    world = shielded(sms_cap_per_country=4, sms_cap_per_day=6, **EVEN)
    for n in range(8):
        ask(world, mobile(70000000 + n * 5000))
        ask(world, f"+4479111{20000 + n * 777:05d}")
    assert Counter(number[:3] for number in sent(world)).most_common() in (
        [("+91", 3), ("+44", 3)],
        [("+44", 3), ("+91", 3)],
    )
    assert set(reasons(world)) <= {"shield_country", "shield_day"}
    assert sum(reasons(world).values()) == 10


def test_a_budget_in_money(shielded: Any) -> None:
    world = shielded(sms_prices="IN:0.002,*:0.05", sms_budget_per_day="0.055", **EVEN)
    assert ask(world, "+447911123456")
    assert ask(world, "+447911125556")
    for n in range(5):
        ask(world, mobile(70000000 + n * 5000))
    assert Counter(number[:3] for number in sent(world)) == {"+44": 1, "+91": 2}
    assert reasons(world) == {"shield_budget": 4}


def fill(world: World, total: int, verified: int, stem: str = "+9170") -> None:
    """A past of codes to a country, of which so many came back."""
    client, numbers = world.app.test_client(), [f"{stem}{n * 1009:08d}" for n in range(total)]
    for number in numbers:
        assert client.post("/api/v1/auth/send-otp", json={"mobile_number": number}).status_code == 200
    world.deliver()
    came_back = OtpChallenge.destination.in_(numbers[:verified])
    with world.kit.writes.begin() as db:
        db.execute(sa.update(OtpChallenge).where(came_back).values(used_at=world.clock.now))
    world.clock.advance(seconds=61)


VICTIM, MINE, ELSEWHERE = "+919876543210", "+919876543999", "+919876111210"


def nobody(_world: World) -> None:
    """The victim's number is nobody's."""


def by_phone(world: World) -> None:
    Phone(world, VICTIM).sign_up()


def with_password(world: World) -> None:
    owner = world.person(phone=VICTIM)
    asked = owner.api.post("/api/auth/signup", {"phone": VICTIM, "password": owner.password}).ok()
    owner.verify_signup(asked["challenge_id"], world.read("sms", VICTIM)).ok()


def locked(world: World) -> None:
    by_phone(world)
    with world.kit.writes.begin() as db:
        db.execute(sa.update(User).values(locked_at=world.clock.now))


def recovery(world: World, times: int) -> None:
    for _ in range(times):
        world.api().post("/api/auth/forgot-password", {"phone": VICTIM}).ok()
        world.clock.advance(seconds=200)


def codes(world: World, times: int) -> None:
    for _ in range(times):
        world.api().post("/api/v1/auth/send-otp", {"mobile_number": VICTIM}).ok()
        world.clock.advance(seconds=200)


def sign_up(world: World, times: int) -> None:
    for _ in range(times):
        world.api().post("/api/auth/signup", {"phone": VICTIM, "password": "Sparrow-Lantern-52"}).ok()
        world.clock.advance(seconds=200)


def arrives(world: World) -> bool:
    """Whether the next code to a number of one's own comes, which is all that whoever asks can see of the shield."""
    ask(world, MINE)
    return MINE in sent(world)


@pytest.mark.covers("attack A58")
@pytest.mark.parametrize(
    ("way", "whose"),
    [
        *((recovery, whose) for whose in (nobody, by_phone, with_password)),
        *((codes, whose) for whose in (nobody, by_phone, with_password, locked)),
        *((sign_up, whose) for whose in (nobody, by_phone)),
    ],
)
def test_the_cap_of_neighbours_does_not_tell_whose_a_number_is(shielded: Any, way: Any, whose: Any) -> None:
    """Ten messages to a number count as ten, whether or not they go; recoveries, which go to accounts alone, as none."""
    cap = 12
    for room in (0, 1):
        world = shielded(sms_cap_per_prefix=cap)
        whose(world)
        world.clock.advance(days=3)
        for n in range(cap - room - (0 if way is recovery else 10)):
            ask(world, mobile(76543100 + n))
        way(world, 10)
        assert arrives(world) == bool(room)


@pytest.mark.covers("attack A58")
@pytest.mark.parametrize(
    ("way", "whose"),
    [
        (recovery, nobody),
        (recovery, by_phone),
        (codes, nobody),
        (codes, locked),
        (sign_up, nobody),
        (sign_up, by_phone),
    ],
)
def test_a_closed_country_does_not_tell_whose_a_number_is(shielded: Any, way: Any, whose: Any) -> None:
    """Of the last hundred codes twenty came back. One more that does not closes the country, whoever has the number."""
    world = shielded(**EVEN)
    whose(world)
    world.clock.advance(days=3)
    fill(world, 1, 1, stem="+9171")
    fill(world, 80, 0)
    fill(world, 19, 19, stem="+9172")
    way(world, 1)
    assert arrives(world) == (way is recovery)


@pytest.mark.covers("attack A58")
@pytest.mark.parametrize("phone", [VICTIM, ELSEWHERE])
def test_the_cap_of_neighbours_does_not_tell_whose_address_and_number_go_together(shielded: Any, phone: str) -> None:
    world = shielded(sms_cap_per_prefix=5)
    owner = world.person(phone=phone)
    asked = owner.ask_signup().ok()
    both = owner.verify_signup(asked["challenge_id"], owner.code()).ok()["pending"]
    second = {"challenge_id": both["challenge_id"], "otp": world.read("sms", phone)}
    owner.api.post("/api/auth/verify-otp", second).ok()
    world.clock.advance(days=3)
    for n in range(4):
        ask(world, mobile(76543100 + n))
    world.api().post("/api/auth/forgot-password", {"email": owner.email, "channel": "sms"}).ok()
    assert arrives(world)


@pytest.mark.covers("attack A58")
def test_recoveries_of_nobody_spend_nobody_s_day(shielded: Any) -> None:
    """They cost nothing, and nothing bounds how many numbers a stranger may name."""
    caps = {"sms_cap_per_day": 20, "sms_cap_per_country": 20, "sms_prices": "*:0.01", "sms_budget_per_day": "0.5"}
    world = shielded(**caps)
    by_phone(world)
    world.clock.advance(days=3)
    for n in range(60):
        world.api().post("/api/auth/forgot-password", {"phone": mobile(70000000 + n * 5000)}).ok()
    ask(world, VICTIM)
    assert sent(world)[-1] == VICTIM


@pytest.mark.covers("attack A58")
def test_a_country_where_hardly_a_code_comes_back_is_closed_and_the_admins_are_told(shielded: Any) -> None:
    world = shielded(**EVEN)
    admin = world.person(email="admin@example.com").sign_up()
    with world.kit.writes() as db:
        db.execute(sa.update(User).values(role="admin"))
        db.commit()
    fill(world, 100, 19)
    ask(world, "+917012345678")
    ask(world, "+447911123456")
    assert sent(world)[-1] == "+447911123456"
    assert reasons(world) == {"shield_closed": 1}
    [row] = world.audit(event="shield.closed")
    assert (row.facts["country"], row.facts["sent"], row.facts["verified"]) == ("IN", 100, 19)
    ask(world, "+917012345679")
    assert len(world.audit(event="shield.closed")) == 1
    told = [m for m in world.senders["email"].messages if m.kind == "notice.shield_closed"]
    assert [m.recipient for m in told] == [admin.email]
    assert "Of the last 100 codes sent to IN by SMS only 19 were used" in told[0].text


def test_a_country_is_closed_aloud_also_by_a_known_number_that_a_cap_stops(shielded: Any) -> None:
    world = shielded(sms_cap_per_day=101, **EVEN)
    owner = world.person(email="", phone="+919811122233").sign_up()
    fill(world, 100, 0)
    ask(world, owner.phone)
    world.deliver()
    assert reasons(world) == {"shield_day": 1}
    [row] = world.audit(event="shield.closed")
    assert (row.facts["country"], row.facts["sent"], row.facts["verified"]) == ("IN", 100, 0)


def test_a_country_where_codes_come_back_stays_open(shielded: Any) -> None:
    world = shielded(**EVEN)
    fill(world, 100, 20)
    ask(world, "+917012345678")
    assert sent(world)[-1] == "+917012345678"
    assert world.audit(event="shield.closed") == []


def test_codes_that_are_still_being_typed_do_not_count(shielded: Any) -> None:
    world = shielded(**EVEN)
    fill(world, 100, 0)
    world.clock.advance(seconds=-30)
    ask(world, "+917012345678")
    assert sent(world)[-1] == "+917012345678"


def test_a_closed_country_opens_again_and_the_next_rest_is_longer(shielded: Any) -> None:
    world = shielded(**EVEN)
    rests = []
    for _ in range(2):
        fill(world, 100, 0)
        ask(world, "+917012345678")
        world.deliver()
        until = world.audit(event="shield.closed")[-1].facts["until"]
        closed = world.audit(event="shield.closed")[-1].at
        rests.append((datetime.fromisoformat(until) - closed).total_seconds())
        world.clock.now = datetime.fromisoformat(until)
        world.senders["sms"].messages.clear()
    assert rests == [3600, 7200]


def test_the_shadow_only_reports(shielded: Any) -> None:
    world = shielded(sms_shield="shadow", sms_allowed_countries=("US",), sms_cap_per_prefix=1)
    for n in range(3):
        ask(world, mobile(76543000 + n))
    assert len(sent(world)) == 3
    assert [row.facts["why"] for row in world.audit(event="shield.shadowed")] == ["shield_not_allowed"] * 3
    assert not reasons(world)


def test_off_is_off(shielded: Any) -> None:
    world = shielded(sms_shield="off", sms_cap_per_prefix=1, sms_allowed_countries=("US",))
    for n in range(3):
        ask(world, mobile(76543000 + n))
    assert len(sent(world)) == 3


def test_a_second_try_of_a_message_is_counted_once(shielded: Any) -> None:
    world = shielded(sms_cap_per_day=1, **EVEN)
    world.sends_at_once = False
    ask(world, "+919876543210")
    sender = Away(lost=0, away=1)
    busy = Courier(world.kit, {"email": MemorySender("email"), "sms": sender}, new_bells())
    for _ in range(3):
        busy.round("sms")
        world.clock.advance(seconds=3)
    assert (sender.tries, len(sender.messages)) == (2, 1), reasons(world)


def test_a_flood_over_countries_and_adjacent_numbers_trips_within_the_bounds(shielded: Any, lane: Lane) -> None:
    """700 sends; `bench` has the 10,000."""
    if lane.name != "sqlite":
        pytest.skip("the counters are the same rows on every lane; one of them is flooded")
    world = shielded(sms_cap_per_prefix=5, sms_cap_per_country=25, sms_cap_per_day=90)
    client, statuses = world.app.test_client(), Counter()
    for n in range(700):
        stem = ("+9198765", "+4479111", "+1202555", "+2348031", "+6281234")[n % 5]
        number = f"{stem}{n * 7:04d}" if stem == "+1202555" else f"{stem}{n * 7:05d}"
        statuses[client.post("/api/v1/auth/send-otp", json={"mobile_number": number}).status_code] += 1
    world.deliver()
    numbers = [m.recipient for m in world.senders["sms"].messages]
    assert max(Counter(number[:-3] for number in numbers).values()) <= 5
    assert max(Counter(m.country for m in world.senders["sms"].messages).values()) <= 25
    assert 80 <= len(numbers) <= 90, "bounded, and not everybody is stopped"
    assert set(statuses) <= {200, 422}, "no caller is told (422: no such number)"


def test_what_may_have_cost_money_already_is_counted_again(shielded: Any) -> None:
    """A message that a provider took and lost goes out by another: two are paid."""
    world = shielded(sms_prices="*:1", sms_budget_per_day="1", **EVEN)
    ask(world, "+919876543210")
    assert len(sent(world)) == 1
    with world.kit.writes.begin() as db:
        db.execute(sa.update(OutboxMessage).values(state="queued", next_attempt_at=OutboxMessage.created_at))
    assert len(sent(world)) == 1
    assert reasons(world) == {"shield_budget": 1}


class Unsure(MemorySender):
    """Takes messages and never says so."""

    def send(self, message: Outgoing) -> Receipt:
        super().send(message)
        raise SendFailed(Reason.UNKNOWN, "no answer")


def test_what_may_have_been_sent_by_the_only_provider_is_counted_again(shielded: Any) -> None:
    world = shielded(sms_cap_per_day=2, **EVEN)
    world.sends_at_once = False
    ask(world, "+919876543210")
    sender = Unsure("sms")
    busy = Courier(world.kit, {"email": MemorySender("email"), "sms": sender}, new_bells())
    for _ in range(12):
        busy.round("sms")
        world.clock.advance(seconds=16)
    assert len(sender.messages) == 2
    assert reasons(world) == {"shield_day": 1}


class Away(MemorySender):
    """Loses the answers to its first messages, is then away for some, and takes what comes after."""

    def __init__(self, away: int, lost: int = 1) -> None:
        super().__init__("sms")
        self.tries, self.away, self.lost = 0, away, lost

    def send(self, message: Outgoing) -> Receipt:
        self.tries += 1
        if self.tries <= self.lost:
            raise SendFailed(Reason.UNKNOWN, "no answer", provider=self.name)
        if self.tries <= self.lost + self.away:
            raise SendFailed(Reason.TRANSIENT, "away")
        return super().send(message)


def test_a_notice_by_sms_outlasts_a_provider_that_is_away_after_it_lost_an_answer(shielded: Any) -> None:
    """What was not sent for sure takes nothing from the day of notices, or it would not come at all."""
    world = shielded(**EVEN)
    asks_for_a_notice(world)
    sender = Away(5)
    busy = Courier(world.kit, {"email": MemorySender("email"), "sms": sender}, new_bells())
    for _ in range(10):
        busy.round("sms")
        world.clock.advance(minutes=2)
    assert [m.kind for m in sender.messages] == ["notice.password_changed"]
    assert not reasons(world)


def test_tries_that_sent_nothing_for_sure_cost_nothing_after_one_that_may_have(shielded: Any) -> None:
    world = shielded(sms_cap_per_day=3, **EVEN)
    world.sends_at_once = False
    ask(world, "+919876543210")
    sender = Away(6)
    busy = Courier(world.kit, {"email": MemorySender("email"), "sms": sender}, new_bells())
    for _ in range(160):
        busy.round("sms")
        world.clock.advance(seconds=1)
    assert len(sender.messages) == 1, reasons(world)
    at = shield.keys(identifiers.phone("+919876543210", "IN"))["day"]
    assert [row.day_count for row in world.rows(Throttle, key=at)] == [2]


def test_what_a_courier_that_died_may_have_sent_is_counted_again(shielded: Any) -> None:
    world = shielded(sms_cap_per_day=1, **EVEN)
    world.sends_at_once = False
    ask(world, "+919876543210")
    ids = [row.id for row in world.rows(OutboxMessage)]
    assert len(run(world.kit, lambda work: compose.claim(work, ids))) == 1
    world.clock.advance(seconds=31)
    assert sent(world) == []
    assert reasons(world) == {"shield_day": 1}


def test_what_couriers_that_died_after_a_failure_may_have_sent_is_counted_each_time(shielded: Any) -> None:
    world = shielded(sms_cap_per_day=2, **EVEN)
    world.sends_at_once = False
    ask(world, "+919876543210")
    busy = Courier(world.kit, {"email": MemorySender("email"), "sms": Slow(world)}, new_bells())
    busy.round("sms")
    ids = [row.id for row in world.rows(OutboxMessage)]
    for held in (1, 1, 0):
        world.clock.advance(seconds=31)
        assert len(run(world.kit, lambda work: compose.claim(work, ids))) == held
    assert reasons(world) == {"shield_day": 1}


class Slow(MemorySender):
    """Is down, and takes ten seconds to say so."""

    def __init__(self, world: World) -> None:
        super().__init__("sms")
        self.world = world

    def send(self, message: Outgoing) -> Receipt:
        super().send(message)
        self.world.clock.advance(seconds=10)
        raise SendFailed(Reason.TRANSIENT, "busy")


def test_what_is_given_back_untried_is_counted_once(shielded: Any) -> None:
    """Of a batch the courier tries as many as a lease has time for, and claims the others anew."""
    world = shielded(sms_cap_per_day=10, **EVEN)
    world.sends_at_once = False
    for n in range(5):
        ask(world, mobile(70000000 + n * 5000))
    sender = Slow(world)
    busy = Courier(world.kit, {"email": MemorySender("email"), "sms": sender}, new_bells())
    for _ in range(8):
        busy.round("sms")
    assert not reasons(world)
    assert len(sender.messages) == 16
    at = shield.keys(identifiers.phone(mobile(70000000), "IN"))["day"]
    assert [row.day_count for row in world.rows(Throttle, key=at)] == [5]
    assert {row.state for row in world.rows(OutboxMessage)} == {"queued"}


def test_a_notice_by_sms_that_is_given_back_untried_takes_one_from_its_day(shielded: Any) -> None:
    world = shielded(**EVEN)
    asks_for_a_notice(world)
    sender = MemorySender("sms")
    busy = Courier(world.kit, {"email": MemorySender("email"), "sms": sender}, new_bells())
    busy._stopping.set()
    for _ in range(2 * sends.NOTICES_BY_SMS):
        busy.round("sms")
    busy._stopping.clear()
    busy.round("sms")
    assert [m.kind for m in sender.messages] == ["notice.password_changed"]
    assert not reasons(world)


def test_notices_by_sms_have_a_budget_and_none_keeps_back_another_kind(shielded: Any) -> None:
    """Whoever is in an account causes as many as they like: they must not cost money without end, nor the day of all."""
    world = shielded(sms_cap_per_day=20)
    owner = world.person(phone="+919811122233").sign_up(channel="sms")
    app = enrol(world, owner)
    for _ in range(30):
        owner.api.post("/api/auth/factors/backup-codes", {}, owner.token).ok()
    kinds = Counter(world.inbox(owner.phone, "sms"))
    assert kinds["notice.backup_codes_made"] == sends.NOTICES_BY_SMS
    assert world.inbox(owner.email).count("notice.backup_codes_made") == 30 * bool(owner.me()["email"])
    assert reasons(world) == {"notices_spent": 30 - sends.NOTICES_BY_SMS}
    owner.api.delete(f"/api/auth/factors/{app.factor_id}", owner.token).ok()
    assert world.inbox(owner.phone, "sms")[-1] == "notice.factor_removed"
    ask(world, "+447911123456")
    assert sent(world)[-1] == "+447911123456", "others still get their codes"
    with world.kit.writes.begin() as db:
        db.execute(sa.update(Throttle).values(day_count=0))  # as on the next day
    enrol(world, owner)
    owner.api.post("/api/auth/factors/backup-codes", {}, owner.token).ok()
    assert world.inbox(owner.phone, "sms").count("notice.backup_codes_made") == sends.NOTICES_BY_SMS + 1


@pytest.mark.parametrize(("language", "most"), [("en", 4), ("hi", 2)])
def test_a_long_sms_costs_as_many_as_it_is_sent_in(shielded: Any, language: str, most: int) -> None:
    world = shielded(sms_prices="*:1", sms_budget_per_day="4", **EVEN)
    for n in range(5):
        number = {"mobile_number": mobile(76543000 + n * 1000)}
        world.api(**{"Accept-Language": language}).post("/api/v1/auth/send-otp", number).ok()
    assert len(sent(world)) == most


@pytest.mark.parametrize(
    ("letter", "count", "parts"),
    [
        ("a", 0, 1), ("a", 160, 1), ("a", 161, 2), ("a", 306, 2), ("a", 307, 3),
        ("é", 160, 1), ("€", 80, 1), ("€", 81, 2),
        ("ç", 70, 1), ("ç", 71, 2), ("क", 70, 1), ("क", 134, 2), ("क", 135, 3),
        ("😀", 35, 1), ("😀", 36, 2),
    ],
)  # fmt: skip
def test_how_many_sms_a_text_is_sent_in(letter: str, count: int, parts: int) -> None:
    """3GPP TS 23.038 and 23.040: 160 letters of 7 bits, 70 of 16; 153 and 67 in each of several."""
    assert shield.parts(letter * count) == parts


def test_an_sms_that_the_shield_stopped_meets_it_again_when_it_is_sent_once_more(shielded: Any) -> None:
    """And is counted then, as any that goes out."""
    world = shielded(sms_cap_per_country=1, **EVEN)
    admin = admins.of_role(world, "admin")
    for number in ("+919876543210", "+919876643210"):
        ask(world, number)
    [stopped] = world.rows(OutboxMessage, state="dropped")
    again = f"/api/admin/deliveries/{stopped.id}/retry"
    admin.api.post(again, None, admin.token).ok()
    assert sent(world) == ["+919876543210"]
    assert reasons(world) == {"shield_country": 2}
    with world.kit.writes.begin() as db:
        db.execute(sa.update(Throttle).values(day_count=0))  # as on the next day
    admin.api.post(again, None, admin.token).ok()
    assert len(sent(world)) == 2
    ask(world, "+919876743210")
    assert len(sent(world)) == 2, "the one that was sent once more is counted"


def test_what_an_admin_sends_once_more_is_counted_also_if_it_was_given_up_because_nobody_knew(shielded: Any) -> None:
    world = shielded(sms_cap_per_day=9, otp_ttl_sms=600, **EVEN)
    admin = admins.of_role(world, "admin")
    world.sends_at_once = False
    world.api().post("/api/auth/signup", {"phone": "+919876543210", "password": "correct horse 7"}).ok()
    sender = Unsure("sms")
    busy = Courier(world.kit, {"email": MemorySender("email"), "sms": sender}, new_bells())
    at = shield.keys(identifiers.phone("+919876543210", "IN"))["day"]

    def counted() -> int:
        for _ in range(240):
            busy.round("sms")
            if world.rows(OutboxMessage, state="failed", channel="sms"):
                break
            world.clock.advance(seconds=1)
        [row] = world.rows(Throttle, key=at)
        return row.day_count

    assert counted() == len(sender.messages) > 1
    [lost] = world.rows(OutboxMessage, state="failed", channel="sms")
    admin.api.post(f"/api/admin/deliveries/{lost.id}/retry", None, admin.token).ok()
    before = len(sender.messages)
    assert counted() == len(sender.messages) > before


def test_a_stranger_cannot_stop_the_codes_of_those_who_have_an_account(shielded: Any) -> None:
    world = shielded(sms_cap_per_prefix=5)
    owner = "+919811122233"
    api = world.api()
    asked = api.post("/api/auth/signup", {"phone": owner, "password": "correct horse 7"}).ok()
    body = {"challenge_id": asked["challenge_id"], "otp": world.read("sms", owner)}
    api.post("/api/auth/verify-otp", body).ok()
    for n in range(10):
        ask(world, f"+9198111222{40 + n}")
    fill(world, 100, 0)
    ask(world, "+917012345678")
    assert "+917012345678" not in sent(world), "the country is closed"
    ask(world, owner)
    assert sent(world)[-1] == owner
