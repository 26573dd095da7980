"""Mutation testing of core, flows and crypto: how many small changes of their meaning the tests notice.

A sample of all changes that `bench/mutations.py` can make; each runs the tests that come by its lines, those that do
little else first. Which tests these are is recorded once by coverage.py and kept in .cache until a file is younger.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from operator import itemgetter
from pathlib import Path

from bench import copies, mutations
from bench.copies import GREEN, LATE, RED, ROOT, Copy
from bench.mutations import Mutant
from bench.report import Report

PATHS = ("app/core", "app/flows", "app/crypto")
SUITE = ("tests/core", "tests/crypto", "tests/web", "tests/delivery", "tests/test_import.py", "tests/test_logs.py")
KEPT = ROOT / ".cache"
PATIENCE_S = 600.0
SURVIVED, KILLED, ALONE = "survived", "killed", "no test comes by"
BOUND = 0.8  # of the mutants are noticed


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sample", type=int, help="so many mutants (150; short: 10)")
    parser.add_argument("--seed", type=int, default=1, help="another one draws others (1)")
    parser.add_argument("--paths", nargs="+", default=PATHS, help="files or folders (app/core app/flows app/crypto)")
    parser.add_argument("--suite", nargs="+", default=SUITE, help="the tests that may notice them (all in one process)")
    parser.add_argument("--most", type=int, default=150, help="tests for one mutant (150)")
    parser.add_argument("--jobs", type=int, default=2, help="so many at once (2)")
    parser.add_argument("--recorded", type=Path, help="what coverage.py has recorded of the suite, by test")


@dataclass(frozen=True, slots=True)
class Fate:
    mutant: Mutant
    how: str
    by: str
    tests: int
    seconds: float


def run(given: argparse.Namespace) -> Report:
    given.sample = given.sample or (10 if given.short else 150)
    recorded = given.recorded or _recorded(given.suite)
    texts = {file: (ROOT / file).read_text() for file in _files(given.paths)}
    every = [mutant for file, text in texts.items() for mutant in mutations.of(file, text)]
    chosen = random.Random(given.seed).sample(every, min(given.sample, len(every)))
    passing = Passing(recorded)
    fates = copies.each(chosen, partial(_judge, passing, given.most), given.jobs)
    return _report(fates, len(every), texts)


def _files(paths: Sequence[str]) -> Iterator[str]:
    for each in paths:
        whole = ROOT / each
        for path in sorted(whole.rglob("*.py")) if whole.is_dir() else [whole]:
            yield path.relative_to(ROOT).as_posix()


def _recorded(suite: Sequence[str]) -> Path:
    """What is kept of the last recording of these tests, or a new one if a file of app or tests is younger."""
    kept = KEPT / f"mutants-{sha256(' '.join(suite).encode()).hexdigest()[:8]}.coverage"
    sources = [path for folder in ("app", "tests") for path in (ROOT / folder).rglob("*.py")]
    if kept.exists() and kept.stat().st_mtime > max(path.stat().st_mtime for path in sources):
        return kept
    KEPT.mkdir(exist_ok=True)
    with copies.copied() as copy:
        settings = copy.root / "recording.cfg"
        settings.write_text(f"[run]\nsource = {','.join(PATHS)}\ndynamic_context = test_function\ndata_file = {kept}\n")
        words = ["coverage", "run", f"--rcfile={settings}", "-m", "pytest", "-q", "-m", "not slow", *suite]
        kept.unlink(missing_ok=True)
        done = subprocess.run(
            [sys.executable, "-m", *words], cwd=copy.root, env=copies.environment("sqlite"), check=False
        )
        if done.returncode:
            kept.unlink(missing_ok=True)
            raise SystemExit("the suite is not green without a mutant, or coverage.py is not installed")
    return kept


class Passing:
    """Which tests come by which lines."""

    def __init__(self, recorded: Path) -> None:
        from coverage import CoverageData  # noqa: PLC0415 - the other programs do without it

        data = CoverageData(str(recorded))
        data.read()
        self._lines: dict[str, dict[int, list[str]]] = {}
        self._all: Counter[str] = Counter()
        for whole in data.measured_files():
            lines = {at: [test for test in tests if test] for at, tests in data.contexts_by_lineno(whole).items()}
            self._lines["app/" + whole.rpartition("/app/")[2]] = lines
            self._all.update(test for tests in lines.values() for test in tests)

    def of(self, mutant: Mutant) -> list[str]:
        """The tests that come by a mutant's lines; where it is a constant's, by any of its module. First one of each
        file, then another of each; of a file those first that do little else.
        """
        lines = self._lines.get(mutant.file, {})
        here = Counter(test for tests in lines.values() for test in tests)
        found = {test for at in mutant.lines for test in lines.get(at, [])}
        if not found and any(at in lines for at in mutant.lines):
            found = set(here)
        turn: Counter[str] = Counter()
        in_turn = []
        for test in sorted(found, key=lambda test: (-here[test] / self._all[test], test)):
            file = test.rpartition(".")[0]
            turn[file] += 1
            in_turn.append((turn[file], _node(test)))
        return [node for _, node in sorted(in_turn, key=itemgetter(0))]


def _node(context: str) -> str:
    module, _, function = context.rpartition(".")
    return f"{module.replace('.', '/')}.py::{function}"


def _judge(passing: Passing, most: int, copy: Copy, mutant: Mutant) -> Fate:
    names = passing.of(mutant)[:most]
    if not names:
        return Fate(mutant, ALONE, "", 0, 0.0)
    text = (ROOT / mutant.file).read_text()
    with copy.broken(mutant.file, mutant.applied(text)):
        ended = copy.tests(names, patience=PATIENCE_S)
    how = {GREEN: SURVIVED, RED: KILLED, LATE: LATE}[ended.how]
    print(f"{how:8} {mutant.file}:{mutant.lines.start} {mutant.what}", file=sys.stderr)  # it goes on for long
    return Fate(mutant, how, ended.by if how == KILLED else "", len(names), round(ended.seconds, 1))


def _report(fates: Sequence[Fate], every: int, texts: dict[str, str]) -> Report:
    report = Report()
    by_module: dict[str, Counter[str]] = defaultdict(Counter)
    for fate in fates:
        by_module[fate.mutant.file][fate.how] += 1
    report.tables[f"{len(fates)} of {every} mutants"] = [
        {"module": file, **{how: by_module[file][how] for how in (KILLED, LATE, SURVIVED, ALONE)}}
        for file in sorted(by_module)
    ]
    report.tables["survivors"] = [
        {
            "where": f"{fate.mutant.file}:{fate.mutant.lines.start}",
            "what": fate.mutant.what,
            "tests": fate.tests,
            "was": fate.mutant.was(texts[fate.mutant.file]),
            "is": fate.mutant.new,
        }
        for fate in fates
        if fate.how in (SURVIVED, ALONE)
    ]
    noticed = sum(fate.how in (KILLED, LATE) for fate in fates)
    share = noticed / len(fates) if fates else 0.0
    report.check("share of the mutants that is noticed", share, f"at least {BOUND}", share >= BOUND)
    return report
