"""Bugs that somebody might write one day, planted one at a time: each must turn a test red that is green without it.

They are in tests/planted, a file each: what an attacker gains, what stands in the code, what stands there instead, and
the tests that must notice.
"""

from __future__ import annotations

import argparse
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench import copies
from bench.copies import GREEN, RED, ROOT, Copy, Ended
from bench.report import Report

FOLDER = ROOT / "tests" / "planted"
SHORT = 8  # every so many-th bug
PATIENCE_S = 300.0
CRASHED = "crashed"
# A name that is not there, or what the service answers with 500 and logs.
CRASH = re.compile(r"\b(?:Name|UnboundLocal|Import|ModuleNotFound|Syntax)Error\b|\bunexpected [A-Z]\w+")


@dataclass(frozen=True, slots=True)
class Bug:
    name: str
    gains: str
    file: str
    old: str
    new: str
    red: tuple[str, ...]  # tests, or files of tests; the first that fails is enough
    lane: str
    crashes: bool = False  # an unforeseen error belongs to its tests, or is the sign of it

    def planted(self, root: Path = ROOT) -> str:
        """The file with the bug in it. Raises ValueError if what it changes does not stand there exactly once."""
        text = (root / self.file).read_text()
        if text.count(self.old) != 1:
            raise ValueError(f"{self.name}: what it changes stands {text.count(self.old)} times in {self.file}")
        return text.replace(self.old, self.new)


def bugs() -> Iterator[Bug]:
    """All of them, by name."""
    for path in sorted(FOLDER.glob("*.toml")):
        given = tomllib.loads(path.read_text())
        red = tuple(given.pop("red"))
        yield Bug(path.stem, red=red, lane=given.pop("lane", "sqlite"), **given)


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these bugs alone")
    parser.add_argument("--jobs", type=int, default=2, help="so many at once (2)")


def run(given: argparse.Namespace) -> Report:
    every = list(bugs())
    chosen = [bug for bug in every if bug.name in given.only] if given.only else every[:: SHORT if given.short else 1]
    lanes = sorted({bug.lane for bug in chosen})
    without = dict(zip(lanes, copies.each(lanes, partial(_without, chosen), 1), strict=True))
    ended = copies.each(chosen, _plant, given.jobs)
    hows = [how(bug, end) for bug, end in zip(chosen, ended, strict=True)]
    report = Report()
    report.tables["bugs"] = [
        {"bug": bug.name, "tests": said, "by": "" if said == GREEN else end.by, "seconds": round(end.seconds, 1)}
        for bug, end, said in zip(chosen, ended, hows, strict=True)
    ]
    for lane, end in without.items():
        report.check(f"{lane}: the same tests without a bug", f"{end.how} {end.by}", GREEN, end.how == GREEN)
    missed = [bug.name for bug, said in zip(chosen, hows, strict=True) if said != RED]
    report.check("bugs that no test noticed", ", ".join(missed) or 0, "0", not missed)
    report.check("bugs that were planted", len(chosen), "some", bool(chosen))
    return report


def how(bug: Bug, end: Ended) -> str:
    """How its tests ended. A bug that only breaks the program was not noticed for what it is."""
    broke = CRASH.search(end.output) and not bug.crashes
    return CRASHED if end.how == RED and broke else end.how


def _without(chosen: list[Bug], copy: Copy, lane: str) -> Ended:
    names = dict.fromkeys(name for bug in chosen if bug.lane == lane for name in bug.red)
    return copy.tests(list(names), lane=lane, patience=3600.0)


def _plant(copy: Copy, bug: Bug) -> Ended:
    with copy.broken(bug.file, bug.planted()):
        return copy.tests(bug.red, lane=bug.lane, patience=PATIENCE_S)
