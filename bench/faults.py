"""Every fault that one machine can make, under a load of journeys; afterwards everything that was acknowledged holds.

A handful of clients sign up, sign in, change, recover and get roles, and write down what they were told. One fault
after the other is made and taken away; then the invariants are asked of database, mailbox and journal.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from app.models import OutboxMessage
from app.models.outbox import State
from bench.invariants import broken, over
from bench.journal import Act
from bench.load import until
from bench.report import Report, quantile
from bench.scene import utc
from bench.stage import Stage, Start, answers, compiler, stage
from bench.struck import FAULTS, Fault
from bench.struck.fault import Felt
from tools import servers

SHORT = (
    "database killed",
    "database read-only",
    "commit unanswered",
    "SMS is taken and cut",
    "disk full (SQLite)",
    "worker ends after a commit, before the answer (SQLite)",
)
QUIET_S = 1.0  # of load before a fault
AFTER_S, AFTER_SHORT_S = 4.0, 1.5  # and after it, at least
SETTLING_S, SETTLING_SHORT_S = 45.0, 2.0  # for messages that are on their way: a lease lasts 30 s
PATIENCE_SHORT_S = 60.0  # of a client: the short form asserts no times
HEALING_S = 60.0
WHOLE_S = 12.0  # a shorter fault may honestly fail nobody
HELD_S = 1.0  # a message waits that nothing holds, at most
MET_S = 60.0  # that a fault lasts longer until it holds one, at most
UNFORESEEN = re.compile(r"unexpected \w+|stumbled|status=500|could not be recorded")
LIVE = "GET /health/live"
IDS = re.compile(r"[0-9a-f-]{36}")
TOLD = 8000  # characters of such an error
SERVERS: dict[str, tuple[str, Callable[[], object]]] = {
    "postgresql": ("PostgreSQL or Redis", lambda: servers.postgres_bin() and servers.redis_bin()),
    "mariadb": ("MariaDB", servers.mysql_programs),
}
WRITES = ("verify", "change-", "reset-password", "complete-registration", "role", "refresh")


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--only", action="append", metavar="NAME", help="this fault, by the start of its name; again for more"
    )
    parser.add_argument("--seconds", type=float, help=f"that a fault lasts ({WHOLE_S:g}; short: 2)")
    parser.add_argument("--clients", type=int, default=4)


def run(given: argparse.Namespace) -> Report:
    given.seconds = given.seconds or (2 if given.short else WHOLE_S)
    report = Report()
    chosen, cases = _chosen(given, report), Counter[str]()
    for database, start in dict.fromkeys(_where(fault) for fault in chosen):
        with stage(database, start) as opened, opened.crowd.at_work(given.clients):
            opened.crowd.patience = PATIENCE_SHORT_S if given.short else opened.crowd.patience
            for fault in [each for each in chosen if _where(each) == (database, start)]:
                checked = len(report.checks)
                _one(report, opened, fault, given)
                _progress(fault, report, checked)
            cases.update(_end(report, opened, ", ".join(filter(None, (database, start))), given))
    for what, count in cases.items():
        report.check(f"all in all: {what}", count, "some", count > 0 or given.short or bool(given.only))
    return report


def _progress(fault: Fault, report: Report, checked: int) -> None:
    """Tell on stderr how a fault went: the rest comes after the last of them, and that takes a while."""
    fresh = report.checks[checked:]
    missed = [f"{check.what}: {check.measured}, {check.bound}" for check in fresh if not check.ok]
    print(f"{fault.name}: {len(fresh) - len(missed)} of {len(fresh)} checks met", *missed, sep="\n  ", file=sys.stderr)


def _where(fault: Fault) -> tuple[str, Start]:
    return fault.database, fault.start


def _chosen(given: argparse.Namespace, report: Report) -> list[Fault]:
    """The faults that are asked for and can be made here; of the others it is told."""
    names = [name for name in FAULTS if any(name.startswith(each) for each in given.only)] if given.only else (
        SHORT if given.short else tuple(FAULTS))  # fmt: skip
    found = [FAULTS[name] for name in names]
    without = {
        database: f"no {what} of its own can be started" for database, (what, there) in SERVERS.items() if not there()
    }
    left = {fault.name: without[fault.database] for fault in found if fault.database in without}
    if not compiler():
        left |= {
            fault.name: "there is no C compiler, or this is not Linux" for fault in found if fault.start is Start.CLOCK
        }
    for why in dict.fromkeys(left.values()):
        report.tables[f"NOT MADE: {why}"] = [{"fault": name} for name in left if left[name] == why]
    return [fault for fault in found if fault.name not in left]


@dataclass
class Seen:
    """What clients saw from the beginning of a fault until all was well again: `ready` seconds after its end, if ever.
    `held`: messages that were not sent at once while it lasted.
    """

    acts: list[Act]
    ended: float
    ready: float
    held: int = 0

    @property
    def bad(self) -> list[Act]:
        return [act for act in self.acts if act.failed]

    @property
    def healing(self) -> float:
        """Seconds from its end until the last answer that was none."""
        return max((act.began + act.took - self.ended for act in self.bad), default=0.0)

    @property
    def struck(self) -> int:
        """Acts that failed while it lasted."""
        return sum(act.began < self.ended for act in self.bad)

    @property
    def done(self) -> int:
        """Acknowledged writes while it lasted."""
        good = [act for act in self.acts if act.status in (200, 201) and act.began < self.ended]
        return sum(any(part in act.what for part in WRITES) for act in good)


def _one(report: Report, opened: Stage, fault: Fault, given: argparse.Namespace) -> None:
    time.sleep(QUIET_S)
    logged = _traces(opened)
    began, since, whole = time.monotonic(), datetime.now(UTC), given.seconds >= WHOLE_S
    try:
        with fault.make(opened):
            time.sleep(max(given.seconds, fault.least_s))
            if whole and fault.holds:
                with suppress(TimeoutError):
                    until(lambda: _held(opened, fault, since), MET_S)
    except AssertionError as why:  # it was made, and nobody met it
        report.check(f"{fault.name}: was met", str(why), "by somebody", given.short)
    ended, ready = time.monotonic(), float("inf")
    held = _held(opened, fault, since)
    with suppress(TimeoutError):
        until(lambda: answers(opened.service.base) and _went_well(opened, ended), HEALING_S)
        ready = time.monotonic() - ended
    time.sleep(AFTER_SHORT_S if given.short else AFTER_S)
    with opened.crowd.resting():
        seen = Seen(opened.crowd.journal.since(began), ended, ready, held)
        opened.settled(SETTLING_SHORT_S if given.short else SETTLING_S)
        wrong = broken(opened.scene())
    _tell(report, fault, seen, wrong, {"new traces": _traces(opened) - logged}, timed=not given.short, whole=whole)


def _held(opened: Stage, fault: Fault, since: datetime) -> int:
    """Messages of the channels that it holds, made since then, which were not sent within a second."""
    made: sa.Select[Any] = sa.select(OutboxMessage.state, OutboxMessage.created_at, OutboxMessage.settled_at)
    made = made.where(OutboxMessage.channel.in_(fault.holds), OutboxMessage.created_at >= since)
    rows, now = opened.scene().rows(made) if fault.holds else [], datetime.now(UTC)
    waits = ((row.state, utc(row.settled_at or now) - utc(row.created_at)) for row in rows)
    return sum(state == State.FAILED or waited.total_seconds() > HELD_S for state, waited in waits)


def _went_well(opened: Stage, since: float) -> bool:
    """Whether somebody who asked since then got what they asked for, and not only whether the process lives."""
    acts = opened.crowd.journal.since(since)
    return any(act.began >= since and act.status in (200, 201) and act.what != LIVE for act in acts)


def _tell(
    report: Report,
    fault: Fault,
    seen: Seen,
    wrong: dict[str, list[str]],
    more: dict[str, Any],
    *,
    timed: bool,
    whole: bool,
) -> None:
    """`whole`: it lasted long enough to be felt."""
    told = Counter(str(act.status or act.why) for act in seen.acts)
    times = [act.took for act in seen.acts]
    lives = [act for act in seen.acts if act.what == LIVE]
    longest = max(times, default=0.0)
    slowest = max(seen.acts, key=lambda act: act.took).what if seen.acts else "-"
    row = {
        "fault": fault.name, "asked": len(seen.acts), "answers": dict(told.most_common()), "writes done": seen.done,
        "held": seen.held, "s, p95": quantile(times, 0.95), "longest": longest, "of": IDS.sub("...", slowest),
        "live, longest": max((act.took for act in lives), default=0.0), "last failure after s": seen.healing,
        "ready after s": seen.ready, **more,
    }  # fmt: skip
    report.tables.setdefault("what clients saw, from the fault's beginning until all was well", []).append(row)
    check = report.check
    check(f"{fault.name}: invariants broken", wrong or 0, "none", not wrong)
    check(f"{fault.name}: asked", len(seen.acts), "something", bool(seen.acts))
    check(f"{fault.name}: all was well after s", seen.ready, f"at most {HEALING_S:g}", seen.ready < float("inf"))
    if fault.fails and (fault.felt is Felt.AT_ONCE or (whole and fault.felt is Felt.IN_TIME)):
        check(f"{fault.name}: failed while it lasted", seen.struck, "some", seen.struck > 0)
    if fault.holds and whole:
        check(f"{fault.name}: messages held", seen.held, "some", seen.held > 0)
    strange = [act for act in seen.bad if not (_fair(act) or (act.status == 0 and fault.drops))]
    bound = "503 with Retry-After" + (" or no connection" if fault.drops else "") if fault.fails else "none"
    failed = Counter(f"{act.status or act.why} {act.code}" for act in (strange if fault.fails else seen.bad))
    check(f"{fault.name}: failures other than these", dict(failed), bound, not failed)
    if fault.lives:
        dead = [act for act in lives if act.status != 200]
        check(f"{fault.name}: the process lives", len(dead), "0 times not", not dead)
    if timed:
        check(f"{fault.name}: longest answer, s", longest, f"at most {fault.patience_s:g}", longest <= fault.patience_s)
        check(
            f"{fault.name}: last failure after it, s",
            seen.healing,
            f"at most {fault.heals_s:g}",
            seen.healing <= fault.heals_s,
        )
    if not (fault.fails or fault.holds):
        check(f"{fault.name}: writes go on", seen.done, "some", seen.done > 0)


def _fair(act: Act) -> bool:
    return act.status == 503 and act.waits >= 1


def _end(report: Report, opened: Stage, database: str, given: argparse.Namespace) -> Counter[str]:
    """Once more, when everything has come that would. Returns how many cases the invariants were asked of."""
    with opened.crowd.resting():
        opened.settled(SETTLING_SHORT_S if given.short else SETTLING_S)
        scene = opened.scene()
        wrong, aged = broken(scene), len(over(scene))
    journal = opened.crowd.journal
    guesses = list(journal.guesses.values())  # the crowd is at work again
    acts: Counter[str] = Counter()
    for who in journal.people:
        acts += who.sure
    report.tables[f"{database}: what was acknowledged"] = [
        {**acts, "sends": len(journal.sends), "used-up codes offered again": journal.retried,
         "unanswered ones": dict(journal.unsure), "couriers": opened.couriers,
         **({"processes ended": dict(journal.killed)} if journal.killed else {})}
    ]  # fmt: skip
    cases = Counter(
        {
            "used-up codes offered again": journal.retried,
            "codes that got no answer offered again": journal.unsure.total(),
            "sessions ended": journal.ends.total(),
            "sessions over by age": aged,
            "wrong passwords and codes": sum(each["401"] + each["400"] for each in guesses),
            "locks met": sum(each["423"] for each in guesses),
            "admins out of office": journal.fights["200"],
            "error answers": len(journal.errors),
            "secrets sealed": len(journal.seeds),
        }
    )
    report.tables[f"{database}: cases that the invariants were asked of"] = [
        {**cases, "fights": dict(journal.fights), "ended by": dict(journal.ends)}
    ]
    earned = Counter(f"{act.status} {act.code}" for act in journal.acts if act.refused and act.earned)
    report.tables[f"{database}: refusals that were earned"] = [dict(earned)]
    report.check(f"{database}, in the end: invariants broken", wrong or 0, "none", not wrong)
    traces = _traces(opened)
    report.check(f"{database}: unexpected faults in the logs", traces, "0", traces == 0)
    if traces:
        print(_first_traces(opened), file=sys.stderr)
    return cases


def _traces(opened: Stage) -> int:
    """Lines of the service's logs that tell of an error that nobody foresaw."""
    text = "".join(path.read_text(errors="replace") for path in (opened.service.log, opened.folder / "courier.log"))
    return len(UNFORESEEN.findall(text))


def _first_traces(opened: Stage) -> str:
    """The beginnings of what the logs tell of such errors, for whoever has to find them."""
    text = "".join(path.read_text(errors="replace") for path in (opened.service.log, opened.folder / "courier.log"))
    return "\n...\n".join(text[found.start() : found.start() + TOLD] for found in list(UNFORESEEN.finditer(text))[:3])
