"""Upkeep: what the service does for its own tables between messages. Any number of processes may do it at once."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from functools import partial

from app import figures
from app.core import retention, seals, stats
from app.delivery import tally
from app.work import Client, Kit, Work, run

AGREEING = timedelta(seconds=10)
SEALING = timedelta(seconds=60)
COUNTING = timedelta(seconds=60)
TALLYING = timedelta(seconds=5)
MOST_HOURS = 100  # counted in one go
MOST_SEALS = 50  # in one go: 200,000 rows, so that a backlog does not keep the rest waiting
PURGING = timedelta(hours=1)
FIRST = timedelta(minutes=5)  # after the start, of what is due less often: a host may put the service to sleep soon
MOST_BATCHES = 400  # of each kind in one go: 200,000 rows
CLIENT = Client(user_agent="upkeep")

log = logging.getLogger("latchkey.upkeep")


class Upkeep:
    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        began = kit.clock()
        self._done = {name: began - max(every - FIRST, timedelta(0)) for name, (every, _) in DUTIES.items()}

    def tick(self) -> None:
        """Do what is due. Raises Unavailable and whatever else goes wrong, and counts it; that is tried again when it
        is due again, and what comes after it at the next tick.
        """
        for name, (every, duty) in DUTIES.items():
            now = self._kit.clock()
            if abs(now - self._done[name]) >= every:  # the clock may have been set back, by days
                self._done[name] = now
                try:
                    duty(self._kit)
                except Exception:
                    figures.UPKEEP_FAILURES.labels(name).inc()
                    raise


def seal(kit: Kit, most: int = MOST_SEALS, *, adopt: bool = False) -> int:
    """Seal what waits, in batches with a unit each, until nothing does. Returns how many rows. The head of the chain
    goes to the log, so that whoever keeps the log can prove later that nothing was cut off. Warns of unsigned rows.
    """

    def one(work: Work) -> tuple[int, str]:
        made = seals.seal_next(work, adopt=adopt)
        return (made.count, seals.head(made)) if made else (0, "")

    sealed = 0
    if run(kit, seals.is_of_another_key, reads=True):
        log.error("the audit log was sealed with a SECRET_KEY that no setting has: see docs/audit.md")
    for _ in range(most):
        if not run(kit, lambda work: seals.is_waiting(work, adopt=adopt), reads=True):
            break
        rows, head = run(kit, one, client=CLIENT)
        sealed += rows
        if rows:
            log.info("audit rows are sealed", extra={"fields": {"rows": rows, "head": head}})
    if run(kit, seals.is_one_unsigned, reads=True):
        log.warning("there are audit rows that are not signed: see flask audit-verify, and docs/audit.md")
    return sealed


def count(kit: Kit) -> int:
    """Count the hours that are over. Returns how many were."""
    hours = 0
    while hours < MOST_HOURS and run(kit, stats.roll_next, client=CLIENT):
        hours += 1
    return hours


def purge(kit: Kit, most: int = MOST_BATCHES) -> dict[str, int]:
    """Delete what nothing needs any more, in batches with a unit each. Returns how many rows of each kind."""
    gone: dict[str, int] = {}
    for kind in retention.KINDS:
        gone[kind.name] = 0
        for _ in range(most):
            rows = run(kit, partial(retention.purge, kind=kind), client=CLIENT)
            gone[kind.name] += rows
            if rows < retention.BATCH:
                break
    if any(gone.values()):
        log.info("old rows were deleted", extra={"fields": {name: rows for name, rows in gone.items() if rows}})
    return gone


DUTIES: dict[str, tuple[timedelta, Callable[[Kit], object]]] = {  # by the names of the figure: how often, and what
    "clock": (AGREEING, lambda kit: kit.agree()),
    "seal": (SEALING, seal),
    "count": (COUNTING, count),
    "purge": (PURGING, purge),
    "tally": (TALLYING, tally.count_proven),
}
