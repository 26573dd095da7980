"""The budgets of messages. A code that nobody asked for is a nuisance, and by SMS it costs money.

Two counters, as for guesses. The one of what was typed refuses aloud, and is the same for known and unknown. The one
of the destination, over every route and identifier, is silent: what exceeds it waits its turn or is never sent, so
that nobody learns whose address is behind a username.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from app.core import accounts, identifiers, throttles
from app.core.identifiers import Identifier, Kind, stand_in
from app.core.throttles import Counter
from app.models import User
from app.work import Work

WINDOW = timedelta(minutes=1)
NOTICES_BY_SMS = 3  # of one kind to one number in a day: whoever is in an account can cause any number of them


def key(destination: Identifier) -> str:
    return throttles.key("send", destination.kind, _mailbox(destination))


def notice_key(destination: Identifier, kind: str) -> str:
    """Each kind has a counter of its own: a flood of harmless notices must not keep back that the password changed."""
    return throttles.key("notice", destination.kind, destination.value, kind)


def typed_key(identifier: Identifier) -> str:
    return throttles.key("ask", identifier.kind, _mailbox(identifier))


def _mailbox(identifier: Identifier) -> str:
    """Where `jane+1@example.com` arrives: as a rule with `jane@example.com`. Only messages are counted so; each is an
    identifier of its own.
    """
    local, at, domain = identifier.value.partition("@")
    untagged = local.partition("+")[0] or local
    return f"{untagged}{at}{domain}" if identifier.kind is Kind.EMAIL else identifier.value


def keys(address: Identifier) -> tuple[str, str]:
    """Both counters of an address: of what is typed, and of where messages go."""
    return typed_key(address), key(address)


def keys_of(addresses: Iterable[Identifier]) -> list[str]:
    return [key for address in addresses for key in keys(address)]


def keys_of_all(addresses: Sequence[Identifier], typed: Identifier) -> list[str]:
    """The counters of all addresses of an account. Of one with a single address, and of nobody, as many with stand-ins
    that belong to what was typed: how many rows a unit locks is to be seen in its time.
    """
    nobodys = [stand_in(kind, typed) for kind in (Kind.EMAIL, Kind.PHONE)]
    return keys_of([*addresses, *nobodys][: len(nobodys)])


def ask(work: Work, typed: Identifier, to: Identifier | None = None) -> int:
    """Take one message from the budget of what somebody typed. Returns 0, or the seconds until there is one again
    (and then nothing was taken). 3 a minute; 30 e-mails or 10 SMS a day. `to`: where it goes, if that is another
    address: its counters are locked now too, for all of a unit's locks are taken in one order.
    """
    throttles.held(work, (*keys(typed), *(keys(to) if to else ())))
    return _take(work, typed_key(typed), _day_cap(work, typed))


def charge(work: Work, destination: Identifier, *, invited: bool = True) -> int:
    """Take one message from the budget of a destination. Returns 0, or the seconds until it has room for it: what must
    wait for a minute is taken from the day now all the same, or more would be asked for than a day has. Not `invited`:
    anybody can ask for it, or who holds a session, and such messages leave half of a day's to those that the owner's
    password or phone asked for.
    """
    cap = _day_cap(work, destination)
    return _take(work, key(destination), cap if invited else math.ceil(cap / 2), waits=True)


def is_spent(wait: int) -> bool:
    """True if what `charge` returned is not the rest of a minute: the day is spent."""
    return wait > WINDOW.total_seconds()


def day_spent(work: Work, destination: Identifier) -> int:
    """The seconds until a destination's day has a message again; 0 if it has one now. Takes none."""
    row = _row(work, key(destination))
    return _rest(work, row) if row.day_count >= _day_cap(work, destination) else 0


def _rest(work: Work, row: Counter) -> int:
    return math.ceil((row.day_ends_at - work.now).total_seconds())


def take_notice(work: Work, destination: Identifier, kind: str) -> bool:
    """Take a security notice by SMS from the day of its number and kind. False if that is spent: it is not sent."""
    row = _row(work, notice_key(destination, kind))
    if row.day_count >= NOTICES_BY_SMS:
        return False
    row.day_count, row.touched_at = row.day_count + 1, work.now
    return True


def turn(work: Work, destination: Identifier, since: datetime) -> int:
    """Take a message that has waited from its destination's minute; from the day too, if another has begun since it was
    asked for. Returns 0, or the seconds to wait on.
    """
    row = _row(work, key(destination))
    wait = _minute(work, row)
    if not wait and since < row.day_ends_at - throttles.DAY:
        row.day_count += 1
    return wait


def keys_of_user(user: User) -> list[str]:
    """The counters of what can be typed for an account, and of where its messages go."""
    typed = [typed_key(identifier) for identifier in identifiers.of_user(user)]
    return typed + [key(address) for address in accounts.contacts(user)]


def forgive(work: Work, user: User) -> int:
    """An administrator's word: an account has its whole minute and day of messages again. Returns how many of a day's
    were spent, by the counter that had most.
    """
    rows = throttles.held(work, keys_of_user(user)).values()
    spent = max((row.day_count for row in rows if row.day_ends_at > work.now), default=0)
    for row in rows:
        row.count = row.day_count = 0
    return spent


def _day_cap(work: Work, identifier: Identifier) -> int:
    s = work.settings
    return s.sends_per_day_sms if identifier.kind is Kind.PHONE else s.sends_per_day_email


def _take(work: Work, at: str, day_cap: int, *, waits: bool = False) -> int:
    """`waits`: whether it takes its place in the day where the minute is spent."""
    row = _row(work, at)
    if row.day_count >= day_cap:
        left = _rest(work, row)
        return max(left, int(WINDOW.total_seconds()) + 1) if waits else left
    wait = _minute(work, row)
    if not wait or waits:
        row.day_count, row.touched_at = row.day_count + 1, work.now
    return wait


def _row(work: Work, at: str) -> Counter:
    row = throttles.held(work, [at])[at]
    if row.window_ends_at <= work.now:
        row.count, row.window_ends_at = 0, work.now + WINDOW
    if row.day_ends_at <= work.now:
        row.day_count, row.day_ends_at = 0, work.now + throttles.DAY
    return row


def _minute(work: Work, row: Counter) -> int:
    """Take a message from a minute. Returns 0, or the seconds until the next one, and then nothing was taken."""
    if row.count >= work.settings.sends_per_minute:
        return math.ceil((row.window_ends_at - work.now).total_seconds())
    row.count, row.touched_at = row.count + 1, work.now
    return 0
