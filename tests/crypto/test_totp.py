"""Known answers for codes by time, and which steps count."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from app.crypto import totp
from tests.crypto.test_codes import RFC4226, RFC6238, SEED


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(0, UTC) + timedelta(seconds=seconds)


@pytest.mark.covers("nist N25")
@pytest.mark.parametrize(("step", "code"), list(enumerate(RFC4226)))
def test_codes_of_rfc_4226_appendix_d(step: int, code: str) -> None:
    assert totp.code_of(SEED, step) == code
    assert totp.match(SEED, code, at(step * 30), window=0) == step


@pytest.mark.covers("nist N25")
@pytest.mark.parametrize(("time", "code"), [(time, sha1) for time, sha1, *_ in RFC6238])
def test_codes_of_rfc_6238_appendix_b(time: int, code: str) -> None:
    assert totp.step_at(at(time)) == time // 30
    assert totp.code_of(SEED, time // 30, 8) == code
    assert totp.match(SEED, code, at(time), digits=8, window=0) == time // 30
    assert totp.match(SEED, code[2:], at(time), window=0) == time // 30, "six digits are the last six of eight"


def test_the_six_digit_forms_keep_their_leading_zeros() -> None:
    known = {1111111109: "081804", 1111111111: "050471", 1234567890: "005924"}
    assert {time: totp.code_of(SEED, time // 30) for time in known} == known
    for time, code in known.items():
        assert totp.match(SEED, code.lstrip("0"), at(time)) is None


@pytest.mark.covers("attack A21")
@pytest.mark.parametrize("window", [0, 1, 2])
def test_only_steps_of_the_window_count(window: int) -> None:
    now = at(1_000_000_000)
    here = totp.step_at(now)
    for distance in range(-4, 5):
        expected = here + distance if abs(distance) <= window else None
        assert totp.match(SEED, totp.code_of(SEED, here + distance), now, window=window) == expected


def test_a_step_begins_and_ends_to_the_second() -> None:
    first = totp.code_of(SEED, 2)
    for seconds, step in ((59.999999, None), (60, 2), (89.999999, 2), (90, None)):
        assert totp.match(SEED, first, at(seconds), window=0) == step
    assert totp.step_at(at(90), interval=15) == 6


@pytest.mark.covers("attack A20")
def test_what_was_used_and_what_lies_before_it_is_no_match() -> None:
    now = at(1_000_000_000)
    here = totp.step_at(now)
    for step in (here - 1, here, here + 1):
        code = totp.code_of(SEED, step)
        assert totp.match(SEED, code, now, after=step - 1) == step
        assert totp.match(SEED, code, now, after=step) is None
        assert totp.match(SEED, code, now, after=step + 1) is None


def test_of_two_steps_with_the_same_code_the_newest_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two neighbours of a million codes do meet: using the first must not keep the second from its turn."""
    monkeypatch.setattr(totp, "code_of", lambda *_: "123456")
    assert totp.match(SEED, "123456", at(3000)) == 101
    assert totp.match(SEED, "123456", at(3000), after=100) == 101
    assert totp.match(SEED, "123456", at(3000), after=101) is None


def test_every_step_is_compared_whichever_matches(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[int] = []
    real = totp.code_of
    monkeypatch.setattr(totp, "code_of", lambda key, step, digits: compared.append(step) or real(key, step, digits))
    for step in (99, 100, 101, 500):
        compared.clear()
        totp.match(SEED, real(SEED, step), at(3000))
        assert compared == [99, 100, 101]


def test_there_is_no_step_before_the_first() -> None:
    assert totp.match(SEED, totp.code_of(SEED, 0), at(0)) == 0
    assert totp.match(SEED, totp.code_of(SEED, 1), at(0)) == 1


@pytest.mark.parametrize(
    "code", ["", "x", "81804", "0818040", " 081804", "081804 ", "\uff10\uff18\uff11\uff18\uff10\uff14", "\ud800", "\u00e9"]
)  # fmt: skip
def test_what_is_no_code_never_matches(code: str) -> None:
    assert totp.match(SEED, code, at(1111111109)) is None
