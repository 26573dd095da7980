"""A decoy lives and ends as the question that it stands in for: whoever asked sees no more of the one than of the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

from app.crypto import codes
from app.delivery.courier import Courier, new_bells
from app.delivery.senders import Outgoing, Reason, Receipt, SendFailed
from app.models import OtpChallenge, OutboxMessage
from tests.conftest import World
from tests.people import PASSWORD, MemorySender, Person
from tests.web.admins import of_role

FREE, FREE_PHONE = "free@example.com", "+447400123456"
NEW_PASSWORD = {"current_password": PASSWORD, "new_password": "another horse 8"}
ENDS: dict[str, Callable[[Person], Any]] = {
    "another password": lambda p: p.api.post("/api/auth/change-password", NEW_PASSWORD, p.token).ok(),
    "backup codes": lambda p: p.api.post("/api/auth/factors/backup-codes", {}, p.token).ok(),
    "a sign-out": lambda p: p.api.post("/api/auth/logout", {}, p.token).ok(),
    "an erasure": lambda p: p.api.delete("/api/auth/me", p.token).ok(),
}


def asked(person: Person, what: str, value: str) -> str:
    """The challenge of a change of one's address to this one."""
    return str(person.api.post(f"/api/auth/change-{what}", {what: value}, person.token).ok()["challenge_id"])


def seen(person: Person, challenge: str) -> list[tuple[int, str | None]]:
    """What becomes of a look at a challenge, a wrong code and a wish for another message."""
    look = person.api.get(f"/api/auth/challenges/{challenge}")
    guess = person.api.post("/api/auth/verify-otp", {"challenge_id": challenge, "otp": "000000"})
    again = person.api.post("/api/auth/resend-otp", {"challenge_id": challenge})
    return [(answer.status, answer.code) for answer in (look, guess, again)]


def with_phone(world: World, person: Person, number: str) -> Person:
    """The person, who has proven a phone number too."""
    challenge = asked(person, "phone", number)
    proof = {"challenge_id": challenge, "otp": world.read("sms", number)}
    person.api.post("/api/auth/verify-otp", proof, person.token).ok()
    person.phone = number
    return person


@pytest.fixture
def owner(world: World) -> Person:
    return with_phone(world, world.person("198.51.100.4", email="owner@example.com").sign_up(), "+447400765432")


@pytest.mark.covers("attack A31", "asvs 6.3.8")
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("what", ["email", "phone"])
def test_what_ends_a_change_ends_its_decoy(world: World, person: Person, owner: Person, what: str, end: str) -> None:
    if end == "backup codes":
        person = with_an_app(world, person)
    free = asked(person, what, FREE if what == "email" else FREE_PHONE)
    taken = asked(person, what, str(getattr(owner, what)))
    before = [person.api.get(f"/api/auth/challenges/{each}").status for each in (free, taken)]
    assert before == [200, 200]
    ENDS[end](person)
    assert seen(person, free) == seen(person, taken)


def with_an_app(world: World, person: Person) -> Person:
    """The person, with an authenticator app."""
    from tests.authenticator import enrol  # noqa: PLC0415

    enrol(world, person)
    return person


@pytest.mark.covers("attack A31")
@pytest.mark.parametrize("typed", ["one's own address", "the address asked for", "somebody else's"])
def test_the_browsers_cookie_names_a_decoy_as_it_names_a_change(
    world: World, person: Person, owner: Person, typed: str
) -> None:
    told = []
    for address in (FREE, owner.email):
        challenge = asked(person, "email", address)
        named = {"one's own address": person.email, "the address asked for": address}.get(typed, "jack@example.com")
        cookie = {"Cookie": f"challenge={challenge}"}
        again = person.api.post("/resend-otp", {"email": named}, **cookie)
        guess = person.api.post("/verify-otp", {"email": named, "otp": "000000"}, **cookie)
        told.append([(answer.status, answer.code) for answer in (again, guess)])
    assert told[0] == told[1]


@pytest.mark.covers("attack A31")
@pytest.mark.parametrize("what", ["email", "phone"])
def test_erasing_the_other_address_of_a_sign_up_ends_its_decoy_too(world: World, owner: Person, what: str) -> None:
    """Whoever signs up with somebody's address and their own number could erase the account of their number, and look."""
    asker = with_phone(world, world.person(email="asker@example.com").sign_up(), "+447400111222")
    challenges = []
    for value in (FREE if what == "email" else FREE_PHONE, str(getattr(owner, what))):
        other = {"phone": asker.phone} if what == "email" else {"email": asker.email}
        channel = "email" if what == "email" else "sms"
        body = {what: value, **other, "password": PASSWORD, "channel": channel}
        challenges.append(asker.api.post("/api/auth/signup", body).ok()["challenge_id"])
    asker.api.delete("/api/auth/me", asker.token).ok()
    free, taken = challenges
    assert seen(asker, free) == seen(asker, taken)
    assert world.inbox(str(getattr(owner, what)), channel)[-1] == "notice.signup_tried"


def test_an_erasure_leaves_nothing_of_the_person_in_what_they_asked(
    world: World, person: Person, owner: Person
) -> None:
    for address in (FREE, owner.email):
        asked(person, "email", address)
    own = person.me()["id"]
    person.api.delete("/api/auth/me", person.token).ok()
    kept = world.rows(OtpChallenge)
    assert not [row for row in kept if own in (str(row.user_id), str(row.asked_by))]


def test_the_owner_is_told_though_whoever_asked_erases_their_account(
    world: World, person: Person, owner: Person
) -> None:
    world.sends_at_once = False
    asked(person, "email", owner.email)
    person.api.delete("/api/auth/me", person.token).ok()
    world.sends_at_once = True
    world.deliver()
    assert world.inbox(owner.email)[-1] == "notice.change_tried"


@pytest.mark.covers("attack A31")
def test_an_export_tells_no_more_of_a_sign_up_for_a_taken_address(world: World, owner: Person) -> None:
    told = []
    for n, address in enumerate((FREE, owner.email)):
        person = world.person(email=address, phone=f"+44740011133{n}")
        person.ask_signup().ok()
        world.clock.advance(minutes=20)
        again = person.api.post("/api/auth/login", {"identifier": person.phone, "password": PASSWORD}).ok()
        person.verify_signup(again["challenge_id"], person.code("sms")).ok()
        export = person.api.get("/api/auth/me/export", person.token).ok()
        told.append(
            {
                "challenges": [(row["purpose"], row["channel"]) for row in export["challenges"]],
                "messages": [(row["kind"], row["channel"]) for row in export["messages"]],
                "audit": [(row["event"], row["subject"] and row["subject"][-12:]) for row in export["audit"]],
            }
        )
    assert told[0]["challenges"] == told[1]["challenges"]
    assert told[0]["messages"] == told[1]["messages"]
    assert len(told[0]["audit"]) == len(told[1]["audit"])


def test_a_changed_credential_does_not_show_in_a_code_by_phone(world: World, owner: Person) -> None:
    """A stranger who asked for it could watch whether it ends with the owner's act."""
    stranger = world.api("198.51.100.9")
    for number in (owner.phone, FREE_PHONE):
        stranger.post("/api/v1/auth/send-otp", {"mobile_number": number}).ok()
    codes = {number: world.read("sms", str(number)) for number in (owner.phone, FREE_PHONE)}
    owner.api.post("/api/auth/change-password", NEW_PASSWORD, owner.token).ok()
    rows = {row.destination: row for row in world.rows(OtpChallenge, purpose="phone")}
    looks = [stranger.get(f"/api/auth/challenges/{rows[str(n)].id}").status for n in (owner.phone, FREE_PHONE)]
    assert looks[0] == looks[1] == 200
    proof = {"mobile_number": owner.phone, "otp": codes[owner.phone]}
    assert stranger.post("/api/v1/auth/verify-otp", proof).code == "invalid_code", "it stands on the old password"


def test_even_the_derived_digits_do_not_answer_a_decoy_that_hangs_on_somebody(
    world: World, person: Person, owner: Person
) -> None:
    challenge = asked(person, "email", owner.email)
    [row] = world.rows(OtpChallenge, id=UUID(challenge))
    digits = codes.derive(world.kit.keys, row.key_id, row.factor, 6)
    guess = person.api.post("/api/auth/verify-otp", {"challenge_id": challenge, "otp": digits})
    assert (row.user_id, guess.code) == (UUID(person.me()["id"]), "invalid_code")


def test_the_messages_of_a_decoy_are_nobodys_to_see(world: World, person: Person, owner: Person) -> None:
    challenge = asked(person, "email", owner.email)
    world.clock.advance(minutes=1)
    person.api.post("/api/auth/resend-otp", {"challenge_id": challenge}).ok()
    assert len(world.rows(OutboxMessage, kind="decoy")) == 1
    assert world.inbox(owner.email)[-1] == "notice.change_tried"


@pytest.mark.parametrize("by_signup", [False, True])
def test_an_erasure_leaves_no_address_that_was_asked_for_and_reached_no_mailbox(
    make_world: Callable[..., World], by_signup: bool
) -> None:
    """The day of an address is spent: the question is a decoy, its message is dropped."""
    world = make_world(sends_per_day_email=4, ratelimit=False)
    person = with_phone(world, world.person().sign_up(), "+447400111222")
    for _ in range(3):
        if by_signup:
            body = {"email": FREE, "phone": person.phone, "password": PASSWORD, "channel": "email"}
            person.api.post("/api/auth/signup", body).ok()
        else:
            asked(person, "email", FREE)
    assert "dropped" in {row.state for row in world.rows(OutboxMessage, recipient=FREE)}
    person.api.delete("/api/auth/me", person.token).ok()
    assert world.rows(OutboxMessage, recipient=FREE) == []


def told_after(person: Person) -> list[tuple[str, str | None]]:
    export = person.api.get("/api/auth/me/export", person.token).ok()
    return [(row["event"], row["reason"]) for row in export["audit"]]


def test_a_wrong_password_at_an_address_that_one_has_not_proven_does_not_show_in_one_s_export(
    world: World, owner: Person
) -> None:
    told = []
    for number, address in enumerate((FREE, owner.email)):
        person = world.person(email=address, phone=f"+44740011133{number}")
        asked = person.ask_signup(channel="sms").ok()
        person.api.post("/api/auth/login", {"identifier": address, "password": "no such 11"})
        person.verify_signup(asked["challenge_id"], person.code("sms")).ok()
        told.append(told_after(person))
    assert told[0] == told[1]


def test_where_others_try_to_sign_in_from_is_in_no_stranger_s_export(world: World) -> None:
    person = world.person(email=FREE, phone="+447400111330")
    asked = person.ask_signup(channel="sms").ok()
    world.api("192.0.2.77").post("/api/auth/login", {"identifier": FREE, "password": "my old one 4"})
    person.verify_signup(asked["challenge_id"], person.code("sms")).ok()
    assert "192.0.2.77" not in str(person.api.get("/api/auth/me/export", person.token).ok().body)


def test_a_sign_up_s_code_that_is_dropped_does_not_show_in_one_s_export(make_world: Callable[..., World]) -> None:
    """In its place an owner gets a warning, and nobody's export has that."""
    world = make_world(ratelimit=False)
    world.person("198.51.100.4", email="owner@example.com").sign_up()
    world.clock.advance(days=2)
    told = []
    for number, address in enumerate((FREE, "owner@example.com")):
        person = world.person(email=address, phone=f"+44740011133{number}")
        asked = person.ask_signup().ok()
        for _ in range(2):
            person.api.post("/api/auth/forgot-password", {"email": address}).ok()
        world.clock.advance(seconds=31)
        person.api.post("/api/auth/resend-otp", {"challenge_id": asked["challenge_id"]}).ok()
        for _ in range(3):
            person.api.post("/api/auth/verify-otp", {"challenge_id": asked["challenge_id"], "otp": "000000"})
        world.clock.advance(minutes=20)
        world.deliver()
        again = person.api.post("/api/auth/login", {"identifier": person.phone, "password": PASSWORD}).ok()
        person.verify_signup(again["challenge_id"], person.code("sms")).ok()
        told.append(told_after(person))
    assert told[0] == told[1]
    assert len(world.audit(event="message.dropped", user_id=None)) == 1


class Refusing(MemorySender):
    def send(self, message: Outgoing) -> Receipt:
        raise SendFailed(Reason.PERMANENT, f"no {message.channel}")


def test_a_sign_up_s_code_that_administration_sends_again_does_not_show_in_one_s_export(
    make_world: Callable[..., World],
) -> None:
    world = make_world(ratelimit=False)
    admin = of_role(world, "admin")
    world.person("198.51.100.4", email="owner@example.com").sign_up()
    world.clock.advance(days=2)
    told = []
    for number, address in enumerate((FREE, "owner@example.com")):
        person = world.person(email=address, phone=f"+44740011133{number}")
        world.sends_at_once = False
        person.ask_signup().ok()
        failing = Courier(world.kit, {**world.courier._senders, "email": Refusing("email")}, new_bells())
        failing.round("email")
        world.sends_at_once = True
        admin.sign_in()
        for row in world.rows(OutboxMessage, state="failed"):
            admin.api.post(f"/api/admin/deliveries/{row.id}/retry", None, admin.token)
        world.deliver()
        world.clock.advance(minutes=20)
        again = person.api.post("/api/auth/login", {"identifier": person.phone, "password": PASSWORD}).ok()
        world.deliver()
        person.verify_signup(again["challenge_id"], person.code("sms")).ok()
        told.append(told_after(person))
    assert told[0] == told[1]
    assert world.audit(event="message.retried")


@pytest.mark.parametrize("what", ["email", "phone"])
def test_a_code_to_one_s_next_address_that_fails_shows_in_no_export_and_outlives_nobody(
    world: World, monkeypatch: pytest.MonkeyPatch, owner: Person, what: str
) -> None:
    """Were it in the export of whoever asked, a warning to an owner in its place would not be."""
    told, channel = [], "sms" if what == "phone" else "email"
    free = FREE_PHONE if what == "phone" else FREE
    for number, address in enumerate((free, str(getattr(owner, what)))):
        person = world.person(email=f"asker{number}@example.com").sign_up()
        with monkeypatch.context() as broken:
            broken.setitem(world.courier._senders, channel, Refusing(channel))
            asked(person, what, address)
            world.deliver()
        told.append(told_after(person))
        person.api.delete("/api/auth/me", person.token).ok()
    assert told[0] == told[1]
    kind = f"code.change_{what}"
    assert [row.subject for row in world.audit(event="message.dropped") if row.facts["kind"] == kind] == [None]


def test_the_shield_s_shadow_leaves_no_number_after_an_erasure(make_world: Callable[..., World]) -> None:
    world = make_world(ratelimit=False, sms_shield="shadow", sms_allowed_countries=("US",))
    person = world.person(email="", phone="+919876543210").sign_up(channel="sms")
    person.api.delete("/api/auth/me", person.token).ok()
    assert [row.event for row in world.audit() if row.subject and "3210" in row.subject] == []
