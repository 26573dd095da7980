"""Accounts from another system, some rows at a time: each becomes an account, is one already, or is refused."""

from __future__ import annotations

from collections.abc import Sequence, Set

from app.core import audit, imports
from app.core.audit import Event
from app.core.imports import Candidate, Outcome, Refused, Row, Verdict
from app.delivery import messages
from app.errors import ValidationFailed
from app.work import Work


def take(work: Work, rows: Sequence[Row], claimed: Set[int], *, trial: bool = False) -> Outcome:
    """Import rows of a file, all in one unit of work. Their addresses count as proven: the old system knew them.

    `claimed`: the `Outcome.claimed` of all rows before these. `trial`: find out and write nothing. What was imported
    before is counted and left as it is, so a run that was cut off is simply run again.
    """
    outcome = Outcome()
    candidates = _read(work, rows, outcome)
    owned = imports.owners(work, candidates)
    new: list[Candidate] = []
    for candidate in candidates:
        verdict = imports.judge(candidate, owned, claimed, outcome.claimed)
        if verdict in (Verdict.REPEATED, Verdict.TAKEN):
            outcome.refused.append(imports.refusal(candidate, verdict))
            continue
        outcome.claimed |= candidate.marks
        if verdict is Verdict.NEW:
            new.append(candidate)
        else:
            outcome.already_there += 1
    outcome.imported = len(new) if trial else _create(work, new, outcome)
    return outcome


def _read(work: Work, rows: Sequence[Row], outcome: Outcome) -> list[Candidate]:
    languages, candidates = messages.languages(work.settings), []
    for row in rows:
        try:
            candidates.append(imports.read(work, row, languages))
        except ValidationFailed as refused:
            outcome.refused.append(Refused.of(row.line, refused))
    return candidates


def _create(work: Work, new: Sequence[Candidate], outcome: Outcome) -> int:
    """How many became accounts. The others' identifiers somebody signed up with just now."""
    made = imports.create(work, new)
    facts = {at: {"format": each.format, "role": each.details["role"]} for at, each in made.items()}
    audit.record_each(work, Event.ACCOUNT_IMPORTED, facts)
    in_time = {each.line for each in made.values()}
    for late in (each for each in new if each.line not in in_time):
        outcome.claimed -= late.marks
        outcome.refused.append(imports.refusal(late, Verdict.TAKEN))
    return len(made)
