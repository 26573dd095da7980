"""A few thousand hostile requests of every kind; `python -m bench fuzz` makes a million."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.test_bench import bench

PARTS = {"document", "life", "wire", "bodies"}


@pytest.mark.slow
@pytest.mark.covers("fault F31", "fault F32", "asvs 2.3.1", "nist N37")
def test_no_hostile_request_makes_a_fault_ends_a_worker_or_leaves_anything_behind(tmp_path: Path) -> None:
    kept = tmp_path / "fuzz.json"
    told = bench("fuzz", "--short", "--requests", "800", "--database", "sqlite", "--json", str(kept), patience=600)
    assert told.returncode == 0, told.stdout[-6000:] + told.stderr[-4000:]
    [requests] = [rows for title, rows in json.loads(kept.read_text())["tables"].items() if "requests" in title]
    assert {row["part"] for row in requests if row["requests"] > 30} == PARTS
