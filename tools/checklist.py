"""The security checklist: which of its rows the suite shows, by which tests, and why the others are open.

`docs/security-checklist.tsv` has the rows: OWASP ASVS 5.0, NIST SP 800-63B-4, classes of attacks, faults. A test that
shows one carries `@pytest.mark.covers("asvs 6.5.1", "attack A13")`. `python -m tools.checklist` prints the report;
`python -m tools.generate` writes it to `docs/checklist.md`. The suite fails when a mark names no row, an open row has
no reason, or the page is out of date.
"""

from __future__ import annotations

import ast
import sys
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROWS = ROOT / "docs" / "security-checklist.tsv"
TITLES = {
    "asvs": "OWASP ASVS 5.0, chapters V2 to V4, V6 to V9, V11 to V16",
    "nist": "NIST SP 800-63B-4",
    "attack": "Attacks",
    "fault": "Faults",
    "gdpr": "GDPR",
}
MARK = "pytest.mark.covers"
STATES = ("covered", "open", "deployer", "does not apply")


@dataclass
class Row:
    kind: str
    id: str
    level: str
    status: str  # must hold, document, deployer, does not apply
    meaning: str
    why: str  # it is open, if it is
    tests: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"{self.kind} {self.id}"

    @property
    def state(self) -> str:
        if self.tests:
            return "covered"
        return self.status if self.status in STATES else "open"


def rows() -> list[Row]:
    """Every row, with the tests that show it."""
    found = [Row(*line.split("\t")) for line in ROWS.read_text().splitlines()[1:]]
    shown = marks()
    for row in found:
        row.tests = shown.get(row.name, [])
    return found


def marks() -> dict[str, list[str]]:
    """The tests that carry each row's mark, as `file::name`."""
    found: dict[str, list[str]] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for test, row in _marked(path.read_text()):
            found.setdefault(row, []).append(f"{path.relative_to(ROOT / 'tests')}::{test}")
    return {row: list(dict.fromkeys(tests)) for row, tests in found.items()}


@cache
def _marked(text: str) -> tuple[tuple[str, str], ...]:
    """Each test of a file that has a mark, with each row that the mark names."""
    tests = [node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)] if MARK in text else []
    calls = [(test.name, mark) for test in tests for mark in test.decorator_list if isinstance(mark, ast.Call)]
    covers = [(test, mark) for test, mark in calls if ast.unparse(mark.func) == MARK]
    return tuple((test, ast.literal_eval(named)) for test, mark in covers for named in mark.args)


def unknown() -> list[str]:
    """What marks name that is no row."""
    return sorted(set(marks()) - {row.name for row in rows()})


def unexplained() -> list[str]:
    """Rows that are open, or the deployer's, without a reason."""
    return [row.name for row in rows() if row.state in ("open", "deployer") and not row.why]


def page() -> str:
    """The report as a page."""
    found = rows()
    lines = [
        "# What the suite shows of the security checklist",
        "",
        "Made by `python -m tools.generate` from `docs/security-checklist.tsv` and the marks of the tests; `python -m",
        "tools.checklist` prints it. *Covered*: a test carries the row's mark, which says that it fails if the code",
        "breaks the row. A row may ask for more than its test shows; `bench/` has long forms of some.",
        "",
        *_summary(found),
    ]
    for kind, title in TITLES.items():
        lines += [
            "",
            f"## {title}",
            "",
            "| row | level | what it means here | shown by, or why not |",
            "|---|---|---|---|",
        ]
        lines += [_line(row) for row in found if row.kind == kind]
    return "\n".join(lines) + "\n"


def _summary(found: list[Row]) -> list[str]:
    lines = ["| | rows | " + " | ".join(STATES) + " |", "|---|--:|" + "--:|" * len(STATES)]
    for kind in TITLES:
        counted = Counter(row.state for row in found if row.kind == kind)
        lines.append(f"| {kind} | {counted.total()} | " + " | ".join(str(counted[state]) for state in STATES) + " |")
    return lines


def _line(row: Row) -> str:
    shown = "<br>".join(f"`{test}`" for test in row.tests)
    said = {"open": f"**open**: {row.why}", "deployer": f"the deployer's: {row.why}"}
    meaning = row.meaning.replace("|", "\\|")
    return f"| {row.id} | {row.level} | {meaning} | {shown or said.get(row.state, row.state)} |"


def main() -> int:
    """Print the report. Returns 1 if a mark names no row or a row that is open or the deployer's has no reason."""
    for row in rows():
        print(f"{row.state:15} {row.name:15} {', '.join(row.tests) or row.why}")
    print("\n".join(_summary(rows())))
    faults = [*(f"no such row: {name}" for name in unknown()), *(f"no reason: {name}" for name in unexplained())]
    print("\n".join(faults))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
