"""The programs of `bench`: that they are listed, and that the quickest meets its bounds. The others take minutes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench import plots
from tests import lanes

ROOT = Path(__file__).resolve().parent.parent
SVG = "{http://www.w3.org/2000/svg}"


def bench(*words: str, patience: float = 300) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench", *words], cwd=ROOT, capture_output=True, text=True, timeout=patience
    )


def test_the_programs_are_listed_and_described() -> None:
    told = bench()
    assert told.returncode == 0, told.stderr
    listed = [line.split()[0] for line in told.stdout.splitlines()]
    assert {"sms_hang", "shield", "races", "stats"} <= set(listed)
    readme = (ROOT / "bench" / "README.md").read_text()
    assert all(f"`{name}`" in readme for name in listed)
    assert bench("no_such_program").returncode == 2


def test_a_program_that_checked_nothing_has_failed() -> None:
    assert bench("faults", "--only", "no such fault").returncode == 1


@pytest.mark.covers("attack A58", "asvs 2.4.1")
@pytest.mark.slow
def test_the_shield_keeps_its_bounds_under_a_flood(tmp_path: Path) -> None:
    kept = tmp_path / "shield.json"
    told = bench("shield", "--short", "--json", str(kept))
    assert told.returncode == 0, told.stdout + told.stderr
    found = json.loads(kept.read_text())
    assert found["ok"]
    assert sum(row["sends"] for rows in found["tables"].values() for row in rows if "sends" in row) == 500
    assert all(row["through"] > 0 for rows in found["tables"].values() for row in rows if "through" in row)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "checks"), [("people", 15), ("last_admin", 3)])
def test_the_programs_of_administration_keep_their_bounds(tmp_path: Path, name: str, checks: int) -> None:
    kept = tmp_path / "kept.json"
    told = bench(name, "--short", "--database", "sqlite", "--json", str(kept))
    assert told.returncode == 0, told.stdout + told.stderr
    assert len(json.loads(kept.read_text())["checks"]) == checks


@pytest.mark.slow
@pytest.mark.covers("asvs 16.4.2")
def test_a_month_of_statistics_is_read_within_its_bound(tmp_path: Path) -> None:
    kept = tmp_path / "stats.json"
    told = bench("stats", "--short", "--rows", "5000", "--database", "sqlite", "--json", str(kept))
    assert told.returncode == 0, told.stdout + told.stderr
    [table] = json.loads(kept.read_text())["tables"].values()
    assert {row["step"] for row in table} >= {"30 days by hour", "30 days by day", "flask audit-verify"}


@pytest.mark.slow
@pytest.mark.covers("fault F35", "asvs 13.3.4")
def test_every_key_changes_under_load_and_nothing_valid_is_refused(tmp_path: Path) -> None:
    kept = tmp_path / "rotation.json"
    words = ("--short", "--people", "1", "--database", "sqlite", "--json", str(kept))
    told = bench("rotation", *words, patience=400)
    assert told.returncode == 0, told.stdout + told.stderr
    found = json.loads(kept.read_text())
    times = {row["what"]: row["times"] for row in found["tables"]["sqlite: asked for"]}
    # An app and a device show a code once in 30 seconds, and this may take less: tests/web/test_rotation.py has theirs.
    assert all(times[what] > 0 for what in ("me", "introspection", "refresh", "code by e-mail"))
    assert len(found["tables"]["sqlite: settings in force, in turn"]) == 3


@pytest.mark.slow
def test_but_for_the_time_no_answer_over_http_tells_whether_an_account_exists(tmp_path: Path) -> None:
    kept = tmp_path / "enumeration.json"
    words = ("--short", "--route", "verify", "--pairs", "20", "--database", "sqlite", "--json", str(kept))
    told = bench("enumeration", *words)
    assert told.returncode == 0, told.stdout[-4000:] + told.stderr[-4000:]
    found = json.loads(kept.read_text())
    loads = [rows[0] for title, rows in found["tables"].items() if "pairs a route" in title]
    assert [sum(row["answers"].values()) for row in loads] == [80, 80]
    assert sum("AUC of all but time" in check["what"] for check in found["checks"]) == 2


@pytest.mark.slow
@pytest.mark.covers("fault F01", "fault F04", "fault F22")
def test_after_each_fault_everything_that_was_acknowledged_holds(tmp_path: Path) -> None:
    kept = tmp_path / "faults.json"
    told = bench("faults", "--short", "--json", str(kept))
    assert told.returncode == 0, told.stdout[-6000:] + told.stderr[-6000:]
    found = json.loads(kept.read_text())
    rows = [row for rows in found["tables"].values() for row in rows if "writes done" in row]
    made = {row["fault"] for row in rows}
    assert sum(row["writes done"] for row in rows) > 0
    assert made >= {"disk full (SQLite)", "worker ends after a commit, before the answer (SQLite)"}
    if left := [row["fault"] for title, rows in found["tables"].items() if "NOT MADE" in title for row in rows]:
        pytest.skip(f"*** NOT TESTED, no PostgreSQL or Redis to start: {', '.join(left)} ***")
    assert made >= {"database killed", "database read-only", "commit unanswered", "SMS is taken and cut"}


@pytest.mark.slow
@pytest.mark.covers("fault F27")
def test_a_crowd_that_signs_in_fits_into_the_memory_of_a_small_host(tmp_path: Path) -> None:
    """Real hashes, of which each takes 19 MiB: who does not fit is told to come again."""
    if not lanes.available()["postgresql"]:
        pytest.skip("*** NOT TESTED, no PostgreSQL to start ***")
    kept = tmp_path / "memory.json"
    told = bench("memory", "--short", "--json", str(kept))
    assert told.returncode == 0, told.stdout[-3000:] + told.stderr[-3000:]
    [sizes] = next(rows for title, rows in json.loads(kept.read_text())["tables"].items() if title.startswith("PSS"))
    assert 40 < sizes["idle"] < sizes["most under load"] < 450


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize(("name", "checks"), [("courier", 4), ("overload", 2)])
def test_the_programs_that_need_postgresql_run(tmp_path: Path, name: str, checks: int) -> None:
    if "postgresql" not in lanes.wanted():
        pytest.skip("*** NOT TESTED, no PostgreSQL ***")
    kept = tmp_path / "kept.json"
    told = bench(name, "--short", "--json", str(kept))
    assert told.returncode == 0, told.stdout + told.stderr[-4000:]
    found = json.loads(kept.read_text())
    assert len(found["checks"]) == checks
    assert all(len(rows) > 0 for rows in found["tables"].values())


def test_a_picture_shows_each_ratio_with_its_interval_and_its_bound() -> None:
    met = {"what": "me: cost of a bare read", "measured": "1.50 x (1.20 to 1.90)", "bound": "at most 2.0 x", "ok": True}
    missed = {"what": "a <b>", "measured": "8.00 x (6.00 to 9.00)", "bound": "at most 4.0 x", "ok": False}
    other = {"what": "answers", "measured": {"200": 3}, "bound": "200 alone", "ok": True}
    found = {"bench": "speed", "ended_at": "2026-11-22T00:00:00+00:00", "checks": [met, other, missed]}
    drawn = ElementTree.fromstring(plots.picture(found))
    dots, bands, strokes = (
        [each.attrib for each in drawn.iter() if kind in each.get("class", "").split()]
        for kind in ("met", "interval", "bound")
    )
    assert [text.text for text in drawn.iter(f"{SVG}text")][-2:] == ["me", "a <b>"]
    assert (len(dots), len(bands), len(strokes)) == (2, 2, 2)  # a dot and its band; the other row is "missed"
    assert float(bands[0]["x1"]) < float(dots[1]["cx"]) < float(bands[0]["x2"]) < float(strokes[0]["x1"])
    assert float(strokes[1]["x1"]) < float(bands[1]["x1"])


def test_a_picture_of_no_ratio_is_refused() -> None:
    with pytest.raises(ValueError, match="ratio"):
        plots.picture({"bench": "tokens", "ended_at": "2026-11-22T00:00:00+00:00", "checks": []})
