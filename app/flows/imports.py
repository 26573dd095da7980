"""Accounts from another system, some rows at a time: each becomes an account, is one already, or is refused."""

from __future__ import annotations

from collections.abc import Sequence, Set

from app.core import audit, imports, signups, throttles
from app.core.audit import Event
from app.core.identifiers import Kind
from app.core.imports import Candidate, Outcome, Refused, Row, Verdict
from app.delivery import messages
from app.errors import ValidationFailed
from app.work import Work

CLAIMANT = throttles.key("import", "")


def take(
    work: Work, rows: Sequence[Row], claimed: Set[int], *, earlier: Set[int] = frozenset(), trial: bool = False
) -> Outcome:
    """Import rows of a file, all in one unit of work. Their addresses count as proven: the old system knew them.

    `claimed`: the `Outcome.claimed` of all rows before these. `earlier`: the `imports.marks` of rows of an earlier run,
    which are not looked at again: whose account is gone since gets none. `trial`: find out and write nothing. What was
    imported before is counted and left as it is, so a run that was cut off is simply run again.
    """
    outcome = Outcome()
    candidates = _read(work, _later(work, rows, earlier, outcome), outcome)
    owned = imports.owners(work, candidates)
    named = {each for candidate in candidates for each in candidate.identifiers}
    free = {each for each in named if each.kind is Kind.USERNAME and each not in owned}
    held = signups.held_usernames(work, free) if trial else signups.hold_usernames(work, free, CLAIMANT)
    new: list[Candidate] = []
    for candidate in candidates:
        verdict = imports.judge(candidate, owned, held, claimed, outcome.claimed)
        if verdict in (Verdict.REPEATED, Verdict.TAKEN, Verdict.HELD):
            outcome.refused.append(imports.refusal(candidate, verdict))
            continue
        outcome.claimed |= candidate.marks
        if verdict is Verdict.NEW:
            new.append(candidate)
        else:
            outcome.already_there += 1
    if not trial:
        new = _create(work, new, outcome)
        signups.release_usernames(work, free - held)  # they are on accounts now, or not wanted any more
    outcome.imported, outcome.above_user = len(new), sum(each.above_user for each in new)
    return outcome


def _later(work: Work, rows: Sequence[Row], earlier: Set[int], outcome: Outcome) -> Sequence[Row]:
    if not earlier:
        return rows
    later = [row for row in rows if imports.marks(row, work.settings.default_phone_region).isdisjoint(earlier)]
    outcome.passed_over = len(rows) - len(later)
    return later


def _read(work: Work, rows: Sequence[Row], outcome: Outcome) -> list[Candidate]:
    languages, candidates = messages.languages(work.settings), []
    for row in rows:
        try:
            candidates.append(imports.read(work, row, languages))
        except ValidationFailed as refused:
            outcome.refused.append(Refused.of(row.line, refused))
    return candidates


def _create(work: Work, new: Sequence[Candidate], outcome: Outcome) -> list[Candidate]:
    """Those that became accounts. The others' identifiers somebody signed up with just now."""
    made = imports.create(work, new)
    facts = {at: {"format": each.format, "role": each.details["role"]} for at, each in made.items()}
    audit.record_each(work, Event.ACCOUNT_IMPORTED, facts)
    in_time = {each.line for each in made.values()}
    for late in (each for each in new if each.line not in in_time):
        outcome.claimed -= late.marks
        outcome.refused.append(imports.refusal(late, Verdict.TAKEN))
    return list(made.values())
