"""What each request costs the database: so many statements at most, and one commit."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pyotp
import pytest
import sqlalchemy as sa

from app.models import User
from bench import people
from tests.conftest import World
from tests.lanes import SECRETS

pytestmark = pytest.mark.one_copy
NUMBER = "+919876543210"


class Spent:
    """The statements and commits of one act."""

    def __init__(self, world: World, act: Callable[[], Any]) -> None:
        self.statements: list[str] = []
        self.commits = 0
        world.sends_at_once = False
        listened = [
            (world.engine, "before_cursor_execute", self._executed),
            (world.engine, "commit", self._committed),
        ]
        for each in listened:
            sa.event.listen(*each)
        try:
            self.answer = act()
        finally:
            for each in listened:
                sa.event.remove(*each)
            world.sends_at_once = True

    def _executed(self, _connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if not statement.startswith("BEGIN"):  # SQLite's; the others begin unasked
            self.statements.append(" ".join(statement.split()))

    def _committed(self, _connection: Any) -> None:
        self.commits += 1


@pytest.mark.one_lane("postgresql")
def test_who_is_signed_in_is_found_by_keys_on_a_database_that_has_never_counted(world: World) -> None:
    """PostgreSQL counts its rows some time after they came. Until then it guesses, and had read every user for each."""
    if world.lane.name != "postgresql":
        pytest.skip("asks PostgreSQL for its plan")
    person = world.person().sign_up()
    with world.engine.begin() as connection:
        rows = [people.account(n, 500) for n in range(500)]
        connection.execute(sa.insert(User), [row | {"email": f"{row['id']}@example.com"} for row in rows])
        connection.execute(sa.text("DELETE FROM pg_statistic WHERE starelid = 'users'::regclass"))
    question = next(said for said in Spent(world, person.me).statements if "FROM users JOIN sessions" in said)
    with world.engine.connect() as connection:
        sid, now = connection.execute(sa.text("SELECT id, now() FROM sessions LIMIT 1")).one()
        given = {"id": sid, "now": now, "id_1": sid, "now_1": now, "expires_at_1": now}
        plan = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {question}", given).scalar()
    assert {node["Relation Name"]: (node["Index Name"], node["Actual Rows"]) for node in plan[0]["Plan"]["Plans"]} == {
        "sessions": ("pk_sessions", 1),
        "users": ("pk_users", 1),
    }


def by_password_and_code(world: World) -> dict[str, Spent]:
    person = world.person().sign_up()
    world.clock.advance(minutes=2)
    login = Spent(world, person.ask_signin)
    proof = (login.answer.ok()["challenge_id"], world.read("email", person.email))
    return {
        "me": Spent(world, person.me),
        "login": login,
        "login/verify": Spent(world, lambda: person.verify_signin(*proof)),
        "refresh": Spent(world, person.refresh),
    }


def by_phone(world: World) -> dict[str, Spent]:
    api, verify = world.api(), "/api/v1/auth/verify-otp"
    for _ in range(3):  # the second time there is an account, the third time a sign-up of that time
        world.clock.advance(minutes=2)
        send = Spent(world, lambda: api.post("/api/v1/auth/send-otp", {"mobile_number": NUMBER}))
        proof = {"mobile_number": NUMBER, "otp": world.read("sms", NUMBER)}
        verified = Spent(world, lambda proof=proof: api.post(verify, proof))
        if token := verified.answer.ok().body.get("registration_token"):
            person = {"registration_token": token, "name": "Asha", "consent": True}
            api.post("/api/v1/auth/complete-registration", person).ok()
    return {"send-otp": send, "verify-otp": verified}


def of_a_machine(world: World) -> dict[str, Spent]:
    backend = world.api(Authorization=f"Bearer {SECRETS['api_key']}")
    key = backend.post("/api/v1/devices/register", {"device_id": "till-1", "user_id": "shop"}).ok()["data"][
        "derived_key"
    ]
    code = pyotp.TOTP(base64.b32encode(base64.b64decode(key)).decode()).at(world.clock.now)
    return {
        "otp/verify": Spent(world, lambda: backend.post("/api/v1/otp/verify", {"device_id": "till-1", "otp": code}))
    }


@pytest.mark.parametrize(
    ("story", "bounds"),
    [
        (by_password_and_code, {"me": 1, "login": 6, "login/verify": 8, "refresh": 4}),
        (by_phone, {"send-otp": 8, "verify-otp": 8}),
        (of_a_machine, {"otp/verify": 3}),
    ],
)  # fmt: skip
def test_a_request_asks_the_database_no_more_than_it_must(
    world: World, story: Callable[[World], dict[str, Spent]], bounds: dict[str, int]
) -> None:
    for what, spent in story(world).items():
        spent.answer.ok()
        assert len(spent.statements) <= bounds[what], (what, spent.statements)
        # The password is looked up before it is hashed and judged after: no connection is held meanwhile.
        assert spent.commits == (2 if what == "login" else 1), what


@pytest.mark.parametrize(("channel", "statements"), [("email", 4), ("sms", 7)])
def test_a_code_that_is_asked_for_alone_costs_the_courier_few_statements_and_two_commits(
    world: World, channel: str, statements: int
) -> None:
    """What waits, the claim, what was claimed, the mark; for SMS the shield's counters, its sample, and their change."""
    world.sends_at_once = False
    if channel == "sms":
        world.api().post("/api/v1/auth/send-otp", {"mobile_number": NUMBER}).ok()
    else:
        world.person().ask_signup().ok()
    spent = Spent(world, lambda: world.courier.round(channel))
    assert spent.answer == 1
    assert len(world.senders[channel].messages) == 1
    assert len(spent.statements) <= statements, spent.statements
    assert spent.commits == 1 + 2  # the first has only read


def test_all_sessions_end_by_one_statement(world: World) -> None:
    """Of two who sign out everywhere at once, each from a session of its own, neither waits for what the other holds."""
    person = world.person().sign_up()
    world.clock.advance(minutes=2)
    first = person.token
    person.sign_in()
    spent = Spent(world, lambda: person.api.post("/api/auth/logout", {"everywhere": True}, person.token))
    spent.answer.ok()
    assert len([said for said in spent.statements if said.startswith("UPDATE sessions")]) == 1
    assert person.api.get("/api/auth/me", first).code == "token_revoked"
    assert [row.facts["count"] for row in world.audit(event="session.ended")] == [2]
