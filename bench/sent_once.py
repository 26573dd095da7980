"""Codes that were sent, and what they are exchanged for: each has one made, used by all at once, and looked at.

The answers are half of it. The other half is what stands in the database afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import requests
import sqlalchemy as sa

from app.core.audit import Event
from app.delivery.outbox import Notice
from app.models import OtpChallenge, Session, User
from bench.rig import PASSWORD, Rig, address, number
from bench.single_use import ANSWER, AUTH, CLOSED, LOGIN, Race, bearer, burned, events, notices, sessions
from bench.volley import fire

MOBILE = "/api/v1/auth"


def _mailed(opened: Rig, email: str, path: str, body: Any, **headers: str) -> dict[str, Any]:
    """Ask for a code by e-mail. Returns what answers it."""
    opened.mailbox.mails.clear()
    asked = opened.ask(path, body, **headers)
    return {"challenge_id": asked["challenge_id"], "otp": opened.mailbox.code("email", email)}


def _texted(opened: Rig, phone: str) -> dict[str, Any]:
    """The same by SMS, without a password."""
    opened.handset.got.clear()
    opened.ask(f"{MOBILE}/send-otp", {"mobile_number": phone})
    return {"mobile_number": phone, "otp": opened.handset.code(phone)}


def _registration(opened: Rig, phone: str) -> dict[str, Any]:
    token = opened.ask(f"{MOBILE}/verify-otp", _texted(opened, phone))["registration_token"]
    return {"registration_token": token, "name": "Asha", "consent": True}


def signup_code(opened: Rig, uses: int) -> Race:
    email = address()
    proof = _mailed(opened, email, f"{AUTH}/signup", {"email": email, "password": PASSWORD})
    race = Race(fire(opened.service, f"{AUTH}/verify-otp", [proof] * uses))
    race.must("accounts", opened.count(User.email == email), 1)
    race.must("sessions", opened.count(Session.user_id == User.id, User.email == email), 1)
    burned(opened, race, proof["challenge_id"])
    return race.one_wins(CLOSED)


def signin_code(opened: Rig, uses: int) -> Race:
    email = address()
    person = opened.account(email=email)
    proof = _mailed(opened, email, LOGIN, {"identifier": email, "password": PASSWORD})
    race = Race(fire(opened.service, ANSWER, [proof] * uses))
    race.must("sessions", sessions(opened, person), 2)
    burned(opened, race, proof["challenge_id"])
    return race.one_wins(CLOSED)


def reset_code(opened: Rig, uses: int) -> Race:
    """Each brings a password of its own."""
    email = address()
    person = opened.account(email=email)
    proof = _mailed(opened, email, f"{AUTH}/forgot-password", {"email": email})
    bodies = [{**proof, "new_password": _password(n)} for n in range(uses)]
    race = Race(fire(opened.service, f"{AUTH}/reset-password", bodies))
    burned(opened, race, proof["challenge_id"])
    return _has_one_password(opened, race, person, email)


def reset_grant(opened: Rig, uses: int) -> Race:
    """As a browser has it: a cookie, in exchange for the code. Each brings a password of its own."""
    email, browser = address(), requests.Session()
    browser.trust_env = False
    person = opened.account(email=email)
    opened.mailbox.mails.clear()
    browser.post(f"{opened.service.base}/forgot-password", json={"identifier": email}).raise_for_status()
    proof = {"identifier": email, "otp": opened.mailbox.code("email", email)}
    browser.post(f"{opened.service.base}/validate-otp", json=proof).raise_for_status()
    bodies = [{"identifier": email, "new_password": _password(n)} for n in range(uses)]
    cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    race = Race(fire(opened.service, "/reset-password", bodies, Cookie=cookie))
    left = (OtpChallenge.user_id == UUID(person["user"]["id"]), OtpChallenge.grant_digest.is_not(None))
    race.must("grants that are left", opened.count(*left), 0)
    return _has_one_password(opened, race, person, email)


def _password(n: int) -> str:
    return f"another horse {n}"


def _has_one_password(opened: Rig, race: Race, person: dict[str, Any], email: str) -> Race:
    """That of the request that won; and the session of before has ended."""
    for n in (*race.won, *[n for n in (0, 1) if n not in race.won][:1]):
        status, _ = opened.post(LOGIN, {"identifier": email, "password": _password(n)})
        race.must("a sign-in with a new password", status, 200 if n in race.won else 401)
    race.must("recoveries", events(opened, person, Event.RECOVERY_COMPLETED), 1)
    race.must("notices", notices(opened, person, Notice.PASSWORD_CHANGED), 1)
    mine = Session.user_id == UUID(person["user"]["id"])
    race.must("sessions", opened.count(mine, Session.revoked_at.is_(None)), 0)
    return race.one_wins(CLOSED)


def new_email_code(opened: Rig, uses: int) -> Race:
    email = address()
    person = opened.account(email=address())
    proof = _mailed(opened, email, f"{AUTH}/change-email", {"email": email}, **bearer(person))
    race = Race(fire(opened.service, f"{AUTH}/verify-otp", [proof] * uses))
    race.must("whose address it is", opened.rows(sa.select(User.id).where(User.email == email)), [_id(person)])
    return _has_changed_once(opened, race, person, proof["challenge_id"])


def new_phone_code(opened: Rig, uses: int) -> Race:
    phone = number()
    person = opened.account(email=address())
    asked = opened.ask(f"{AUTH}/change-phone", {"phone": phone}, **bearer(person))
    proof = {"challenge_id": asked["challenge_id"], "otp": opened.handset.code(phone)}
    race = Race(fire(opened.service, f"{AUTH}/verify-otp", [proof] * uses))
    race.must("whose number it is", opened.rows(sa.select(User.id).where(User.phone == phone)), [_id(person)])
    return _has_changed_once(opened, race, person, proof["challenge_id"])


def _id(person: dict[str, Any]) -> tuple[UUID]:
    return (UUID(person["user"]["id"]),)


def _has_changed_once(opened: Rig, race: Race, person: dict[str, Any], challenge_id: str) -> Race:
    race.must("changes", events(opened, person, Event.CONTACT_CHANGED), 1)
    race.must("notices", notices(opened, person, Notice.CONTACT_CHANGED), 2)  # to the address of before, and to this
    burned(opened, race, challenge_id)
    return race.one_wins(CLOSED)


def code_of_a_new_number(opened: Rig, uses: int) -> Race:
    phone = number()
    race = Race(fire(opened.service, f"{MOBILE}/verify-otp", [_texted(opened, phone)] * uses))
    used = (OtpChallenge.destination == phone, OtpChallenge.used_at.is_not(None), OtpChallenge.attempts == 1)
    race.must("challenges that are used", opened.count(*used), 1)
    return race.one_wins(CLOSED)


def registration_token(opened: Rig, uses: int) -> Race:
    phone = number()
    race = Race(fire(opened.service, f"{MOBILE}/complete-registration", [_registration(opened, phone)] * uses))
    race.must("accounts", opened.count(User.phone == phone), 1)
    race.must("sessions", opened.count(Session.user_id == User.id, User.phone == phone), 1)
    return race.one_wins("401 token_invalid", CLOSED)


def code_of_a_known_number(opened: Rig, uses: int) -> Race:
    phone = number()
    opened.ask(f"{MOBILE}/complete-registration", _registration(opened, phone))
    race = Race(fire(opened.service, f"{MOBILE}/verify-otp", [_texted(opened, phone)] * uses))
    race.must("sessions", opened.count(Session.user_id == User.id, User.phone == phone), 2)
    return race.one_wins(CLOSED)


SENT: dict[str, Callable[[Rig, int], Race]] = {
    "sign-up code": signup_code,
    "sign-in code": signin_code,
    "reset code": reset_code,
    "reset grant": reset_grant,
    "code for a new e-mail address": new_email_code,
    "code for a new phone": new_phone_code,
    "code of a new number": code_of_a_new_number,
    "registration token": registration_token,
    "code of a known number": code_of_a_known_number,
}
