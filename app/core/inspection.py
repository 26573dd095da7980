"""Inspecting the audit log: every row against its own MAC, every seal against its rows and the seal before.

It reads in pages, each in a unit of its own, so it takes the same memory for a million rows as for a thousand and
holds nothing open. Seals and rows come in one order, by seal and by id, and are walked side by side.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any
from uuid import UUID

from sqlalchemy import and_, exists, or_, select

from app.core import audit, seals, signatures, spelling
from app.core.cryptoperiods import Cryptoperiods
from app.core.signatures import Fault
from app.models import AuditLog, AuditSeal
from app.work import Kit, Work, run

Stored = Mapping[str, Any]
SEALS, ROWS = 200, 2000  # of a page
FIRST_SEAL = 1
BEFORE_ALL = -(2**31)
NOTHING = seals.head(None)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it was written. `seal` and `row` say where, if that can be said."""

    what: str
    seal: int | None = None
    row: UUID | None = None


@dataclass
class Inspection:
    """What an inspection has seen. Whole once its findings are used up."""

    rows: int = 0
    unsealed: int = 0
    erased: int = 0
    adopted: int = 0  # rows that were signed later, by order
    seals: int = 0
    adopted_seals: int = 0
    findings: int = 0
    head: str = NOTHING
    purged_to: int | None = None  # the seal up to which rows were purged
    purged_at: str | None = None


def inspect(kit: Kit, seen: Inspection, expected: str | None = None, *returned: str) -> Iterator[Finding]:
    """Every finding, seal by seal. `expected`: a head that was printed before; the chain must hold it. `returned`: keys
    that were gone back to for good.
    """
    try:
        for finding in _walk(kit, seen, expected, Cryptoperiods(kit.keys.current, *returned)):
            seen.findings += 1
            yield finding
    except (ValueError, TypeError) as why:  # SQLite keeps a word in a column of times; no other engine does
        seen.findings += 1
        yield Finding(f"a page of rows cannot be read, and none after it were: {why}")


def _walk(kit: Kit, seen: Inspection, expected: str | None, periods: Cryptoperiods) -> Iterator[Finding]:
    last = run(kit, seals.newest, reads=True)
    seen.head, end = seals.head(last), last.sequence if last else 0
    yield from chain(kit, seen, end, periods)
    yield from _beyond(kit, end)
    yield from _unsealed(kit, seen, periods)
    if expected is not None and not _is_held(kit, seen, expected):
        yield Finding(f"the chain does not hold the head {expected}: seals were cut off or made anew")


def chain(kit: Kit, seen: Inspection, end: int, periods: Cryptoperiods) -> Iterator[Finding]:
    """The findings of the seals up to one, and of their rows. `periods`: of the keys, to be gathered."""
    rows = _Groups(_paged(kit, [AuditLog.seal <= end], by_seal=True))
    before: AuditSeal | None = None
    for seal in _seals(kit, end):
        yield from _orphans(rows.before(seal.sequence))
        yield from _chained(seal, before)
        yield from _proven(kit, seen, periods, seal, rows.of(seal.sequence))
        before = seal
    yield from _orphans(rows.before(end + 1))


def _is_held(kit: Kit, seen: Inspection, expected: str) -> bool:
    """True if a head that was printed before is in the chain, or older than what was purged."""
    number = expected.partition(":")[0]
    if not number.isdecimal() or int(number) == 0:
        return expected == NOTHING
    if seen.purged_to is not None and int(number) < seen.purged_to:
        return True
    seal = run(kit, lambda work: work.db.get(AuditSeal, int(number)), reads=True)
    return seal is not None and seals.head(seal) == expected


def _seals(kit: Kit, end: int) -> Iterator[AuditSeal]:
    after = BEFORE_ALL
    while page := run(kit, partial(_page_of_seals, after=after, end=end), reads=True):
        yield from page
        after = page[-1].sequence


def _page_of_seals(work: Work, after: int, end: int) -> list[AuditSeal]:
    query = select(AuditSeal).where(AuditSeal.sequence > after, AuditSeal.sequence <= end)
    return list(work.db.scalars(query.order_by(AuditSeal.sequence).limit(SEALS)))


def _paged(kit: Kit, which: list[Any], *, by_seal: bool = False) -> Iterator[Stored]:
    """Rows by their seal and id, or by their id alone. What is written meanwhile may be among them or not."""
    after = None
    while page := run(kit, partial(_page, which=which, after=after, by_seal=by_seal), reads=True):
        yield from page
        after = page[-1]


def _page(work: Work, which: list[Any], after: Stored | None, *, by_seal: bool) -> list[Stored]:
    query = select(AuditLog.__table__, *spelling.stored(AuditLog)).where(*which)
    if after is not None:
        query = query.where(*_beyond_row(after, by_seal=by_seal))
    order = (AuditLog.seal, AuditLog.id) if by_seal else (AuditLog.id,)
    dialect = work.db.get_bind().dialect
    rows = (row._asdict() for row in work.db.execute(query.order_by(*order).limit(ROWS)))
    return [{**row, "odd": spelling.odd(dialect, AuditLog, row)} for row in rows]


def _beyond_row(after: Stored, *, by_seal: bool) -> list[Any]:
    later = AuditLog.id > after["id"]
    if not by_seal:
        return [later]
    number = after["seal"]  # said twice, so that the index finds where to begin
    return [AuditLog.seal >= number, or_(AuditLog.seal > number, and_(AuditLog.seal == number, later))]


class _Groups:
    """The rows in groups by their seal, handed out once and in order."""

    def __init__(self, rows: Iterable[Stored]) -> None:
        self._groups = groupby(rows, key=lambda row: row["seal"])
        self._next: tuple[int, Iterator[Stored]] | None = next(self._groups, None)

    def before(self, sequence: int) -> Iterator[Stored]:
        """The rows of lower sequence numbers: no seal has asked for them."""
        while self._next and self._next[0] < sequence:
            yield from self._next[1]
            self._next = next(self._groups, None)

    def of(self, sequence: int) -> Iterator[Stored]:
        """The rows of a seal."""
        if self._next and self._next[0] == sequence:
            yield from self._next[1]
            self._next = next(self._groups, None)


def _orphans(rows: Iterable[Stored]) -> Iterator[Finding]:
    for row in rows:
        yield Finding("claims a seal that is not there", row["seal"], row["id"])


def _chained(seal: AuditSeal, before: AuditSeal | None) -> Iterator[Finding]:
    if before is None:
        if seal.sequence != FIRST_SEAL and seal.purged_at is None:
            yield Finding("the seals before it are not there, and were not purged", seal.sequence)
    elif seal.sequence != before.sequence + 1:
        yield Finding(f"the seals between {before.sequence} and it are not there", seal.sequence)
    elif seal.previous != before.mac:
        yield Finding("does not follow the seal before it", seal.sequence)


def _proven(
    kit: Kit, seen: Inspection, periods: Cryptoperiods, seal: AuditSeal, rows: Iterator[Stored]
) -> Iterator[Finding]:
    seen.seals += 1
    if problem := seals.fault(kit.keys, seal):
        yield Finding(problem, seal.sequence)
    elif not periods.seal(seal.key_id, seal.made_at):
        yield Finding(f"the seal {Fault.KEY_RETIRED.value}", seal.sequence)
    if seal.purged_at is None:
        seen.adopted_seals += seal.adopted
        seen.adopted += seal.count if seal.adopted else 0
        found = list(_covered(kit, seen, periods, seal, rows))
        yield from found if found and not _is_gone(kit, seal) else ()
        return
    seen.purged_to, seen.purged_at = seal.sequence, seal.purged_at.isoformat(timespec="seconds")
    if not problem and run(kit, partial(_is_untold, seal=seal), reads=True):
        yield Finding("its rows were purged, and no row tells of that", seal.sequence)
    for row in rows:
        yield Finding("is in a seal whose rows were purged", seal.sequence, row["id"])


def _is_gone(kit: Kit, seal: AuditSeal) -> bool:
    """True if a seal's rows were purged while they were being inspected."""
    now = run(kit, lambda work: work.db.get(AuditSeal, seal.sequence), reads=True)
    anchor = run(kit, seals.anchor, reads=True)
    purged = anchor is not None and anchor.sequence >= seal.sequence and seals.fault(kit.keys, anchor) is None
    return purged and (now is None or now.purged_at is not None)


def _covered(
    kit: Kit, seen: Inspection, periods: Cryptoperiods, seal: AuditSeal, rows: Iterator[Stored]
) -> Iterator[Finding]:
    """Are these the rows that were sealed, all of them, no others, and as they were?"""
    listed = seal.members or b""
    sealed = {UUID(bytes=listed[at : at + 16]) for at in range(0, len(listed) // 16 * 16, 16)}
    there: list[tuple[UUID, str | None]] = []
    added: list[UUID] = []
    erased: list[Stored] = []
    for row in rows:
        if row["id"] not in sealed and len(added) < seals.BATCH:
            added.append(row["id"])
        if len(there) <= seals.BATCH:
            there.append((row["id"], row["mac"]))
        yield from _checked(kit, seen, periods, row, erased)
    yield from _erased(kit, erased)
    if seals.digest(there) == seal.digest:
        if b"".join(each.bytes for each, _ in there) != seal.members:
            yield Finding("the list of its rows was changed", seal.sequence)
        return
    yield Finding(f"was made over {seal.count} rows other than the {len(there)} that are there", seal.sequence)
    for missing in sorted(sealed - {each for each, _ in there}):
        yield Finding("was removed, or moved to another seal", seal.sequence, missing)
    for each in added:
        yield Finding("was put in", seal.sequence, each)


def _checked(
    kit: Kit, seen: Inspection, periods: Cryptoperiods, row: Stored, erased: list[Stored]
) -> Iterator[Finding]:
    seen.rows += 1
    if fault := signatures.fault(kit.keys, row):
        yield Finding(fault.value, row["seal"], row["id"])
    elif not periods.row(row["key_id"], row["at"] if row["seal"] else None):
        yield Finding(Fault.KEY_RETIRED.value, row["seal"], row["id"])
    elif row["odd"]:
        yield Finding(f"has {row['odd']} in a form that no filter finds", row["seal"], row["id"])
    elif signatures.is_erased(row):
        seen.erased += 1
        erased.append(row)


def _erased(kit: Kit, rows: list[Stored]) -> Iterator[Finding]:
    """Rows whose person was taken out although no row tells that their account was erased."""
    ids = {row["user_id"] for row in rows}
    told = run(kit, lambda work: _told(work, ids), reads=True) if rows else set()
    for row in rows:
        if row["user_id"] not in told:
            yield Finding("had its person taken out, and no account was erased", row["seal"], row["id"])


def _told(work: Work, ids: set[UUID]) -> set[UUID]:
    """Of whom a signed row says that they were erased. That an account is not there would prove nothing: whoever can
    blot rows can delete an account, and most ids in the log are of no account.
    """
    query = select(AuditLog.__table__).where(AuditLog.user_id.in_(ids), AuditLog.event.in_(audit.ERASURES))
    rows = (row._asdict() for row in work.db.execute(query))
    return {row["user_id"] for row in rows if signatures.fault(work.kit.keys, row) is None}


def _is_untold(work: Work, seal: AuditSeal) -> bool:
    """True if no signed row of the same moment tells of a purge. A later one takes that row, and the seal with it."""
    query = select(AuditLog.__table__).where(AuditLog.event == audit.Event.AUDIT_PURGED, AuditLog.at == seal.purged_at)
    for row in (row._asdict() for row in work.db.execute(query)):
        facts = row["facts"] if signatures.fault(work.kit.keys, row) is None else None
        if isinstance(facts, dict) and facts.get("last") == seal.sequence:
            return False
    return work.db.get(AuditSeal, seal.sequence) is not None


def _beyond(kit: Kit, end: int) -> Iterator[Finding]:
    """Rows that claim a seal after the last one. What was sealed meanwhile is in order."""
    no_seal = ~exists().where(AuditSeal.sequence == AuditLog.seal)
    return _orphans(_paged(kit, [AuditLog.seal > end, no_seal], by_seal=True))


def _unsealed(kit: Kit, seen: Inspection, periods: Cryptoperiods) -> Iterator[Finding]:
    """Rows that no seal covers yet have their own MAC, and must not wait for long."""
    overdue, since = 0, None
    erased: list[Stored] = []
    bound = kit.clock() - seals.OVERDUE
    for row in _paged(kit, [AuditLog.seal.is_(None)]):
        seen.unsealed += 1
        yield from _checked(kit, seen, periods, row, erased)
        if row["at"] < bound:
            overdue, since = overdue + 1, min(since or row["at"], row["at"])
        if len(erased) == ROWS:
            yield from _erased(kit, erased)
            erased.clear()
    yield from _erased(kit, erased)
    if overdue and since:
        minutes, told = int(seals.OVERDUE.total_seconds() // 60), since.isoformat(timespec="seconds")
        yield Finding(f"{overdue} rows, the oldest of {told}, are not sealed after {minutes} minutes")
