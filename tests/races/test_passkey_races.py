"""Passkeys, many at the same moment, against four gunicorn workers."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from app.models import Passkey, Session
from tests.people import Answer, Person
from tests.races.conftest import Arena
from tests.races.test_races import codes
from tests.security_key import Authenticator, text
from tests.service import at_once
from tests.web.test_passkeys import FACTORS, answer, ask, bind, confirm, login, sign_in, start

pytestmark = [pytest.mark.slow, pytest.mark.row_locks]


def key_for(arena: Arena, **how: Any) -> Authenticator:
    """An authenticator in a browser at the service's own origin."""
    return Authenticator(f"http://localhost:{arena.service.base.rsplit(':', 1)[1]}", **how)


def holder(arena: Arena, authenticator: Authenticator) -> Person:
    person = arena.person().sign_up()
    bind(person, authenticator).ok()
    return person


def sessions(arena: Arena, person: Person) -> int:
    mine = Session.user_id == UUID(person.tokens["user"]["id"])
    return arena.scalar(sa.select(sa.func.count()).select_from(Session).where(mine))


@pytest.mark.covers("attack A13", "asvs 2.3.4", "asvs 6.5.1", "asvs 6.7.2", "asvs 15.4.2")
@pytest.mark.parametrize("counts", [True, False], ids=["counting", "not counting"])
def test_of_50_uses_of_one_assertion_one_is_right(arena: Arena, counts: bool) -> None:
    authenticator = key_for(arena, counts=counts)
    person = holder(arena, authenticator)
    asked = ask(person.api).ok()
    assertion = authenticator.get(asked["options"])
    answers = at_once(50, lambda _: login(person.api, asked["challenge_id"], assertion))
    assert codes(answers) == {"ok": 1, "challenge_closed": 49}
    assert sessions(arena, person) == 2


@pytest.mark.covers("attack A13")
def test_of_50_uses_as_the_second_step_one_is_right(arena: Arena) -> None:
    authenticator = key_for(arena)
    person = holder(arena, authenticator)
    asked = person.ask_signin().ok()
    assertion = authenticator.get(ask(person.api, asked["challenge_id"]).ok()["options"])
    answers = at_once(50, lambda _: answer(person, asked["challenge_id"], assertion))
    assert codes(answers) == {"ok": 1, "challenge_closed": 49}
    assert sessions(arena, person) == 2


def test_of_50_answers_with_one_counter_one_is_right(arena: Arena) -> None:
    """As a copy of a key would give them, each to a challenge of its own."""
    authenticator = key_for(arena)
    person = holder(arena, authenticator)
    asked = at_once(50, lambda _: ask(person.api).ok())
    shown = [authenticator.get(each["options"], count=7) for each in asked]
    answers = at_once(50, lambda n: login(person.api, asked[n]["challenge_id"], shown[n]))
    assert codes(answers) == {"ok": 1, "invalid_credentials": 49}
    assert (
        arena.scalar(sa.select(Passkey.sign_count).where(Passkey.credential_id == text(authenticator.held[0].id))) == 7
    )


def test_50_honest_sign_ins_with_a_key_that_does_not_count_all_pass(arena: Arena) -> None:
    authenticator = key_for(arena, counts=False)
    person = holder(arena, authenticator)
    assert codes(at_once(50, lambda _: sign_in(person.api, authenticator))) == {"ok": 50}


def test_of_30_confirmations_one_binds(arena: Arena) -> None:
    authenticator, person = key_for(arena), arena.person().sign_up()
    begun = start(person).ok()
    made = authenticator.create(begun["options"])
    answers = at_once(30, lambda _: confirm(person, begun["challenge_id"], made))
    assert codes(answers) == {"ok": 1, "challenge_closed": 29}
    assert len(person.api.get(FACTORS, person.token)["items"]) == 1


def test_one_credential_is_bound_to_one_of_many(arena: Arena) -> None:
    people = [arena.person().sign_up() for _ in range(6)]
    authenticator = key_for(arena)
    first = authenticator.create(start(people[0]).ok()["options"])
    held, began = authenticator.held[0], [start(person).ok() for person in people]
    made = [authenticator.create(b["options"], key=held.key, credential_id=held.id) for b in began]
    assert {credential["id"] for credential in made} == {first["id"]}
    answers = at_once(6, lambda n: confirm(people[n], began[n]["challenge_id"], made[n]))
    assert codes(answers) == {"ok": 1, "conflict": 5}
    bound = [len(person.api.get(FACTORS, person.token)["items"]) for person in people]
    assert sorted(bound) == [0, 0, 0, 0, 0, 1]
    assert [bool(person.me()["mfa"]) for person in people] == [count == 1 for count in bound]


def test_a_passkey_is_refused_from_the_moment_it_is_removed(arena: Arena) -> None:
    authenticator = key_for(arena, counts=False)
    person = holder(arena, authenticator)
    [item] = person.api.get(FACTORS, person.token)["items"]
    path = f"{FACTORS}/{item['id']}"

    def act(n: int) -> Answer:
        return person.api.delete(path, person.token) if n == 10 else sign_in(person.api, authenticator)

    seen = codes(at_once(20, act, threads=20))
    assert set(seen) <= {"ok", "invalid_credentials"}
    assert seen["ok"] >= 1
    assert sign_in(person.api, authenticator).code == "invalid_credentials"
    assert sessions_live(arena, person) == 1, "those that came before it ended with it"


def sessions_live(arena: Arena, person: Person) -> int:
    mine = (Session.user_id == UUID(person.tokens["user"]["id"]), Session.revoked_at.is_(None))
    return arena.scalar(sa.select(sa.func.count()).select_from(Session).where(*mine))


def test_nothing_failed_on_the_way(arena: Arena) -> None:
    text = arena.service.log.read_text()
    assert "Traceback" not in text, text[text.index("Traceback") - 500 :][:4000]
    assert "status=500" not in text
