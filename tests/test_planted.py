"""Bugs that are planted one at a time (tests/planted): that each still fits the code, and that some are noticed.

`python -m bench planted` plants them all, which takes minutes.
"""

from __future__ import annotations

import ast
import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench import mutations, planted
from bench.copies import Ended
from bench.planted import Bug
from tests.test_bench import bench

ROOT = Path(__file__).resolve().parent.parent
TAKEN = ("a-right-code-is-not-burned",)


@pytest.mark.parametrize("bug", list(planted.bugs()), ids=lambda bug: bug.name)
def test_a_bug_fits_the_code_and_names_its_tests(bug: Bug) -> None:
    assert bug.gains
    assert bug.file.startswith("app/")
    compile(bug.planted(), bug.file, "exec")
    for name in bug.red:
        file, _, test = name.partition("::")
        text = (ROOT / file).read_text()
        assert not test or f"def {test}(" in text, name


def test_no_bug_is_a_name_that_is_not_there(tmp_path: Path) -> None:
    """Else the program would break, and any test that comes by be red."""
    every = list(planted.bugs())
    for bug in every:
        (tmp_path / f"{bug.name.replace('-', '_')}.py").write_text(bug.planted())
    words = ["check", "--isolated", "--no-cache", "--select", "F821,F823", "--output-format", "concise", str(tmp_path)]
    told = subprocess.run([sys.executable, "-m", "ruff", *words], capture_output=True, text=True)
    assert (told.returncode, told.stdout.strip()) == (0, "All checks passed!"), told.stdout + told.stderr


def test_a_bug_that_breaks_the_program_is_not_noticed() -> None:
    bug = next(planted.bugs())
    wrong, crash = "assert 200 == 409\n", "NameError: name 'holder' is not defined\n"
    for output, crashes, how in (
        (wrong, False, "red"),
        (wrong + crash, False, "crashed"),
        ("ERROR    latchkey:problems.py:125 unexpected TypeError\n", False, "crashed"),
        (wrong + crash, True, "red"),
    ):
        end = Ended("red", "a test", 1.0, output)
        assert planted.how(dataclasses.replace(bug, crashes=crashes), end) == how
    assert planted.how(bug, Ended("green", "exit 0", 1.0, "")) == "green"


def test_there_are_many_and_no_two_are_one() -> None:
    every = list(planted.bugs())
    assert len(every) >= 60
    assert len({bug.planted() for bug in every}) == len(every)


@pytest.mark.slow
def test_some_are_noticed_by_the_tests_that_they_name(tmp_path: Path) -> None:
    kept = tmp_path / "kept.json"
    told = bench("planted", "--only", *TAKEN, "--json", str(kept))
    assert told.returncode == 0, told.stdout + told.stderr
    found = json.loads(kept.read_text())
    assert [row["tests"] for row in found["tables"]["bugs"]] == ["red"]


SOURCE = """
def take(work, row, cap=3):
    if row.used and cap > 1:
        raise Refused()
    taken = work.changes(update(Row).where(Row.id == row.id, Row.used.is_(None)))
    row.used = True
    log.info("used")
    return taken == 1
"""


def test_mutants_are_changes_of_one_place_that_compile() -> None:
    every = mutations.of("row.py", SOURCE)
    changed = {mutant.applied(SOURCE) for mutant in every}
    assert len(changed) == len(every) > 10
    assert SOURCE not in changed
    for text in changed:
        ast.parse(text)
    for expected in (
        SOURCE.replace("cap > 1", "cap >= 1"),
        SOURCE.replace("cap=3", "cap=4"),
        SOURCE.replace("row.used and cap > 1", "(row.used or cap > 1)"),
        SOURCE.replace("if row.used and cap > 1:\n        raise Refused()", "pass"),
        SOURCE.replace("Row.id == row.id, ", ""),
        SOURCE.replace(", Row.used.is_(None)", ""),
        SOURCE.replace("row.used = True", "pass"),
        SOURCE.replace("taken == 1", "taken != 1"),
    ):
        assert expected in changed
    assert SOURCE.replace('log.info("used")', "pass") not in changed
