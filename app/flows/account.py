"""One's own account: password, addresses, name, what is stored, and leaving."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from app.core import accounts, audit, challenges, consent, identifiers, lockout, passwords, sessions, signups, tokens
from app.core.audit import Event
from app.core.challenges import Purpose
from app.core.identifiers import Identifier
from app.delivery import outbox
from app.delivery.outbox import Notice
from app.errors import ChallengeClosed, InvalidCredentials, TokenRevoked, UsernameTaken, ValidationFailed
from app.flows import proof
from app.models import OtpChallenge, User
from app.work import Work

CHANGES = (Purpose.CHANGE_EMAIL, Purpose.CHANGE_PHONE)


def me(work: Work) -> User:
    """The caller's own row."""
    assert work.caller.user_id is not None
    user = accounts.by_id(work, work.caller.user_id)
    assert user is not None
    return user


def change_password(work: Work, current: str, new: str) -> None:
    """Change the password with the current one: every other session ends, every address is told.

    A wrong current password counts like a wrong sign-in. Raises ValidationFailed, InvalidCredentials,
    AccountLocked, Overloaded.
    """
    user = me(work)
    with audit.recording(work, Event.PASSWORD_REFUSED):
        passwords.accept(work, new, passwords.known_of(user), field="new_password")
    right = passwords.matches(work, user.password_hash, current)
    hashed = passwords.hashed(work, new)
    _still_signed_in(work)
    _settle_guess(work, user, right)
    if not accounts.set_password(work, user, hashed):
        raise audit.refusal(work, Event.PASSWORD_REFUSED, None, InvalidCredentials())
    ended = _end_the_rest(work, user.id, "password_changed", work.caller.session_id)
    outbox.tell(work, user, Notice.PASSWORD_CHANGED)
    audit.record(work, Event.PASSWORD_CHANGED, sessions_ended=ended)


def _still_signed_in(work: Work) -> None:
    """A session that was ended while the password was being hashed changes nothing any more."""
    session_id = work.caller.session_id
    if session_id is None or sessions.live_account(work, session_id) is None:
        raise audit.refusal(work, Event.PASSWORD_REFUSED, None, TokenRevoked())


def _settle_guess(work: Work, user: User, right: bool) -> None:
    identifier = identifiers.of_user(user)[0]
    budget = lockout.hold(work, lockout.key(identifier), user.id)
    if refused := lockout.judge(work, budget, right):
        raise audit.refusal(work, Event.PASSWORD_REFUSED, identifier.masked, refused)


def _end_the_rest(work: Work, user_id: UUID, why: str, keep: UUID | None) -> int:
    """A changed credential ends what was begun with the old one: other sessions and open challenges."""
    challenges.void_all(work, user_id)
    return sessions.revoke_all(work, user_id, why, keep=keep)


def change_contact(work: Work, address: Identifier) -> OtpChallenge:
    """Ask for the proof of a new address: the same answer if it is another account's.

    Raises ValidationFailed if it is one's own already, RateLimited.
    """
    user, session_id = me(work), work.caller.session_id
    assert session_id is not None
    if address in accounts.contacts(user):
        same = ValidationFailed.field(address.kind, "unchanged", "This is your address already.")
        raise audit.refusal(work, Event.CONTACT_REFUSED, address.masked, same)
    proof.ask_leave(work, Event.CONTACT_REFUSED, address)
    return proof.ask_contact(work, user.id, session_id, address)


def confirm_contact(work: Work, challenge_id: UUID, code: str) -> User:
    """The code came back: the address is the user's. Old and new addresses are told, every other session ends.

    Raises ChallengeClosed, also when the address has got another owner meanwhile, InvalidCode, AccountLocked.
    """
    proven = proof.check(work, challenge_id, code, lambda row: row.purpose in CHANGES)
    row, address = proven.challenge, proven.destination
    user = row.user
    old = accounts.contacts(user) if user else []
    if user is None or not accounts.set_contact(work, user, address):
        raise audit.refusal(work, Event.CONTACT_REFUSED, row.shown, ChallengeClosed(), user_id=row.user_id)
    for told in {*old, address}:
        outbox.notice(work, Notice.CONTACT_CHANGED, told, user, changed=row.channel, now=row.shown)
    ended = _end_the_rest(work, user.id, "contact_changed", row.session_id)
    audit.record(work, Event.CONTACT_CHANGED, row.shown, user_id=user.id, channel=row.channel, sessions_ended=ended)
    return user


def describe(work: Work, name: str | None, username: Identifier | None, language: str | None = None) -> User:
    """Change name, username and the language of messages, those that are given. Raises UsernameTaken."""
    user = me(work)
    if username and username.value != user.username and not signups.hold_username(work, username, user.id.hex):
        raise audit.refusal(work, Event.ACCOUNT_REFUSED, None, UsernameTaken())
    if not accounts.describe(work, user, name, username, language):
        raise audit.refusal(work, Event.ACCOUNT_REFUSED, None, UsernameTaken())
    if username:
        signups.release_username(work, username)
    changed = [field for field, value in (("name", name), ("username", username), ("language", language)) if value]
    audit.record(work, Event.ACCOUNT_CHANGED, fields=changed)
    return user


def export(work: Work) -> dict[str, Any]:
    """All that is stored about the caller (GDPR art. 15 and 20), by kind. No digest and no code."""
    user = me(work)
    audit.record(work, Event.ACCOUNT_EXPORTED)
    return {
        "user": user,
        "signups": signups.of_user(work, user.id),
        "challenges": challenges.of_user(work, user.id),
        "sessions": sessions.all_of_user(work, user.id),
        "refresh_tokens": tokens.of_user(work, user.id),
        "consents": consent.of_user(work, user.id),
        "messages": outbox.of_user(work, user.id),
        "audit": audit.of_user(work, user.id),
    }


def erase(work: Work) -> None:
    """Delete the caller's account. The audit rows stay, with the person taken out of them."""
    user = me(work)
    for address in accounts.contacts(user):
        outbox.notice(work, Notice.ACCOUNT_ERASED, address, user).user_id = None
    audit.record(work, Event.ACCOUNT_ERASED)
    audit.forget_person(work, user.id)
    outbox.forget_person(work, user.id)
    challenges.forget_destinations(work, accounts.contacts(user))
    signups.forget_person(work, user)
    accounts.erase(work, user)
