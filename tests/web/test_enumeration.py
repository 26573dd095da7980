"""Stories of somebody who asks whether an account exists: nothing but random ids may differ, however long they ask."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from app.delivery import listing
from bench.enumeration import KINDS, SETTINGS, differences
from bench.stories import STORIES
from tests.conftest import World


@pytest.mark.one_lane
@pytest.mark.covers("asvs 6.3.8", "attack A31")
@pytest.mark.parametrize("story", STORIES)
def test_no_story_tells_whether_there_is_an_account(make_world: Callable[..., World], story: str) -> None:
    world = make_world(**SETTINGS)
    turn = list(STORIES).index(story)
    kind = list(KINDS)[turn % len(KINDS)]
    assert differences(world, story, kind, deliver=turn % 2 == 0) == []


@pytest.mark.one_lane
@pytest.mark.covers("attack A31")
@pytest.mark.parametrize("kind", KINDS)
def test_budgets_spent_by_one_identifier_tell_nothing_of_another(make_world: Callable[..., World], kind: str) -> None:
    assert differences(make_world(**SETTINGS), "each identifier in turn", kind) == []


@pytest.mark.one_lane
def test_a_service_that_tells_is_found_out(make_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch) -> None:
    """The stories themselves: did a challenge say what became of its message, they would see it."""

    def tells(work: Any, challenge: Any) -> str:
        return "sent" if challenge.user_id else "queued"

    monkeypatch.setattr(listing, "how_far", tells)
    assert differences(make_world(**SETTINGS), "recovery by e-mail", "plain")
