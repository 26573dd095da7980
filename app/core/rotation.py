"""Rotation: which stored values were made with which key, and putting those that can be under the key in force.

It reads in pages, each in a unit of its own, and writes with guarded updates: the service goes on beside it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import inspect, select, update

from app.core import authenticators, sessions
from app.crypto import sealing
from app.crypto.keys import KeyRing
from app.db import Base
from app.models import (
    AuditLog,
    AuditSeal,
    Authenticator,
    BackupCode,
    Device,
    OtpChallenge,
    Repeat,
    Session,
)
from app.work import Kit, Work, run

PAGE = 5000  # rows that are read at once
BATCH = 200  # rows that are written in one unit of work
SECRET_KEY, MASTER_SECRET = "SECRET_KEY", "MASTER_SECRET"
UNKNOWN = "unknown"  # no key of the ring made it, and it does not say which


@dataclass(frozen=True, slots=True)
class Kind:
    """Stored values that depend on a key. `key_of`: the id of the key of a row's columns. `then`: what becomes of
    them. `serves`: the service itself needs the key for them.
    """

    name: str
    setting: str
    model: type[Base]
    columns: tuple[Any, ...]
    key_of: Callable[[KeyRing, Any], str | None]
    then: str
    which: Callable[[Work], tuple[Any, ...]] = lambda _: ()
    serves: bool = True


def _client_of(keys: KeyRing, row: Any) -> str | None:
    made = {sessions.client_key(keys, key_id, row.user_agent, row.ip): key_id for key_id in keys.ids}
    return made.get(row.client_key)


def _named(keys: KeyRing, row: Any) -> str:
    """The key that a row names. An audit row that names none is not signed."""
    return row[-1] or keys.current


def _named_or_oldest(keys: KeyRing, row: Any) -> str:
    """Likewise; one that names none is from before it was noted."""
    return row[-1] or keys.ids[-1]


def _sealed(_: KeyRing, row: Any) -> str | None:
    return sealing.key_of(row[-1])


def _open(work: Work) -> tuple[Any, ...]:
    return OtpChallenge.expires_at > work.now, OtpChallenge.used_at.is_(None), OtpChallenge.void_at.is_(None)


def _kept(work: Work) -> tuple[Any, ...]:
    return Repeat.expires_at > work.now, Repeat.answer.is_not(None)


RESEALED = "flask rotate-keys puts them under the key in force"
AUDITED = "flask audit-verify needs the key for them, until they are purged; the service does not"
KINDS = (
    Kind("authenticator apps", SECRET_KEY, Authenticator, (Authenticator.secret,), _sealed, RESEALED),
    Kind(
        "known browsers",
        SECRET_KEY,
        Session,
        (Session.user_agent, Session.ip, Session.client_key),
        _client_of,
        RESEALED,
    ),
    Kind(
        "backup codes",
        SECRET_KEY,
        BackupCode,
        (BackupCode.key_id,),
        _named_or_oldest,
        "keep the key, or have their owners make new ones",
        lambda _: (BackupCode.used_at.is_(None),),
    ),
    Kind("open codes", SECRET_KEY, OtpChallenge, (OtpChallenge.key_id,), _named, "over within 10 minutes", _open),
    Kind("kept answers", SECRET_KEY, Repeat, (Repeat.answer,), _sealed, "over within a day", _kept),
    Kind("audit rows", SECRET_KEY, AuditLog, (AuditLog.key_id,), _named, AUDITED, serves=False),
    Kind("audit seals", SECRET_KEY, AuditSeal, (AuditSeal.key_id,), _named, AUDITED, serves=False),
    Kind("devices", MASTER_SECRET, Device, (Device.master_id,), _named, "rotate the key of each device"),
)


@dataclass(frozen=True, slots=True)
class Dependents:
    """How many values of a kind were made with one key that is not in force. `key_id`: of that key, or UNKNOWN.
    `listed`: some setting has it.
    """

    kind: Kind
    key_id: str
    rows: int
    listed: bool


def ring_of(kit: Kit, kind: Kind) -> KeyRing | None:
    """The keys with which values of a kind are made."""
    return kit.keys if kind.setting == SECRET_KEY else kit.masters


def dependents(kit: Kit) -> Iterator[Dependents]:
    """What depends on keys other than those in force, kind by kind."""
    for kind in KINDS:
        ring = ring_of(kit, kind)
        counted: Counter[str] = Counter()
        for rows in _pages(kit, kind.model, kind.columns, kind.which):
            counted.update((ring and kind.key_of(ring, row)) or UNKNOWN for row in rows)
        for key_id, count in sorted(counted.items()):
            if ring is None or key_id != ring.current:
                yield Dependents(kind, key_id, count, ring is not None and key_id in ring.ids)


def _pages(
    kit: Kit, model: type[Base], columns: tuple[Any, ...], which: Callable[[Work], tuple[Any, ...]]
) -> Iterator[list[Any]]:
    """Rows by their key, each with its key first."""
    key, after = inspect(model).primary_key[0], None

    def read(work: Work, after: Any) -> list[Any]:
        later = () if after is None else (key > after,)
        query = select(key, *columns).where(*which(work), *later).order_by(key).limit(PAGE)
        return list(work.db.execute(query))

    while rows := run(kit, partial(read, after=after), reads=True):
        yield rows
        after = rows[-1][0]


def renew(kit: Kit) -> dict[str, int]:
    """Put the secrets of authenticator apps, and what browsers are known by, under the key in force. Returns how many
    were; what an unknown key made stays as it is. It can be stopped and begun again at any time.
    """
    done = {"authenticator apps": 0, "known browsers": 0}
    for old in _old(kit, KINDS[0]):
        done["authenticator apps"] += run(kit, partial(_reseal, ids=old))
    for old in _old(kit, KINDS[1]):
        done["known browsers"] += run(kit, partial(_recognise, ids=old))
    return done


def _old(kit: Kit, kind: Kind) -> Iterator[list[Any]]:
    """The ids of rows that another key of the ring made, a batch at a time."""
    for rows in _pages(kit, kind.model, kind.columns, kind.which):
        others = [row[0] for row in rows if kind.key_of(kit.keys, row) in kit.keys.ids[1:]]
        for at in range(0, len(others), BATCH):
            yield others[at : at + BATCH]


def _reseal(work: Work, ids: list[Any]) -> int:
    rows = work.db.scalars(select(Authenticator).where(Authenticator.id.in_(ids)))
    return sum(authenticators.reseal(work, row) for row in rows)


def _recognise(work: Work, ids: list[Any]) -> int:
    count, keys = 0, work.kit.keys
    for row in work.db.scalars(select(Session).where(Session.id.in_(ids))):
        today = sessions.client_key(keys, keys.current, row.user_agent, row.ip)
        unchanged = (Session.id == row.id, Session.client_key == row.client_key)
        count += work.changes(update(Session).where(*unchanged).values(client_key=today))
    return count
