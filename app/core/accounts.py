"""Accounts: the user row. What it holds of addresses is proven, and each is on one account only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import BindParameter, ColumnElement, Select, and_, bindparam, delete, literal, select, union_all, update
from sqlalchemy.orm.attributes import set_committed_value

from app.core import lockout, locks, people, policy, roles, sessions
from app.core.identifiers import Identifier, Kind
from app.crypto.ids import NOBODY, uuid7
from app.errors import TokenRevoked
from app.models import Signup, Throttle, User
from app.work import M, Work

DEFAULT_ROLE = "user"
MOST_ADMINS = 20
COLUMN = {Kind.EMAIL: User.email, Kind.PHONE: User.phone, Kind.USERNAME: User.username}
OWNER = {kind: select(User).where(column == bindparam("value")) for kind, column in COLUMN.items()}
UNPROVEN = {Kind.EMAIL: Signup.email, Kind.PHONE: Signup.phone, Kind.USERNAME: Signup.username}
USER, SIGNUP = tuple(User.__table__.columns), tuple(Signup.__table__.columns)
VALUE: BindParameter[str] = bindparam("value")
NOW: BindParameter[datetime] = bindparam("now")
STAND_IN: dict[str, Any] = {  # no times: MariaDB would make texts of them, and of those beside them
    "id": NOBODY,
    "role": DEFAULT_ROLE,
    "mfa": "",
    **dict.fromkeys(("name", "name_key", "username"), "nobody"),
    "email": "nobody@example.com",
    "phone": "+15555550100",
    "password_hash": "$argon2id$" + 87 * "-",
}
WHOLE_STAND_IN = {column.name: STAND_IN.get(column.name) for column in USER}
PROVEN = ("password_changed_at", "email", "phone")  # what a proof stands on; a hash may be renewed meanwhile
SAME = [getattr(User, name).is_not_distinct_from(bindparam(f"read_{name}")) for name in PROVEN]


@dataclass(frozen=True, slots=True)
class Claim:
    """What is behind an identifier that somebody claims: an account, a sign-up that is not proven yet, both or
    nothing. Of several sign-ups it is the newest: whoever signs up again later can go on with that one alone. Neither
    is of this unit's session until it is taken (`take`).
    """

    user: User | None
    signup: Signup | None
    locked: bool
    open: bool  # the account is neither disabled nor locked

    @property
    def user_hash(self) -> str | None:
        return self.user.password_hash if self.user and self.open else None


def look_up(work: Work, identifier: Identifier, budget_key: str) -> Claim:
    """One statement that does the same work whether or not there is anybody: in place of an account that is not there
    it reads one that looks like it. What was loaded for accounts alone was to be seen in the time of a wrong password.
    """
    given = {"value": identifier.value, "budget_key": budget_key, "now": work.now}
    row = work.db.execute(_behind(identifier.kind), given).one()
    user, signup = _as_stored(User, row[: len(USER)]), _as_stored(Signup, row[len(USER) : -1])
    may_enter = locks.may_enter(user, work.now)
    somebody = user if user.id != NOBODY else None
    return Claim(somebody, signup if signup.id else None, row[-1] is not None, may_enter)


def _as_stored(model: type[M], values: Sequence[Any]) -> M:
    return model(**dict(zip(model.__table__.columns.keys(), values, strict=True)))


@cache
def _behind(kind: Kind) -> Select[Any]:
    stored = select(literal(0).label("place"), *USER).where(COLUMN[kind] == VALUE)
    nobody = select(literal(1), *(literal(STAND_IN.get(column.name), column.type) for column in USER))
    found = union_all(stored, nobody).order_by("place").limit(1).subquery()
    unproven = and_(
        UNPROVEN[kind] == VALUE,
        Signup.password_hash.is_not(None),
        Signup.completed_at.is_(None),
        Signup.expires_at > NOW,
    )
    return (
        select(*found.columns[1:], *SIGNUP, Throttle.key)
        .select_from(found)
        .outerjoin(Signup, unproven)
        .outerjoin(Throttle, lockout.spent(bindparam("budget_key"), NOW))
        .order_by(Signup.created_at.desc())
        .limit(1)
    )


def by_identifier(work: Work, identifier: Identifier) -> User | None:
    """The account of an identifier. If there is none, one that looks like it is made all the same, as by `look_up`."""
    found = work.db.scalar(OWNER[identifier.kind], {"value": identifier.value})
    if found is None:
        User(**WHOLE_STAND_IN)
    return found


def by_id(work: Work, user_id: UUID) -> User | None:
    return work.db.get(User, user_id)


def hold(work: Work, user_id: UUID | None) -> User | None:
    """An account as it is now, its row locked until the unit ends."""
    work.begin_writing()
    now = select(User).where(User.id == user_id).with_for_update()
    return work.db.scalar(now, execution_options={"populate_existing": True})


def own(work: Work, *, held: bool = False) -> User:
    """The caller's own row; `held`: as it is now, and locked until the unit ends. Raises TokenRevoked if the account
    was erased a moment ago, or the session has ended while the row was waited for.
    """
    mine = work.caller.user_id
    user = hold(work, mine) if held else work.db.scalar(select(User).where(User.id == mine))
    if user is None or (held and not sessions.caller_lasts(work)):
        raise TokenRevoked()
    return user


def admins(work: Work) -> list[User]:
    """Those who are told when something needs a person, the longest serving first."""
    serving = (User.role == roles.ADMIN, locks.unlocked(work.now), User.email.is_not(None))
    return list(work.db.scalars(select(User).where(*serving).order_by(User.id).limit(MOST_ADMINS)))


def create(work: Work, signup: Signup, proven: Identifier) -> User | None:
    """The account of a proven sign-up, with the one address that was proven. None if the address or the
    username has got an owner in the meantime. It takes the sign-up's id, so what was recorded before the
    proof is the person's to export and to erase.
    """
    user = User(
        id=signup.id,
        name=signup.name,
        name_key=people.folded(signup.name),
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
    factors = tuple(user.mfa.split())
    return policy.Standing(user.password_hash is not None, tuple(contacts), factors, user.recovered_by)


def contact(user: User, channel: str) -> Identifier | None:
    """The proven address that a channel reaches; None also for a method that no message carries."""
    if channel == policy.SMS:
        return Identifier(Kind.PHONE, user.phone) if user.phone else None
    return Identifier(Kind.EMAIL, user.email) if channel == policy.EMAIL and user.email else None


def contacts(user: User) -> list[Identifier]:
    return [found for channel in policy.CONTACTS if (found := contact(user, channel))]


def set_contact(work: Work, user: User, proven: Identifier) -> bool:
    """Give a user a proven address in place of the old one. False if it is another account's by now, or the user is
    gone.
    """
    return bool(_write(work, user, {COLUMN[proven.kind].key: proven.value}))


def _write(work: Work, user: User, values: Mapping[str, Any], *unchanged: ColumnElement[bool]) -> bool | None:
    """Write these columns and no other: what was read of them may be old. False if the row is gone, or is not as
    `unchanged` says; None if another account has what is unique.
    """
    written = update(User).where(User.id == user.id, *unchanged).values(dict(values))
    took: list[int] = []
    if not work.if_free(lambda: took.append(work.changes(written))):
        return None
    if took != [1]:
        return False
    work.db.refresh(user)
    return True


def set_password(work: Work, user: User, hashed: str, *, recovered_by: str | None = None) -> bool:
    """Change the password, if it still is what was read. False if somebody changed it in the meantime.

    `recovered_by`: the channel whose code it was set with, if no older proof was given; then neither may an address
    have changed, for the code may have gone to the one of before.
    """
    now = {"password_hash": hashed, "password_changed_at": work.now, "recovered_by": recovered_by}
    proven = PROVEN if recovered_by else PROVEN[:1]
    same = [getattr(User, name).is_not_distinct_from(getattr(user, name)) for name in proven]
    return work.changes(update(User).where(User.id == user.id, *same).values(now)) == 1


STAMPED = (
    update(User)
    .where(User.id == bindparam("who"), locks.unlocked(NOW), *SAME)
    .where(User.mfa == bindparam("has"), User.role == bindparam("is"))
    .values(last_login_at=NOW)
)
STAMPED_WITH_PASSWORD = STAMPED.values(recovered_by=None)


def note_signin(work: Work, user: User, methods: Sequence[str]) -> bool:
    """Stamp the sign-in, if the account still is what the proofs were checked against: not kept out, its password,
    addresses, factors and role, of which policy may ask more, not changed. The row stays locked until the unit ends, so
    a change waits and then sees the session. A recovery is over once its password was given with what policy asks
    beside it: a passkey alone does not tell who set the password.
    """
    stamp = STAMPED_WITH_PASSWORD if policy.PASSWORD in methods else STAMPED
    read = {f"read_{name}": getattr(user, name) for name in PROVEN}
    same = {"who": user.id, "has": user.mfa, "is": user.role, **read}
    stamped = work.changes(stamp, now=work.now, **same) == 1
    set_committed_value(user, "last_login_at", work.now)
    return stamped


def make(
    work: Work,
    *,
    name: str | None,
    username: Identifier | None,
    proven: Sequence[Identifier],
    role: str,
    password_hash: str | None,
) -> User | None:
    """An account that administration opens, its addresses proven by the word of whoever does. None if one of them or
    the username has an owner.
    """
    given = {identifier.kind: identifier.value for identifier in proven}
    user = User(
        id=uuid7(work.now),
        name=name,
        name_key=people.folded(name),
        username=username.value if username else None,
        email=given.get(Kind.EMAIL),
        phone=given.get(Kind.PHONE),
        role=role,
        password_hash=password_hash,
        created_at=work.now,
        password_changed_at=work.now if password_hash else None,
    )
    return user if work.insert_once(user) else None


def change(work: Work, user: User, values: Mapping[str, Any]) -> bool | None:
    """Write what its owner or administration changes of an account. False if its role is another by now than the one
    that was read, or it is gone; None if the username is another account's by now.
    """
    if "name" in values:
        values = {**values, "name_key": people.folded(values["name"])}
    return _write(work, user, values, User.role == user.role)


def erase(work: Work, user: User) -> None:
    """Delete the account and, by its foreign keys, sessions, tokens, challenges and consents."""
    work.changes(delete(User).where(User.id == user.id))
