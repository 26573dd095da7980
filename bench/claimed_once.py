"""What only one can have, or what counts once: an address, a number, a name, a credential that several claim, a message
that is sent once more. As in `sent_once`, all try it at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from uuid import UUID

import sqlalchemy as sa

from app.core.audit import Event
from app.delivery.outbox import Notice
from app.models import AuditLog, Device, OtpChallenge, OutboxMessage, Passkey, Signup, User, UsernameHold
from app.models.outbox import State
from bench.held_once import KEY
from bench.holders import ADMIN, ANSWER, AUTH, LOGIN, MOBILE, an_admin, bearer, mailed, new_key, registration
from bench.rig import PASSWORD, Rig, address, number, soon
from bench.single_use import CLOSED, Race, another, events, joined, of
from bench.volley import Request, fire, fire_all

SECOND_S = 0.5  # in which a second message would come, were there one


def address_of_two_signups(opened: Rig, uses: int) -> Race:
    """Each with a password and a code of its own: the account has the password of the one that was proven."""
    email = address()
    begun = [mailed(opened, email, f"{AUTH}/signup", {"email": email, "password": another(n)}) for n in range(2)]
    race = Race(fire(opened.service, f"{AUTH}/verify-otp", [begun[n % 2] for n in range(uses)]))
    joined(opened, race, User.email == email)
    race.must("sign-ups that are complete", opened.count(Signup.email == email, Signup.completed_at.is_not(None)), 1)
    for n in race.won:
        of_it = sa.select(OtpChallenge.signup_id).where(OtpChallenge.id == UUID(begun[n % 2]["challenge_id"]))
        race.must("whose account it is", opened.rows(sa.select(User.id).where(User.email == email)), opened.rows(of_it))
        opened.ask(ANSWER, mailed(opened, email, LOGIN, {"identifier": email, "password": another(n % 2)}))
    return race.one_wins(CLOSED)


def address_of_two_accounts(opened: Rig, uses: int) -> Race:
    """Two who change their address to the same one, each with a code of its own."""
    email, people = address(), [opened.account(email=address()) for _ in range(2)]
    begun = [mailed(opened, email, f"{AUTH}/change-email", {"email": email}, **bearer(each)) for each in people]
    race = Race(fire(opened.service, f"{AUTH}/verify-otp", [begun[n % 2] for n in range(uses)]))
    owners = [(of(people[n % 2]),) for n in race.won]
    race.must("whose address it is", opened.rows(sa.select(User.id).where(User.email == email)), owners)
    changes = sum(events(opened, each, Event.CONTACT_CHANGED) for each in people)
    race.must("changes that are recorded", changes, 1)
    return race.one_wins(CLOSED)


def number_of_a_signup_and_a_registration(opened: Rig, uses: int) -> Race:
    """A sign-up with a password, and one by phone alone that is proven already."""
    phone = number()
    asked = opened.ask(f"{AUTH}/signup", {"phone": phone, "password": PASSWORD})
    proof = {"challenge_id": asked["challenge_id"], "otp": opened.handset.code(phone)}
    ways = (
        Request(f"{AUTH}/verify-otp", proof),
        Request(f"{MOBILE}/complete-registration", registration(opened, phone)),
    )
    race = Race(fire_all(opened.service, [ways[n % 2] for n in range(uses)]))
    joined(opened, race, User.phone == phone)
    return race.one_wins(CLOSED, "401 token_invalid")


def username(opened: Rig, uses: int) -> Race:
    """That everybody wants who signs up, each with an address of their own."""
    name, people = f"name{number()[1:]}", [address() for _ in range(uses)]
    bodies = [{"email": email, "password": PASSWORD, "username": name} for email in people]
    race = Race(fire(opened.service, f"{AUTH}/signup", bodies))
    race.must("holds", opened.count(UsernameHold.username == name), 1)
    holders = opened.rows(sa.select(Signup.email).where(Signup.username == name))
    race.must("sign-ups", holders, [(people[n],) for n in race.won])
    begun = (AuditLog.event == Event.SIGNUP_STARTED, AuditLog.user_id == Signup.id, Signup.username == name)
    race.must("sign-ups that are recorded", opened.count(*begun), 1)
    return race.one_wins("409 username_taken")


def device_id(opened: Rig, uses: int) -> Race:
    name = f"till-{number()[1:]}"
    body = {"device_id": name, "user_id": "a race"}
    race = Race(fire(opened.service, "/api/v1/devices/register", [body] * uses, **KEY))
    race.must("devices", opened.count(Device.device_id == name, Device.key_version == 1), 1)
    registered = (AuditLog.subject == name, AuditLog.event == Event.DEVICE_REGISTERED)
    race.must("registrations that are recorded", opened.count(*registered), 1)
    return race.one_wins("409 conflict")


def credential(opened: Rig, uses: int) -> Race:
    """Which two have made a passkey of, each for their own account."""
    people, key = [opened.account(email=address()) for _ in range(2)], new_key(opened)
    begun = [opened.ask(f"{AUTH}/factors/passkeys", {}, **bearer(each)) for each in people]
    made = [key.create(begun[0]["options"])]
    held = key.held[0]
    made.append(key.create(begun[1]["options"], key=held.key, credential_id=held.id))
    paths = [f"{AUTH}/factors/passkeys/{each['challenge_id']}/confirm" for each in begun]
    ways = [Request(paths[n], {"credential": made[n]}, bearer(people[n])) for n in range(2)]
    race = Race(fire_all(opened.service, [ways[n % 2] for n in range(uses)]))
    owners = opened.rows(sa.select(Passkey.user_id).where(Passkey.user_id.in_([of(each) for each in people])))
    race.must("whose it is", owners, [(of(people[n % 2]),) for n in race.won])
    race.must("factors that are recorded", sum(events(opened, each, Event.FACTOR_ADDED) for each in people), 1)
    return race.one_wins(CLOSED, "409 conflict")


def failed_message(opened: Rig, uses: int) -> Race:
    """That an admin has sent once more."""
    email, admin = address(), an_admin(opened)
    person = opened.account(email=email)
    opened.ask(f"{AUTH}/signup", {"email": email, "password": PASSWORD})  # which its owner is told
    told = (OutboxMessage.user_id == of(person), OutboxMessage.kind == Notice.SIGNUP_TRIED)
    soon(lambda: opened.count(*told, OutboxMessage.state == State.SENT))
    [[message]] = opened.rows(sa.select(OutboxMessage.id).where(*told))
    with opened.engine.begin() as connection:
        connection.execute(sa.update(OutboxMessage).where(OutboxMessage.id == message).values(state=State.FAILED))
    came = len(opened.mailbox.to(email))
    race = Race(fire(opened.service, f"{ADMIN}/deliveries/{message}/retry", [{}] * uses, **bearer(admin)))
    soon(lambda: len(opened.mailbox.to(email)) > came)
    time.sleep(SECOND_S)
    race.must("messages come", len(opened.mailbox.to(email)) - came, 1)
    race.must("retries that are recorded", events(opened, person, Event.MESSAGE_RETRIED), 1)
    return race.one_wins("409 conflict")


CLAIMED: dict[str, Callable[[Rig, int], Race]] = {
    "address of two sign-ups": address_of_two_signups,
    "address of two accounts": address_of_two_accounts,
    "number of a sign-up and a registration": number_of_a_signup_and_a_registration,
    "username": username,
    "device id": device_id,
    "credential of two accounts": credential,
    "failed message": failed_message,
}
