"""The security checklist and the marks of the tests agree."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tools import checklist

ROOT = Path(__file__).resolve().parent.parent


def test_every_mark_names_a_row_and_every_open_row_says_why() -> None:
    assert checklist.unknown() == []
    assert checklist.unexplained() == []


def test_the_rows_are_whole() -> None:
    found = checklist.rows()
    assert len({row.name for row in found}) == len(found) >= 435
    assert {row.kind for row in found} == set(checklist.TITLES)
    assert {row.status for row in found} == {"must hold", "document", "deployer", "does not apply"}
    assert all(row.meaning for row in found)


def test_a_mark_of_a_row_that_is_not_there_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    marked = '@pytest.mark.covers("asvs 6.5.1", "asvs 99.1.1")\n@pytest.mark.slow\ndef test_it() -> None: ...\n'
    (tmp_path / "tests" / "test_it.py").write_text(marked)
    monkeypatch.setattr(checklist, "ROOT", tmp_path)
    assert checklist.marks() == {"asvs 6.5.1": ["test_it.py::test_it"], "asvs 99.1.1": ["test_it.py::test_it"]}
    assert checklist.unknown() == ["asvs 99.1.1"]


def test_the_program_prints_each_row_with_its_tests() -> None:
    told = subprocess.run([sys.executable, "-m", "tools.checklist"], cwd=ROOT, capture_output=True, text=True)
    assert told.returncode == 0, told.stdout[-2000:] + told.stderr
    [line] = [line for line in told.stdout.splitlines() if " attack A13 " in line]
    assert line.startswith("covered")
    assert "races/test_races.py::test_of_200_right_verifications_one_wins" in line
