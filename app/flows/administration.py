"""Administration of people: open accounts, change, lock and delete them. Every act stands in the audit log with who did
it, to whom, what was before and what is after; names and addresses only masked.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from app.core import (
    accounts,
    audit,
    challenges,
    credentials,
    erasure,
    factors,
    identifiers,
    lockout,
    locks,
    passwords,
    people,
    roles,
    sends,
    sessions,
    signups,
    throttles,
)
from app.core.audit import Event
from app.core.challenges import Purpose, Question
from app.core.identifiers import Identifier, Kind
from app.delivery import outbox
from app.delivery.outbox import Notice
from app.errors import Conflict, LastAdmin, NotFound, RateLimited, UsernameTaken, ValidationFailed
from app.flows import asking
from app.models import OtpChallenge, User
from app.work import Work


@dataclass(frozen=True, slots=True)
class NewUser:
    """What an account is opened with. `proven`: its addresses, by the word of whoever opens it."""

    proven: Sequence[Identifier]
    username: Identifier | None = None
    name: str | None = None
    role: str = accounts.DEFAULT_ROLE
    password: str | None = None
    invite: bool = False  # send a code with which the person sets the password


def create(work: Work, new: NewUser) -> tuple[User, OtpChallenge | None]:
    """Open an account; with its invitation, if one is sent. Raises ValidationFailed, UsernameTaken, Conflict for an
    address that has an owner, RateLimited, Overloaded, TokenRevoked.
    """
    shown = new.proven[0].masked if new.proven else None
    with audit.recording(work, Event.USER_REFUSED, shown, act="create"):
        _check_new(work, new)
        hashed = passwords.hashed(work, new.password) if new.password else None
        sessions.must_last(work)  # hashing took a while
        _check_free(work, new.proven)
        if new.invite:
            _take_leave(work, new.proven[0])
        _reserve(work, new.username, new.proven[0].value)
        user = accounts.make(
            work, name=new.name, username=new.username, proven=new.proven, role=new.role, password_hash=hashed
        )
        if new.username:
            signups.release_username(work, new.username)  # it is on the account, or not wanted any more
        if user is None:
            raise Conflict()  # somebody was faster
    after = people.shown(user, ("role", "name", "username")) | {"invited": new.invite, "password": hashed is not None}
    audit.record(work, Event.USER_CREATED, shown, user_id=user.id, before=None, after=after)
    return user, _ask(work, user, new.proven[0], outbox.INVITE) if new.invite else None


def _check_new(work: Work, new: NewUser) -> None:
    if not new.proven:
        raise ValidationFailed.field("email", "required", "Give an e-mail address or a phone number.")
    _check_role(work, new.role)
    if new.password and new.invite:
        raise ValidationFailed.field("invite", "unwanted", "Give a password, or send an invitation.")
    if not (new.password or new.invite or any(a.kind is Kind.PHONE for a in new.proven)):
        raise ValidationFailed.field("password", "required", "Give a password, send an invitation, or give a phone.")
    if new.password:
        named = [*new.proven, *([new.username] if new.username else [])]
        known = (*(identifier.value for identifier in named), new.name)
        passwords.accept(work, new.password, known)


def _check_role(work: Work, role: str) -> None:
    if role not in work.settings.roles:
        raise ValidationFailed.field("role", "unknown_role", f"One of {', '.join(work.settings.roles)}.")


def _reserve(work: Work, username: Identifier | None, who: str, owner: UUID | None = None) -> None:
    if username and not signups.hold_username(work, username, throttles.key("administration", who), owner):
        raise UsernameTaken()


def _check_free(work: Work, proven: Sequence[Identifier]) -> None:
    fields = [address.kind.value for address in proven if accounts.by_identifier(work, address)]
    if fields:
        taken = {"code": "taken", "message": "Another account has this."}
        raise Conflict(errors=[{"field": field, **taken} for field in fields])


def change(work: Work, user_id: UUID, wished: dict[str, Any]) -> User:
    """Change `role`, `name`, `username` (an Identifier) and `disabled`, those that are given. Another role, and being
    disabled, end every session. Raises NotFound, ValidationFailed, UsernameTaken, LastAdmin, Conflict if somebody else
    has changed the role meanwhile.
    """
    user = _target(work, user_id, "change")
    with _recording(work, user, "change"):
        values = _news(work, user, wished)
        if not values:
            return user
        ends = values.get("disabled_at") is not None or "role" in values
        (_before_an_end if ends else _hold)(work, user)
        before = people.shown(user, values)
        if "username" in values:
            _reserve(work, wished["username"], user.id.hex, user.id)
        _write(work, user, values)
    end = credentials.everything_ended if "disabled_at" in values else credentials.changed
    ended = end(work, user.id, "changed_by_admin") if ends else 0
    facts: dict[str, Any] = {"before": before, "after": people.shown(user, values), "sessions_ended": ended}
    audit.record(work, Event.USER_CHANGED, _name(user), user_id=user.id, **facts)
    return user


def _news(work: Work, user: User, wished: dict[str, Any]) -> dict[str, Any]:
    """The columns that would be other than they are."""
    values = {name: wished[name] for name in ("role", "name") if wished.get(name) is not None}
    if "role" in values:
        _check_role(work, values["role"])
    if username := wished.get("username"):
        values["username"] = username.value
    if (disabled := wished.get("disabled")) is not None and disabled != (user.disabled_at is not None):
        values["disabled_at"] = work.now if disabled else None
    return {name: value for name, value in values.items() if name == "disabled_at" or value != getattr(user, name)}


def _before_an_end(work: Work, user: User) -> None:
    """Keep the last admin, and lock what ends, in the order of a sign-in."""
    role = user.role
    if role == roles.ADMIN:
        remains = roles.another_admin(work, user)
        sessions.must_last(work)
        if not remains:
            raise LastAdmin()
    credentials.hold_everything(work, user.id)
    _hold(work, user)
    if user.role != role:
        raise Conflict()


def _hold(work: Work, user: User) -> None:
    """Lock the row and read what it is now, if the caller still is who they were."""
    if accounts.hold(work, user.id) is None:
        raise NotFound()
    sessions.must_last(work)


def _write(work: Work, user: User, values: dict[str, Any]) -> None:
    written = accounts.change(work, user, values)
    if values.get("username"):  # it is on the account now, or not wanted any more
        signups.release_username(work, Identifier(Kind.USERNAME, values["username"]))
    if not written:
        raise UsernameTaken()


def lock(work: Work, user_id: UUID, until: datetime | None = None) -> User:
    """Keep somebody out until then, or until the lock is lifted: every session ends, and to sign in is as if there were
    no such account. Raises NotFound, LastAdmin, Conflict.
    """
    user = _target(work, user_id, "lock")
    with _recording(work, user, "lock"):
        _before_an_end(work, user)
        before = people.shown(user, ("locked_until", "status"), work.now)
        _write(work, user, {"locked_at": work.now, "locked_until": until})
    ended = credentials.everything_ended(work, user.id, "locked_by_admin")
    facts: dict[str, Any] = {"before": before, "after": people.shown(user, before, work.now), "sessions_ended": ended}
    audit.record(work, Event.USER_LOCKED, _name(user), user_id=user.id, **facts)
    return user


def unlock(work: Work, user_id: UUID) -> User:
    """Lift the lock of administration, and for every identifier the locks that wrong guesses brought and the days of
    messages that are spent. Twice is as good as once. Raises NotFound, Conflict.
    """
    user = _target(work, user_id, "unlock")
    lockout.hold_all(work, user, beside=sends.keys_of_user(user))
    guesses = lockout.locked_until(work, user)
    with _recording(work, user, "unlock"):
        _hold(work, user)
        before = people.shown(user, ("locked_until", "status"), work.now)
        _write(work, user, {"locked_at": None, "locked_until": None})
    lockout.forgive_all(work, user)
    after = people.shown(user, before, work.now) | {"guesses_locked_until": None, "messages": 0}
    before |= {"guesses_locked_until": guesses and guesses.isoformat(), "messages": sends.forgive(work, user)}
    audit.record(work, Event.USER_UNLOCKED, _name(user), user_id=user.id, before=before, after=after)
    return user


def revoke_sessions(work: Work, user_id: UUID) -> int:
    """Sign somebody out everywhere; returns of how many sessions. What was begun is void too. Raises NotFound."""
    user = _held(work, user_id, "revoke_sessions")
    ended = credentials.everything_ended(work, user.id, "revoked_by_admin")
    before, after = {"sessions": ended}, {"sessions": 0}
    audit.record(work, Event.USER_SIGNED_OUT, _name(user), user_id=user.id, before=before, after=after)
    return ended


def reset_mfa(work: Work, user_id: UUID) -> User:
    """Take every second method from somebody, end their sessions, tell their addresses; and let the phone of a recovery
    count again, for the e-mail may be lost as well. Twice is as good as once. Raises NotFound.
    """
    user = _held(work, user_id, "reset_mfa")
    lifted, user.recovered_by = user.recovered_by, None
    before: Any = {"mfa": factors.remove_all(work, user)} | ({"recovered_by": lifted} if lifted else {})
    ended = credentials.everything_ended(work, user.id, "mfa_reset_by_admin")
    if any(before.values()):
        outbox.tell(work, user, Notice.FACTORS_RESET, ip="", client="")
    facts = {"before": before, "after": {"mfa": []}, "sessions_ended": ended}
    audit.record(work, Event.USER_FACTORS_RESET, _name(user), user_id=user.id, **facts)
    return user


def send_reset(work: Work, user_id: UUID, channel: str | None = None) -> OtpChallenge:
    """Send somebody a recovery code; the password works until it is used. Raises NotFound, RateLimited, Conflict for an
    account that is kept out or has no such address.
    """
    user = _target(work, user_id, "send_reset")
    to = next((a for a in accounts.contacts(user) if channel in (None, challenges.channel_of(a))), None)
    with _recording(work, user, "send_reset"):
        if to is None or not locks.may_enter(user, work.now):
            raise Conflict()
        _take_leave(work, to)
        _hold(work, user)
        if to not in accounts.contacts(user) or not locks.may_enter(user, work.now):
            raise Conflict()
    challenge = _ask(work, user, to)
    audit.record(work, Event.USER_SENT_RESET, to.masked, user_id=user.id, before=None, after=challenge.channel)
    return challenge


def _take_leave(work: Work, to: Identifier) -> None:
    wait = sends.ask(work, to) or sends.day_spent(work, to)
    sessions.must_last(work)  # its counters may have been waited for
    if wait:
        raise RateLimited(retry_after=wait)


def _ask(work: Work, user: User, to: Identifier, act: str | None = None) -> OtpChallenge:
    stands_on = user.password_changed_at
    question = Question(
        Purpose.RECOVERY, to, lockout.key(to), user_id=user.id, stands_on=stands_on, language=user.language
    )
    return asking.ask(work, question, act=act, invited=True)


def delete(work: Work, user_id: UUID) -> None:
    """Delete an account as its owner could, and tell its addresses. Raises NotFound, LastAdmin, Conflict."""
    user = _target(work, user_id, "delete")
    lockout.hold_all(work, user)
    with _recording(work, user, "delete"):
        _before_an_end(work, user)
    before = people.shown(user, ("role",))
    outbox.forget_person(work, user)
    for address in accounts.contacts(user):
        outbox.notice(work, Notice.ACCOUNT_ERASED, address, user, ip="", client="")
    audit.record(work, Event.USER_DELETED, _name(user), user_id=user.id, before=before, after=None)
    erasure.erase(work, user)


def _target(work: Work, user_id: UUID, act: str) -> User:
    user = accounts.by_id(work, user_id)
    if user is None:
        raise audit.refusal(work, Event.USER_REFUSED, None, NotFound(), act=act)
    return user


def _recording(work: Work, user: User, act: str) -> AbstractContextManager[None]:
    return audit.recording(work, Event.USER_REFUSED, _name(user), user_id=user.id, act=act)


def _held(work: Work, user_id: UUID, act: str) -> User:
    """The target as it is now, its row and what hangs on it locked, if the caller still is who they were."""
    user = _target(work, user_id, act)
    with _recording(work, user, act):
        credentials.hold_everything(work, user.id)
        _hold(work, user)
    return user


def _name(user: User) -> str | None:
    return next((identifier.masked for identifier in identifiers.of_user(user)), None)
