"""One suite of sign-in for every dialect: the same promises, whoever asks."""

from __future__ import annotations

from typing import Any

import pytest

from app.models import Session, User
from tests.conftest import World
from tests.people import PASSWORD, wrong
from tests.web.test_browser import Browser

EMAIL, NUMBER = "jane@example.com", "+919876543210"


class Primary:
    """Password and code, then tokens."""

    amr = "pwd email"

    def __init__(self, world: World) -> None:
        self.world, self.api, self.token = world, world.api(), ""
        self.challenge = ""

    def sign_up(self) -> None:
        self.world.person(email=EMAIL).sign_up()

    def ask(self) -> int:
        answer = self.api.post("/api/auth/login", {"identifier": EMAIL, "password": PASSWORD})
        self.challenge = answer.body.get("challenge_id", self.challenge)
        return answer.status

    def answer(self, code: str) -> int:
        answer = self.api.post("/api/auth/login/verify", {"challenge_id": self.challenge, "otp": code})
        self.token = answer.body.get("access_token", self.token)
        return answer.status

    def code(self) -> str:
        return self.world.read("email", EMAIL)

    def inside(self) -> bool:
        return bool(self.token) and self.api.get("/api/auth/me", self.token).status == 200

    def sign_out(self) -> None:
        self.api.post("/api/auth/logout", token=self.token).ok()


class Mobile(Primary):
    """A code by SMS, then tokens."""

    amr = "sms"

    def sign_up(self) -> None:
        self.ask()
        body = {"mobile_number": NUMBER, "otp": self.code()}
        token = self.api.post("/api/v1/auth/verify-otp", body).ok()["registration_token"]
        body = {"registration_token": token, "name": "Jane", "consent": True}
        self.api.post("/api/v1/auth/complete-registration", body).ok()

    def ask(self) -> int:
        return self.api.post("/api/v1/auth/send-otp", {"mobile_number": NUMBER}).status

    def answer(self, code: str) -> int:
        answer = self.api.post("/api/v1/auth/verify-otp", {"mobile_number": NUMBER, "otp": code})
        self.token = answer.body.get("access_token", self.token)
        return answer.status

    def code(self) -> str:
        return self.world.read("sms", NUMBER)

    def inside(self) -> bool:
        return bool(self.token) and self.api.get("/api/v1/auth/me", self.token).status == 200

    def sign_out(self) -> None:
        self.api.post("/api/v1/auth/logout", token=self.token).ok()


class Classic(Primary):
    """Password and code, then a cookie."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.browser = Browser(world)

    def ask(self) -> int:
        return self.browser.post("/login", {"email": EMAIL, "password": PASSWORD}).status_code

    def answer(self, code: str) -> int:
        return self.browser.post("/verify-otp", {"email": EMAIL, "otp": code}).status_code

    def inside(self) -> bool:
        return self.browser.inside()

    def sign_out(self) -> None:
        assert self.browser.post("/logout").status_code == 200


DIALECTS = {"primary": Primary, "mobile": Mobile, "browser": Classic}


@pytest.fixture(params=DIALECTS)
def dialect(request: pytest.FixtureRequest, world: World) -> Any:
    """Somebody with an account, two minutes after they made it."""
    made = DIALECTS[request.param](world)
    made.sign_up()
    world.clock.advance(minutes=4)
    return made


def test_the_right_code_lets_in(world: World, dialect: Any) -> None:
    assert dialect.ask() == 200
    assert not dialect.inside()
    assert dialect.answer(dialect.code()) == 200
    assert dialect.inside()
    newest = max(world.rows(Session), key=lambda row: row.created_at)
    assert newest.amr == dialect.amr
    assert world.audit(event="signin.completed")[-1].facts["amr"] == dialect.amr.split()


def test_a_code_works_once(dialect: Any) -> None:
    dialect.ask()
    code = dialect.code()
    assert dialect.answer(code) == 200
    assert dialect.answer(code) == 410


def test_three_wrong_guesses_close_the_question(dialect: Any) -> None:
    dialect.ask()
    code = dialect.code()
    assert [dialect.answer(wrong(code)) for _ in range(3)] == [400, 400, 400]
    assert dialect.answer(code) == 410
    assert not dialect.inside()


def test_five_wrong_guesses_lock_whatever_else_is_asked(world: World, dialect: Any) -> None:
    answers = []
    for _ in range(2):
        assert dialect.ask() == 200
        code = dialect.code()
        answers += [dialect.answer(wrong(code)) for _ in range(3)]
        world.clock.advance(seconds=61)
    assert answers == [400, 400, 400, 400, 400, 423]
    assert dialect.ask() == 423


def test_an_old_code_is_closed(world: World, dialect: Any) -> None:
    dialect.ask()
    code = dialect.code()
    world.clock.advance(seconds=301)
    assert dialect.answer(code) == 410


def test_whoever_signs_out_is_out(dialect: Any) -> None:
    dialect.ask()
    dialect.answer(dialect.code())
    dialect.sign_out()
    assert not dialect.inside()


def test_a_disabled_account_gets_in_nowhere(world: World, dialect: Any) -> None:
    dialect.ask()
    code = dialect.code()
    with world.kit.writes.begin() as db:
        db.query(User).update({"disabled_at": world.clock.now})
    assert dialect.answer(code) in (400, 401)
    assert not dialect.inside()


def test_a_session_that_is_ended_elsewhere_is_over_here(world: World, dialect: Any) -> None:
    dialect.ask()
    dialect.answer(dialect.code())
    assert dialect.inside()
    with world.kit.writes.begin() as db:
        db.query(Session).update({"revoked_at": world.clock.now})
    assert not dialect.inside()
