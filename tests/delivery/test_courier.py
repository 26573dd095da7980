"""The courier: at least once, with the same code, never late."""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from app.delivery import compose, outbox, tally
from app.delivery import courier as courier_module
from app.delivery.courier import Courier, new_bells
from app.delivery.senders import Outgoing, Reason, Receipt, SendFailed
from app.errors import Unavailable
from app.models import OtpChallenge, OutboxMessage
from app.models.outbox import State
from app.work import run
from tests.conftest import World
from tests.people import MemorySender, Person
from tests.web import admins


class Failing(MemorySender):
    """Refuses the first messages for given reasons, then takes them. `accepts_first`: it had taken it all the same."""

    def __init__(self, *reasons: Reason, accepts_first: bool = False, retry_after: int | None = None) -> None:
        super().__init__("email")
        self.reasons, self.accepts_first, self.retry_after = list(reasons), accepts_first, retry_after

    def send(self, message: Outgoing) -> Receipt:
        if self.reasons:
            if self.accepts_first:
                super().send(message)
            raise SendFailed(self.reasons.pop(0), "said no", self.retry_after)
        return super().send(message)


@pytest.fixture
def quiet(world: World) -> World:
    """A world whose courier sends only when the test says so."""
    world.sends_at_once = False
    return world


def courier(world: World, sender: Any) -> Courier:
    return Courier(world.kit, {"email": sender, "sms": MemorySender("sms")}, new_bells())


def states(world: World) -> list[str]:
    return sorted(row.state for row in world.rows(OutboxMessage))


@pytest.mark.parametrize("reason", [Reason.TRANSIENT, Reason.THROTTLED, Reason.CONFIGURATION, Reason.UNKNOWN])
def test_a_temporary_failure_is_tried_again_with_the_same_code(quiet: World, reason: Reason) -> None:
    quiet.person().ask_signup().ok()
    sender = Failing(reason, reason, accepts_first=reason is Reason.UNKNOWN)
    busy = courier(quiet, sender)
    for _ in range(3):
        busy.round("email")
        quiet.clock.advance(seconds=20)
    assert len({m.code for m in sender.messages}) == 1
    assert states(quiet) == ["sent"]
    [row] = quiet.rows(OutboxMessage)
    assert (row.attempts, row.last_error, row.provider) == (3, None, "memory")


def test_the_pause_between_tries_doubles(quiet: World) -> None:
    quiet.person().ask_signup().ok()
    busy = courier(quiet, Failing(*[Reason.TRANSIENT] * 6))
    pauses = []
    for _ in range(5):
        quiet.clock.now = max(quiet.clock.now, quiet.rows(OutboxMessage)[0].next_attempt_at)
        busy.round("email")
        pauses.append((quiet.rows(OutboxMessage)[0].next_attempt_at - quiet.clock.now).total_seconds())
    for n, pause in enumerate(pauses):
        assert 0.79 * 2**n <= pause <= 1.21 * 2**n


@pytest.mark.parametrize(("retry_after", "pause"), [(60, 60), (900, 297)])
def test_a_code_waits_as_long_as_its_provider_asks_for_but_not_past_its_end(
    quiet: World, retry_after: int, pause: int
) -> None:
    quiet.person().ask_signup().ok()
    courier(quiet, Failing(Reason.THROTTLED, retry_after=retry_after)).round("email")
    [row] = quiet.rows(OutboxMessage)
    assert row.state == "queued"
    assert (row.next_attempt_at - quiet.clock.now).total_seconds() == pytest.approx(pause, abs=0.01)


def test_a_permanent_failure_ends_it_and_is_audited(quiet: World) -> None:
    person = quiet.person().sign_up()
    asked = person.ask_signin().ok()
    courier(quiet, Failing(Reason.PERMANENT)).round("email")
    assert states(quiet) == ["failed", "sent"]
    assert person.api.get(f"/api/auth/challenges/{asked['challenge_id']}")["delivery"] == "failed"
    [row] = quiet.audit(event="message.dropped")
    assert (row.reason, row.facts["why"], row.facts["kind"]) == ("permanent", "said no", "code.signin")


@pytest.mark.covers("fault F16")
def test_an_expired_code_is_never_sent(quiet: World) -> None:
    quiet.person().ask_signup().ok()
    quiet.clock.advance(seconds=300)
    sender = MemorySender("email")
    courier(quiet, sender).round("email")
    assert sender.messages == []
    assert states(quiet) == ["dropped"]
    assert quiet.audit(event="message.dropped")[0].reason == "expired"


def test_a_code_that_expires_in_the_courier_s_hands_is_not_sent(quiet: World) -> None:
    """Claimed in time, but the message before it took too long."""
    for _ in range(2):
        quiet.person().ask_signup().ok()
    quiet.clock.advance(seconds=295)

    class Slow(MemorySender):
        def send(self, message: Outgoing) -> Receipt:
            quiet.clock.advance(seconds=6)
            return super().send(message)

    sender = Slow("email")
    courier(quiet, sender).round("email")
    assert len(sender.messages) == 1
    assert states(quiet) == ["dropped", "sent"]
    assert [row.last_error for row in quiet.rows(OutboxMessage, state="dropped")] == ["expired"]


def test_retries_end_before_the_code_expires(quiet: World) -> None:
    quiet.person().ask_signup().ok()
    sender = Failing(*[Reason.TRANSIENT] * 100)
    busy = courier(quiet, sender)
    for _ in range(100):
        busy.round("email")
        quiet.clock.advance(seconds=4)
    [row] = quiet.rows(OutboxMessage)
    assert row.state in ("failed", "dropped")
    assert len(sender.messages) == 0


def test_a_used_code_is_not_sent_again(quiet: World) -> None:
    person = quiet.person()
    asked = person.ask_signup().ok()
    sender = Failing(Reason.UNKNOWN, accepts_first=True)
    busy = courier(quiet, sender)
    busy.round("email")
    person.verify_signup(asked["challenge_id"], sender.messages[0].code).ok()
    quiet.clock.advance(seconds=20)
    busy.round("email")
    assert len(sender.messages) == 1
    assert states(quiet) == ["dropped"]
    assert quiet.audit(event="message.dropped")[0].reason == "closed"


@pytest.mark.parametrize(("seconds", "sent"), [(0.9, 2), (1.1, 1)])
def test_a_code_that_is_used_while_others_are_sent_is_not_sent_if_they_took_long(
    quiet: World, seconds: float, sent: int
) -> None:
    """What a claim read of a challenge is good for a second."""
    for _ in range(2):
        quiet.person().ask_signup().ok()

    class Slow(MemorySender):
        def send(self, message: Outgoing) -> Receipt:
            with quiet.kit.writes.begin() as db:
                db.execute(sa.update(OtpChallenge).values(used_at=quiet.clock.now))
            quiet.clock.advance(seconds=seconds)
            return super().send(message)

    sender = Slow("email")
    courier(quiet, sender).round("email")
    assert len(sender.messages) == sent
    assert [row.reason for row in quiet.audit(event="message.dropped")] == ["closed"] * (2 - sent)


class Watching(MemorySender):
    """Notes how many messages are marked as sent before each it sends, and may die at one of them."""

    def __init__(self, world: World, dies_at: int = 0) -> None:
        super().__init__("email")
        self.world, self.dies_at = world, dies_at
        self.marked: list[int] = []

    def send(self, message: Outgoing) -> Receipt:
        self.marked.append(len(self.world.rows(OutboxMessage, state="sent")))
        receipt = super().send(message)
        if len(self.messages) == self.dies_at:
            raise SystemExit
        return receipt


@pytest.mark.parametrize(("patience", "marked"), [(60.0, [0, 0, 0]), (0.0, [0, 1, 2])])
def test_messages_that_go_out_quickly_are_marked_together_and_slow_ones_each_at_once(
    quiet: World, monkeypatch: pytest.MonkeyPatch, patience: float, marked: list[int]
) -> None:
    monkeypatch.setattr(courier_module, "MARK_S", patience)
    for _ in range(3):
        quiet.person().ask_signup().ok()
    sender = Watching(quiet)
    courier(quiet, sender).round("email")
    assert sender.marked == marked
    assert states(quiet) == ["sent"] * 3


def test_a_courier_that_stops_over_a_message_has_marked_those_before_it(
    quiet: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(courier_module, "MARK_S", 60.0)
    for _ in range(3):
        quiet.person().ask_signup().ok()
    with pytest.raises(SystemExit):
        courier(quiet, Watching(quiet, dies_at=3)).round("email")
    assert states(quiet) == ["sending", "sent", "sent"]


@pytest.mark.covers("fault F18")
def test_a_courier_that_dies_after_sending_is_followed_by_one_that_repeats_the_code(quiet: World) -> None:
    quiet.person().ask_signup().ok()

    class Dies(MemorySender):
        def send(self, message: Outgoing) -> Receipt:
            super().send(message)
            raise SystemExit

    dying, heir = Dies("email"), MemorySender("email")
    with pytest.raises(SystemExit):
        courier(quiet, dying).round("email")
    assert courier(quiet, heir).round("email") == 0, "the lease still holds"
    quiet.clock.now += outbox.LEASE
    assert courier(quiet, heir).round("email") == 1
    assert [m.code for m in heir.messages] == [m.code for m in dying.messages]


def test_the_late_mark_of_a_courier_that_lost_its_lease_is_ignored(quiet: World) -> None:
    quiet.person().ask_signup().ok()
    [row] = quiet.rows(OutboxMessage)
    [first] = run(quiet.kit, lambda work: outbox.claim(work, [row.id]))
    stale = first.lease
    quiet.clock.now += outbox.LEASE
    [second] = run(quiet.kit, lambda work: outbox.claim(work, [row.id]))
    assert run(quiet.kit, lambda work: outbox.settle(work, row, stale, State.FAILED)) is False
    assert run(quiet.kit, lambda work: outbox.settle(work, row, second.lease, State.SENT)) is True


def test_the_newest_message_goes_first(quiet: World) -> None:
    people = [quiet.person() for _ in range(4)]
    for person in people:
        person.ask_signup().ok()
    sender = MemorySender("email")
    courier(quiet, sender).round("email")
    assert [m.recipient for m in sender.messages] == [p.email for p in reversed(people)]


def test_a_message_that_cannot_be_made_does_not_stop_the_others_and_goes_out_once_it_can(quiet: World) -> None:
    broken, whole = quiet.person(), quiet.person()
    broken.ask_signup().ok()
    whole.ask_signup().ok()
    key = quiet.rows(OtpChallenge)[0].key_id
    set_key(quiet, broken, "foreign")
    sender = MemorySender("email")
    busy = courier(quiet, sender)
    busy.round("email")
    assert [m.recipient for m in sender.messages] == [whole.email]
    assert states(quiet) == ["queued", "sent"]
    set_key(quiet, broken, key)
    quiet.clock.advance(seconds=31)
    busy.round("email")
    assert [m.recipient for m in sender.messages] == [whole.email, broken.email]
    assert [row.attempts for row in quiet.rows(OutboxMessage)] == [1, 1]


def to_itself(words: Path) -> None:
    words.parent.mkdir()
    words.symlink_to(words)


@pytest.mark.parametrize("spoil", [lambda words: words.parent.write_text("signin: x"), to_itself], ids=["file", "link"])
def test_words_that_cannot_be_looked_at_stop_no_other_message(make_world: Any, tmp_path: Path, spoil: Any) -> None:
    """What is a file in place of a folder, or a link to itself, or in a folder that only root may enter."""
    world = make_world(templates_dir=tmp_path)
    world.sends_at_once = False
    spoil(tmp_path / "hi" / "words.txt")
    hindi, english = world.person(), world.person()
    hindi.api.headers["Accept-Language"] = "hi"
    for each in (hindi, english, hindi, english):
        each.ask_signup().ok()
    sender = MemorySender("email")
    courier(world, sender).round("email")
    assert [m.recipient for m in sender.messages] == [english.email] * 2
    assert Counter(states(world)) == {"sent": 2, "queued": 2}
    spoilt = tmp_path / "hi"
    (spoilt if spoilt.is_file() else spoilt / "words.txt").unlink()
    world.clock.advance(seconds=31)
    courier(world, sender).round("email")
    assert [m.language for m in sender.messages] == ["en", "en", "hi", "hi"]


def set_key(world: World, person: Person, key: str) -> None:
    with world.kit.writes.begin() as db:
        of_person = {"key": key, "to": person.email}
        db.execute(sa.text("UPDATE otp_challenges SET key_id = :key WHERE destination = :to"), of_person)


def test_a_code_that_cannot_be_made_is_given_up_just_before_it_expires(quiet: World) -> None:
    person = quiet.person()
    person.ask_signup().ok()
    set_key(quiet, person, "gone")
    busy = courier(quiet, MemorySender("email"))
    tries = 0
    while states(quiet) == ["queued"]:
        [row] = quiet.rows(OutboxMessage)
        assert quiet.audit(event="message.dropped") == []
        quiet.clock.now = max(quiet.clock.now, row.next_attempt_at)
        tries += busy.round("email")
    assert states(quiet) == ["dropped"]
    assert 5 < tries < 15
    [dropped] = quiet.audit(event="message.dropped")
    assert (dropped.reason, dropped.facts["kind"]) == ("unmade", "code.signup")
    assert row.expires_at is not None
    assert 0 < (row.expires_at - quiet.clock.now).total_seconds() <= 4


def set_kind(world: World, kind: str) -> None:
    with world.kit.writes.begin() as db:
        db.execute(sa.update(OutboxMessage).where(OutboxMessage.state == "queued").values(kind=kind))


@pytest.mark.parametrize("kind", ["code.of_tomorrow", "word.of_tomorrow"])
def test_what_another_version_queued_is_left_to_it(quiet: World, kind: str) -> None:
    person = quiet.person()
    person.ask_signup().ok()
    set_kind(quiet, kind)
    sender = MemorySender("email")
    busy = courier(quiet, sender)
    assert busy.round("email") == 0
    quiet.clock.advance(seconds=60)
    assert busy.round("email") == 0
    [row] = quiet.rows(OutboxMessage)
    assert (row.state, row.attempts) == ("queued", 0)
    assert run(quiet.kit, tally.oldest_due, reads=True) is None, "nobody here is late with it"
    assert run(quiet.kit, tally.waiting, reads=True)[0].due == 0
    set_kind(quiet, "code.signup")  # what a copy of that version sees
    busy.round("email")
    assert [m.recipient for m in sender.messages] == [person.email]


def test_what_no_version_knows_is_dropped_in_the_end(quiet: World, person: Person) -> None:
    quiet.deliver()
    quiet.person().ask_signup().ok()
    set_kind(quiet, "code.of_yesterday")
    new = {"current_password": person.password, "new_password": "a new horse 42"}
    person.api.post("/api/auth/change-password", new, person.token).ok()
    with quiet.kit.writes.begin() as db:
        notice = sa.update(OutboxMessage).where(OutboxMessage.kind == outbox.Notice.PASSWORD_CHANGED)
        db.execute(notice.values(kind="notice.of_yesterday"))
    busy = courier(quiet, MemorySender("email"))
    assert busy.round("email") == 0
    quiet.clock.advance(minutes=6)
    assert busy.round("email") == 1
    assert [row.reason for row in quiet.audit(event="message.dropped")] == ["expired"]
    quiet.clock.advance(hours=24)
    assert busy.round("email") == 1
    assert [row.reason for row in quiet.audit(event="message.dropped")] == ["expired", "unmade"]


def test_a_sender_that_stumbles_counts_as_unknown(quiet: World) -> None:
    quiet.person().ask_signup().ok()

    class Stumbles(MemorySender):
        def send(self, _message: Outgoing) -> Receipt:
            raise ZeroDivisionError

    courier(quiet, Stumbles("email")).round("email")
    [row] = quiet.rows(OutboxMessage)
    assert (row.state, row.last_error) == ("queued", "the sender stumbled")


def test_a_notice_is_given_up_after_a_day(quiet: World, person: Person) -> None:
    person.api.post(
        "/api/auth/change-password",
        {"current_password": person.password, "new_password": "a new horse 42"},
        person.token,
    )
    sender = Failing(*[Reason.TRANSIENT] * 1000)
    busy = courier(quiet, sender)
    for _ in range(200):
        busy.round("email")
        quiet.clock.advance(minutes=15)
    [row] = quiet.rows(OutboxMessage, kind="notice.password_changed")
    assert row.state == "failed"
    assert timedelta(hours=22) < row.settled_at - row.created_at <= timedelta(days=1, seconds=1)


@pytest.mark.covers("fault F19")
def test_many_couriers_send_each_message_once(quiet: World) -> None:
    for _ in range(30):
        quiet.person().ask_signup().ok()
    sender = MemorySender("email")
    crowd = [courier(quiet, sender) for _ in range(6)]
    barrier = threading.Barrier(6)

    def work(one: Courier) -> None:
        barrier.wait()
        while one.round("email"):
            pass

    threads = [threading.Thread(target=work, args=(one,)) for one in crowd]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    quiet.deliver()
    sent = [m.recipient for m in sender.messages]
    assert len(sent) == len(set(sent))
    assert set(states(quiet)) == {"sent"}


def test_the_thread_starts_sends_and_stops(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(courier_module, "POLL_S", 0.05)
    world.sends_at_once = False
    sender = MemorySender("email")
    threaded = courier(world, sender)
    threaded.start()
    try:
        world.person().ask_signup().ok()
        for _ in range(100):
            if sender.messages:
                break
            threading.Event().wait(0.05)
        assert threaded.alive
    finally:
        threaded.stop()
    assert not threaded.alive
    assert len(sender.messages) == 1


@pytest.mark.covers("attack A31")
def test_what_was_just_asked_for_is_begun_at_a_time_of_chance(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """On one processor the work for an account would slow its asker's next request down, and that for nobody not. A
    stop waits for none of it.
    """
    monkeypatch.setattr(courier_module, "POLL_S", 3600.0)
    monkeypatch.setattr("random.uniform", lambda least, most: chances.append((least, most)) or 3600.0)
    chances: list[tuple[float, float]] = []
    world.sends_at_once = False
    sender = MemorySender("email")
    threaded = courier(world, sender)
    threaded.start()
    threading.Event().wait(0.2)  # its first round, which finds nothing
    world.person().ask_signup().ok()
    courier_module.ring(threaded._bells, ["email"])
    threading.Event().wait(0.5)
    assert sender.messages == []
    threaded.stop()
    assert not threaded.alive
    assert (0, courier_module.SPREAD_S) in chances


def test_the_courier_outlives_a_fault(quiet: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(courier_module, "POLL_S", 0.02)
    sender = MemorySender("email")
    threaded = courier(quiet, sender)
    real, faults = outbox.due, [RuntimeError("boom"), RuntimeError("boom")]

    def due(*args: Any) -> Any:
        if faults:
            raise faults.pop()
        return real(*args)

    monkeypatch.setattr(outbox, "due", due)
    quiet.person().ask_signup().ok()
    threaded.start()
    for _ in range(100):
        if sender.messages:
            break
        threading.Event().wait(0.05)
    threaded.stop()
    assert len(sender.messages) == 1


def test_a_batch_that_takes_too_long_gives_the_rest_back(quiet: World) -> None:
    """The second message is not sent beside a courier that may have it soon, and does not wait for its lease."""
    for _ in range(2):
        quiet.person().ask_signup().ok()

    class Slow(MemorySender):
        def send(self, message: Outgoing) -> Receipt:
            quiet.clock.advance(seconds=16)
            return super().send(message)

    sender = Slow("email")
    courier(quiet, sender).round("email")
    assert len(sender.messages) == 1
    assert states(quiet) == ["queued", "sent"]
    [waiting] = quiet.rows(OutboxMessage, state="queued")
    assert (waiting.attempts, waiting.lease) == (0, None)


def test_a_courier_beside_the_web_leaves_sending_to_others(make_world, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(courier_module, "POLL_S", 0.02)
    monkeypatch.setattr(courier_module, "STAMP_S", 0.0)
    world = make_world(courier="worker")
    world.sends_at_once = False
    person = world.person()
    person.ask_signup().ok()
    session_id = world.rows(OutboxMessage)[0].id
    world.kit.seen[session_id] = world.clock.now
    world.courier.start()
    for _ in range(100):
        if not world.kit.seen:
            break
        threading.Event().wait(0.05)
    world.courier.stop()
    world.courier._stopping.clear()
    assert not world.kit.seen
    assert states(world) == ["queued"]


def test_decoys_do_not_keep_honest_messages_waiting(quiet: World) -> None:
    honest = quiet.person()
    honest.ask_signup().ok()
    for n in range(20):
        quiet.api().post("/api/auth/forgot-password", {"email": f"nobody{n}@example.com"}).ok()
    sender = MemorySender("email")
    assert courier(quiet, sender).round("email") == courier_module.BATCH
    assert [m.recipient for m in sender.messages] == [honest.email]
    assert courier(quiet, sender).round("email") > 0, "a batch of decoys is no reason to rest"


@pytest.mark.one_lane("postgresql")  # MySQL cannot: there a deadlock is done again
def test_a_message_that_another_courier_marks_is_passed_over(quiet: World) -> None:
    """Whoever waited for it, with other messages locked, could wait for somebody who waits for these."""
    if quiet.lane.name != "postgresql":
        pytest.skip("SQLite has one writer at a time")
    for _ in range(2):
        quiet.person().ask_signup().ok()
    marked, free = quiet.rows(OutboxMessage)
    sender = MemorySender("email")
    with quiet.engine.begin() as other:
        other.execute(sa.update(OutboxMessage).where(OutboxMessage.id == marked.id).values(provider="other"))
        assert courier(quiet, sender).round("email") == 2, "both were due"
        assert [m.recipient for m in sender.messages] == [free.recipient]
    assert courier(quiet, sender).round("email") == 1
    assert [m.recipient for m in sender.messages] == [free.recipient, marked.recipient]


def test_the_notice_of_an_erasure_is_forgotten_also_when_it_cannot_be_sent(quiet: World, person: Person) -> None:
    person.api.delete("/api/auth/me", person.token).ok()
    courier(quiet, Failing(Reason.PERMANENT)).round("email")
    assert quiet.count(OutboxMessage) == 0
    [dropped] = quiet.audit(event="message.dropped")
    assert (dropped.subject, dropped.user_id) == (None, None), "no mask of the address outlives its account"


def test_what_a_courier_that_stops_has_not_tried_waits_for_no_lease(quiet: World) -> None:
    for _ in range(3):
        quiet.person().ask_signup().ok()

    class Last(MemorySender):
        def send(self, message: Outgoing) -> Receipt:
            busy._stopping.set()
            return super().send(message)

    busy = courier(quiet, Last("email"))
    busy.round("email")
    assert states(quiet) == ["queued", "queued", "sent"]
    assert {row.attempts for row in quiet.rows(OutboxMessage, state="queued")} == {0}


class Hanging(MemorySender):
    """Sends, and answers once it may."""

    def __init__(self, channel: str = "email") -> None:
        super().__init__(channel)
        self.begun, self.may_answer = threading.Event(), threading.Event()

    def send(self, message: Outgoing) -> Receipt:
        self.begun.set()
        self.may_answer.wait(20)
        return super().send(message)


def test_a_stop_gives_back_what_is_not_begun_before_it_waits_for_what_is(
    quiet: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(courier_module, "POLL_S", 0.05)
    for _ in range(3):
        quiet.person().ask_signup().ok()
    sender = Hanging()
    busy = courier(quiet, sender)
    busy.start()
    assert sender.begun.wait(20)
    ending = threading.Thread(target=busy.stop)
    ending.start()
    try:
        for _ in range(200):
            if states(quiet) == ["queued", "queued", "sending"]:
                break
            threading.Event().wait(0.05)
        waiting = quiet.rows(OutboxMessage, state="queued")
        assert [(row.attempts, row.lease) for row in waiting] == [(0, None)] * 2
        assert ending.is_alive()
    finally:
        sender.may_answer.set()
        ending.join(20)
    assert states(quiet) == ["queued", "queued", "sent"]
    assert len(sender.messages) == 1
    assert not busy.alive


def test_a_stop_waits_once_for_all_threads_together(quiet: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that only waiting moves."""
    waits: list[float] = []

    class Hung(threading.Thread):
        def join(self, timeout: float | None = None) -> None:
            waits.append(timeout or 0.0)

    monkeypatch.setattr(courier_module, "time", SimpleNamespace(monotonic=lambda: sum(waits)))
    busy = courier(quiet, MemorySender("email"))
    busy._threads = [Hung(), Hung(), Hung()]
    busy.stop(patience=9.0)
    assert waits == [9.0, 0.0, 0.0]


def test_what_cannot_be_given_back_at_a_stop_keeps_it_from_nothing(
    quiet: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(courier_module, "POLL_S", 0.05)
    for _ in range(2):
        quiet.person().ask_signup().ok()
    sender = Hanging()
    busy = courier(quiet, sender)
    busy.start()
    assert sender.begun.wait(20)
    monkeypatch.setattr(outbox, "release", lambda *_: (_ for _ in ()).throw(Unavailable()))
    sender.may_answer.set()
    busy.stop()
    assert not busy.alive
    assert "sent" in states(quiet)


class Late(MemorySender):
    """A provider that takes messages and answers too late. `away`: the tries at which it takes none."""

    def __init__(self, channel: str, away: tuple[int, ...] = ()) -> None:
        super().__init__(channel)
        self.away = away

    def send(self, message: Outgoing) -> Receipt:
        super().send(message)
        raise SendFailed(Reason.TRANSIENT if len(self.messages) in self.away else Reason.UNKNOWN, "no answer")


def test_a_notice_that_may_have_been_sent_each_time_is_given_up_soon(quiet: World, person: Person) -> None:
    """Three copies at most, and what failed for sure is not one."""
    change = {"current_password": person.password, "new_password": "a new horse 42"}
    person.api.post("/api/auth/change-password", change, person.token).ok()
    sender = Late("email", away=(2, 4))
    busy = courier(quiet, sender)
    for _ in range(100):
        busy.round("email")
        quiet.clock.advance(minutes=16)
    assert len(sender.messages) == 5
    [row] = quiet.rows(OutboxMessage, kind="notice.password_changed")
    assert row.state == "failed"
    assert [each.reason for each in quiet.audit(event="message.dropped")] == ["unknown"]


@pytest.mark.parametrize(("channel", "most_at_once"), [("email", 3), ("sms", 2)])
def test_a_code_that_may_have_been_sent_each_time_is_sent_five_times_at_most(
    quiet: World, channel: str, most_at_once: int
) -> None:
    """Its reader can ask for the code again."""
    quiet.person(**{"email": {}, "sms": {"email": "", "phone": "+919876543210"}}[channel]).ask_signup().ok()
    sender = Late(channel)
    busy, copies = Courier(quiet.kit, {channel: sender}, new_bells()), []
    for _ in range(320):
        busy.round(channel)
        quiet.clock.advance(seconds=1)
        copies.append(len(sender.messages))
    assert copies[-1] == 5
    assert copies[29] <= most_at_once
    [row] = quiet.rows(OutboxMessage)
    assert row.state == "failed"
    assert [each.reason for each in quiet.audit(event="message.dropped")] == ["unknown"]


def test_a_code_is_tried_until_just_before_its_end(quiet: World) -> None:
    """A provider that is away for most of a code's life: it goes out soon after the provider is back."""
    quiet.person().ask_signup().ok()
    sender = Failing(*[Reason.TRANSIENT] * 1000)
    busy, started = courier(quiet, sender), quiet.clock.now
    while (quiet.clock.now - started).total_seconds() < 270:
        busy.round("email")
        quiet.clock.advance(seconds=1)
    assert states(quiet) == ["queued"]
    sender.reasons.clear()
    while not sender.messages and (quiet.clock.now - started).total_seconds() < 300:
        busy.round("email")
        quiet.clock.advance(seconds=1)
    assert len(sender.messages) == 1
    assert (quiet.clock.now - started).total_seconds() <= 298


class Answering(MemorySender):
    """Sends, and answers as it is told; then as it should."""

    def __init__(self, *answers: Any) -> None:
        super().__init__("email")
        self.answers = list(answers)

    def send(self, message: Outgoing) -> Receipt:
        receipt = super().send(message)
        return self.answers.pop(0) if self.answers else receipt


def change_password(person: Person) -> None:
    change = {"current_password": person.password, "new_password": "a new horse 42"}
    person.api.post("/api/auth/change-password", change, person.token).ok()


def test_an_answer_that_cannot_be_stored_as_it_stands_has_nothing_sent_twice(quiet: World) -> None:
    """One of a provider, or of an operator's own sender: neither its message goes out again nor one beside it."""
    odd: list[Any] = [UUID(int=7), "x" * 300, "a\x00b\ud800", "\x00"]
    for _ in range(5):
        quiet.person().ask_signup().ok()
    sender = Answering(*[Receipt("memory", each) for each in odd], Receipt("m\x00" * 40))
    busy = courier(quiet, sender)
    for _ in range(3):
        busy.round("email")
        quiet.clock.advance(seconds=31)
    assert len(sender.messages) == 5
    assert states(quiet) == ["sent"] * 5
    known = {(row.provider, row.provider_id) for row in quiet.rows(OutboxMessage)}
    assert known == {
        ("memory", str(UUID(int=7))), ("memory", "x" * 128), ("memory", "ab"), ("memory", None), ("m" * 32, None),
    }  # fmt: skip


@pytest.mark.parametrize("answer", [None, "an id alone"])
def test_a_sender_that_returns_no_receipt_may_have_sent_it(quiet: World, person: Person, answer: Any) -> None:
    change_password(person)
    sender = Answering(*[answer] * 100)
    busy = courier(quiet, sender)
    for _ in range(100):
        busy.round("email")
        quiet.clock.advance(seconds=31)
    assert [m.kind for m in sender.messages] == ["notice.password_changed"] * 3
    assert states(quiet) == ["failed", "sent"]
    [dropped] = quiet.audit(event="message.dropped")
    assert (dropped.reason, dropped.facts["why"]) == ("unknown", "the sender stumbled")


def test_the_words_of_a_failure_are_stored_as_far_as_they_can_be(quiet: World) -> None:
    class Odd(MemorySender):
        def send(self, _message: Outgoing) -> Receipt:
            raise SendFailed(Reason.UNKNOWN, "no\x00 answér\ud800", provider="p" * 40)

    quiet.person().ask_signup().ok()
    courier(quiet, Odd("email")).round("email")
    [row] = quiet.rows(OutboxMessage)
    assert (row.state, row.last_error, row.avoid) == ("queued", "no answér", "p" * 32)


class Dying(MemorySender):
    """Sends, and takes the courier with it each time."""

    def send(self, message: Outgoing) -> Receipt:
        super().send(message)
        raise SystemExit


def test_a_notice_over_which_every_courier_dies_is_given_up_and_can_be_sent_once_more(
    quiet: World, person: Person
) -> None:
    change_password(person)
    sender = Dying("email")
    busy = courier(quiet, sender)

    def die_often() -> None:
        for _ in range(3 * compose.MOST_LAPSED):
            with suppress(SystemExit):
                busy.round("email")
            quiet.clock.advance(seconds=31)

    die_often()
    assert [m.kind for m in sender.messages] == ["notice.password_changed"] * compose.MOST_LAPSED
    [row] = quiet.rows(OutboxMessage, kind="notice.password_changed")
    assert (row.state, row.last_error) == ("dropped", "lapsed")
    assert [each.reason for each in quiet.audit(event="message.dropped")] == ["lapsed"]
    admin = admins.of_role(quiet, "admin")
    quiet.deliver()
    admin.api.post(f"/api/admin/deliveries/{row.id}/retry", None, admin.token).ok()
    die_often()
    assert len(sender.messages) == 2 * compose.MOST_LAPSED


def test_tries_of_which_it_is_known_what_came_have_not_lapsed(quiet: World, person: Person) -> None:
    """As those of a notice that waited for its provider since before this was counted."""
    change_password(person)
    with quiet.kit.writes.begin() as db:
        waits = OutboxMessage.kind == "notice.password_changed"
        db.execute(sa.update(OutboxMessage).where(waits).values(attempts=50, last_error="busy"))
    sender = Failing(*[Reason.TRANSIENT] * 20)
    busy = courier(quiet, sender)
    for _ in range(21):
        busy.round("email")
        quiet.clock.advance(minutes=20)
    assert [m.kind for m in sender.messages] == ["notice.password_changed"]


def test_of_two_codes_that_waited_the_newer_comes_last(quiet: World, person: Person) -> None:
    """A provider is down: somebody sees no code and begins again. The page asks for the newer one."""
    sender = Failing(Reason.TRANSIENT)
    busy = courier(quiet, sender)
    person.ask_signin().ok()
    busy.round("email")
    quiet.person().ask_signup().ok()
    asked = person.ask_signin().ok()
    newest = quiet.person()
    newest.ask_signup().ok()
    quiet.clock.advance(seconds=2)
    busy.round("email")
    assert len(sender.messages) == 4
    assert sender.messages[0].recipient == newest.email, "between people the newest goes first"
    last = [m.code for m in sender.messages if m.recipient == person.email][-1]
    person.verify_signin(asked["challenge_id"], last).ok()


def test_the_newer_code_comes_last_also_out_of_a_long_queue(quiet: World, person: Person) -> None:
    sender = MemorySender("email")
    busy = courier(quiet, sender)
    person.ask_signin().ok()
    for _ in range(2 * courier_module.BATCH):
        quiet.person().ask_signup().ok()
    asked = person.ask_signin().ok()
    quiet.person().ask_signup().ok()
    while busy.round("email"):
        pass
    assert len(sender.messages) == 2 * courier_module.BATCH + 3
    last = [m.code for m in sender.messages if m.recipient == person.email][-1]
    person.verify_signin(asked["challenge_id"], last).ok()


def test_a_code_whose_owner_is_erased_while_others_are_sent_is_not_sent(quiet: World, person: Person) -> None:
    person.ask_signin().ok()
    other = quiet.person()
    other.ask_signup().ok()

    class Slow(MemorySender):
        def send(self, message: Outgoing) -> Receipt:
            if not self.messages:
                person.api.delete("/api/auth/me", person.token).ok()
                quiet.clock.advance(seconds=2)
            return super().send(message)

    sender = Slow("email")
    courier(quiet, sender).round("email")
    assert [m.recipient for m in sender.messages] == [other.email]
