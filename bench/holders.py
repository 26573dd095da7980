"""People as races find them: with a code in hand, an authenticator app, a passkey, a browser, an office."""

from __future__ import annotations

import time
from typing import Any

import pyotp
import requests
import sqlalchemy as sa

from app.models import User
from bench.rig import PASSWORD, Rig, address
from tests import security_key

AUTH, MOBILE, ADMIN = "/api/auth", "/api/v1/auth", "/api/admin"
LOGIN, ANSWER = f"{AUTH}/login", f"{AUTH}/login/verify"
STEP_S = 30


class Browser:
    """Keeps cookies."""

    def __init__(self, opened: Rig) -> None:
        self._kept, self._base = requests.Session(), opened.service.base
        self._kept.trust_env = False

    def ask(self, path: str, body: Any) -> dict[str, Any]:
        """Post something that must succeed."""
        answer = self._kept.post(self._base + path, json=body)
        assert answer.ok, (path, answer.status_code, answer.text)
        return dict(answer.json())

    def get(self, path: str, **headers: str) -> int:
        """The status of an answer."""
        return self._kept.get(self._base + path, headers=headers).status_code

    @property
    def cookie(self) -> str:
        return "; ".join(f"{name}={value}" for name, value in self._kept.cookies.items())


def bearer(person: dict[str, Any]) -> dict[str, str]:
    return {"Authorization": f"Bearer {person['access_token']}"}


def mailed(opened: Rig, email: str, path: str, body: Any, **headers: str) -> dict[str, Any]:
    """Ask for a code by e-mail. Returns what answers it."""
    opened.mailbox.mails.clear()
    asked = opened.ask(path, body, **headers)
    return {"challenge_id": asked["challenge_id"], "otp": opened.mailbox.code("email", email)}


def texted(opened: Rig, phone: str) -> dict[str, Any]:
    """The same by SMS, without a password."""
    opened.handset.got.clear()
    opened.ask(f"{MOBILE}/send-otp", {"mobile_number": phone})
    return {"mobile_number": phone, "otp": opened.handset.code(phone)}


def registration(opened: Rig, phone: str) -> dict[str, Any]:
    """What opens the account of a number that was just proven."""
    token = opened.ask(f"{MOBILE}/verify-otp", texted(opened, phone))["registration_token"]
    return {"registration_token": token, "name": "Asha", "consent": True}


def factor_required(opened: Rig, phone: str) -> str:
    """The challenge that comes after the code by SMS, where that is not enough."""
    asked = opened.ask(f"{MOBILE}/verify-otp", texted(opened, phone))
    assert asked["status"] == "factor_required", asked
    return str(asked["challenge_id"])


def with_app(opened: Rig, person: dict[str, Any]) -> tuple[pyotp.TOTP, list[str]]:
    """Their new authenticator app, confirmed by the step before this one, and their backup codes."""
    begun = opened.ask(f"{AUTH}/factors/totp", {}, **bearer(person))
    app, confirm = pyotp.TOTP(begun["secret"]), f"{AUTH}/factors/totp/{begun['factor_id']}/confirm"
    if time.time() % STEP_S > STEP_S - 2:  # else the code may be two steps old when it is looked at
        time.sleep(2)
    return app, opened.ask(confirm, {"otp": app.at(time.time() - STEP_S)}, **bearer(person))["backup_codes"]


def new_key(opened: Rig) -> security_key.Authenticator:
    """One that does not count, so that the challenge alone makes an answer good once."""
    return security_key.Authenticator(opened.settings["public_url"], counts=False)


def with_key(opened: Rig, email: str) -> tuple[dict[str, Any], security_key.Authenticator]:
    """Somebody with a passkey."""
    person, key = opened.account(email=email), new_key(opened)
    begun = opened.ask(f"{AUTH}/factors/passkeys", {}, **bearer(person))
    made = {"credential": key.create(begun["options"])}
    opened.ask(f"{AUTH}/factors/passkeys/{begun['challenge_id']}/confirm", made, **bearer(person))
    return person, key


def an_admin(opened: Rig) -> dict[str, Any]:
    """Somebody in office, who has just signed in."""
    email = address()
    opened.account(email=email)
    with opened.engine.begin() as connection:
        connection.execute(sa.update(User).where(User.email == email).values(role="admin"))
    return opened.ask(ANSWER, mailed(opened, email, LOGIN, {"identifier": email, "password": PASSWORD}))
