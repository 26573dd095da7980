"""Signing up: details first, then the proof of one address. No account exists until the code came back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from app.core import accounts, audit, challenges, consent, lockout, passwords, policy, signups
from app.core.audit import Event
from app.core.challenges import Purpose, Question
from app.core.identifiers import Identifier
from app.delivery.outbox import Notice
from app.errors import UsernameTaken, ValidationFailed
from app.flows import asking, door, proof
from app.flows.door import DeviceInfo, SignedIn
from app.models import OtpChallenge, Signup
from app.work import Work


@dataclass(frozen=True, slots=True)
class Details:
    email: Identifier | None
    phone: Identifier | None
    username: Identifier | None
    name: str | None
    password: str
    consent: dict[str, Any] | None

    @property
    def addresses(self) -> list[Identifier]:
        return [a for a in (self.email, self.phone) if a]


def start(work: Work, details: Details, channel: str | None = None) -> OtpChallenge:
    """Keep the details for a day and send a code to one address. A taken address gets the same answer; its
    owner is told instead. Raises ValidationFailed, UsernameTaken, RateLimited, Overloaded.
    """
    destination = _destination(work, details, channel)
    known = [*(a.value for a in details.addresses), details.username.value if details.username else None, details.name]
    with audit.recording(work, Event.SIGNUP_REFUSED, destination.masked):
        passwords.accept(work, details.password, known)
    hashed = passwords.hashed(work, details.password)
    asking.ask_leave(work, Event.SIGNUP_REFUSED, destination)
    _reserve_username(work, details, destination)
    signup = _keep(work, details, hashed)
    owner = accounts.by_identifier(work, destination)
    question = Question(Purpose.SIGNUP, destination, lockout.key(destination), signup_id=signup.id)
    challenge = asking.ask(work, question, owner, Notice.SIGNUP_TRIED)
    signup.challenge_id = challenge.id
    audit.record(
        work, Event.SIGNUP_STARTED, destination.masked,
        user_id=signup.id, channel=challenge.channel, decoy=owner is not None,
    )  # fmt: skip
    return challenge


def _destination(work: Work, details: Details, channel: str | None) -> Identifier:
    """Which address is proven first: the one of the wished channel, else the first given."""
    for address in details.addresses:
        if channel is None or challenges.channel_of(address) == channel:
            return address
    missing = ValidationFailed.field("channel", "no_address", "There is no address for this channel.")
    if not details.addresses:
        missing = ValidationFailed.field("email", "required", "Give an e-mail address or a phone number.")
    raise audit.refusal(work, Event.SIGNUP_REFUSED, None, missing)


def _reserve_username(work: Work, details: Details, destination: Identifier) -> None:
    who = signups.claimant(details.email, details.phone)
    if details.username and not signups.hold_username(work, details.username, who):
        raise audit.refusal(work, Event.SIGNUP_REFUSED, destination.masked, UsernameTaken())


def _keep(work: Work, details: Details, hashed: str) -> Signup:
    return signups.start(
        work,
        email=details.email,
        phone=details.phone,
        username=details.username,
        name=details.name,
        password_hash=hashed,
        consent=consent.given(work, **details.consent) if details.consent else None,
    )


def verify(
    work: Work, challenge_id: UUID, code: str, device_info: DeviceInfo = None, *, holder: bool = True
) -> SignedIn:
    """The code came back: the account exists now and its owner is in, by the password they chose and the code.

    Raises ChallengeClosed, InvalidCode, AccountLocked.
    """
    proven = proof.check(work, challenge_id, code, lambda row: row.purpose == Purpose.SIGNUP, holder=holder)
    return door.admit(work, proven, (policy.PASSWORD,), device_info)
