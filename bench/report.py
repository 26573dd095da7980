"""What a program found: tables of figures, and checks of some of them against a bound."""

from __future__ import annotations

import argparse
import os
import platform
import random
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESAMPLES = 1000
LINES_OF_A_FAULT = 120


@dataclass
class Check:
    what: str
    measured: Any
    bound: str
    ok: bool


@dataclass
class Report:
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    checks: list[Check] = field(default_factory=list)

    def check(self, what: str, measured: Any, bound: str, ok: bool) -> None:
        """Keep a check, and tell of it at once: a program that takes an hour, and is stopped, has shown something."""
        self.checks.append(Check(what, measured, bound, bool(ok)))
        print(f"{_met(ok)}: {what}: {_cell(measured)} (wanted: {bound})", file=sys.stderr, flush=True)

    @property
    def ok(self) -> bool:
        """Never without a single check."""
        return bool(self.checks) and all(check.ok for check in self.checks)


def no_faults(report: Report, log: Path, of: str = "") -> None:
    """Check that a service's log tells of no fault. What it tells of the first is shown: the log is gone soon."""
    lines = log.read_text(errors="replace").splitlines()
    told = [number for number, line in enumerate(lines) if "Traceback" in line or "status=500" in line]
    report.check(f"{of}tracebacks and 500s in the log", len(told), "0", not told)
    if told:
        first = lines[max(0, told[0] - 2) : told[0] + LINES_OF_A_FAULT]
        report.tables[f"{of}the first fault in the log"] = [{"line": line} for line in first]


def show(report: Report) -> None:
    for title, rows in report.tables.items():
        print(f"\n{title}")
        _table(rows)
    print("\nchecks")
    _table([{**asdict(check), "ok": _met(check.ok)} for check in report.checks])


def _met(ok: bool) -> str:
    return "ok" if ok else "NOT MET"


def _table(rows: Sequence[dict[str, Any]]) -> None:
    if not rows:
        return
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [names, *([_cell(row.get(name, "")) for name in names] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(names))]
    for line in lines:
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_cell(each)}" for name, each in value.items()) or "-"
    return f"{value:.3g}" if isinstance(value, float) and abs(value) < 1000 else str(value)


def as_json(name: str, options: argparse.Namespace, report: Report) -> dict[str, Any]:
    machine = {"cores": os.cpu_count(), "load": os.getloadavg(), "python": platform.python_version()}
    given = {key: str(value) for key, value in vars(options).items()}
    at = datetime.now(UTC).isoformat(timespec="seconds")
    return {"bench": name, "ended_at": at, "machine": machine, "options": given, "ok": report.ok, **asdict(report)}


def quantile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else float("nan")


def ratio(
    pairs: Sequence[tuple[Sequence[float], Sequence[float]]], share: float = 0.5
) -> tuple[float, tuple[float, float]]:
    """The ratio of a quantile of B to that of A, and its 95 % interval.

    `pairs`: the values of neighbouring blocks of A and B. Whole pairs are drawn again (bootstrap), because values of
    one block resemble each other.
    """
    dice = random.Random(1)
    drawn = sorted(_ratio(dice.choices(pairs, k=len(pairs)), share) for _ in range(RESAMPLES))
    return _ratio(pairs, share), (drawn[int(0.025 * RESAMPLES)], drawn[int(0.975 * RESAMPLES)])


def _ratio(pairs: Sequence[tuple[Sequence[float], Sequence[float]]], share: float) -> float:
    a, b = ([value for pair in pairs for value in pair[side]] for side in (0, 1))
    return quantile(b, share) / quantile(a, share)


def spread(values: Sequence[float]) -> dict[str, float]:
    if not values:
        return {}
    return {"median": statistics.median(values), "p95": quantile(values, 0.95), "most": max(values)}
