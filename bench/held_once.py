"""What somebody holds: factors, passkeys, refresh tokens, a device. As in `sent_once`, each is used by all at once."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pyotp
import sqlalchemy as sa

from app.core import tokens
from app.core.audit import Event
from app.crypto.keys import token_digest
from app.delivery.outbox import Notice
from app.models import AuditLog, Authenticator, BackupCode, Device, Passkey, RefreshToken, Session
from bench.holders import ANSWER, AUTH, LOGIN, STEP_S, bearer, with_app, with_key
from bench.rig import PASSWORD, Rig, address, number
from bench.single_use import CLOSED, Race, burned, came_in, events, notices, of
from bench.volley import Answer, Request, fire, fire_all
from tests.lanes import SECRETS

REFRESH, STEP_UP = f"{AUTH}/refresh", f"{AUTH}/step-up"
LATE = {"401 token_reused", "401 token_revoked"}
CHALLENGES = 50  # among which the uses of one authenticator's code are shared
GUESSES = 5  # wrong ones, and an identifier is locked: a code that was used is a wrong one
KEY = {"Authorization": f"Bearer {SECRETS['api_key']}"}


def totp_step(opened: Rig, uses: int) -> Race:
    """At challenges of a sign-in, and as many of a step-up."""
    email = address()
    person = opened.account(email=email)
    app, _ = with_app(opened, person)
    asked = _challenges(opened, uses, person, email)
    step = int(time.time()) // STEP_S
    race = _shared(opened, uses, person, asked, app.at(step * STEP_S))
    mine = sa.select(Authenticator.last_step).where(Authenticator.user_id == of(person))
    race.must("the step that is used", opened.rows(mine), [(step,)])
    return _opened_once(opened, race, person)


def backup_code(opened: Rig, uses: int) -> Race:
    """As of a step."""
    email = address()
    person = opened.account(email=email)
    _, codes = with_app(opened, person)
    race = _shared(opened, uses, person, _challenges(opened, uses, person, email), codes[0])
    used = (BackupCode.user_id == of(person), BackupCode.used_at.is_not(None))
    race.must("codes that are used", opened.count(*used), 1)
    race.must("uses that are recorded", events(opened, person, Event.BACKUP_CODE_USED), 1)
    race.must("notices", notices(opened, person, Notice.BACKUP_CODE_USED), 1)
    return _opened_once(opened, race, person)


def _challenges(opened: Rig, uses: int, person: dict[str, Any], email: str) -> list[tuple[str, str]]:
    """Where to answer, and which challenge."""
    body, some = {"identifier": email, "password": PASSWORD}, min(uses, CHALLENGES)
    asked = [(ANSWER, opened.ask(LOGIN, body)["challenge_id"]) for _ in range(some // 2)]
    again = [(f"{STEP_UP}/verify", opened.ask(STEP_UP, {}, **bearer(person))["challenge_id"]) for _ in range(some // 2)]
    return [each for pair in zip(asked, again, strict=True) for each in pair]


def _shared(opened: Rig, uses: int, person: dict[str, Any], asked: list[tuple[str, str]], code: str) -> Race:
    places = [asked[n % len(asked)] for n in range(uses)]
    answers = [Request(path, {"challenge_id": at, "otp": code}, bearer(person)) for path, at in places]
    return Race(fire_all(opened.service, answers))


def _opened_once(opened: Rig, race: Race, person: dict[str, Any]) -> Race:
    """To any other challenge it is a wrong code: five lock the identifier, and five the sessions of the account."""
    again = events(opened, person, Event.STEP_UP_COMPLETED)
    race.must("step-ups that are recorded", again in (0, 1), True)
    came_in(opened, race, person, 2 - again)
    race.must("more guesses than five in each place", race.lost["400 invalid_code"] > 2 * GUESSES, False)
    return race.one_wins("400 invalid_code", "423 account_locked", CLOSED)


def refresh_token(opened: Rig, uses: int) -> Race:
    """Within its grace all get the one successor, and successors are counted. Whoever comes late ends the session."""
    person = opened.account(email=address())
    spent, session = person["refresh_token"], UUID(person["session_id"])
    race = Race(fire(opened.service, REFRESH, [{"refresh_token": spent}] * uses))
    successors = {race.volley.answers[n].said["refresh_token"] for n in race.won}
    race.successes = len(successors)
    line = RefreshToken.session_id == session
    [[used_at]] = opened.rows(sa.select(RefreshToken.used_at).where(RefreshToken.digest == token_digest(spent)))
    [[ended_at]] = opened.rows(sa.select(Session.revoked_at).where(Session.id == session))
    unspent = {
        row[0] for row in opened.rows(sa.select(RefreshToken.digest).where(line, RefreshToken.used_at.is_(None)))
    }
    race.must("the successor is what is unspent", unspent == {token_digest(each) for each in successors}, True)
    race.must("tokens", opened.count(line), 2)
    made = sa.select(AuditLog.facts).where(AuditLog.session_id == session, AuditLog.event == Event.SESSION_REFRESHED)
    race.must("successors that are recorded", sum(not facts["repeated"] for [facts] in opened.rows(made)), 1)
    if ended_at:
        race.must("ended within the grace", ended_at < used_at + tokens.GRACE, False)
    return race.one_wins(*(LATE if ended_at else ()))


def spent_refresh_token(opened: Rig, uses: int) -> Race:
    """After its grace nobody gets anything for it, the session ends once, and the successor with it."""
    person = opened.account(email=address())
    spent = {"refresh_token": person["refresh_token"]}
    fresh = opened.ask(REFRESH, spent)
    line = RefreshToken.session_id == UUID(person["session_id"])
    with opened.engine.begin() as connection:  # in place of waiting for the grace to end
        used_at = connection.scalar(sa.select(RefreshToken.used_at).where(line, RefreshToken.used_at.is_not(None)))
        earlier = {"used_at": used_at - timedelta(minutes=1)}
        connection.execute(sa.update(RefreshToken).where(line, RefreshToken.used_at.is_not(None)).values(earlier))
    race = Race(fire(opened.service, REFRESH, [spent] * uses))
    race.must("successes", race.successes, 0)
    race.must("refusals of another kind", race.lost.keys() - LATE, set())
    race.must("ends of the session", events(opened, person, Event.SESSION_ENDED), 1)
    race.must("notices", notices(opened, person, Notice.TOKEN_REUSED), 1)
    race.must("its successor", opened.post(REFRESH, {"refresh_token": fresh["refresh_token"]})[0], 401)
    return race


def passkey_alone(opened: Rig, uses: int) -> Race:
    person, key = with_key(opened, address())
    asked = opened.ask(f"{AUTH}/passkeys/options", {})
    body = {"challenge_id": asked["challenge_id"], "credential": key.get(asked["options"])}
    race = Race(fire(opened.service, f"{AUTH}/passkeys/login", [body] * uses))
    return _signed_once(opened, race, person, asked["challenge_id"])


def passkey_second(opened: Rig, uses: int) -> Race:
    email = address()
    person, key = with_key(opened, email)
    begun = {"challenge_id": opened.ask(LOGIN, {"identifier": email, "password": PASSWORD})["challenge_id"]}
    options = opened.ask(f"{AUTH}/passkeys/options", begun)["options"]
    race = Race(fire(opened.service, ANSWER, [{**begun, "method": "passkey", "credential": key.get(options)}] * uses))
    return _signed_once(opened, race, person, begun["challenge_id"])


def _signed_once(opened: Rig, race: Race, person: dict[str, Any], challenge_id: str) -> Race:
    used = (Passkey.user_id == of(person), Passkey.last_used_at.is_not(None))
    race.must("passkeys that are used", opened.count(*used), 1)
    came_in(opened, race, person, 2)
    burned(opened, race, challenge_id)
    return race.one_wins(CLOSED)


def device_code(opened: Rig, uses: int) -> Race:
    """Every answer is 200, and says of one that it is valid."""
    name = f"till-{number()[1:]}"
    made = opened.ask("/api/v1/devices/register", {"device_id": name, "user_id": "a race"}, **KEY)
    secret = base64.b32encode(base64.b64decode(made["data"]["derived_key"])).decode()
    body = {"device_id": name, "otp": pyotp.TOTP(secret).now()}
    race = Race(fire(opened.service, "/api/v1/otp/verify", [body] * uses, **KEY), good=_is_valid)
    mine = sa.select(Device.usage_count).where(Device.device_id == name)
    race.must("uses that are counted", opened.rows(mine), [(1,)])
    verified = (AuditLog.subject == name, AuditLog.event == Event.DEVICE_VERIFIED)
    race.must("codes that were right", opened.count(*verified), 1)
    return race.one_wins("200")


def _is_valid(answer: Answer) -> bool:
    return answer.status == 200 and answer.said["data"]["valid"] is True


HELD: dict[str, Callable[[Rig, int], Race]] = {
    "TOTP step": totp_step,
    "backup code": backup_code,
    "refresh token": refresh_token,
    "refresh token after its grace": spent_refresh_token,
    "passkey challenge": passkey_alone,
    "passkey as second step": passkey_second,
    "device code": device_code,
}
