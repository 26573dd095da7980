"""Erasing a person: the account goes with all that hangs on it, the audit rows stay without the person."""

from __future__ import annotations

from app.core import accounts, audit, challenges, lockout, revocations, signups
from app.core.audit import Event
from app.models import User
from app.work import Work


def erase(work: Work, user: User) -> None:
    """Take the person out of what stays, and delete the rest. What waits to be sent is the flow's to delete. The unit
    holds the counters of the person's guesses, which were to be locked before anything else.
    """
    accounts.hold(work, user.id)  # whoever is signing in just now has done so, or will find no account
    revocations.note_erased(work, user.id)
    challenges.forget_destinations(work, accounts.contacts(user))
    unproven = signups.hold_unproven(work, user)
    audit.record_each(work, Event.SIGNUP_ERASED, {each: {} for each in unproven})
    audit.forget_person(work, user.id, *unproven)
    signups.forget_person(work, user)
    lockout.forget(work, user)
    accounts.erase(work, user)
