"""Getting back in: a code to a proven address, then a new password. A bound second factor stays bound."""

from __future__ import annotations

from uuid import UUID

from app.core import accounts, audit, basis, challenges, credentials, grants, lockout, locks, passwords
from app.core.audit import Event
from app.core.challenges import Purpose, Question
from app.core.identifiers import Identifier, Kind, stand_in
from app.delivery import outbox
from app.delivery.outbox import Notice
from app.errors import ChallengeClosed
from app.flows import asking, proof
from app.models import OtpChallenge, User
from app.work import Work

HIDDEN = "***"  # a destination that its asker must not learn


def start(work: Work, identifier: Identifier, channel: str | None = None) -> OtpChallenge:
    """Send a recovery code, or do the same work for nobody. What is answered depends on what was typed alone.

    Raises RateLimited.
    """
    user = accounts.by_identifier(work, identifier)
    wished = channel or ("sms" if identifier.kind is Kind.PHONE else "email")
    typed = identifier.kind is not Kind.USERNAME and challenges.channel_of(identifier) == wished
    found = accounts.contact(user, wished) if user and locks.may_enter(user, work.now) else None
    destination = identifier if typed else found or stand_in(Kind.PHONE if wished == "sms" else Kind.EMAIL, identifier)
    asking.ask_leave(work, Event.RECOVERY_REFUSED, identifier, destination, user_id=user.id if user else None)
    question = Question(
        Purpose.RECOVERY,
        destination,
        lockout.key(identifier),
        user_id=user.id if user and found else None,
        stands_on=user.password_changed_at if user and found else None,
        shown=identifier.masked if typed else HIDDEN,
        language=user.language if user else None,
    )
    challenge = asking.ask(work, question)
    audit.record(
        work, Event.RECOVERY_STARTED, identifier.masked,
        user_id=question.user_id, channel=wished, decoy=question.user_id is None,
    )  # fmt: skip
    return challenge


def finish(work: Work, challenge_id: UUID | None, code: str, new_password: str, *, holder: bool = True) -> None:
    """Set a new password with a recovery code: every session ends, every address is told, locks are lifted.

    A password that may not be set costs a guess, not the code, but for the one guess that a lock leaves. Raises
    ValidationFailed, ChallengeClosed, InvalidCode, AccountLocked, Overloaded.
    """
    with audit.recording(work, Event.RECOVERY_REFUSED):
        passwords.accept(work, new_password, (), field="new_password")
    hashed = passwords.hashed(work, new_password)
    proven = proof.check(
        work,
        challenge_id,
        code,
        lambda row: row.purpose == Purpose.RECOVERY,
        lambda row: passwords.accept(work, new_password, _about(row), field="new_password"),
        holder=holder,
    )
    user = proven.challenge.user
    by = proven.challenge.channel
    if user:
        credentials.hold(work, user.id)
    if user is None or not accounts.set_password(work, user, hashed, recovered_by=by):
        about = proven.challenge.user_id
        raise audit.refusal(work, Event.RECOVERY_REFUSED, proven.challenge.shown, ChallengeClosed(), user_id=about)
    _settle(work, user)


def validate(work: Work, challenge_id: UUID | None, code: str, *, holder: bool = True) -> str:
    """Exchange a recovery code for a grant, for browsers that ask for the new password on their next page.

    Raises ChallengeClosed, InvalidCode, AccountLocked.
    """
    proven = proof.check(work, challenge_id, code, lambda row: row.purpose == Purpose.RECOVERY, holder=holder)
    row = proven.challenge
    audit.record(work, Event.RECOVERY_PROVEN, row.shown, user_id=row.user_id)
    return grants.make(work, row)


def finish_granted(work: Work, identifier: Identifier, token: str, new_password: str) -> None:
    """Set a new password with a grant, as `finish` does with a code. It is for the identifier that the code was for.

    Raises ValidationFailed, which does not use the grant up, ChallengeClosed, Overloaded.
    """
    row = _granted(work, identifier, token)
    about = row.user_id if row else None
    with audit.recording(work, Event.RECOVERY_REFUSED, identifier.masked, user_id=about):
        if row is None:
            raise ChallengeClosed()
        passwords.accept(work, new_password, _about(row), field="new_password")
    hashed = passwords.hashed(work, new_password)
    user = row.user
    assert user is not None
    lockout.hold_all(work, user)
    challenges.find(work, row.id)  # as it is now: hashing took a while
    fresh = basis.stands(work, row) and grants.spend(work, row, token)
    credentials.hold(work, user.id)
    if not fresh or not accounts.set_password(work, user, hashed, recovered_by=row.channel):
        raise audit.refusal(work, Event.RECOVERY_REFUSED, row.shown, ChallengeClosed(), user_id=user.id)
    _settle(work, user)


def _granted(work: Work, identifier: Identifier, token: str) -> OtpChallenge | None:
    row = grants.find(work, token)
    return row if row and row.user and row.budget_key == lockout.key(identifier) else None


def _about(row: OtpChallenge) -> tuple[str | None, ...]:
    return passwords.known_of(row.user) if row.user else ()


def _settle(work: Work, user: User) -> None:
    ended = credentials.changed(work, user.id, "password_reset")
    lockout.forgive_all(work, user)
    outbox.tell(work, user, Notice.PASSWORD_CHANGED)
    audit.record(work, Event.RECOVERY_COMPLETED, user_id=user.id, sessions_ended=ended)
