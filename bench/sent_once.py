"""Codes that were sent, and what they are exchanged for: each has one made, used by all at once, and looked at.

The answers are half of it. The other half is what stands in the database afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from app.core.audit import Event
from app.models import AuditLog, OtpChallenge, OutboxMessage, Signup, User
from bench.holders import (
    ADMIN,
    ANSWER,
    AUTH,
    LOGIN,
    MOBILE,
    Browser,
    an_admin,
    bearer,
    factor_required,
    mailed,
    registration,
    texted,
    with_app,
)
from bench.rig import PASSWORD, Rig, address, number
from bench.single_use import CLOSED, Race, another, burned, came_in, changed, joined, of, recovered
from bench.volley import fire


def signup_code(opened: Rig, uses: int) -> Race:
    email = address()
    proof = mailed(opened, email, f"{AUTH}/signup", {"email": email, "password": PASSWORD})
    race = Race(fire(opened.service, f"{AUTH}/verify-otp", [proof] * uses))
    joined(opened, race, User.email == email)
    burned(opened, race, proof["challenge_id"])
    return race.one_wins(CLOSED)


def signin_code(opened: Rig, uses: int) -> Race:
    email = address()
    person = opened.account(email=email)
    proof = mailed(opened, email, LOGIN, {"identifier": email, "password": PASSWORD})
    return _second(opened, uses, person, proof)


def reset_code(opened: Rig, uses: int) -> Race:
    """Each brings a password of its own."""
    email = address()
    person = opened.account(email=email)
    return _reset(opened, uses, person, email, mailed(opened, email, f"{AUTH}/forgot-password", {"email": email}))


def invitation(opened: Rig, uses: int) -> Race:
    """An account that an admin opens, with the code that sets its first password."""
    email, admin = address(), an_admin(opened)
    person = opened.ask(f"{ADMIN}/users", {"email": email, "invite": True}, **bearer(admin))
    proof = {"challenge_id": person["invitation"]["challenge_id"], "otp": opened.mailbox.code("email", email)}
    return _reset(opened, uses, {"user": person}, email, proof)


def _reset(opened: Rig, uses: int, person: dict[str, Any], email: str, proof: dict[str, Any]) -> Race:
    bodies = [{**proof, "new_password": another(n)} for n in range(uses)]
    race = Race(fire(opened.service, f"{AUTH}/reset-password", bodies))
    burned(opened, race, proof["challenge_id"])
    recovered(opened, race, person, email)
    return race.one_wins(CLOSED)


def reset_grant(opened: Rig, uses: int) -> Race:
    """As a browser has it: a cookie, in exchange for the code. Each brings a password of its own."""
    email, browser = address(), Browser(opened)
    person = opened.account(email=email)
    opened.mailbox.mails.clear()
    browser.ask("/forgot-password", {"identifier": email})
    browser.ask("/validate-otp", {"identifier": email, "otp": opened.mailbox.code("email", email)})
    bodies = [{"identifier": email, "new_password": another(n)} for n in range(uses)]
    race = Race(fire(opened.service, "/reset-password", bodies, Cookie=browser.cookie))
    left = (OtpChallenge.user_id == of(person), OtpChallenge.grant_digest.is_not(None))
    race.must("grants that are left", opened.count(*left), 0)
    recovered(opened, race, person, email)
    return race.one_wins(CLOSED)


def new_email_code(opened: Rig, uses: int) -> Race:
    email = address()
    person = opened.account(email=address())
    proof = mailed(opened, email, f"{AUTH}/change-email", {"email": email}, **bearer(person))
    race = Race(fire(opened.service, f"{AUTH}/verify-otp", [proof] * uses))
    return changed(opened, race, person, User.email == email, proof["challenge_id"])


def new_phone_code(opened: Rig, uses: int) -> Race:
    phone = number()
    person = opened.account(email=address())
    asked = opened.ask(f"{AUTH}/change-phone", {"phone": phone}, **bearer(person))
    proof = {"challenge_id": asked["challenge_id"], "otp": opened.handset.code(phone)}
    race = Race(fire(opened.service, f"{AUTH}/verify-otp", [proof] * uses))
    return changed(opened, race, person, User.phone == phone, proof["challenge_id"])


def code_of_a_new_number(opened: Rig, uses: int) -> Race:
    phone = number()
    race = Race(fire(opened.service, f"{MOBILE}/verify-otp", [texted(opened, phone)] * uses))
    used = (OtpChallenge.destination == phone, OtpChallenge.used_at.is_not(None), OtpChallenge.attempts == 1)
    race.must("challenges that are used", opened.count(*used), 1)
    proven = (AuditLog.user_id == Signup.id, AuditLog.event == Event.NUMBER_PROVEN, Signup.phone == phone)
    race.must("proofs that are recorded", opened.count(*proven), 1)
    return race.one_wins(CLOSED)


def registration_token(opened: Rig, uses: int) -> Race:
    phone = number()
    race = Race(fire(opened.service, f"{MOBILE}/complete-registration", [registration(opened, phone)] * uses))
    joined(opened, race, User.phone == phone)
    return race.one_wins("401 token_invalid", CLOSED)


def code_of_a_known_number(opened: Rig, uses: int) -> Race:
    phone = number()
    person = opened.ask(f"{MOBILE}/complete-registration", registration(opened, phone))
    race = Race(fire(opened.service, f"{MOBILE}/verify-otp", [texted(opened, phone)] * uses))
    came_in(opened, race, person, 2)
    return race.one_wins(CLOSED)


def password_after_a_code(opened: Rig, uses: int) -> Race:
    """A number whose account has a password: the code by SMS is half of a sign-in."""
    phone = number()
    person = opened.account(phone=phone)
    body = {"challenge_id": factor_required(opened, phone), "password": PASSWORD}
    return _second(opened, uses, person, body)


def app_after_a_code(opened: Rig, uses: int) -> Race:
    """A number whose account has no password, and an authenticator app."""
    phone = number()
    person = opened.ask(f"{MOBILE}/complete-registration", registration(opened, phone))
    app, _ = with_app(opened, person)
    return _second(opened, uses, person, {"challenge_id": factor_required(opened, phone), "otp": app.now()})


def _second(opened: Rig, uses: int, person: dict[str, Any], body: dict[str, Any]) -> Race:
    race = Race(fire(opened.service, ANSWER, [body] * uses))
    came_in(opened, race, person, 2)
    burned(opened, race, body["challenge_id"])
    return race.one_wins(CLOSED)


def resend(opened: Rig, uses: int) -> Race:
    """Of many who ask for the code again, one is sent a message: the next is due half a minute later."""
    phone = number()
    asked = due_for_a_resend(opened, phone)
    race = Race(fire(opened.service, f"{AUTH}/resend-otp", [asked] * uses))
    of_it = UUID(asked["challenge_id"])
    race.must("sends", opened.rows(sa.select(OtpChallenge.sends).where(OtpChallenge.id == of_it)), [(2,)])
    race.must("messages", opened.count(OutboxMessage.recipient == phone), 2)
    again = (AuditLog.event == Event.CODE_SENT_AGAIN, AuditLog.user_id == Signup.id, Signup.phone == phone)
    race.must("sends that are recorded", opened.count(*again), 1)
    return race.one_wins("429 resend_too_soon")


def due_for_a_resend(opened: Rig, phone: str) -> dict[str, str]:
    """A number's challenge, as if its code had been sent a minute ago."""
    asked = opened.ask(f"{MOBILE}/send-otp", {"mobile_number": phone})
    opened.handset.code(phone)
    row = OtpChallenge.id == UUID(asked["challenge_id"])
    [[sent_at]] = opened.rows(sa.select(OtpChallenge.last_sent_at).where(row))
    with opened.engine.begin() as connection:
        connection.execute(sa.update(OtpChallenge).where(row).values(last_sent_at=sent_at - timedelta(minutes=1)))
    return {"challenge_id": asked["challenge_id"]}


SENT: dict[str, Callable[[Rig, int], Race]] = {
    "sign-up code": signup_code,
    "sign-in code": signin_code,
    "reset code": reset_code,
    "reset grant": reset_grant,
    "invitation": invitation,
    "code for a new e-mail address": new_email_code,
    "code for a new phone": new_phone_code,
    "code of a new number": code_of_a_new_number,
    "registration token": registration_token,
    "code of a known number": code_of_a_known_number,
    "password after a code by SMS": password_after_a_code,
    "app's code after a code by SMS": app_after_a_code,
    "resend": resend,
}
