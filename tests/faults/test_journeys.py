"""The journeys of `bench faults`: what they make of a code that they offer again, and which refusals they have earned."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest

from bench import journeys
from bench.crowd import Crowd
from bench.journal import Held, Somebody
from bench.journeys import Gone, Journey
from tests.providers import answers, provider


class Told(Journey):
    """Is answered as a test says."""

    answers: list[int]

    def ask(self, *_: Any, **__: Any) -> tuple[int, dict[str, Any]]:
        return self.answers.pop(0), {}


def journey(kind: type[Journey] = Told) -> Any:
    """Of somebody who types no wrong codes."""
    who = Somebody(Held(""), Held(""), Held("old"), "", fumbled=True)
    return kind(Crowd("http://127.0.0.1:1", lambda *_: "", lambda *_: 0, 120), random.Random(1), who)


@pytest.mark.parametrize(
    ("answers", "counted", "twice"),
    [
        ([200, 410], (1, 0), 0),
        ([200, 200], (1, 0), 1),
        ([0, 200], (1, 0), 0),  # exactly one may exist
        ([503, 200], (1, 0), 0),
        ([503, 0, 200], (1, 0), 0),
        ([0, 503, 503, 200], (1, 0), 0),
        ([0, 410], (0, 1), 0),  # the first may have been taken
        ([503, 0, 410], (0, 1), 0),  # either may have been, but not both
        ([503, 0, 503, 0], (0, 1), 0),
        ([401], (0, 0), 0),
    ],
)
def test_a_code_that_is_offered_again_counts_once(
    monkeypatch: pytest.MonkeyPatch, answers: list[int], counted: tuple[int, int], twice: int
) -> None:
    monkeypatch.setattr(journeys, "AGAIN", 1.0)
    monkeypatch.setattr(journeys, "PAUSES_S", (0, 0, 0))
    told = journey()
    told.answers = list(answers)
    try:
        told.act("recovery.completed", "/", {"otp": "123456", "new_password": "new"}, "", told.who.password)
        went_on = True
    except Gone:
        went_on = False
    who = told.who
    assert (who.sure.total(), who.perhaps.total()) == counted
    assert went_on == bool(counted[0])
    assert (who.password.sure, who.password.perhaps) == ("new" if counted[0] else "old", ["new"] * counted[1])
    assert len(told.crowd.journal.twice) == twice
    assert told.answers == []


@pytest.mark.parametrize(
    ("status", "code", "earned"),
    [
        (410, "challenge_closed", True),
        (401, "token_revoked", False),
        (429, "rate_limited", False),
        (400, "invalid_code", False),
    ],
)
def test_a_code_that_was_used_earns_one_refusal_and_no_other(
    monkeypatch: pytest.MonkeyPatch, status: int, code: str, earned: bool
) -> None:
    """Against a stand-in for the service that takes the code and then refuses it."""
    monkeypatch.setattr(journeys, "AGAIN", 1.0)
    with provider() as there:
        there.script = [answers(200, {}), answers(status, {"code": code}, Content_Type="application/problem+json")]
        told = journey(Journey)
        told.crowd.base, told.who.opened = there.base, time.monotonic()
        told.offer("/api/auth/verify-otp", {"otp": "123456"})
    acts = told.crowd.journal.acts
    assert [(act.status, act.refused, act.earned) for act in acts] == [(200, False, False), (status, True, earned)]


def test_a_session_that_is_about_to_end_earns_it_to_be_told_so() -> None:
    told = journey(Journey)
    told.who.opened = time.monotonic() - 120
    assert told.overdue
    told.who.opened = time.monotonic() - 60
    assert not told.overdue
