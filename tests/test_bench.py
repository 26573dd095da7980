"""The programs of `bench`: that they are listed, and that the quickest meets its bounds. The others take minutes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def bench(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench", *words], cwd=ROOT, capture_output=True, text=True, timeout=120
    )


def test_the_programs_are_listed_and_described() -> None:
    told = bench()
    assert told.returncode == 0, told.stderr
    listed = [line.split()[0] for line in told.stdout.splitlines()]
    assert {"sms_hang", "shield", "races"} <= set(listed)
    readme = (ROOT / "bench" / "README.md").read_text()
    assert all(f"`{name}`" in readme for name in listed)
    assert bench("no_such_program").returncode == 2


@pytest.mark.slow
@pytest.mark.covers("attack A41")
def test_the_shield_keeps_its_bounds_under_a_flood(tmp_path: Path) -> None:
    kept = tmp_path / "shield.json"
    told = bench("shield", "--short", "--json", str(kept))
    assert told.returncode == 0, told.stdout + told.stderr
    found = json.loads(kept.read_text())
    assert found["ok"]
    assert sum(row["sends"] for rows in found["tables"].values() for row in rows if "sends" in row) == 500
    assert all(row["through"] > 0 for rows in found["tables"].values() for row in rows if "through" in row)
