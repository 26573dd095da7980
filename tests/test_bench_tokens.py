"""Forged tokens and tokens of another kind, in little; and that the programs notice a verifier that asks too little."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from app.crypto.jwt import JWS
from bench import planted, tokens
from bench.copies import Copy, copied
from bench.forgery import ALGORITHMS
from bench.report import Report
from bench.world import world
from tests.test_bench import bench

BUGS = {bug.name: bug for bug in planted.bugs()}
SIGNATURES = ("alg", "kid", "typ", "brought", "signatures")  # what differs from one algorithm to another


@pytest.mark.slow
@pytest.mark.covers("asvs 9.1.2", "asvs 9.1.3", "attack A40", "attack A42")
def test_no_forged_token_opens_a_service_that_signs_by_a_key_pair(tmp_path: Path) -> None:
    kept, pairs = tmp_path / "kept.json", ALGORITHMS[1:]
    told = bench("tokens", "--families", *SIGNATURES, "--signed-by", *pairs, "--json", str(kept))
    assert told.returncode == 0, told.stdout + told.stderr[-4000:]
    tables = json.loads(kept.read_text())["tables"]
    tried = [row for title, rows in tables.items() if "forged" in title for row in rows]
    assert [row["family"] for row in tried] == [*SIGNATURES] * len(pairs)
    assert sum(row["tokens"] for row in tried) > 3000


@pytest.mark.slow
@pytest.mark.covers("asvs 9.2.2", "attack A44")
def test_each_kind_of_token_opens_its_own_doors_and_no_other(tmp_path: Path) -> None:
    kept = tmp_path / "kept.json"
    told = bench("kinds", "--short", "--json", str(kept))
    assert told.returncode == 0, told.stdout[-6000:] + told.stderr[-4000:]
    [doors] = json.loads(kept.read_text())["tables"].values()
    assert all(row["opened by"] for row in doors)
    assert len({row["door"] for row in doors}) > 80


@pytest.fixture(scope="module")
def tree() -> Iterator[Copy]:
    with copied() as copy:
        yield copy


def noticed(tree: Copy, tmp_path: Path, bug: str, *words: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What a program tells of a service with this bug: the checks that are not met, and its first table. It ends with 1."""
    kept = tmp_path / "kept.json"
    with tree.broken(BUGS[bug].file, BUGS[bug].planted()):
        command = [sys.executable, "-m", "bench", *words, "--json", str(kept)]
        told = subprocess.run(command, cwd=tree.root, capture_output=True, text=True, timeout=200)
    assert told.returncode == 1, told.stdout + told.stderr[-4000:]
    found = json.loads(kept.read_text())
    unmet = {check["what"]: check["measured"] for check in found["checks"] if not check["ok"]}
    return unmet, next(iter(found["tables"].values()))


def unmet() -> list[str]:
    """The checks of the vectors that are not met."""
    report = Report()
    with world(label="vectors", **tokens.signing_by("HS256")) as opened:
        tokens.settle_vectors(report, tokens.Doors(opened))
    return [check.what for check in report.checks if not check.ok]


def test_the_vectors_find_out_a_service_that_asks_no_signature(monkeypatch: pytest.MonkeyPatch) -> None:
    assert unmet() == []
    unsigned = partial(JWS.decode, options={"verify_signature": False})
    monkeypatch.setattr(JWS, "decode", unsigned)
    assert "Wycheproof verdicts that differ" in unmet()


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize(
    ("bug", "algorithm", "family"),
    [
        ("the-type-of-a-token-is-not-asked", "EdDSA", "typ"),
        ("a-token-may-say-its-algorithm", "HS256", "alg"),
        ("a-token-for-another-service-is-taken", "ES256", "claims"),
        ("a-key-in-the-header-is-followed", "ES256", "brought"),
    ],
)
def test_a_verifier_that_asks_too_little_is_found_out(
    tree: Copy, tmp_path: Path, bug: str, algorithm: str, family: str
) -> None:
    unmet, _ = noticed(tree, tmp_path, bug, "tokens", "--signed-by", algorithm, "--families", family)
    assert unmet[f"{algorithm}: {family}: taken"]


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize(
    ("bug", "door", "kind"),
    [
        ("a-token-for-another-service-is-taken", "GET /api/auth/me by", "access token for another service"),
        ("a-code-fits-any-purpose", "/login/verify by", "invitation"),
        ("a-key-may-do-anything", "GET /api/admin/users by", "API key for otp:verify"),
    ],
)
def test_a_door_that_opens_for_another_kind_is_found_out(
    tree: Copy, tmp_path: Path, bug: str, door: str, kind: str
) -> None:
    unmet, rows = noticed(tree, tmp_path, bug, "kinds", "--short", "--only", door)
    assert unmet["EdDSA: doors opened by another kind"]
    assert kind in rows[0]["opened by"]
