"""The journeys of `bench faults`: what they make of a code that they offer again."""

from __future__ import annotations

import random
from typing import Any

import pytest

from bench import journeys
from bench.journal import Held, Somebody
from bench.journeys import Crowd, Gone, Journey


class Told(Journey):
    """Is answered as a test says."""

    answers: list[int]

    def ask(self, *_: Any) -> tuple[int, dict[str, Any]]:
        return self.answers.pop(0), {}


@pytest.mark.parametrize(
    ("answers", "counted", "twice"),
    [
        ([200, 410], (1, 0), 0),
        ([200, 200], (1, 0), 1),
        ([0, 200], (1, 0), 0),  # exactly one may exist
        ([503, 200], (1, 0), 0),
        ([0, 410], (0, 1), 0),  # the first may have been taken
        ([503, 0], (0, 1), 0),  # either may have been, but not both
        ([401], (0, 0), 0),
    ],
)
def test_a_code_that_is_offered_again_counts_once(
    monkeypatch: pytest.MonkeyPatch, answers: list[int], counted: tuple[int, int], twice: int
) -> None:
    monkeypatch.setattr(journeys, "AGAIN", 1.0)
    who = Somebody(Held(""), Held(""), Held("old"), "")
    journey = Told(Crowd("", lambda *_: "", lambda *_: 0, lambda: ""), random.Random(1), who)
    journey.answers = list(answers)
    try:
        journey.act("recovery.completed", "/", {"otp": "123456", "new_password": "new"}, "", who.password)
        went_on = True
    except Gone:
        went_on = False
    assert (who.sure.total(), who.perhaps.total()) == counted
    assert went_on == bool(counted[0])
    assert (who.password.sure, who.password.perhaps) == ("new" if counted[0] else "old", ["new"] * counted[1])
    assert len(journey.crowd.journal.twice) == twice
    assert journey.answers == []
