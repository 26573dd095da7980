"""What is done once in a session that is open: proving oneself again, taking a factor into use, another password, the
end of it. As in `sent_once`, all do it at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pyotp
import sqlalchemy as sa

from app.core.audit import Event
from app.delivery.outbox import Notice
from app.models import AuditLog, Authenticator, BackupCode, Passkey, Session, Throttle, User
from bench.held_once import LATE, REFRESH, STEP_UP
from bench.holders import AUTH, Browser, bearer, mailed, new_key, with_key
from bench.rig import PASSWORD, Rig, address
from bench.single_use import CLOSED, Race, another, burned, came_in, events, has_one_password, notices, of
from bench.volley import Request, fire, fire_all

SIGN_OUT = 8  # of so many requests one signs out, and the others refresh
FIRST_FACTORS = 10  # backup codes that come with a first factor


def step_up_code(opened: Rig, uses: int) -> Race:
    email = address()
    person = opened.account(email=email)
    return _proven_again(opened, uses, person, mailed(opened, email, STEP_UP, {}, **bearer(person)))


def passkey_in_step_up(opened: Rig, uses: int) -> Race:
    person, key = with_key(opened, address())
    begun = {"challenge_id": opened.ask(STEP_UP, {}, **bearer(person))["challenge_id"]}
    options = opened.ask(f"{AUTH}/passkeys/options", begun)["options"]
    return _proven_again(opened, uses, person, {**begun, "method": "passkey", "credential": key.get(options)})


def _proven_again(opened: Rig, uses: int, person: dict[str, Any], proof: dict[str, Any]) -> Race:
    """The same session, as old as its sign-in; and the token that was given out is good."""
    race = Race(fire(opened.service, f"{STEP_UP}/verify", [proof] * uses, **bearer(person)))
    renewed = (Session.user_id == of(person), Session.auth_time > Session.created_at)
    race.must("sessions that are renewed", opened.count(*renewed), 0)
    race.must("step-ups that are recorded", events(opened, person, Event.STEP_UP_COMPLETED), 1)
    came_in(opened, race, person, 1)
    burned(opened, race, proof["challenge_id"])
    for n in race.won:
        race.must("its token", Browser(opened).get(f"{AUTH}/me", **bearer(race.volley.answers[n].said)), 200)
    return race.one_wins(CLOSED)


def app_in_setup(opened: Rig, uses: int) -> Race:
    person = opened.account(email=address())
    begun = opened.ask(f"{AUTH}/factors/totp", {}, **bearer(person))
    body, confirm = {"otp": pyotp.TOTP(begun["secret"]).now()}, f"{AUTH}/factors/totp/{begun['factor_id']}/confirm"
    race = Race(fire(opened.service, confirm, [body] * uses, **bearer(person)))
    in_use = (Authenticator.user_id == of(person), Authenticator.confirmed_at.is_not(None))
    race.must("apps in use", opened.count(*in_use), 1)
    return _has_a_factor(opened, race, person, "totp backup_code").one_wins("404 not_found")


def new_passkey(opened: Rig, uses: int) -> Race:
    person = opened.account(email=address())
    begun = opened.ask(f"{AUTH}/factors/passkeys", {}, **bearer(person))
    body, confirm = {"credential": new_key(opened).create(begun["options"])}, begun["challenge_id"]
    race = Race(fire(opened.service, f"{AUTH}/factors/passkeys/{confirm}/confirm", [body] * uses, **bearer(person)))
    race.must("passkeys", opened.count(Passkey.user_id == of(person)), 1)
    burned(opened, race, begun["challenge_id"])
    return _has_a_factor(opened, race, person, "passkey backup_code").one_wins(CLOSED)


def _has_a_factor(opened: Rig, race: Race, person: dict[str, Any], mfa: str) -> Race:
    """Their first, with the backup codes that come with it, told once."""
    race.must("factors", opened.rows(sa.select(User.mfa).where(User.id == of(person))), [(mfa,)])
    race.must("backup codes", opened.count(BackupCode.user_id == of(person)), FIRST_FACTORS)
    told = [len(race.volley.answers[n].said.get("backup_codes", ())) for n in race.won]
    race.must("backup codes that were told", told, [FIRST_FACTORS])
    race.must("factors that are recorded", events(opened, person, Event.FACTOR_ADDED), 1)
    race.must("notices", notices(opened, person, Notice.FACTOR_ADDED), 1)
    return race


def current_password(opened: Rig, uses: int) -> Race:
    """In exchange for another, each its own. Those that come late guess at the new one, and lock the identifier."""
    email = address()
    person = opened.account(email=email)
    bodies = [{"current_password": PASSWORD, "new_password": another(n)} for n in range(uses)]
    race = Race(fire(opened.service, f"{AUTH}/change-password", bodies, **bearer(person)))
    race.must("changes that are recorded", events(opened, person, Event.PASSWORD_CHANGED), 1)
    race.must("notices", notices(opened, person, Notice.PASSWORD_CHANGED), 1)
    with opened.engine.begin() as connection:  # in place of waiting for the lock to end
        connection.execute(sa.delete(Throttle))
    has_one_password(opened, race, email, race.won)
    return race.one_wins("401 invalid_credentials", "423 account_locked")


def sign_out(opened: Rig, uses: int) -> Race:
    """While others refresh. One end of the session is recorded, which is what is counted; and after it neither the old
    tokens nor any that were given out meanwhile open a door.
    """
    person = opened.account(email=address())
    spent, session = {"refresh_token": person["refresh_token"]}, UUID(person["session_id"])
    ends = [n % SIGN_OUT == SIGN_OUT // 2 for n in range(uses)]
    paths = [(f"{AUTH}/logout", {}) if end else (REFRESH, spent) for end in ends]
    race = Race(fire_all(opened.service, [Request(*each, bearer(person)) for each in paths]))
    race.must("sign-outs that were refused", sum(end and n not in race.won for n, end in enumerate(ends)), 0)
    race.must("refusals of another kind", race.lost.keys() - LATE, set())
    ended = sa.select(AuditLog.facts).where(AuditLog.session_id == session, AuditLog.event == Event.SESSION_ENDED)
    race.successes = sum(facts["count"] for [facts] in opened.rows(ended))
    race.must("ends of the session", race.successes, 1)
    race.must("sessions that ended", opened.count(Session.id == session, Session.revoked_at.is_not(None)), 1)
    given = [person, *(race.volley.answers[n].said for n in race.won if not ends[n])]
    for token in sorted({each["refresh_token"] for each in given}):
        race.must("a refresh token", opened.post(REFRESH, {"refresh_token": token})[0], 401)
    browser = Browser(opened)
    opens = sum(browser.get(f"{AUTH}/me", **bearer(each)) != 401 for each in given)
    race.must("access tokens that open", opens, 0)
    return race


IN_SESSION: dict[str, Callable[[Rig, int], Race]] = {
    "step-up code": step_up_code,
    "passkey in a step-up": passkey_in_step_up,
    "app in setup": app_in_setup,
    "new passkey": new_passkey,
    "current password": current_password,
    "sign-out beside refreshes": sign_out,
}
