"""The short form of `bench races`, on each database that is wanted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.races import KEYS, USES
from tests import lanes
from tests.test_bench import bench

AT_ONCE = 24
FIRST = "postgresql" if "postgresql" in lanes.wanted() else "sqlite"
LANES = [lane if lane == FIRST else pytest.param(lane, marks=pytest.mark.long) for lane in lanes.wanted()]
PATIENCE_S = 900  # of a machine that others load, too


@pytest.mark.slow
@pytest.mark.parametrize("database", LANES)
@pytest.mark.covers("attack A13", "attack A46")
def test_of_all_uses_of_a_single_use_thing_one_succeeds(tmp_path: Path, database: str) -> None:
    kept = tmp_path / "races.json"
    words = ("--short", "--uses", str(AT_ONCE), "--database", database, "--json", str(kept))
    told = bench("races", *words, patience=PATIENCE_S)
    assert told.returncode == 0, told.stdout + told.stderr
    used, repeated, *_ = json.loads(kept.read_text())["tables"].values()
    assert {row["thing"]: row["successes"] for row in used if row["successes"] != 1} == {
        "refresh token after its grace": 0
    }
    assert [row["thing"] for row in used] == [*USES]
    assert [row["thing"] for row in repeated] == [*KEYS]
    assert (len(used), len(repeated)) == (40, 9)
    assert all(row["uses"] == AT_ONCE for row in used)
