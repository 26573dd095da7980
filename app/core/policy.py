"""What a person must still prove. Pure: no database, no clock; its test is a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

PASSWORD: Final = "pwd"  # noqa: S105 (the name of a method, RFC 8176)
EMAIL: Final = "email"
SMS: Final = "sms"
TOTP: Final = "totp"
PASSKEY: Final = "passkey"
BACKUP_CODE: Final = "backup_code"
DEVICE: Final = "device"  # remembered after a code: stands for one, never for the password
CONTACTS: Final = (EMAIL, SMS)  # the methods whose code a message carries


@dataclass(frozen=True, slots=True)
class Standing:
    """What an account can prove things with."""

    has_password: bool
    contacts: tuple[str, ...]  # the channels of its proven addresses, e-mail first
    factors: tuple[str, ...] = ()  # enrolled second methods, preferred first
    recovered_by: str | None = None  # the channel whose code alone set the password, before any sign-in with it


@dataclass(frozen=True, slots=True)
class Step:
    """The methods of which one must be proven next. With none left there is no way in."""

    methods: tuple[str, ...]


DONE: Final = Step(())
NO_WAY: Final = Step(("none",))


def next_step(standing: Standing, done: frozenset[str], mfa_policy: str) -> Step:
    """The next step of a sign-in, or DONE. `done`: the methods proven so far.

    `required`: a second method always. `optional`: only for an account with an enrolled factor. Somebody who
    began with a code to a contact gives the password too if the account has one. A passkey is two things by itself:
    the device that holds it, and what unlocks it. What a recovery leaves in doubt counts for nothing.
    """
    if PASSKEY in done:
        return DONE
    if PASSWORD not in done and (standing.has_password or not done):
        return Step((PASSWORD,))
    weak = _not_enough(standing)
    done = done - weak
    asked = mfa_policy == "required" or bool(standing.factors) or bool(weak)
    if len(done) > 1 or not asked:
        return DONE
    if PASSWORD not in done:
        return DONE if not standing.factors else Step(standing.factors)
    left = tuple(m for m in (*standing.factors, *standing.contacts) if m not in done | weak)
    return Step(left) if left else NO_WAY


def again(standing: Standing) -> Step:
    """What proves once more that it is them, in a session that they have: any second method."""
    left = tuple(m for m in (*standing.factors, *standing.contacts) if m not in _not_enough(standing))
    return Step(left) if left else NO_WAY


def _not_enough(standing: Standing) -> frozenset[str]:
    """The methods that count for nothing beside a password that was set by a code alone: every contact's code, where a
    factor is enrolled; else the phone's if a code to it set the password (a stolen SIM) and there is an e-mail address.
    """
    if standing.recovered_by and standing.factors:
        return frozenset(CONTACTS)
    return frozenset({SMS}) if standing.recovered_by == SMS and EMAIL in standing.contacts else frozenset()
