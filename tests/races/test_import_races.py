"""Usernames that an import and a sign-up want at once: on servers that lock rows."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from app.models import User, UsernameHold
from tests.conftest import World
from tests.people import Answer
from tests.races.test_held_rows import holding, sending
from tests.test_import import Done, importing, table  # noqa: F401 (a fixture)

ROWS = table({"email": "asha@example.com", "username": "asha"}, {"email": "other@example.com", "username": "jane"})


def test_an_import_waits_for_a_sign_up_that_is_taking_the_username(
    locking: World,
    importing: Callable[..., Done],  # noqa: F811
) -> None:
    until = locking.clock.now + timedelta(days=1)
    hold = sa.insert(UsernameHold).values(username="jane", claimant="j" * 64, expires_at=until)
    done: list[Any] = []
    with holding(locking, hold, done, lambda: importing(ROWS)):
        pass
    assert done[0].reasons == [(3, "taken")]
    assert [user.username for user in locking.rows(User)] == ["asha"]
    assert [row.claimant for row in locking.rows(UsernameHold)] == ["j" * 64]


def test_a_sign_up_waits_for_an_import_that_is_taking_the_username(
    locking: World,
    importing: Callable[..., Done],  # noqa: F811
) -> None:
    owner = locking.person(username="owner").sign_up()
    done: list[Any] = []
    sent: list[Answer] = []
    takes = sa.update(User).where(User.username == "owner").values(email="asha@example.com")
    with holding(locking, takes, done, lambda: importing(ROWS)) as connection:
        waiting = sending(sent, lambda: locking.person(username="jane").ask_signup())
        connection.execute(sa.update(User).where(User.username == "owner").values(email=owner.email))
    waiting.join(20)
    assert (done[0].code, sent[0].code) == (0, "username_taken")
    assert {user.username for user in locking.rows(User)} == {"owner", "asha", "jane"}
    assert locking.rows(UsernameHold) == []
