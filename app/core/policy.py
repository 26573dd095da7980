"""What a person must still prove. Pure: no database, no clock; its test is a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

PASSWORD: Final = "pwd"  # noqa: S105 (the name of a method, RFC 8176)
EMAIL: Final = "email"
SMS: Final = "sms"


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
    began with a code to a contact gives the password too if the account has one. A password that was set by a code
    to a phone is no second thing beside a code to that phone (a stolen SIM), if there is any other.
    """
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


def _not_enough(standing: Standing) -> frozenset[str]:
    """The methods that count for nothing after this recovery: the phone's code, where there is another method."""
    others = {*standing.factors, *standing.contacts} - {SMS}
    return frozenset({SMS}) if standing.recovered_by == SMS and others else frozenset()
