"""How far the message of a challenge has got: told behind a proof, for else it tells who has an account."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from app.delivery.senders import Outgoing, Reason, Receipt, SendFailed
from app.models import OutboxMessage
from tests.conftest import World
from tests.people import MemorySender
from tests.web.test_phone import NUMBER, Phone
from tests.web.test_webhooks import PUBLIC, SECRET, TOKEN, Named, deliver, report

FREE = "+919876543299"


class Looking(Named):
    """By the name of a provider that reports; each message has somebody look while it is under way."""

    def __init__(self, look: Callable[[], None]) -> None:
        super().__init__("msg91")
        self.look = look

    def send(self, message: Outgoing) -> Receipt:
        self.look()
        return super().send(message)


class CodesOnly(MemorySender):
    """As an account that has a template for codes and none for notices."""

    def send(self, message: Outgoing) -> Receipt:
        if not message.code:
            raise SendFailed(Reason.CONFIGURATION, f"no template for {message.kind}")
        return super().send(message)


def shown(world: World, challenge_id: str) -> str:
    return world.api().get(f"/api/auth/challenges/{challenge_id}")["delivery"]


def test_the_delivery_of_a_sign_in_can_be_followed(world: World) -> None:
    person = world.person().sign_up()
    world.sends_at_once = False
    asked = person.ask_signin().ok()["challenge_id"]
    assert shown(world, asked) == "queued"
    world.deliver()
    assert shown(world, asked) == "sent"
    person.verify_signin(asked, person.code()).ok()
    assert person.api.get(f"/api/auth/challenges/{asked}").code == "challenge_closed"


@pytest.mark.parametrize(("word", "seen"), [("delivered", "delivered"), ("failed", "failed")])
def test_what_is_reported_of_a_sign_in_s_code_is_shown(make_world: Any, word: str, seen: str) -> None:
    world = make_world(public_url=PUBLIC, twilio_token=TOKEN, webhook_secret=SECRET)
    person = world.person(phone=NUMBER).sign_up(channel="sms")
    world.sends_at_once = False
    given = {"phone": NUMBER, "password": person.password}
    asked = person.api.post("/api/auth/login", given).ok()["challenge_id"]
    deliver(world, Named("msg91"))
    assert report(world, "msg91", word) == 204
    assert shown(world, asked) == seen


@pytest.mark.covers("attack A31")
@pytest.mark.parametrize("state", ["queued", "sending", "delivered", "failed", "dropped"])
def test_only_behind_a_proof_is_it_told_what_became_of_a_message(world: World, state: str) -> None:
    person = world.person(phone=NUMBER).sign_up()
    world.clock.advance(minutes=2)
    behind = [person.ask_signin().ok(), person.api.post("/api/auth/step-up", {}, person.token).ok()]
    open_to_all = [
        person.api.post("/api/auth/forgot-password", {"identifier": person.email}).ok(),
        world.person().ask_signup().ok(),
        Phone(world).ask().ok(),
        *(person.api.post(f"/api/auth/change-{kind}", {kind: to}, person.token).ok() for kind, to in
          (("email", "new@example.com"), ("phone", "+919876543298"))),
    ]  # fmt: skip
    with world.engine.begin() as connection:
        connection.execute(sa.update(OutboxMessage).values(state=state, leased_until=world.clock.now))
    world.sends_at_once = False
    truth = {"sending": "queued", "dropped": "failed"}.get(state, state)
    assert [shown(world, asked["challenge_id"]) for asked in behind] == [truth] * 2
    assert [shown(world, asked["challenge_id"]) for asked in open_to_all] == ["sent"] * 5


@pytest.mark.covers("attack A31")
def test_how_far_a_code_has_got_does_not_tell_whose_day_is_halved(make_world: Any) -> None:
    """Of the day of a number with a password strangers have one half; of another's, all. Each message is looked at as it
    waits, while it is under way, once it is sent, and when its delivery is reported.
    """
    world = make_world(public_url=PUBLIC, twilio_token=TOKEN, webhook_secret=SECRET)
    world.person(phone=NUMBER).sign_up(channel="sms")
    world.sends_at_once = False
    phones = Phone(world), Phone(world, FREE)
    asked: list[str] = []
    got: list[list[str]] = []

    def look() -> None:
        got.append([shown(world, challenge) for challenge in asked])

    sender = Looking(look)
    for _ in range(7):
        world.clock.advance(minutes=4)
        asked[:] = [phone.ask().ok()["challenge_id"] for phone in phones]
        before = len(sender.messages)
        look()
        deliver(world, sender)
        look()
        for n, message in enumerate(sender.messages[before:], before + 1):
            assert report(world, "msg91", "delivered", provider_id=f"msg91-{n}", number=message.recipient) == 204
        look()
    recipients = [message.recipient for message in sender.messages]
    assert recipients.count(NUMBER) < 7 == recipients.count(FREE)
    assert {row.state for row in world.rows(OutboxMessage, recipient=FREE)} == {"delivered"}, "the truth, for the admin"
    assert len(got) == 21 + len(recipients)
    assert [pair for pair in got if pair != ["sent", "sent"]] == []


@pytest.mark.covers("attack A31")
def test_a_notice_that_cannot_be_sent_does_not_tell_that_a_number_is_taken(world: World) -> None:
    world.person(phone=NUMBER).sign_up(channel="sms")
    world.clock.advance(minutes=5)
    world.sends_at_once = False
    asked = [world.person(phone=n).ask_signup(channel="sms").ok()["challenge_id"] for n in (NUMBER, FREE)]
    sender, got = CodesOnly("sms"), []
    for _ in range(4):
        got.append([shown(world, challenge) for challenge in asked])
        deliver(world, sender)
        world.clock.advance(seconds=20)
    [untold] = world.rows(OutboxMessage, kind="notice.signup_tried")
    assert (untold.state, [m.recipient for m in sender.messages]) == ("queued", [FREE])
    assert got == [["sent", "sent"]] * 4
