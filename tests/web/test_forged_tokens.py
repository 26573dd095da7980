"""2,500 forged and altered tokens at the front door: none is taken, and every valid one is."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bench import forgery, tokens
from bench.report import Report
from tests.conftest import World


def attacked(world: World, count: int, *families: tokens.Family) -> Report:
    report = Report()
    tokens.attack(report, world, count, 1, families or forgery.FAMILIES)
    return report


def unmet(report: Report) -> list[str]:
    return [f"{check.what}: {check.measured}" for check in report.checks if not check.ok]


@pytest.mark.one_lane
@pytest.mark.covers("asvs 7.2.1", "asvs 9.1.1", "asvs 9.1.2", "asvs 9.1.3", "asvs 9.2.1", "asvs 9.2.3")
@pytest.mark.covers("attack A40", "attack A41", "attack A42", "attack A44", "attack A47")
def test_no_forged_token_opens_a_door_and_every_valid_one_does(make_world: Callable[..., World]) -> None:
    world = make_world(**tokens.signing_by("HS256"))
    report = attacked(world, 2500)
    tokens.settle_vectors(report, tokens.Doors(world))
    assert unmet(report) == []
    assert sum(row["tokens"] for rows in report.tables.values() for row in rows if "tokens" in row) == 2500


@pytest.mark.one_lane
@pytest.mark.covers("attack A41", "attack A42")
@pytest.mark.parametrize("name", forgery.ALGORITHMS[1:])
def test_neither_the_public_key_nor_one_that_a_token_brings_signs(make_world: Callable[..., World], name: str) -> None:
    report = attacked(make_world(**tokens.signing_by(name)), 600, forgery.keys, forgery.brought)
    assert unmet(report) == []


@pytest.mark.one_lane
def test_a_service_that_takes_too_much_is_found_out(
    make_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program itself: were names allowed to stand twice, it would say so."""
    monkeypatch.setattr("app.crypto.jwt._unique", dict)
    report = attacked(make_world(**tokens.signing_by("HS256")), 1, forgery.typ, forgery.repeated)
    assert [check.what for check in report.checks if not check.ok] == ["HS256: repeated: taken"]
