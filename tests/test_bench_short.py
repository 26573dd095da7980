"""Programs that measure, in little: that they run to their end, and that whatever is not a matter of speed holds there."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests import lanes
from tests.test_bench import bench
from tests.test_bench_races import LANES

NOTHING = "(?!)"


def ended(tmp_path: Path, *words: str, timed: str = NOTHING, patience: float = 300) -> dict[str, Any]:
    """What a program tells. Its checks hold but for those of speed, whose names `timed` finds."""
    kept = tmp_path / "kept.json"
    told = bench(*words, "--json", str(kept), patience=patience)
    assert kept.exists(), told.stdout[-3000:] + told.stderr[-3000:]
    found: dict[str, Any] = json.loads(kept.read_text())
    missed = [check for check in found["checks"] if not check["ok"] and not re.search(timed, check["what"])]
    assert found["checks"], found
    assert not missed, told.stdout[-6000:]
    return found


def needs_postgresql() -> None:
    if "postgresql" not in lanes.wanted():
        pytest.skip("*** NOT TESTED, no PostgreSQL ***")


@pytest.mark.slow
@pytest.mark.parametrize("database", LANES)
def test_after_an_admins_act_every_worker_refuses_the_next_request(tmp_path: Path, database: str) -> None:
    words = ("revoked", "--rounds", "10", "--database", database)
    found = ended(tmp_path, *words, timed="seconds from the act")
    [acts] = found["tables"].values()
    assert [act["answers"] for act in acts] == [{"401 token_revoked": 8}] * 5


@pytest.mark.slow
@pytest.mark.long
def test_a_code_of_a_device_sent_twice_is_right_once_over_ten_workers_and_a_new_secret(tmp_path: Path) -> None:
    found = ended(tmp_path, "machines", "--devices", "12", "--rounds", "1", "--database", lanes.wanted()[-1])
    [phases] = found["tables"].values()
    assert [phase["answers"] for phase in phases] == [{"right once": 12}, {"right once": 12}]


@pytest.mark.slow
@pytest.mark.long
def test_a_provider_that_hangs_holds_up_no_other_message(tmp_path: Path) -> None:
    words = ("sms_hang", "--short", "--minutes", "0.6", "--ttl", "30", "--clients", "2")
    found = ended(tmp_path, *words, timed="median of B / A|p95")
    assert {row["service"] for row in found["tables"]["while B's provider hangs"]} == {"A", "B"}


@pytest.mark.slow
@pytest.mark.long
def test_what_each_act_costs_is_measured(tmp_path: Path) -> None:
    needs_postgresql()
    words = ("--short", "--blocks", "1", "--requests", "50", "--seconds", "1")
    found = ended(tmp_path, "speed", *words, timed="cost of|of bare hashes|beyond the hash")
    assert len(found["checks"]) == 7


@pytest.mark.slow
@pytest.mark.long
def test_what_each_act_costs_beside_a_crowd_is_measured(tmp_path: Path) -> None:
    needs_postgresql()
    words = ("--short", "--blocks", "1", "--requests", "50")
    found = ended(tmp_path, "growth", *words, "--rows", "2000", timed="beside the crowd")
    assert len(found["checks"]) == 5
    found = ended(tmp_path, "costs", "--short", "--people", "40")
    assert len(next(iter(found["tables"].values()))) == 4


@pytest.mark.slow
@pytest.mark.long
def test_a_sample_of_mutants_meets_the_tests_that_come_by(tmp_path: Path) -> None:
    words = ("--suite", "tests/crypto", "--paths", "app/crypto", "--sample", "6", "--jobs", "1")
    found = ended(tmp_path, "mutants", *words, timed="share of the mutants")
    fates = [row for title, rows in found["tables"].items() if "mutants" in title for row in rows]
    assert sum(row["killed"] + row["late"] for row in fates) >= 2
    assert sum(row[how] for row in fates for how in ("killed", "late", "survived", "no test comes by")) == 6
