"""The feed: an ended session is refused within seconds, and nobody guesses while the feed is away."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import latchkey_client
import pytest
from latchkey_client import TokenRevoked, Unavailable, Verifier
from latchkey_client.revocations import Revocations

from tests.clients import hostile
from tests.clients.mint import KEY, NOW, shared
from tests.clients.stub import PAGE, Stub

MINT = shared(KEY)


def judge(stub: Stub, **more: object) -> Verifier:
    made: Verifier = hostile.with_feed(latchkey_client, stub, **more)
    return made


def feed_of(verifier: Verifier) -> Revocations:
    assert verifier.revocations
    return verifier.revocations


def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.covers("asvs 8.3.2")
def test_a_session_that_ends_is_refused_and_the_others_go_on(stub: Stub) -> None:
    verifier, session = judge(stub), str(uuid4())
    token = MINT.token(sid=session)
    assert verifier.verify(token).session_id == session
    stub.revoke(session, NOW)
    with pytest.raises(TokenRevoked):
        verifier.verify(token)
    verifier.verify(MINT.token())


@pytest.mark.covers("asvs 8.3.2")
def test_another_role_ends_the_tokens_before_it_and_not_those_after(stub: Stub) -> None:
    verifier, session = judge(stub), str(uuid4())
    stub.revoke(session, NOW - 100)
    for issued in (NOW - 200, NOW - 100):
        with pytest.raises(TokenRevoked):
            verifier.verify(MINT.token(sid=session, iat=issued))
    verifier.verify(MINT.token(sid=session, iat=NOW - 99))
    stub.revoke(session, NOW - 50)
    stub.revoke(session, NOW - 150)
    with pytest.raises(TokenRevoked):
        verifier.verify(MINT.token(sid=session, iat=NOW - 99))


def test_all_pages_are_read_before_anybody_is_let_in(stub: Stub) -> None:
    sessions = [str(uuid4()) for _ in range(3 * PAGE + 1)]
    for session in sessions:
        stub.revoke(session, NOW)
    verifier = judge(stub, poll_every=1000, max_stale=None)
    for session in sessions:
        with pytest.raises(TokenRevoked):
            verifier.verify(MINT.token(sid=session))
    assert stub.asked["/revocations"] == 4


def test_only_what_is_new_is_asked_for(stub: Stub) -> None:
    verifier = judge(stub)
    for _ in range(3):
        stub.revoke(str(uuid4()), NOW)
        verifier.verify(MINT.token())
    assert [stub.asked[f"/revocations?since={n}"] for n in (1, 2, 3)] == [1, 1, 0]
    for _ in range(3):
        verifier.verify(MINT.token())
    assert stub.statuses[-2:] == [304, 304], "and nothing new costs nothing"


def test_while_no_session_has_ended_the_answers_are_empty_too(stub: Stub) -> None:
    verifier = judge(stub)
    for _ in range(3):
        verifier.verify(MINT.token())
    assert stub.statuses == [200, 304, 304]


def test_it_begins_again_when_the_service_does_not_know_its_place(stub: Stub) -> None:
    """As after a restore of the service's database."""
    verifier, session = judge(stub), str(uuid4())
    for _ in range(3):
        stub.revoke(str(uuid4()), NOW)
    verifier.verify(MINT.token())
    stub.ended = [(session, NOW)]
    with pytest.raises(TokenRevoked):
        verifier.verify(MINT.token(sid=session))
    assert 422 in stub.statuses


def test_a_session_is_forgotten_when_its_last_token_has_expired(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [NOW]
    monkeypatch.setattr("latchkey_client.revocations.time", SimpleNamespace(monotonic=lambda: float(now[0])))
    verifier = judge(stub, clock=lambda: now[0])
    stub.revoke("old", NOW)
    stub.revoke("young", NOW + 500)
    verifier.verify(MINT.token())
    now[0] += 910
    feed_of(verifier).poll()
    assert feed_of(verifier)._ended.keys() == {"old", "young"}
    now[0] += 1
    feed_of(verifier).poll()
    assert feed_of(verifier)._ended.keys() == {"young"}


@pytest.mark.covers("asvs 8.3.2")
def test_a_clock_that_was_put_forward_and_back_lets_no_ended_session_in(stub: Stub) -> None:
    now, session = [NOW], str(uuid4())
    verifier = judge(stub, clock=lambda: now[0])
    token = MINT.token(sid=session)
    stub.revoke(session, NOW)
    with pytest.raises(TokenRevoked):
        verifier.verify(token)
    now[0] += 3600
    feed_of(verifier).poll()
    now[0] = NOW + 3
    with pytest.raises(TokenRevoked):
        verifier.verify(token)


def test_while_the_feed_is_away_it_serves_until_max_stale_and_then_refuses(
    stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    verifier, session = judge(stub, poll_every=3, max_stale=60), str(uuid4())
    stub.revoke(session, NOW)
    verifier.verify(MINT.token())
    feed, dial = feed_of(verifier), [time.monotonic()]
    assert not feed.stale
    monkeypatch.setattr("latchkey_client.revocations.time", SimpleNamespace(monotonic=lambda: dial[0]))
    stub.broken = True
    dial[0] += 55
    verifier.verify(MINT.token())
    assert feed.stale
    with pytest.raises(TokenRevoked):
        verifier.verify(MINT.token(sid=session))
    dial[0] += 10
    for again in (MINT.token(), MINT.token(sid=session)):
        with pytest.raises(Unavailable):
            verifier.verify(again)
    stub.broken = False
    dial[0] += 3
    verifier.verify(MINT.token())
    assert not feed.stale


def test_without_max_stale_it_serves_for_ever(stub: Stub) -> None:
    stub.broken = True
    verifier = judge(stub, max_stale=None)
    verifier.verify(MINT.token())
    assert (feed_of(verifier).age, feed_of(verifier).stale) == (None, True)


def test_a_feed_that_is_away_is_asked_once_a_period_and_not_by_each_request(stub: Stub) -> None:
    stub.broken = True
    verifier = judge(stub, poll_every=50)
    for _ in range(10):
        with pytest.raises(Unavailable):
            verifier.verify(MINT.token())
    assert stub.asked["/revocations"] == 1


@pytest.mark.parametrize(
    "form",
    [[], "x", {"items": []}, {"items": [{}], "next": "1", "more": False, "token_life": 900},
     {"items": [{"session_id": "a", "revoked_at": "soon"}], "next": "1", "more": False, "token_life": 900},
     {"items": [{"session_id": [], "revoked_at": "2026-11-21T10:00:00Z"}], "next": "1", "more": False, "token_life": 900},
     {"items": [], "next": None, "more": True, "token_life": 900},
     {"items": [], "next": "1", "more": False, "token_life": 10**400}],
    ids=lambda form: str(form)[:100],
)  # fmt: skip
def test_what_is_no_feed_counts_as_away(form: object, stub: Stub) -> None:
    stub.form = form
    with pytest.raises(Unavailable):
        judge(stub).verify(MINT.token())


@pytest.mark.parametrize("part", ["head", "body"])
def test_an_answer_that_drips_is_given_up_and_holds_no_request(
    part: str, stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("latchkey_client.fetch.TIMEOUT_S", 0.3)
    stub.slow_s, stub.slow_from = 5, part
    began = time.monotonic()
    with pytest.raises(Unavailable):
        judge(stub).verify(MINT.token())
    assert time.monotonic() - began < 3


def test_a_wrong_api_key_counts_as_away(stub: Stub) -> None:
    with pytest.raises(Unavailable):
        judge(stub, api_key="wrong").verify(MINT.token())


@pytest.fixture
def in_the_background(stub: Stub) -> Iterator[Verifier]:
    verifier = judge(stub, background=True, poll_every=0.01, max_stale=30)
    yield verifier
    feed_of(verifier).close()


def test_a_thread_hears_of_it_without_a_request(in_the_background: Verifier, stub: Stub) -> None:
    session = str(uuid4())
    assert stub.asked["/revocations"] == 0, "not before the first request: servers fork"
    in_the_background.verify(MINT.token(sid=session))
    stub.revoke(session, NOW)
    until(lambda: session in feed_of(in_the_background)._ended)
    with pytest.raises(TokenRevoked):
        in_the_background.verify(MINT.token(sid=session))
    stub.broken = True
    until(lambda: stub.statuses[-1] == 500)
    stub.broken = False
    other = str(uuid4())
    stub.revoke(other, NOW)
    until(lambda: other in feed_of(in_the_background)._ended)


def test_where_its_thread_does_not_run_requests_ask_the_feed(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    """As under uWSGI without enable-threads, or on a host that freezes between requests."""
    monkeypatch.setattr("latchkey_client.revocations._keep_polling", lambda _: None)
    verifier, session = judge(stub, background=True, poll_every=3, max_stale=60), str(uuid4())
    verifier.verify(MINT.token())
    dial = [time.monotonic()]
    monkeypatch.setattr("latchkey_client.revocations.time", SimpleNamespace(monotonic=lambda: dial[0]))
    stub.revoke(session, NOW)
    for _ in range(3):
        dial[0] += 100
        asked = stub.asked["/revocations"]
        for _ in range(3):
            verifier.verify(MINT.token())
            with pytest.raises(TokenRevoked):
                verifier.verify(MINT.token(sid=session))
        assert stub.asked["/revocations"] == asked + 1


def test_the_thread_outlives_what_nobody_thought_of(
    in_the_background: Verifier, stub: Stub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    in_the_background.verify(MINT.token())
    feed = feed_of(in_the_background)
    with monkeypatch.context() as broken:
        broken.setattr(feed, "_forget", lambda: 1 / 0)
        until(lambda: "ZeroDivisionError" in caplog.text)
    asked = stub.asked["/revocations"]
    until(lambda: stub.asked["/revocations"] > asked)
    assert feed._thread
    assert feed._thread.is_alive()


def test_the_thread_ends_with_its_verifier(stub: Stub) -> None:
    verifier = judge(stub, background=True, poll_every=0.01, max_stale=30)
    verifier.verify(MINT.token())
    thread, gone = feed_of(verifier)._thread, weakref.ref(verifier)
    assert thread
    assert thread.daemon
    del verifier
    gc.collect()
    assert gone() is None
    thread.join(10)
    assert not thread.is_alive()


FORKS = """
import os, sys, threading
from latchkey_client import Verifier
base, key, secret, token = sys.argv[1:]
made = Verifier(
    issuer="latchkey", audience="clinic", secrets=[secret], revocations_url=base + "/revocations", api_key=key,
    poll_every=1000, max_stale=None,
)
made.verify(token)
parent = made.revocations._thread
if os.fork() == 0:
    assert made.revocations._thread is None
    made.verify(token)
    os._exit(0 if made.revocations._thread.is_alive() and threading.active_count() == 2 else 1)
assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
assert parent.is_alive()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_has_a_thread_of_its_own(stub: Stub) -> None:
    """As under gunicorn with an app that was loaded before the fork."""
    token = replace(MINT, now=int(time.time())).token()
    done = subprocess.run(
        [sys.executable, "-c", FORKS, stub.base, stub.api_key, KEY, token], capture_output=True, text=True, timeout=60,
        env={"PYTHONPATH": str(Path(latchkey_client.__file__).parents[1])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert stub.asked["/revocations"] == 2
