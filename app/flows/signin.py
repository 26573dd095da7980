"""Signing in: the password, then what policy asks. The door itself is `door.finish`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from app.core import (
    accounts,
    audit,
    challenges,
    lockout,
    passwords,
    policy,
    sends,
    signups,
    trusted_devices,
)
from app.core.accounts import Claim
from app.core.audit import Event
from app.core.challenges import Purpose, Question
from app.core.identifiers import Identifier
from app.core.lockout import Budget
from app.delivery.outbox import Notice
from app.errors import InvalidCredentials
from app.flows import asking, door, proof
from app.flows.door import DeviceInfo, SignedIn
from app.flows.proof import Given
from app.models import OtpChallenge, Signup, TrustedDevice, User
from app.work import Work


@dataclass(frozen=True, slots=True)
class Asked:
    """A further step: one of these methods, answered to this challenge."""

    challenge: OtpChallenge
    methods: tuple[str, ...]


def start(
    work: Work,
    identifier: Identifier,
    password: str,
    *,
    channel: str | None = None,
    device_info: DeviceInfo = None,
    device_token: str | None = None,
) -> Asked | SignedIn:
    """The password step. Unknown identifier, wrong password and disabled account are one and the same refusal.

    `device_token`: of a device that the user had remembered: it stands for the code, and its guesses are counted apart.
    Raises InvalidCredentials, AccountLocked, RateLimited, Overloaded.
    """
    claim = accounts.look_up(work, identifier, lockout.key(identifier))
    device = trusted_devices.find(work, device_token, claim.user) if device_token else None
    user_right, signup_right = _compare(work, claim, password, judged=not claim.locked or device is not None)
    budget, owner = _settle(work, identifier, claim, device, user_right=user_right, signup_right=signup_right)
    if claim.user and owner:
        user = work.take(claim.user)
        passwords.renew(work, user, password)
        return _beyond_password(work, user, budget, device, channel=channel, device_info=device_info)
    assert claim.signup is not None
    return _ask_signup_again(work, work.take(claim.signup), identifier)


def _compare(work: Work, claim: Claim, password: str, *, judged: bool) -> tuple[bool, bool]:
    """Whether it is the account's password, and whether it is the one of a sign-up that is not proven yet. Nobody asks
    where the verdict is refused anyway.

    Each is compared whether or not the other is there: whoever signs up with somebody's address and then signs
    in gets the same answer, after the same work, whether or not that somebody has an account.
    """
    if not judged:
        return False, False
    user_right = passwords.matches(work, claim.user_hash, password)
    return user_right, claim.signup is not None and passwords.matches(work, claim.signup.password_hash, password)


def _settle(
    work: Work,
    identifier: Identifier,
    claim: Claim,
    device: TrustedDevice | None,
    *,
    user_right: bool,
    signup_right: bool,
) -> tuple[Budget, bool]:
    """The verdict on a password, under the locks of its counters: whether it is the account's. Returns only if it was
    right, the account's or the sign-up's, and in time.

    The password of a sign-up was compared with the account's, too: it is a wrong guess at that, whether or not there is
    one. The account's own budget has no say in it, or it would tell whose the address is.
    """
    whose = claim.user or claim.signup
    unproven = signups.address(claim.signup, identifier) if claim.signup else identifier
    contacts = accounts.contacts(claim.user) if claim.user else [unproven]
    sending = sends.keys_of_all(contacts, identifier)
    user_id = whose.id if whose else None
    if device:
        budget = lockout.hold_device(work, device.id, device.expires_at, beside=sending)
    else:
        at, is_account = lockout.key(identifier), claim.user is not None
        budget = lockout.hold(work, at, user_id, is_account=is_account, beside=sending)
    refused = lockout.judge(work, budget, user_right)
    if refused and (budget.wait or not signup_right):
        # Never a sign-up's: its history is some account's later, and would tell whose the address is, and who tried.
        about = claim.user.id if claim.user else None
        raise audit.refusal(work, Event.SIGNIN_REFUSED, identifier.masked, refused, user_id=about)
    return budget, refused is None


def _beyond_password(
    work: Work,
    user: User,
    budget: Budget,
    device: TrustedDevice | None,
    *,
    channel: str | None,
    device_info: DeviceInfo,
) -> Asked | SignedIn:
    if device is None:
        return advance(work, user, (policy.PASSWORD,), budget, channel=channel, device_info=device_info)
    if not trusted_devices.note_use(work, device):
        late = InvalidCredentials()  # it was forgotten while the password was being hashed
        raise audit.refusal(work, Event.SIGNIN_REFUSED, None, late, user_id=user.id)
    # The code was given when the device was remembered: for delicate acts that is long ago.
    both = (policy.PASSWORD, policy.DEVICE)
    return advance(work, user, both, budget, device_info=device_info, auth_time=device.created_at)


def advance(
    work: Work,
    user: User,
    methods: tuple[str, ...],
    budget: Budget,
    *,
    channel: str | None = None,
    device_info: DeviceInfo = None,
    auth_time: datetime | None = None,
) -> Asked | SignedIn:
    """The next step that policy asks of somebody who has proven `methods`, or the door.

    Raises Forbidden when there is no way on, RateLimited.
    """
    step = policy.next_step(accounts.standing(user), frozenset(methods), door.rule(work, user))
    if step == policy.DONE:
        return door.finish(work, user, methods, budget, device_info=device_info, auth_time=auth_time)
    # What remains after a code to the phone, no message carries: it would reach the same phone, or tell of another way.
    purpose = Purpose.SIGNIN if policy.PASSWORD in methods else Purpose.FACTOR
    challenge = asking.ask_for(
        work, user, step, purpose, Event.SIGNIN_REFUSED, budget_key=budget.key, channel=channel, methods=methods
    )
    audit.record(work, Event.SIGNIN_STARTED, challenge.shown, user_id=user.id, channel=challenge.channel)
    return Asked(challenge, step.methods)


def _ask_signup_again(work: Work, signup: Signup, identifier: Identifier) -> Asked:
    """Somebody who has not proven the address yet and knows the password: the sign-up's code again.

    If the address has an owner it is a decoy's that nobody gets, and all else is the same. Raises InvalidCredentials
    if it was erased a moment ago, and RateLimited.
    """
    row = challenges.find(work, signup.challenge_id) if signup.challenge_id else None
    if row is None or not challenges.is_open(work, row):
        destination = signups.address(signup, identifier)
        asking.ask_leave(work, Event.SIGNIN_REFUSED, destination, user_id=signup.id)
        question = Question(
            Purpose.SIGNUP, destination, lockout.key(destination), signup_id=signup.id, methods=(policy.PASSWORD,)
        )
        row = asking.ask(work, question, accounts.by_identifier(work, destination), Notice.SIGNUP_TRIED)
        signup.challenge_id = row.id
    elif not challenges.add_method(work, row, policy.PASSWORD):  # an erasure has taken the sign-up with it
        raise audit.refusal(work, Event.SIGNIN_REFUSED, None, InvalidCredentials())
    elif not challenges.resend_in(work, row) and row.sends < challenges.MAX_SENDS:
        row = asking.ask_again(work, row.id)
    audit.record(work, Event.SIGNIN_STARTED, row.shown, user_id=signup.id, channel=row.channel)
    return Asked(row, (row.channel,))


def verify(
    work: Work,
    challenge_id: UUID | None,
    given: Given,
    device_info: DeviceInfo = None,
    *,
    method: str | None = None,
    remember: bool = False,
    holder: bool = True,
) -> SignedIn:
    """The second step: a sign-in's answer by any method, or a sign-up's code whose password was just given. `remember`:
    skip it on this device from now on.

    Raises ValidationFailed, ChallengeClosed, InvalidCode, AccountLocked.
    """
    proven = proof.check_any(work, challenge_id, given, _fits, method, holder=holder)
    signed_in = door.admit(work, proven, tuple(proven.challenge.methods.split()), device_info)
    return _remembered(work, signed_in) if remember else signed_in


def _remembered(work: Work, signed_in: SignedIn) -> SignedIn:
    user_id = signed_in.user.id
    audit.record(work, Event.TRUSTED_DEVICE_ADDED, user_id=user_id, session_id=signed_in.session.id)
    return replace(signed_in, device_token=trusted_devices.remember(work, user_id))


def verify_password(
    work: Work, challenge_id: UUID, password: str, device_info: DeviceInfo = None, *, remember: bool = False
) -> SignedIn | Asked:
    """The password after a code by SMS. Raises ChallengeClosed, InvalidCredentials, AccountLocked, Overloaded."""
    proven = proof.check_password(work, challenge_id, password)
    user, before = proven.challenge.user, tuple(proven.challenge.methods.split())
    assert user is not None
    result = advance(work, user, (*before, policy.PASSWORD), proven.budget, device_info=device_info)
    return _remembered(work, result) if remember and isinstance(result, SignedIn) else result


def _fits(row: OtpChallenge) -> bool:
    finishes_signup = row.purpose == Purpose.SIGNUP and policy.PASSWORD in row.methods.split()
    factor = row.purpose == Purpose.FACTOR and row.channel != policy.PASSWORD
    return row.purpose == Purpose.SIGNIN or factor or finishes_signup
