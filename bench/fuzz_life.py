"""An account's life in any order, as a state machine, for `fuzz`: sign-up, codes right, wrong and of
another step, sign-in, refresh, recovery, sign-out. After each step the service says what the model says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jwt
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from bench.fuzz_people import Cast, Tally
from tests.people import Answer, Api, Person, wrong

STEPS = 15
ROUTES = ("/verify-otp", "/login/verify", "/reset-password")
AUTH = "/api/auth"
NEW_PASSWORD = "another horse 8"


@dataclass
class Session:
    access: str
    refresh: str
    level: list[str]  # how it was proven at its beginning
    alive: bool = True


@dataclass
class Asked:
    """A challenge whose code is in the mail."""

    path: str
    challenge_id: str
    code: str
    guessed: bool = False
    strayed: bool = False


class Life(RuleBasedStateMachine):
    """One person, who is new with each run. `cast` and `tally` are set before it runs."""

    cast: Cast
    tally: Tally

    def __init__(self) -> None:
        super().__init__()
        self.person: Person = self.cast.person()
        self.person.api = Api(self._counted(self.person.api.transport))
        self.member = False
        self.asked: Asked | None = None
        self.spent: list[Asked] = []
        self.sessions: list[Session] = []

    def _counted(self, transport: Any) -> Any:
        def send(*request: Any) -> Answer:
            answer: Answer = transport(*request)
            self.tally.count(str(answer.status), accepted=answer.status < 300 and request[0] != "GET")
            return answer

        return send

    def post(self, path: str, token: str | None = None, **body: Any) -> Answer:
        return self.person.api.post(AUTH + path, body, token)

    @precondition(lambda self: not self.member and not self.asked)
    @rule()
    def sign_up(self) -> None:
        asked = self.person.ask_signup()
        assert asked.status == 201, asked
        self.asked = Asked("/verify-otp", asked["challenge_id"], self.person.code())

    @precondition(lambda self: self.member and not self.asked)
    @rule()
    def sign_in(self) -> None:
        asked = self.person.ask_signin()
        assert asked.status == 200, asked
        self.asked = Asked("/login/verify", asked["challenge_id"], self.person.code())

    @precondition(lambda self: self.asked and not self.asked.guessed)
    @rule()
    def guess(self) -> None:
        assert self.asked
        self.asked.guessed = True
        answer = self.post(self.asked.path, challenge_id=self.asked.challenge_id, otp=wrong(self.asked.code))
        assert (answer.status, answer.code) == (400, "invalid_code"), answer

    @precondition(lambda self: self.asked)
    @rule()
    def verify(self) -> None:
        assert self.asked
        answer = self.post(self.asked.path, challenge_id=self.asked.challenge_id, otp=self.asked.code)
        assert answer.status == 200, answer
        self.sessions.append(Session(answer["access_token"], answer["refresh_token"], _level(answer["access_token"])))
        self.spent.append(self.asked)
        self.member, self.asked = True, None

    @precondition(lambda self: self.asked and not self.asked.strayed)
    @rule(data=st.data())
    def go_astray(self, data: Any) -> None:
        """The right code of another step opens nothing, and costs an attempt."""
        assert self.asked
        self.asked.strayed = True
        self._refused_at(
            data.draw(st.sampled_from([route for route in ROUTES if route != self.asked.path])), self.asked
        )

    def _refused_at(self, route: str, asked: Asked) -> None:
        more = {"new_password": NEW_PASSWORD} if route == "/reset-password" else {}
        answer = self.post(route, challenge_id=asked.challenge_id, otp=asked.code, **more)
        assert (answer.status, answer.code) == (410, "challenge_closed"), answer

    @precondition(lambda self: self.member and not self.asked)
    @rule(astray=st.booleans())
    def recover(self, astray: bool) -> None:
        """A new password ends every session, and opens none."""
        begun = self.post("/forgot-password", email=self.person.email)
        asked = Asked("/reset-password", begun["challenge_id"], self.person.code())
        if astray:
            self._refused_at("/login/verify", asked)
        body = {"challenge_id": asked.challenge_id, "otp": asked.code, "new_password": NEW_PASSWORD}
        answer = self.post(asked.path, **body)
        assert answer.status == 200, answer
        assert "access_token" not in answer.body, answer
        self.person.password = NEW_PASSWORD
        for each in self.sessions:
            each.alive = False

    @precondition(lambda self: self.spent)
    @rule(data=st.data())
    def verify_again(self, data: Any) -> None:
        used = data.draw(st.sampled_from(self.spent))
        answer = self.post(used.path, challenge_id=used.challenge_id, otp=used.code)
        assert answer.status == 410, answer

    @precondition(lambda self: self.sessions)
    @rule(data=st.data())
    def look(self, data: Any) -> None:
        session = data.draw(st.sampled_from(self.sessions))
        answer = self.person.api.get(f"{AUTH}/me", session.access)
        assert answer.status == (200 if session.alive else 401), answer

    @precondition(lambda self: self.sessions)
    @rule(data=st.data())
    def refresh(self, data: Any) -> None:
        session = data.draw(st.sampled_from(self.sessions))
        answer = self.post("/refresh", refresh_token=session.refresh)
        assert answer.status == (200 if session.alive else 401), answer
        if session.alive:
            session.access, session.refresh = answer["access_token"], answer["refresh_token"]
            assert _level(session.access) == session.level, "a session stays at the level of its sign-in"

    @precondition(lambda self: self.sessions)
    @rule(data=st.data(), everywhere=st.booleans())
    def sign_out(self, data: Any, everywhere: bool) -> None:
        session = data.draw(st.sampled_from(self.sessions))
        answer = self.post("/logout", session.access, everywhere=everywhere)
        assert answer.status == 200, answer
        if session.alive:
            for each in self.sessions if everywhere else [session]:
                each.alive = False


def _level(token: str) -> list[str]:
    found: list[str] = jwt.decode(token, options={"verify_signature": False})["amr"]
    return found


def live(cast: Cast, tally: Tally, count: int, number: int) -> None:
    """About so many requests, in lives of fifteen steps."""
    life = seed(number)(type("Life", (Life,), {"cast": cast, "tally": tally}))
    ways = settings(
        max_examples=max(1, count // STEPS), stateful_step_count=STEPS, database=None, deadline=None,
        phases=[Phase.generate], suppress_health_check=list(HealthCheck), print_blob=False,
    )  # fmt: skip
    try:
        run_state_machine_as_test(life, settings=ways)
    except Exception as error:  # what the model did not expect, with the steps that led there
        tally.fault(
            f"a life went another way: {type(error).__name__} {error}"[:300], "\n".join(getattr(error, "__notes__", []))
        )
