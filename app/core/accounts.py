"""Accounts: the user row. What it holds of addresses is proven, and each is on one account only."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import ColumnElement, and_, delete, literal, select, update
from sqlalchemy.orm.attributes import set_committed_value

from app.core import lockout, policy
from app.core.identifiers import Identifier, Kind
from app.models import Signup, Throttle, User
from app.work import Work

DEFAULT_ROLE = "user"
MOST_ADMINS = 20
COLUMN = {Kind.EMAIL: User.email, Kind.PHONE: User.phone, Kind.USERNAME: User.username}
UNPROVEN = {Kind.EMAIL: Signup.email, Kind.PHONE: Signup.phone, Kind.USERNAME: Signup.username}


@dataclass(frozen=True, slots=True)
class Claim:
    """What is behind an identifier that somebody claims: an account, a sign-up that is not proven yet, both or
    nothing. Of several sign-ups it is the newest: whoever signs up again later can go on with that one alone.
    """

    user: User | None
    signup: Signup | None
    locked: bool

    @property
    def user_hash(self) -> str | None:
        return self.user.password_hash if self.user and self.user.disabled_at is None else None


def look_up(work: Work, identifier: Identifier, budget_key: str) -> Claim:
    """One statement that does the same work whether or not there is anybody."""
    nothing = select(literal(1).label("one")).subquery()
    unproven = and_(
        UNPROVEN[identifier.kind] == identifier.value,
        Signup.password_hash.is_not(None),
        Signup.completed_at.is_(None),
        Signup.expires_at > work.now,
    )
    query = (
        select(User, Signup, Throttle.key)
        .select_from(nothing)
        .outerjoin(User, COLUMN[identifier.kind] == identifier.value)
        .outerjoin(Signup, unproven)
        .outerjoin(Throttle, lockout.spent(work, budget_key))
        .order_by(Signup.created_at.desc())
        .limit(1)
    )
    user, signup, throttle = work.db.execute(query).one()
    return Claim(user, signup, throttle is not None)


def by_identifier(work: Work, identifier: Identifier) -> User | None:
    return work.db.scalar(select(User).where(COLUMN[identifier.kind] == identifier.value))


def by_id(work: Work, user_id: UUID) -> User | None:
    return work.db.get(User, user_id)


def admins(work: Work) -> list[User]:
    """Those who are told when something needs a person, the longest serving first."""
    serving = (User.role == "admin", User.disabled_at.is_(None), User.email.is_not(None))
    return list(work.db.scalars(select(User).where(*serving).order_by(User.id).limit(MOST_ADMINS)))


def create(work: Work, signup: Signup, proven: Identifier) -> User | None:
    """The account of a proven sign-up, with the one address that was proven. None if the address or the
    username has got an owner in the meantime. It takes the sign-up's id, so what was recorded before the
    proof is the person's to export and to erase.
    """
    user = User(
        id=signup.id,
        name=signup.name,
        username=signup.username,
        email=proven.value if proven.kind is Kind.EMAIL else None,
        phone=proven.value if proven.kind is Kind.PHONE else None,
        role=DEFAULT_ROLE,
        password_hash=signup.password_hash,
        language=signup.language,
        created_at=work.now,
        last_login_at=None,
        password_changed_at=work.now if signup.password_hash else None,
    )
    return user if work.insert_once(user) else None


def standing(user: User) -> policy.Standing:
    contacts = [c for c, value in ((policy.EMAIL, user.email), (policy.SMS, user.phone)) if value]
    return policy.Standing(user.password_hash is not None, tuple(contacts), recovered_by=user.recovered_by)


def contact(user: User, channel: str) -> Identifier | None:
    """The proven address that a channel reaches."""
    if channel == "sms":
        return Identifier(Kind.PHONE, user.phone) if user.phone else None
    return Identifier(Kind.EMAIL, user.email) if user.email else None


def contacts(user: User) -> list[Identifier]:
    return [found for channel in ("email", "sms") if (found := contact(user, channel))]


def set_contact(work: Work, user: User, proven: Identifier) -> bool:
    """Give a user a proven address in place of the old one. False if it is another account's by now."""
    change = update(User).where(User.id == user.id).values({COLUMN[proven.kind].key: proven.value})
    return work.if_free(lambda: work.changes(change)) and _reread(work, user)


def describe(
    work: Work, user: User, name: str | None, username: Identifier | None, language: str | None = None
) -> bool:
    """Change what is given. False if the username is another account's by now."""
    values = {
        "name": name or user.name,
        "username": username.value if username else user.username,
        "language": language or user.language,
    }
    change = update(User).where(User.id == user.id).values(values)
    return work.if_free(lambda: work.changes(change)) and _reread(work, user)


def _reread(work: Work, user: User) -> bool:
    work.db.refresh(user)
    return True


def set_password(work: Work, user: User, hashed: str, *, recovered_by: str | None = None) -> bool:
    """Change the password, if it still is what was read. False if somebody changed it in the meantime.

    `recovered_by`: the channel whose code it was set with, if no older proof was given.
    """
    now = {"password_hash": hashed, "password_changed_at": work.now, "recovered_by": recovered_by}
    return work.changes(update(User).where(User.id == user.id, _same_password(user)).values(now)) == 1


def refresh_hash(work: Work, user: User, hashed: str) -> bool:
    """Put a hash of today's cost in place of an older one of the same password. False if it was changed meanwhile."""
    renewed = update(User).where(User.id == user.id, _same_password(user)).values(password_hash=hashed)
    if work.changes(renewed) != 1:
        return False
    set_committed_value(user, "password_hash", hashed)
    return True


def _same_password(user: User) -> ColumnElement[bool]:
    return User.password_hash.is_not_distinct_from(user.password_hash)


def note_signin(work: Work, user: User) -> bool:
    """Stamp the sign-in, if the account still is what the proofs were checked against: not disabled, its
    password not changed. The row stays locked until the unit ends, so a change waits and then sees the session.
    A recovery is over with it: what policy asked after it was given.
    """
    untouched = (User.id == user.id, User.disabled_at.is_(None), _same_password(user))
    now = {"last_login_at": work.now, "recovered_by": None}
    stamped = work.changes(update(User).where(*untouched).values(now)) == 1
    set_committed_value(user, "last_login_at", work.now)
    return stamped


def erase(work: Work, user: User) -> None:
    """Delete the account and, by its foreign keys, sessions, tokens, challenges and consents."""
    work.changes(delete(User).where(User.id == user.id))
