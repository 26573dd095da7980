"""What a question stands on: the session that asked, the password and the address of then, an open sign-up."""

from __future__ import annotations

from app.core import accounts, challenges, locks, sessions, signups
from app.core.challenges import Purpose
from app.models import OtpChallenge, User
from app.work import Work


def stands(work: Work, row: OtpChallenge) -> bool:
    """False if what the question stands on is gone. The user is looked at as it was read with the question."""
    if row.session_id:
        lasts = sessions.live_account(work, row.session_id) is not None
        return lasts and (row.purpose != Purpose.STEP_UP or (row.user is not None and _is_theirs(row, row.user)))
    if row.user:
        return locks.may_enter(row.user, work.now) and _is_theirs(row, row.user)
    if row.purpose == Purpose.PASSKEY:  # the answer says whose it is
        return True
    if row.purpose == Purpose.PHONE:  # the number is proven, whoever has it by now
        return row.signup_id is not None
    return bool(row.signup_id and signups.find_open(work, row.signup_id))


def _is_theirs(row: OtpChallenge, user: User) -> bool:
    """True if password and address are those of when it was asked."""
    still = not challenges.goes_out(row) or challenges.destination(row) in accounts.contacts(user)
    return still and row.stands_on == user.password_changed_at
