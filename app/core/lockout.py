"""The budget of wrong guesses: by identifier, over every route that can verify anything.

Two rows count each guess. The one of the identifier as it was typed is what people see: it locks (423)
whether or not an account stands behind it. The one of the account is silent: it holds an attacker who
changes from the e-mail address to the phone number to one budget, and answers like a wrong guess, so that
nobody learns which identifiers belong together. NIST SP 800-63B-4, section 3.2.2; OWASP ASVS 5.0, 6.6.3.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import BindParameter, ColumnElement, and_, delete, func, select

from app.core import audit, identifiers, throttles, trusted_devices
from app.core.identifiers import Identifier
from app.core.throttles import Counter
from app.errors import AccountLocked, InvalidCredentials, Refusal
from app.models import Throttle, User
from app.work import Work

LONGEST_LOCK = timedelta(days=1)
DAY_CAP = 50  # wrong guesses a day per identifier, however they are paced
STREAK_CAP = 100  # wrong guesses in a row at an account: its password is off until bound again (by recovery)
NOBODY = throttles.key("guess", "nobody")  # what is put to nobody in particular; never raised
# A hundred wrong guesses at an account are a hundred, however long they take.
FOREVER = datetime(9999, 1, 1, tzinfo=UTC)
MEMORY = timedelta(days=1)  # a day without a wrong guess, and the next lock is a short one again


@dataclass(frozen=True, slots=True)
class Budget:
    """The counters of one guess, their rows locked until the unit ends."""

    key: str  # the identifier's
    shown: Counter
    own: Counter
    wait: int  # seconds until the identifier may try again; 0: now
    silent: bool  # the account's own budget is spent: every guess is wrong
    lasts: datetime  # until when wrong guesses in a row are remembered, however old the last one is

    @property
    def stopped(self) -> bool:
        """A hundred wrong guesses in a row were made at the account."""
        return self.own.streak >= STREAK_CAP

    @property
    def by_identifier(self) -> bool:
        """False for that of a remembered device, that of sessions, and for what has none."""
        return self.own is not self.shown


def key(identifier: Identifier) -> str:
    return throttles.key("guess", identifier.kind, identifier.value)


def keys(identifier_key: str, user_id: UUID | None) -> tuple[str, str]:
    """The two rows of a guess. Without an account the second is one of its own: the same work is done."""
    return identifier_key, throttles.key("guess", "account", user_id.hex if user_id else identifier_key)


def hold(
    work: Work,
    identifier_key: str,
    user_id: UUID | None,
    *,
    is_account: bool,
    rebinding: bool = False,
    beside: Iterable[str] = (),
) -> Budget:
    """Lock the counters of a guess and say whether it may be made. `is_account`: `user_id` is an account's, not a
    sign-up's; only an account's counter is kept as long as there are wrong guesses in a row on it. `rebinding`:
    what binds the account again, which 100 failures in a row do not stop, because it is the way back. `beside`: other
    throttles to lock with them.
    """
    both = keys(identifier_key, user_id)
    rows = throttles.held(work, (*both, *beside))
    shown, own = rows[both[0]], rows[both[1]]
    stopped = own.streak >= STREAK_CAP and not rebinding
    lasts = FOREVER if is_account else work.now
    return Budget(identifier_key, shown, own, _wait(work, shown), stopped or _wait(work, own) > 0, lasts)


def device_key(device_id: UUID) -> str:
    return throttles.key("guess", "device", device_id.hex)


def hold_device(work: Work, device_id: UUID, lasts: datetime, *, beside: Iterable[str] = ()) -> Budget:
    """Lock the counter of a remembered device: a budget of its own, which nobody without its token can spend. `lasts`:
    until when it is remembered.
    """
    at = device_key(device_id)
    row = throttles.held(work, (at, *beside))[at]
    return Budget(at, row, row, _wait(work, row), row.streak >= STREAK_CAP, lasts)


def signed_in_key(user_id: UUID) -> str:
    return throttles.key("guess", "signed in", user_id.hex)


def hold_signed_in(work: Work, user_id: UUID, *, beside: Iterable[str] = ()) -> Budget:
    """Lock the counter of what is guessed in the sessions of an account: a budget of its own, which nobody without a
    session can spend. One for all of them, or every sign-in would bring more. They know whose account it is: it is
    aloud, and a hundred wrong guesses in a row close it until the password is bound again.
    """
    at = signed_in_key(user_id)
    row = throttles.held(work, (at, *beside))[at]
    stopped = int(throttles.DAY.total_seconds()) if row.streak >= STREAK_CAP else 0
    return Budget(at, row, row, _wait(work, row) or stopped, False, FOREVER)


def unbounded(work: Work) -> Budget:
    """No counter at all, for what cannot be guessed: a lock that strangers could close would be all that it did."""
    row = throttles.empty(work)
    return Budget("", row, row, 0, False, work.now)


def judge(work: Work, budget: Budget, right: bool) -> Refusal | None:
    """The verdict on a password, under the locks of its counters: None if it was right and in time, else what to
    refuse with, counted.
    """
    if budget.wait:
        return AccountLocked(retry_after=budget.wait)
    if right and not budget.silent:
        return None
    count_wrong(work, budget)
    return InvalidCredentials()


def count_wrong(work: Work, budget: Budget) -> None:
    """Raise the counters of a budget by one wrong guess. One that is spent rests: it does not lock for longer."""
    if not budget.wait:
        before = budget.shown.locked_until
        _raise(work, budget.shown, work.now if budget.by_identifier else budget.lasts)
        told = budget.by_identifier or budget.lasts is FOREVER  # not that of a device, which is one token
        if told and budget.shown.locked_until != before:
            _record_lock(work, budget.shown)
    if budget.by_identifier and not budget.silent:
        _raise(work, budget.own, budget.lasts)


def _record_lock(work: Work, row: Counter) -> None:
    assert row.locked_until is not None
    audit.record(work, audit.Event.IDENTIFIER_LOCKED, until=row.locked_until.isoformat(timespec="seconds"))


def _wait(work: Work, row: Counter) -> int:
    left = (row.locked_until - work.now).total_seconds() if row.locked_until else 0
    return max(0, math.ceil(left))


def _raise(work: Work, row: Counter, lasts: datetime) -> None:
    if row.touched_at + MEMORY <= work.now:
        row.count, row.level = 0, 0
    if row.day_ends_at <= work.now:
        row.day_count, row.day_ends_at = 0, work.now + throttles.DAY
    row.count += 1
    row.day_count += 1
    row.streak += 1
    row.window_ends_at = lasts
    if row.count >= work.settings.lockout_threshold:
        first = timedelta(seconds=work.settings.lockout_seconds)
        row.locked_until = work.now + min(first * 2**row.level, LONGEST_LOCK)
        row.count, row.level = 0, min(row.level + 1, 20)
    if row.day_count >= DAY_CAP:
        row.locked_until = max(row.locked_until or work.now, row.day_ends_at)
    row.touched_at = max(work.now, row.locked_until or work.now)  # a lock's own time is not a quiet one


def spent(identifier_key: BindParameter[str], now: BindParameter[datetime]) -> ColumnElement[bool]:
    """The condition of a throttle row that refuses an identifier: why hash a password whose verdict is refused."""
    return and_(Throttle.key == identifier_key, Throttle.locked_until > now)


def forgive(budget: Budget) -> None:
    """A complete sign-in: the count of that identifier and of the account starts again. The day's goes on."""
    for row in (budget.shown, budget.own):
        row.count = row.level = row.streak = 0
        row.locked_until, row.window_ends_at = None, row.touched_at


def locked_until(work: Work, user: User) -> datetime | None:
    """Until when wrong guesses keep an identifier of a user, a remembered device or the account from signing in, or its
    sessions from a step-up; None: not at all.
    """
    throttles.write(work)
    lasting = (Throttle.key.in_(_every_key(work, user)), Throttle.locked_until > work.now)
    return work.db.scalar(select(func.max(Throttle.locked_until)).where(*lasting))


def keys_of(user: User) -> set[str]:
    """The rows of every identifier of an account, its own, and that of its sessions."""
    spelled = (each for identifier in identifiers.of_user(user) for each in keys(key(identifier), user.id))
    return {*spelled, signed_in_key(user.id)}


def _every_key(work: Work, user: User) -> set[str]:
    """Those of `keys_of`, and the rows of every remembered device."""
    return keys_of(user) | {device_key(device.id) for device in trusted_devices.all_of_user(work, user.id)}


def hold_all(work: Work, user: User, *, beside: Iterable[str] = ()) -> list[Budget]:
    """Lock the counters of every identifier of an account, of its remembered devices, and of its sessions. `beside`:
    other throttles to lock with them.
    """
    devices = trusted_devices.all_of_user(work, user.id)
    known = (device_key(device.id) for device in devices)
    sessions = hold_signed_in(work, user.id, beside=(*keys_of(user), *known, *beside))
    spelled = [hold(work, key(identifier), user.id, is_account=True) for identifier in identifiers.of_user(user)]
    return [sessions, *spelled, *(hold_device(work, device.id, device.expires_at) for device in devices)]


def forgive_all(work: Work, user: User) -> None:
    """The password is bound again: every identifier of the account, its devices and its sessions start again."""
    for budget in hold_all(work, user):
        forgive(budget)


def forget(work: Work, user: User) -> None:
    """Delete the counters of an account, its identifiers and its remembered devices, which this unit holds."""
    work.changes(delete(Throttle).where(Throttle.key.in_(_every_key(work, user))))
