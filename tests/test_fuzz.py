"""Twenty thousand hostile requests of every kind; `python -m bench fuzz` makes a million."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.fuzz_people import Told, judge
from tests.test_bench import bench

PARTS = {"document", "life", "wire", "bodies"}


@pytest.mark.slow
@pytest.mark.covers("fault F31", "fault F32", "asvs 2.3.1", "nist N37")
def test_no_hostile_request_makes_a_fault_ends_a_worker_or_leaves_anything_behind(tmp_path: Path) -> None:
    kept = tmp_path / "fuzz.json"
    told = bench("fuzz", "--short", "--database", "sqlite", "--json", str(kept), patience=600)
    assert told.returncode == 0, told.stdout[-6000:] + told.stderr[-4000:]
    [requests] = [rows for title, rows in json.loads(kept.read_text())["tables"].items() if "requests" in title]
    assert {row["part"] for row in requests if row["requests"] > 300} == PARTS
    assert sum(row["requests"] for row in requests) >= 20_000


def test_an_answer_that_its_document_does_not_tell_of_is_a_fault() -> None:
    headers = {
        "content-type": "application/json",
        "cache-control": "no-store",
        "x-request-id": "x",
        "x-content-type-options": "nosniff",
        "content-security-policy": "default-src 'none'",
        "strict-transport-security": "max-age=31536000",
        "referrer-policy": "no-referrer",
    }
    found = judge("POST", "/api/auth/refresh", Told(200, headers, b'{"access_token": 3}'))
    assert found.startswith("not as documented: ValidationError"), found
    assert judge("POST", "/api/auth/refresh", Told(500, headers, b"{}")) == "status 500"
    assert judge("GET", "/nowhere", Told(404, headers, b'{"code": "not_found"}'), astray=True) == ""
