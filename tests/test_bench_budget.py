"""The best attacker (`bench/budget.py`) in its short form, and that what it counts by sees what the limits do not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from app.core import lockout
from bench import siege
from bench.attack import WAYS, spellings
from bench.budget import MIXED
from bench.siege import Attacker, Siege
from bench.world import world
from tests import lanes
from tests.test_bench import bench


@pytest.mark.slow
@pytest.mark.covers("asvs 6.3.1", "asvs 6.6.3", "attack A01", "attack A02", "attack A05", "attack A06", "attack A07")
def test_the_best_attacker_gets_no_more_guesses_than_the_limits_page_grants(tmp_path: Path) -> None:
    kept = tmp_path / "budget.json"
    told = bench("budget", "--short", "--json", str(kept), patience=600)
    assert told.returncode == 0, told.stdout + told.stderr[-4000:]
    tables = json.loads(kept.read_text())["tables"]
    by_way = {row["way"]: row for row in _one(tables, "by the service's own comparisons")}
    assert set(by_way) == {way.name for way in WAYS} | {MIXED}
    assert all(0 < row["told"] <= row["granted"] for name, row in by_way.items() if name != MIXED)
    assert all(row["live"] <= row["live granted"] for row in by_way.values())
    assert len(_one(tables, "by route")) >= 8
    [codes], [passwords] = (_one(tables, f"one account: {secret}s") for secret in ("code", "password"))
    assert 1 <= codes["live"] <= 140
    assert 1 <= passwords["live"] <= 300
    assert sum(passwords["live by way"].values()) == passwords["live"]
    assert sum("takeover" in name for name in (*codes, *passwords)) == 4
    if any("NOT MADE" in title for title in tables):
        assert not lanes.available()["redis"]
        pytest.skip("*** NOT TESTED, no Redis to flush ***")


def _one(tables: dict[str, Any], title: str) -> Any:
    return next(rows for name, rows in tables.items() if title in name)


def test_there_are_two_hundred_spellings() -> None:
    assert len(set(spellings("jane.i@example.com", "+919812345670", "jane.i"))) == 200


@pytest.mark.parametrize("name", ["login, by sign-ups of one's own", "/verify-otp, without id or cookie", "login"])
def test_a_guess_is_live_where_the_right_one_had_another_answer_and_not_where_a_lock_hides_it(name: str) -> None:
    """By experiment, whatever the counters say: five are live, and with counters that nobody asks, all are."""
    way = next(way for way in WAYS if way.name == name)
    attacker = Attacker(way.secret, ("password",))
    with world(label="live", ratelimit=False, default_phone_region="IN") as opened:
        found = siege.besieged(opened, attacker)
        _tries(found, name)
        assert found.live.total() == 5
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lockout, "count_wrong", lambda _work, _budget: None)
        with world(label="live", ratelimit=False, default_phone_region="IN") as opened:
            found = siege.besieged(opened, attacker)
            _tries(found, name)
            assert found.live.total() > 8


def _tries(found: Siege, name: str) -> None:
    """A few, by each identifier, without a pause that lets a lock end."""
    way = next(way for way in WAYS if way.name == name)
    for _ in range(5):
        for typed in found.victim.typed[: way.identifiers]:
            found.try_way(way, typed)
