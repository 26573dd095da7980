"""Signing in by a passkey: alone, or as the step that a sign-in or step-up asks for."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from app.core import audit, challenges, lockout, passkeys, policy
from app.core.audit import Event
from app.core.challenges import Purpose, Question
from app.core.passkeys import Ceremony
from app.errors import ChallengeClosed, NotFound
from app.flows import asking, door, proof
from app.flows.door import DeviceInfo, SignedIn
from app.models import OtpChallenge
from app.work import Work


def ask(work: Work, challenge_id: UUID | None) -> Ceremony:
    """What a browser needs to have a passkey used: for a challenge that one may answer, or without any for a sign-in of
    whoever it finds. Raises NotFound where there are no passkeys, ChallengeClosed.
    """
    _refuse_if_off(work)
    if challenge_id is None:
        return passkeys.showing(work, _ask_anybody(work))
    row = challenges.find(work, challenge_id)
    if row is None or not challenges.is_open(work, row) or not _takes_passkey(work, row):
        raise asking.refusal(work, row, ChallengeClosed())
    return passkeys.showing(work, row)


def _refuse_if_off(work: Work) -> None:
    if not passkeys.are_on(work):
        raise audit.refusal(work, Event.SIGNIN_REFUSED, None, NotFound())


def _ask_anybody(work: Work) -> OtpChallenge:
    question = Question(Purpose.PASSKEY, None, lockout.NOBODY, asks=policy.PASSKEY)
    row = challenges.issue(work, question)
    audit.record(work, Event.SIGNIN_STARTED, channel=row.channel)
    return row


def _takes_passkey(work: Work, row: OtpChallenge) -> bool:
    if row.user is None or row.purpose not in (*challenges.PROVEN, Purpose.FACTOR):
        return False
    return policy.PASSKEY in asking.methods_of(row, row.user) and passkeys.can_ask(work, row)


def sign_in(work: Work, challenge_id: UUID, given: dict[str, Any], device_info: DeviceInfo = None) -> SignedIn:
    """Let in whoever's passkey signed: it is two factors by itself, the device that holds it and what unlocks it.

    Raises NotFound where there are no passkeys, ChallengeClosed, InvalidCredentials.
    """
    _refuse_if_off(work)
    user = proof.check_discovered(work, challenge_id, given)
    return door.finish(work, user, (policy.PASSKEY,), lockout.unbounded(work), device_info=device_info)
