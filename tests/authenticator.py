"""The other side of a second factor: a phone app, by an independent library."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pyotp

from tests.conftest import World
from tests.people import Answer, Person


@dataclass
class App:
    """An authenticator app that scanned a QR code. It goes by the world's clock."""

    totp: pyotp.TOTP
    world: World
    factor_id: str
    backup_codes: list[str]

    def code(self, steps: int = 0) -> str:
        """What it shows, or showed or will show some steps from now."""
        return self.totp.at(self.world.clock.now + timedelta(seconds=30 * steps))

    def fresh(self) -> str:
        """What it shows in a step that was not used yet."""
        self.world.clock.advance(seconds=31)
        return self.code()


def enrol(world: World, person: Person, name: str | None = None) -> App:
    """Give somebody an authenticator app, confirmed by its first code."""
    begun = person.api.post("/api/auth/factors/totp", {"name": name} if name else {}, person.token).ok()
    totp = pyotp.parse_uri(begun["otpauth_uri"])
    assert isinstance(totp, pyotp.TOTP)
    app = App(totp, world, begun["factor_id"], [])
    app.backup_codes = confirm(person, app, app.code()).ok().body.get("backup_codes", [])
    return app


def confirm(person: Person, app: App, code: str) -> Answer:
    return person.api.post(f"/api/auth/factors/totp/{app.factor_id}/confirm", {"otp": code}, person.token)


def signin(person: Person, code: str, **more: Any) -> Answer:
    """The whole sign-in, answered with this code."""
    asked = person.ask_signin().ok()
    return person.verify_signin(asked["challenge_id"], code, **more)
