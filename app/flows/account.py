"""One's own account: password, addresses, name, what is stored, and leaving."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from app.core import (
    accounts,
    audit,
    authenticators,
    backup_codes,
    basis,
    challenges,
    consent,
    credentials,
    erasure,
    identifiers,
    lockout,
    passkeys,
    passwords,
    roles,
    sessions,
    signups,
    trusted_devices,
)
from app.core.audit import Event
from app.core.challenges import Purpose
from app.core.identifiers import Identifier
from app.delivery import listing, outbox
from app.delivery.outbox import Notice
from app.errors import ChallengeClosed, InvalidCredentials, LastAdmin, TokenRevoked, UsernameTaken, ValidationFailed
from app.flows import asking, proof
from app.models import OtpChallenge, User
from app.work import Work

CHANGES = (Purpose.CHANGE_EMAIL, Purpose.CHANGE_PHONE)


def change_password(work: Work, current: str, new: str) -> None:
    """Change the password with the current one: every other session ends, every address is told.

    A wrong current password counts like a wrong step-up. Raises ValidationFailed, InvalidCredentials, AccountLocked,
    Overloaded.
    """
    user = accounts.own(work)
    with audit.recording(work, Event.PASSWORD_REFUSED):
        passwords.accept(work, new, passwords.known_of(user), field="new_password")
    right = passwords.matches(work, user.password_hash, current)
    hashed = passwords.hashed(work, new)
    with audit.recording(work, Event.PASSWORD_REFUSED):
        sessions.must_last(work)  # hashing took a while
    _settle_guess(work, user, right)
    credentials.hold(work, user.id)
    compared = user.password_changed_at
    with audit.recording(work, Event.PASSWORD_REFUSED):
        user = accounts.own(work, held=True)  # the session may have ended while others were waited for
    if user.password_changed_at != compared or not accounts.set_password(work, user, hashed):
        raise audit.refusal(work, Event.PASSWORD_REFUSED, None, InvalidCredentials())
    ended = credentials.changed(work, user.id, "password_changed", keep=work.caller.session_id)
    outbox.tell(work, user, Notice.PASSWORD_CHANGED)
    audit.record(work, Event.PASSWORD_CHANGED, sessions_ended=ended)


def _settle_guess(work: Work, user: User, right: bool) -> None:
    budget = lockout.hold_signed_in(work, user.id)
    if refused := lockout.judge(work, budget, right):
        raise audit.refusal(work, Event.PASSWORD_REFUSED, identifiers.of_user(user)[0].masked, refused)
    lockout.forgive(budget)


def change_contact(work: Work, address: Identifier) -> OtpChallenge:
    """Ask for the proof of a new address: the same answer if it is another account's.

    Raises ValidationFailed if it is one's own already, RateLimited.
    """
    user, session_id = accounts.own(work), work.caller.session_id
    assert session_id is not None
    if address in accounts.contacts(user):
        same = ValidationFailed.field(address.kind, "unchanged", "This is your address already.")
        raise audit.refusal(work, Event.CONTACT_REFUSED, address.masked, same)
    asking.ask_leave(work, Event.CONTACT_REFUSED, address)
    return asking.ask_contact(work, user.id, session_id, address)


def confirm_contact(work: Work, challenge_id: UUID, code: str) -> User:
    """The code came back: the address is the user's. Old and new addresses are told, every other session ends.

    Raises ChallengeClosed, also when the address has got another owner or the session that asked has ended meanwhile,
    InvalidCode, AccountLocked.
    """
    proven = proof.check(work, challenge_id, code, lambda row: row.purpose in CHANGES)
    row, address = proven.challenge, proven.destination
    user = row.user
    if user:
        credentials.hold(work, user.id)
        user = accounts.hold(work, user.id)
    old = accounts.contacts(user) if user else []
    if user is None or not (basis.stands(work, row) and _take(work, user, address)):
        raise audit.refusal(work, Event.CONTACT_REFUSED, row.shown, ChallengeClosed(), user_id=row.user_id)
    for told in {*old, address}:
        outbox.notice(work, Notice.CONTACT_CHANGED, told, user, changed=row.channel, now=row.shown)
    ended = credentials.changed(work, user.id, "contact_changed", keep=row.session_id)
    audit.record(work, Event.CONTACT_CHANGED, row.shown, user_id=user.id, channel=row.channel, sessions_ended=ended)
    return user


def _take(work: Work, user: User, address: Identifier) -> bool:
    signups.note_given_up(work, user, address.kind)
    return accounts.set_contact(work, user, address)


def describe(work: Work, name: str | None, username: Identifier | None, language: str | None = None) -> User:
    """Change name, username and the language of messages, those that are given. Raises UsernameTaken, TokenRevoked if
    the account was erased in this moment, or the session has ended.
    """
    user = accounts.own(work, held=True)
    wished = username and username.value != user.username
    if username and wished and not signups.hold_username(work, username, user.id.hex, user.id):
        raise audit.refusal(work, Event.ACCOUNT_REFUSED, None, UsernameTaken())
    given = {"name": name, "username": username and username.value, "language": language}
    values = {field: value for field, value in given.items() if value}
    if not values:
        return user
    changed = accounts.change(work, user, values)
    if username:
        signups.release_username(work, username)
    if not changed:
        refused = UsernameTaken() if changed is None else TokenRevoked()
        raise audit.refusal(work, Event.ACCOUNT_REFUSED, None, refused)
    audit.record(work, Event.ACCOUNT_CHANGED, fields=list(values))
    return user


def export(work: Work) -> tuple[User, dict[str, list[Any]]]:
    """What is stored about the caller (GDPR art. 15 and 20), by kind, but for tokens and audit rows, of which there may
    be any number. No digest and no code.
    """
    user = accounts.own(work)
    audit.record(work, Event.ACCOUNT_EXPORTED)
    return user, {
        "signups": signups.of_user(work, user.id),
        "challenges": challenges.of_user(work, user.id),
        "sessions": sessions.all_of_user(work, user.id),
        "authenticators": authenticators.all_of_user(work, user.id),
        "passkeys": passkeys.of_user(work, user.id),
        "backup_codes": backup_codes.of_user(work, user.id),
        "trusted_devices": trusted_devices.all_of_user(work, user.id),
        "consents": consent.all_of_user(work, user.id),
        "messages": listing.of_user(work, user.id),
    }


def erase(work: Work) -> None:
    """Delete the caller's account. The audit rows stay, with the person taken out of them. Raises LastAdmin, and
    TokenRevoked if it got another role in this moment: it may be the last admin's by now.
    """
    user = accounts.own(work)
    lockout.hold_all(work, user)
    if user.role == roles.ADMIN and not roles.another_admin(work, user):
        raise audit.refusal(work, Event.ACCOUNT_REFUSED, None, LastAdmin())
    with audit.recording(work, Event.ACCOUNT_REFUSED):
        credentials.hold(work, user.id)
        accounts.own(work, held=True)
    for address in accounts.contacts(user):
        outbox.notice(work, Notice.ACCOUNT_ERASED, address, user)
    audit.record(work, Event.ACCOUNT_ERASED)
    outbox.forget_person(work, user)
    erasure.erase(work, user)
