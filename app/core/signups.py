"""Sign-ups: details without proof. Several of one address may coexist, each with its own password."""

from __future__ import annotations

from collections.abc import Set
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, and_, bindparam, delete, or_, select, update

from app.core import sessions, throttles
from app.core.identifiers import Identifier, Kind
from app.crypto.ids import uuid7
from app.crypto.keys import new_token, token_digest
from app.db import write_rows
from app.errors import TokenRevoked
from app.models import OtpChallenge, Signup, User, UsernameHold
from app.work import Work

LIFE = timedelta(days=1)
GRANT_LIFE = timedelta(minutes=10)  # from the proof of a number to the details


def start(
    work: Work,
    *,
    email: Identifier | None,
    phone: Identifier | None,
    username: Identifier | None,
    name: str | None,
    password_hash: str | None,
    consent: dict[str, Any] | None,
) -> Signup:
    """Keep what somebody said, for a day. Nothing of it is proven."""
    row = Signup(
        id=uuid7(work.now),
        email=email and email.value,
        phone=phone and phone.value,
        username=username and username.value,
        name=name,
        password_hash=password_hash,
        consent=consent,
        language=work.client.language or None,
        created_at=work.now,
        expires_at=work.now + LIFE,
    )
    return work.add(row)


OF_NUMBER = (
    select(Signup)
    .where(Signup.phone == bindparam("number"), Signup.password_hash.is_(None), Signup.completed_at.is_(None))
    .where(Signup.expires_at > bindparam("lasts"), Signup.given_up_by.is_(None))
    .order_by(Signup.created_at.desc())
    .limit(1)
)


def of_number(work: Work, number: Identifier) -> Signup | None:
    """The open passwordless sign-up of a number, and none that goes with an account which had it before."""
    return work.db.scalar(OF_NUMBER, {"number": number.value, "lasts": work.now + GRANT_LIFE})


def start_by_phone(work: Work, number: Identifier) -> Signup:
    """Keep a number that somebody may open an account with, without a password."""
    nothing = {"email": None, "username": None, "name": None, "password_hash": None, "consent": None}
    return start(work, phone=number, **nothing)


def grant(work: Work, row: Signup) -> str:
    """A token that completes a sign-up whose number was just proven; an earlier one is void."""
    token = new_token()
    row.grant_digest, row.grant_expires_at = token_digest(token), work.now + GRANT_LIFE
    row.given_up_by = None
    return token


def granted(work: Work, token: str) -> Signup | None:
    """The sign-up that a token completes, also when the token has expired. None for one that was used."""
    return work.db.scalar(select(Signup).where(Signup.grant_digest == token_digest(token)))


def spend_grant(work: Work, row: Signup, *, name: str, email: Identifier | None, consent: dict[str, Any]) -> bool:
    """Use a token up and keep what its bearer said. False if another request did, or it has expired or is gone."""
    unspent = (Signup.id == row.id, Signup.grant_digest == row.grant_digest, Signup.grant_expires_at > work.now)
    language = work.client.language or None  # of whoever proved the number, not of who first asked for a code
    said = {"name": name, "email": email and email.value, "consent": consent, "language": language}
    spent = update(Signup).where(*unspent, Signup.completed_at.is_(None)).values(grant_digest=None, **said)
    if work.changes(spent) != 1:
        return False
    work.db.refresh(row)
    return True


def find_open(work: Work, signup_id: UUID) -> Signup | None:
    row = work.db.get(Signup, signup_id)
    return row if row and row.completed_at is None and row.expires_at > work.now else None


def address(row: Signup, typed: Identifier) -> Identifier:
    """Where a sign-up is proven: the address that was typed or, after a username, its first one."""
    if typed.kind is not Kind.USERNAME:
        return typed
    return Identifier(Kind.EMAIL, row.email) if row.email else Identifier(Kind.PHONE, row.phone or "")


def other_address(row: Signup, proven: Identifier) -> Identifier | None:
    """The second address of a sign-up, if it gave two."""
    if proven.kind is Kind.EMAIL:
        return Identifier(Kind.PHONE, row.phone) if row.phone else None
    return Identifier(Kind.EMAIL, row.email) if row.email else None


def complete(work: Work, row: Signup) -> bool:
    """Use the sign-up up, and forget its password: the account has it. False if another proof did it first."""
    open_row = (Signup.id == row.id, Signup.completed_at.is_(None))
    now = {"completed_at": work.now, "password_hash": None, "given_up_by": None}
    taken = work.changes(update(Signup).where(*open_row).values(now)) == 1
    if taken and row.username:
        release_username(work, Identifier(Kind.USERNAME, row.username))
    return taken


def of_user(work: Work, user_id: UUID) -> list[Signup]:
    """The sign-up that an account began with, if it is still stored."""
    return list(work.db.scalars(select(Signup).where(Signup.id == user_id)))


def is_of(user: User) -> ColumnElement[bool]:
    """Whether a sign-up is that of an account, or of one of its addresses, or of one that it gave up (`note_given_up`)
    and nobody else has proven by it since.
    """
    addresses = [column == value for column, value in ((Signup.email, user.email), (Signup.phone, user.phone)) if value]
    given_up = and_(Signup.given_up_by == user.id, Signup.completed_at.is_(None))
    return or_(Signup.id == user.id, given_up, *addresses)


def note_given_up(work: Work, user: User, kind: Kind) -> None:
    """Note on the sign-ups that an address was to prove, and nobody has, whose it was: another takes its place, and the
    erasure of the account must still find them. They live on, for whoever began one would see it end, and so learn of
    the change. To be called with the user's row held, before it is written.
    """
    phone, email = (Signup.phone, user.phone), (Signup.email, user.email)
    (column, address), (other, _) = (phone, email) if kind is Kind.PHONE else (email, phone)
    if address:
        asked = select(OtpChallenge.id).where(OtpChallenge.destination == address)
        unproven = (column == address, or_(other.is_(None), Signup.challenge_id.in_(asked)))
        unmarked = (Signup.completed_at.is_(None), Signup.given_up_by.is_(None))
        work.changes(update(Signup).where(*unproven, *unmarked).values(given_up_by=user.id))


def hold_unproven(work: Work, user: User) -> list[UUID]:
    """The ids of sign-ups of somebody's addresses that nobody has completed, nor can until the unit ends."""
    open_rows = (is_of(user), Signup.id != user.id, Signup.completed_at.is_(None))
    return list(work.db.scalars(select(Signup.id).where(*open_rows).with_for_update()))


def forget_person(work: Work, user: User) -> None:
    """Delete the sign-up of an account, those of its addresses, and what they hold of usernames."""
    asked = select(Signup.username, Signup.email, Signup.phone).where(is_of(user), Signup.username.is_not(None))
    for username, email, phone in work.db.execute(asked):
        who = claimant(Identifier(Kind.EMAIL, email or ""), Identifier(Kind.PHONE, phone or ""))
        work.changes(delete(UsernameHold).filter_by(username=username, claimant=who))
    work.changes(delete(Signup).where(is_of(user)))
    if user.username:
        release_username(work, Identifier(Kind.USERNAME, user.username))


def claimant(*addresses: Identifier | None) -> str:
    """Who may hold a username: whoever signs up with the same addresses."""
    return throttles.key("claimant", *(a.value if a else "" for a in addresses))


def hold_username(work: Work, username: Identifier, who: str, owner: UUID | None = None) -> bool:
    """Reserve a username for a day, for one claimant. False if it is another's, as an account or a sign-up. `owner`:
    whose account may have it by now, by the same request sent twice. Raises TokenRevoked, and reserves nothing, if the
    caller's session has ended while another claimant was waited for.

    The accounts are asked again under the lock of the reservation, so two who ask at once cannot both pass.
    """
    name = username.value
    if _is_taken(work, name, owner):
        return False
    ours = {"username": name, "claimant": who, "expires_at": work.now + LIFE}
    [hold] = work.lock_rows(UsernameHold, [ours])
    if not sessions.caller_lasts(work):
        if hold.claimant == who:
            release_username(work, username)
        raise TokenRevoked()
    if hold.claimant != who and hold.expires_at > work.now:
        return False
    if _is_taken(work, name, owner):
        release_username(work, username)
        return False
    write_rows(work.db, UsernameHold, [ours])
    return True


def hold_usernames(work: Work, names: Set[Identifier], who: str) -> set[Identifier]:
    """Keep many usernames, that no account has, from sign-ups until the unit ends; those that are another claimant's
    already are returned. What is new of the reservations is to be released before the end.
    """
    ours = [{"username": name, "claimant": who, "expires_at": work.now + LIFE} for name in _sorted(names)]
    rows = work.lock_rows(UsernameHold, ours) if ours else []
    return {_username(row.username) for row in rows if row.claimant != who and row.expires_at > work.now}


def held_usernames(work: Work, names: Set[Identifier]) -> set[Identifier]:
    """Those of many usernames that are reserved, whoever for."""
    live = (UsernameHold.username.in_(_sorted(names)), UsernameHold.expires_at > work.now)
    return {_username(name) for name in work.db.scalars(select(UsernameHold.username).where(*live))}


def _sorted(names: Set[Identifier]) -> list[str]:
    return sorted(name.value for name in names)


def _username(name: str) -> Identifier:
    return Identifier(Kind.USERNAME, name)


def _is_taken(work: Work, name: str, owner: UUID | None) -> bool:
    return work.db.scalar(select(User.id).where(User.username == name)) not in (None, owner)


def release_username(work: Work, username: Identifier) -> None:
    """Let a hold go, because the name is on an account now, or whose it should have been is gone."""
    work.changes(delete(UsernameHold).where(UsernameHold.username == username.value))


def release_usernames(work: Work, names: Set[Identifier]) -> None:
    """Let many holds go."""
    if names:
        work.changes(delete(UsernameHold).where(UsernameHold.username.in_(_sorted(names))))
