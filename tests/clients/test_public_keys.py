"""Public keys: fetched seldom, kept while the service is away, and found when they are new."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import latchkey_client
import pytest
from latchkey_client import InvalidToken, Unavailable, keys

from tests.clients import hostile
from tests.clients.mint import KEY, Mint, private, shared
from tests.clients.stub import Stub

FIRST, SECOND = private("EdDSA", "ed"), private("EdDSA", "second")


class Dial:
    """Time that the test turns."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def dial(monkeypatch: pytest.MonkeyPatch) -> Dial:
    turned = Dial()
    monkeypatch.setattr(keys, "time", turned)
    return turned


def judge(stub: Stub, mint: Mint = FIRST) -> latchkey_client.Verifier:
    made: latchkey_client.Verifier = hostile.verifier(latchkey_client, mint, stub)
    return made


def test_the_keys_are_fetched_once_and_then_every_five_minutes(stub: Stub, dial: Dial) -> None:
    verifier = judge(stub)
    assert stub.asked["/jwks"] == 0, "not before they are needed"
    for _ in range(3):
        verifier.verify(FIRST.token())
    assert stub.asked["/jwks"] == 1
    dial.now += 301
    verifier.verify(FIRST.token())
    assert stub.asked["/jwks"] == 2


def test_a_new_key_is_found_by_its_first_token(stub: Stub, dial: Dial) -> None:
    verifier = judge(stub)
    verifier.verify(FIRST.token())
    stub.keys.append(SECOND.jwk or {})
    dial.now += keys.PAUSE_S
    verifier.verify(SECOND.token())
    assert stub.asked["/jwks"] == 2


def test_a_key_that_is_no_longer_published_verifies_no_longer(stub: Stub, dial: Dial) -> None:
    verifier = judge(stub)
    verifier.verify(FIRST.token())
    stub.keys = [SECOND.jwk or {}]
    dial.now += 301
    with pytest.raises(InvalidToken):
        verifier.verify(FIRST.token())


@pytest.mark.covers("attack A42")
def test_strangers_make_it_fetch_once_a_pause_and_no_more(stub: Stub, dial: Dial) -> None:
    verifier = judge(stub)
    verifier.verify(FIRST.token())
    for n in range(50):
        with pytest.raises(InvalidToken):
            verifier.verify(SECOND.token({"kid": f"unknown {n}"}))
    assert stub.asked["/jwks"] == 1
    dial.now += keys.PAUSE_S
    for n in range(50):
        with pytest.raises(InvalidToken):
            verifier.verify(SECOND.token({"kid": f"another {n}"}))
    assert stub.asked["/jwks"] == 2


def test_many_first_tokens_at_once_make_one_fetch(stub: Stub) -> None:
    verifier, barrier = judge(stub), threading.Barrier(8)

    def first(_: int) -> str:
        barrier.wait(10)
        return verifier.verify(FIRST.token()).role

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(first, range(8))) == {"user"}
    assert stub.asked["/jwks"] == 1


def test_known_keys_serve_for_an_hour_while_the_service_is_away(stub: Stub, dial: Dial) -> None:
    verifier = judge(stub)
    verifier.verify(FIRST.token())
    stub.broken = True
    dial.now += 3599
    verifier.verify(FIRST.token())
    dial.now += 2
    with pytest.raises(Unavailable):
        verifier.verify(FIRST.token())
    stub.broken = False
    dial.now += keys.PAUSE_S
    verifier.verify(FIRST.token())


def test_an_unknown_key_is_no_verdict_while_the_service_is_away(stub: Stub, dial: Dial) -> None:
    """The token may be good and its key new: 503 keeps the person signed in, 401 would not."""
    verifier = judge(stub)
    stub.broken = True
    for _ in range(20):
        with pytest.raises(Unavailable) as refusal:
            verifier.verify(FIRST.token())
    assert refusal.value.extra == {"retry_after": keys.PAUSE_S}
    assert stub.asked["/jwks"] == 1, "and nobody's token makes it ask again at once"
    stub.broken = False
    dial.now += keys.PAUSE_S
    verifier.verify(FIRST.token())


def test_keys_that_come_a_byte_at_a_time_are_given_up(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("latchkey_client.fetch.TIMEOUT_S", 0.3)
    stub.slow_s, stub.slow_from = 5, "body"
    began = time.monotonic()
    with pytest.raises(Unavailable):
        judge(stub).verify(FIRST.token())
    assert time.monotonic() - began < 3


@pytest.mark.parametrize(
    "form", [[], "x", {"keys": None}, {"keys": {}}, {"other": []}], ids=["list", "text", "no list", "object", "no keys"]
)
def test_what_is_no_jwks_counts_as_away(form: object, stub: Stub) -> None:
    stub.form = form
    with pytest.raises(Unavailable):
        judge(stub).verify(FIRST.token())


@pytest.mark.parametrize(
    "entry",
    [None, "x", {}, {"kid": "x"}, {"kid": "x", "kty": "OKP", "crv": "Ed25519"}, {"kid": "x", "kty": "OKP", "crv": "Ed448", "x": "AA"},
     {"kid": "x", "kty": ["RSA"]}, {"kid": "x", "kty": "EC", "crv": {}}, {"kid": "x", "kty": "RSA", "n": "!", "e": "AQAB"},
     {"kid": 1, "kty": "OKP"}, {"kid": "x", "kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}],
    ids=str,
)  # fmt: skip
def test_an_entry_that_cannot_be_used_does_not_spoil_the_others(entry: object, stub: Stub) -> None:
    stub.keys.insert(0, entry)  # type: ignore[arg-type] # the stub says what it is told
    judge(stub).verify(FIRST.token())


def test_a_service_that_publishes_none_is_told_of_in_the_log(stub: Stub, caplog: pytest.LogCaptureFixture) -> None:
    stub.keys = []
    verifier = judge(stub)
    for token in (shared(KEY).token(), FIRST.token()):
        with pytest.raises(InvalidToken):
            verifier.verify(token)
    assert "does the service sign with a shared secret?" in caplog.text
