"""Seals: batches of audit rows, each proven as it was and chained to the batch before.

A row is visible when it is committed, not when its id was made; so no batch is a range of ids. A seal takes whatever
is not sealed yet, and a row that comes late goes into the next one. Who takes the next sequence number seals.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Row, bindparam, delete, func, select, update

from app.core import signatures
from app.core.cryptoperiods import OVERLAP
from app.core.signatures import Fault
from app.crypto.keys import KeyRing, Purpose
from app.models import AuditLog, AuditSeal
from app.work import Work

BATCH = 4000  # rows of a seal: their ids fit into a BLOB of MySQL, 65,535 bytes
LATELY = 1000  # seals: a busy service makes one a minute
OVERDUE = timedelta(minutes=10)  # a row that is not sealed by then: nobody seals
COVERED = ("sequence", "count", "first_id", "last_id", "newest_at", "adopted", "digest", "previous", "made_at")
PURGED = ("sequence", "mac", "purged_at")
UNSIGNED = (AuditLog.seal.is_(None), AuditLog.mac.is_(None))


class Torn(RuntimeError):
    """Rows changed under the hand of the one who seals or purges them."""


def newest(work: Work) -> AuditSeal | None:
    """The last seal."""
    return work.db.scalar(select(AuditSeal).order_by(AuditSeal.sequence.desc()).limit(1))


def is_of_another_key(work: Work) -> bool:
    """True if one of the last seals was made with a SECRET_KEY that no setting has: the one that is set is not the
    service's, or that was lost. Not of a key that was replaced: ours have made all seals since, for more than a day.
    The last seal alone tells nothing, for whoever has the wrong key makes it.
    """
    lately = select(AuditSeal.key_id, AuditSeal.made_at).order_by(AuditSeal.sequence.desc()).limit(LATELY)
    since = work.now
    for key_id, made_at in work.db.execute(lately):
        if key_id not in work.kit.keys.ids:
            return work.now - since <= OVERLAP
        since = made_at
    return False


def anchor(work: Work) -> AuditSeal | None:
    """The seal up to which rows were purged."""
    marked = select(AuditSeal).where(AuditSeal.purged_at.is_not(None))
    return work.db.scalar(marked.order_by(AuditSeal.sequence.desc()).limit(1))


def head(seal: AuditSeal | None) -> str:
    """What a later check of the chain is given to see that none of it was cut off: `SEQUENCE:MAC`."""
    return f"{seal.sequence}:{seal.mac}" if seal else "0:"


def is_waiting(work: Work, *, adopt: bool = False) -> bool:
    """True if there is a row that `seal_next` would take."""
    signed = [] if adopt else [AuditLog.mac.is_not(None)]
    return work.db.scalar(select(AuditLog.id).where(AuditLog.seal.is_(None), *signed).limit(1)) is not None


def is_one_unsigned(work: Work) -> bool:
    """True if there is a row that only `adopt` would take."""
    return work.db.scalar(select(AuditLog.id).where(*UNSIGNED).limit(1)) is not None


def seal_next(work: Work, *, adopt: bool = False) -> AuditSeal | None:
    """Seal up to BATCH rows that are not sealed. None if there are none, or another process was faster.

    `adopt`: rows that are not signed are signed and sealed first, by the word of whoever asks. Nothing in the database
    tells those of an older version from forged ones. Raises Torn if a row changed meanwhile.
    """
    last = newest(work)
    adopted = _sign_old(work) if adopt else []
    rows = _waiting(work, adopted)
    if not rows:
        return None
    seal = _made(work, last, rows, adopted=bool(adopted))
    if not work.insert_once(seal):
        return None
    ids = [row.id for row in rows]
    taken = update(AuditLog).where(AuditLog.id.in_(ids), AuditLog.seal.is_(None)).values(seal=seal.sequence)
    if work.changes(taken) != len(ids):
        raise Torn(f"some rows of seal {seal.sequence} were changed while it was made")
    return seal


def _sign_old(work: Work) -> list[UUID]:
    """Sign rows that were written before rows were signed. Their ids."""
    query = select(AuditLog.__table__).where(*UNSIGNED)
    rows = [row._asdict() for row in work.db.execute(query.order_by(AuditLog.id).limit(BATCH))]
    if rows:
        names = ("salt", "person", "key_id", "mac")
        change = update(AuditLog).where(AuditLog.id == bindparam("row_id"), AuditLog.mac.is_(None))
        signed = [signatures.signed(work.kit.keys, row) for row in rows]
        values = [{"row_id": row["id"], **{name: row[name] for name in names}} for row in signed]
        work.begin_writing()
        work.db.connection().execute(change.values({name: bindparam(name) for name in names}), values)
    return [row["id"] for row in rows]


def _waiting(work: Work, these: Sequence[UUID]) -> Sequence[Row[UUID, str | None, datetime]]:
    which = [AuditLog.id.in_(these)] if these else [AuditLog.mac.is_not(None)]
    query = select(AuditLog.id, AuditLog.mac, AuditLog.at).where(AuditLog.seal.is_(None), *which)
    return work.db.execute(query.order_by(AuditLog.id).limit(BATCH)).all()


def _made(
    work: Work, last: AuditSeal | None, rows: Sequence[Row[UUID, str | None, datetime]], *, adopted: bool
) -> AuditSeal:
    seal = AuditSeal(
        sequence=last.sequence + 1 if last else 1,
        count=len(rows),
        first_id=rows[0].id,
        last_id=rows[-1].id,
        newest_at=max(row.at for row in rows),
        adopted=adopted,
        digest=digest((row.id, row.mac) for row in rows),
        previous=last.mac if last else None,
        made_at=work.now,
        key_id=work.kit.keys.current,
        members=b"".join(row.id.bytes for row in rows),
    )
    seal.mac = own_mac(work.kit.keys, seal)
    return seal


def digest(rows: Iterable[tuple[UUID, str | None]]) -> str:
    """SHA-256 over ids and MACs of rows, in the order of their ids."""
    whole = hashlib.sha256()
    for each, mac in rows:
        whole.update(f"{each.hex} {mac}\n".encode())
    return whole.hexdigest()


def own_mac(keys: KeyRing, seal: AuditSeal) -> str:
    """The MAC of a seal as it stands. KeyError if its key left the ring."""
    values = [getattr(seal, name) for name in COVERED]
    return signatures.mac(keys, Purpose.SEALS, seal.key_id, ["seal", *values])


def purge_mac(keys: KeyRing, seal: AuditSeal, key_id: str) -> str:
    """The MAC that says that a seal's rows, and all before, were purged on purpose. KeyError as above."""
    return signatures.mac(keys, Purpose.SEALS, key_id, ["purged", *(getattr(seal, name) for name in PURGED)])


def fault(keys: KeyRing, seal: AuditSeal) -> str | None:
    """What is wrong with a seal itself, if anything."""
    try:
        whole = signatures.same(seal.mac, own_mac(keys, seal))
        marked = _is_rightly_marked(keys, seal)
    except KeyError:
        return f"the seal {Fault.KEY_LOST.value}"
    if not whole:
        return "the seal was changed, or not made by this service"
    return None if marked else "the mark of a purge on it was changed, or not made by this service"


def _is_rightly_marked(keys: KeyRing, seal: AuditSeal) -> bool:
    """Either not purged, or purged by this service."""
    if seal.purged_at is None and seal.purge_key_id is None and seal.purge_mac is None:
        return seal.members is not None
    if seal.purged_at is None or not seal.purge_key_id or seal.purge_mac is None or seal.members is not None:
        return False
    return signatures.same(seal.purge_mac, purge_mac(keys, seal, seal.purge_key_id))


def last_older(work: Work, before: datetime) -> int:
    """The sequence number up to which, from the beginning of the chain, every row is older. 0: none is."""
    kept = select(func.min(AuditSeal.sequence)).where(AuditSeal.newest_at >= before)
    first_kept, last = work.db.scalar(kept), newest(work)
    return first_kept - 1 if first_kept else last.sequence if last else 0


def up_to(work: Work, end: int, limit: int) -> list[AuditSeal]:
    """The first seals of the chain that are not purged, up to one of them."""
    query = select(AuditSeal).where(AuditSeal.purged_at.is_(None), AuditSeal.sequence <= end)
    return list(work.db.scalars(query.order_by(AuditSeal.sequence).limit(limit)))


def purge(work: Work, chosen: Sequence[AuditSeal]) -> int:
    """Delete the rows of seals from the beginning of the chain. Of the seals the last one stays, marked and signed:
    the chain hangs on it. Returns how many rows. Raises Torn if they are not as many as were sealed.
    """
    last, first = chosen[-1], chosen[0]
    span = (AuditLog.seal >= first.sequence, AuditLog.seal <= last.sequence)
    rows = work.changes(delete(AuditLog).where(*span))
    if rows != sum(seal.count for seal in chosen):
        raise Torn(f"seals {first.sequence} to {last.sequence} cover other rows than they did")
    work.changes(delete(AuditSeal).where(AuditSeal.sequence < last.sequence))
    last.members, last.purged_at, last.purge_key_id = None, work.now, work.kit.keys.current
    last.purge_mac = purge_mac(work.kit.keys, last, last.purge_key_id)
    return rows
