"""Up to a million hostile requests: no fault of the service, no worker that ends, nothing that grows.

gunicorn with two workers. Four parts take turns: schemathesis from the OpenAPI document (`document`), lives of accounts
as a state machine (`life`), broken HTTP on the socket (`wire`), and hostile JSON, parameters and headers (`bodies`).
"""

from __future__ import annotations

import argparse
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import sqlalchemy as sa

from app.db import Base
from bench import fuzz_bodies, fuzz_life, fuzz_wire
from bench.fuzz_people import Cast, Line, Post, Tally
from bench.report import Report, no_faults
from bench.rig import Rig, rig
from tests import lanes

SHARES = {"document": 0.05, "life": 0.02, "wire": 0.45, "bodies": 0.48}
OF_ITS_SHARE = 0.9  # that a part must have sent
TIME = {"document": 0.4, "life": 0.1, "wire": 0.25, "bodies": 0.25}  # of each round, where --seconds bounds it
ROUNDS = 4  # of all parts; what is there after the first is what the last is held against
THREADS = 2  # that attack at once
FEWEST = {"life": 75}  # requests of a part in a round: five lives
GROWTH = 1.2  # of the workers' memory
WEB_THREADS = 8  # that a worker starts as it needs them
FILES = 16  # that a worker may hold more at the end: connections to the database among them
SETTINGS: dict[str, Any] = {
    "web_concurrency": 2,
    "step_up_max_age": 3600,
    "jwt_access_ttl": 3600,
    "web_threads": WEB_THREADS,
}
# Tables that may grow though nothing was done: what was refused, and the courier's own work.
ALWAYS = {"audit_logs", "audit_seals", "hourly_counts", "throttles"}
ROWS_EACH = {"backup_codes": 10}  # that one request makes which was taken
ROWS_A_REQUEST = 2  # of any other table


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--requests", type=int, help="in all (1,000,000; short: 20,000)")
    parser.add_argument(
        "--seconds", type=float, default=float("inf"), help="end after about so many, whatever was sent"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--database", choices=("sqlite", "postgresql", "mariadb"), default="sqlite")


def run(given: argparse.Namespace) -> Report:
    lanes.look_for_servers()
    given.requests = given.requests or (20_000 if given.short else 1_000_000)
    report = Report()
    with rig(given.database, "fuzz", **SETTINGS) as opened:
        siege = Siege(opened, given)
        for number in range(ROUNDS):
            siege.round(number)
        siege.end()
        _settle(report, siege, given)
    return report


@dataclass(frozen=True)
class Use:
    """What the workers hold, all together."""

    pids: tuple[int, ...]
    pss_mib: float
    threads: int
    files: int


@dataclass
class Siege:
    opened: Rig
    given: argparse.Namespace
    uses: list[Use] = field(default_factory=list)
    grew: dict[str, Counter[str]] = field(default_factory=lambda: {"wire": Counter(), "bodies": Counter()})
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    people: int = 0  # who came during `bodies`
    phases: Counter[str] = field(default_factory=Counter)  # requests of `document`
    absent: str = ""  # why there is no `document`
    hanging: list[tuple[fuzz_wire.Probe, Line]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.began = time.monotonic()
        self.tallies = {part: Tally(part) for part in SHARES}
        self.port = urlsplit(self.opened.service.base).port or 0
        self.cast = Cast(self.opened, Post(self.opened.mailbox))
        dice = random.Random(self.given.seed)
        self.attackers = [
            fuzz_bodies.Attacker(self.port, self.cast, random.Random(dice.random()), self.tallies["bodies"])
            for _ in range(THREADS)
        ]
        self.dice = [random.Random(dice.random()) for _ in range(THREADS)]
        self.uses.append(self.use())

    def round(self, number: int) -> None:
        """Each part once, with its share of a quarter of all requests."""
        seed = self.given.seed + number
        self._timed(number, "document", lambda count: self._document(count, number))
        self._timed(number, "life", lambda count: fuzz_life.live(self.cast, self.tallies["life"], count, seed))
        before = self.rows()
        self._timed(number, "wire", self._wire)
        between, people = self.rows(), self.cast.people
        self._timed(number, "bodies", self._bodies)
        self.grew["wire"] += between - before
        self.grew["bodies"] += self.rows() - between
        self.people += self.cast.people - people
        self.uses.append(self.use())

    def _timed(self, number: int, part: str, act: Callable[[int], Any]) -> None:
        """A part of a round, until its requests or its share of the seconds are used up."""
        began, tally = time.monotonic(), self.tallies[part]
        until = number + sum(TIME[each] for each in list(TIME)[: list(TIME).index(part) + 1])
        tally.deadline = self.began + self.given.seconds * until / ROUNDS
        if not tally.over:
            act(max(int(self.given.requests * SHARES[part] / ROUNDS) + 1, FEWEST.get(part, 0)))
        self.seconds[part] += time.monotonic() - began

    def _document(self, count: int, number: int) -> None:
        try:
            from bench.fuzz_document import Fuzzer  # noqa: PLC0415 - it takes a second, and may not be installed
        except ModuleNotFoundError as error:
            self.absent = f"{error.name} is not installed: it is in requirements-dev.txt"
            return
        fuzzer = Fuzzer(self.opened.service.base, self.cast, self.tallies["document"], self.given.seed)
        self.phases += fuzzer.attack(count, number)

    def _wire(self, count: int) -> None:
        tally = self.tallies["wire"]
        share = count // THREADS + 1
        acts = [partial(fuzz_wire.attack, self.port, share, dice, tally, self.hanging) for dice in self.dice]
        at_once(acts, tally)

    def _bodies(self, count: int) -> None:
        share = count // THREADS + 1
        at_once([partial(each.attack, share) for each in self.attackers], self.tallies["bodies"])

    def end(self) -> None:
        """Let go of the connections that were left hanging, and see what is held then."""
        fuzz_wire.settle(self.hanging, self.tallies["wire"])
        time.sleep(1)
        self.uses.append(self.use())

    def rows(self) -> Counter[str]:
        tables = Base.metadata.sorted_tables
        return Counter(
            {each.name: self.opened.rows(sa.select(sa.func.count()).select_from(each))[0][0] for each in tables}
        )

    def use(self) -> Use:
        workers = self.opened.service.workers()
        return Use(
            tuple(sorted(each.pid for each in workers)),
            sum(each.memory_full_info().pss for each in workers) / 2**20,
            sum(each.num_threads() for each in workers),
            sum(each.num_fds() for each in workers),
        )


def at_once(acts: list[Callable[[], None]], tally: Tally) -> None:
    """Each in a thread of its own. An attacker that stumbles has met what it did not expect: that is a fault too."""
    with ThreadPoolExecutor(len(acts)) as pool:
        for done in [pool.submit(act) for act in acts]:
            if error := done.exception():
                tally.fault(f"an attacker gave up: {type(error).__name__} {error}"[:300], "")


def _settle(report: Report, siege: Siege, given: argparse.Namespace) -> None:
    rows = report.tables[f"requests on {given.database}, seed {given.seed}"] = []
    faults: list[dict[str, Any]] = []
    for part, tally in siege.tallies.items():
        answers = dict(tally.answers.most_common())
        rows.append({"part": part, "requests": tally.requests, "seconds": siege.seconds[part], "answers": answers})
        faults += [
            {"part": part, "times": tally.often[kind], "what": kind, "sent": tally.faults[kind]}
            for kind in tally.faults
        ]
        wrong = tally.often.total()
        report.check(f"{part}: answers that should not be", wrong, "0", not wrong)
        if given.seconds == float("inf"):
            most = int(given.requests * SHARES[part] * OF_ITS_SHARE)
            report.check(f"{part}: requests", tally.requests, f"at least {most}", tally.requests >= most)
    report.tables["sent by each phase of `document`"] = [dict(siege.phases)]
    if faults:
        report.tables["what should not be, and the first that were sent"] = faults
    if siege.absent:
        report.check("document", siege.absent, "installed", False)
    sent = sum(tally.requests for tally in siege.tallies.values())
    wanted = given.requests if given.seconds == float("inf") else 0
    report.check("requests", sent, f"at least {wanted}", sent >= wanted)
    _settle_use(report, siege)
    _settle_rows(report, siege)
    no_faults(report, siege.opened.service.log)


def _settle_use(report: Report, siege: Siege) -> None:
    when = ["before", *(f"{100 * (number + 1) // ROUNDS} %" for number in range(ROUNDS)), "after"]
    report.tables["what both workers hold"] = [
        {"when": at, "PSS MiB": use.pss_mib, "threads": use.threads, "files": use.files}
        for at, use in zip(when, siege.uses, strict=True)
    ]
    first, last = siege.uses[1], siege.uses[-1]
    pids = {use.pids for use in siege.uses}
    report.check("sets of workers that were there", len(pids), "1", len(pids) == 1)
    growth = last.pss_mib / first.pss_mib
    report.check("memory at the end to that after a quarter", growth, f"at most {GROWTH}", growth <= GROWTH)
    most = siege.uses[0].threads + WEB_THREADS * len(last.pids)
    report.check("threads at the end", last.threads, f"at most {most}", last.threads <= most)
    more = last.files - first.files
    report.check("open files more since then", more, f"at most {FILES} a worker", more <= FILES * len(last.pids))


def _settle_rows(report: Report, siege: Siege) -> None:
    """Broken HTTP leaves none but the marks of refusals; bodies no more than was taken."""
    names = sorted({name for grew in siege.grew.values() for name in grew})
    report.tables["rows more"] = [{"after": part, **{n: grew[n] for n in names}} for part, grew in siege.grew.items()]
    odd = {name: count for name, count in siege.grew["wire"].items() if name not in ALWAYS}
    report.check("tables that grew by broken HTTP", odd or 0, "0", not odd)
    taken = siege.tallies["bodies"].accepted + 5 * siege.people  # five requests bring a person in
    odd = {
        name: count
        for name, count in siege.grew["bodies"].items()
        if name not in ALWAYS and count > taken * ROWS_EACH.get(name, ROWS_A_REQUEST)
    }
    report.check(f"tables that grew more than by the {taken} requests taken", odd or 0, "0", not odd)
