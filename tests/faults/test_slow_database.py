"""A database behind a slow network: each statement waits its turn once, and none is asked again for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from bench.proxy import Proxy
from tests.conftest import World
from tests.lanes import Lane
from tests.web.test_statements import Spent

pytestmark = [pytest.mark.slow, pytest.mark.one_copy]
EACH_WAY_S = 0.03


@pytest.mark.covers("fault F06")
def test_a_slow_network_costs_its_delay_for_each_statement_and_no_statement_more(
    make_world: Callable[..., World], lane: Lane
) -> None:
    there = sa.make_url(lane.database_url)
    if there.host is None:
        pytest.skip("this lane has no network to its database")
    with Proxy((there.host, there.port or 0)).running() as proxy:
        here = there.set(host="127.0.0.1", port=proxy.port).render_as_string(hide_password=False)
        world = make_world(database_url=here)
        person = world.person().sign_up()
        acts: dict[str, Callable[[], Any]] = {
            "me": person.me,
            "a wrong password": lambda: person.api.post("/api/auth/login", {"identifier": person.email, "password": "x" * 9}),
            "sessions": lambda: person.api.get("/api/auth/sessions", person.token),
        }  # fmt: skip
        for name, act in acts.items():
            fast = Spent(world, act)
            proxy.become("delay", delay_s=EACH_WAY_S)
            slow = Spent(world, act)
            proxy.become("pass")
            assert slow.answer.status == fast.answer.status, name
            assert (slow.statements, slow.commits) == (fast.statements, fast.commits), name
        world.let_go()
