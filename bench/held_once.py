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
from bench.rig import PASSWORD, Rig, address, number
from bench.single_use import ANSWER, AUTH, CLOSED, LOGIN, Race, bearer, burned, events, notices, sessions
from bench.volley import Answer, fire
from tests import security_key
from tests.lanes import SECRETS

REFRESH = f"{AUTH}/refresh"
LATE = {"401 token_reused", "401 token_revoked"}
STEP_S = 30
CHALLENGES = 50  # among which the uses of one authenticator's code are shared
GUESSES = 5  # wrong ones, and an identifier is locked: a code that was used is a wrong one
KEY = {"Authorization": f"Bearer {SECRETS['api_key']}"}


def _with_app(opened: Rig, email: str) -> tuple[dict[str, Any], pyotp.TOTP, list[str]]:
    """Somebody with an authenticator app, confirmed by the step before this one, and their backup codes."""
    person = opened.account(email=email)
    begun = opened.ask(f"{AUTH}/factors/totp", {}, **bearer(person))
    app, confirm = pyotp.TOTP(begun["secret"]), f"{AUTH}/factors/totp/{begun['factor_id']}/confirm"
    if time.time() % STEP_S > STEP_S - 2:  # else the code may be two steps old when it is looked at
        time.sleep(2)
    codes = opened.ask(confirm, {"otp": app.at(time.time() - STEP_S)}, **bearer(person))["backup_codes"]
    return person, app, codes


def _with_key(opened: Rig, email: str) -> tuple[dict[str, Any], security_key.Authenticator]:
    """Somebody with a passkey that does not count, so that the challenge alone makes an answer good once."""
    person, key = opened.account(email=email), security_key.Authenticator(opened.settings["public_url"], counts=False)
    begun = opened.ask(f"{AUTH}/factors/passkeys", {}, **bearer(person))
    made = {"credential": key.create(begun["options"])}
    opened.ask(f"{AUTH}/factors/passkeys/{begun['challenge_id']}/confirm", made, **bearer(person))
    return person, key


def totp_step(opened: Rig, uses: int) -> Race:
    email = address()
    person, app, _ = _with_app(opened, email)
    asked = _challenges(opened, uses, email)
    step = int(time.time()) // STEP_S
    race = _shared(opened, uses, asked, app.at(step * STEP_S))
    mine = sa.select(Authenticator.last_step).where(Authenticator.user_id == UUID(person["user"]["id"]))
    race.must("the step that is used", opened.rows(mine), [(step,)])
    return _opened_once(opened, race, person)


def backup_code(opened: Rig, uses: int) -> Race:
    email = address()
    person, _, codes = _with_app(opened, email)
    race = _shared(opened, uses, _challenges(opened, uses, email), codes[0])
    mine = BackupCode.user_id == UUID(person["user"]["id"])
    race.must("codes that are used", opened.count(mine, BackupCode.used_at.is_not(None)), 1)
    race.must("notices", notices(opened, person, Notice.BACKUP_CODE_USED), 1)
    return _opened_once(opened, race, person)


def _challenges(opened: Rig, uses: int, email: str) -> list[str]:
    body = {"identifier": email, "password": PASSWORD}
    return [opened.ask(LOGIN, body)["challenge_id"] for _ in range(min(uses, CHALLENGES))]


def _shared(opened: Rig, uses: int, asked: list[str], code: str) -> Race:
    bodies = [{"challenge_id": asked[n % len(asked)], "otp": code} for n in range(uses)]
    return Race(fire(opened.service, ANSWER, bodies))


def _opened_once(opened: Rig, race: Race, person: dict[str, Any]) -> Race:
    """To any other challenge it is a wrong code: five of these lock the identifier."""
    race.must("sessions", sessions(opened, person), 2)
    race.must("more guesses than five", race.lost["400 invalid_code"] > GUESSES, False)
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
    person, key = _with_key(opened, address())
    asked = opened.ask(f"{AUTH}/passkeys/options", {})
    body = {"challenge_id": asked["challenge_id"], "credential": key.get(asked["options"])}
    race = Race(fire(opened.service, f"{AUTH}/passkeys/login", [body] * uses))
    return _signed_once(opened, race, person, asked["challenge_id"])


def passkey_second(opened: Rig, uses: int) -> Race:
    email = address()
    person, key = _with_key(opened, email)
    begun = {"challenge_id": opened.ask(LOGIN, {"identifier": email, "password": PASSWORD})["challenge_id"]}
    options = opened.ask(f"{AUTH}/passkeys/options", begun)["options"]
    race = Race(fire(opened.service, ANSWER, [{**begun, "method": "passkey", "credential": key.get(options)}] * uses))
    return _signed_once(opened, race, person, begun["challenge_id"])


def _signed_once(opened: Rig, race: Race, person: dict[str, Any], challenge_id: str) -> Race:
    mine = (Passkey.user_id == UUID(person["user"]["id"]), Passkey.last_used_at.is_not(None))
    race.must("passkeys that are used", opened.count(*mine), 1)
    race.must("sessions", sessions(opened, person), 2)
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
