"""Challenges of every purpose, each with its right answer, and the doors that take the id of one."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from app.core.challenges import Purpose
from bench.rig import number
from tests.conftest import World
from tests.people import PASSWORD, Person
from tests.security_key import Authenticator

AUTH, MOBILE, ADMIN = "/api/auth", "/api/v1/auth", "/api/admin"
NEW_PASSWORD = "a brand new horse"
NO_CODE = {"otp": "123456"}
NO_CREDENTIAL: dict[str, Any] = {"id": "AA", "rawId": "AA", "type": "public-key", "response": {}}

SIGNUP, SIGNIN, BY_PASSKEY = "sign-up's challenge", "sign-in's challenge", "sign-in's challenge to a passkey"
RECOVERY, INVITATION = "recovery's challenge", "invitation"
TO_EMAIL, TO_PHONE = "challenge to a new address", "challenge to a new number"
STEP_UP, STEP_UP_BY_PASSKEY = "step-up's challenge", "step-up's challenge to a passkey"
PHONE, FACTOR = "challenge to a number", "challenge for a password after a code"
PASSKEY, NEW_PASSKEY = "challenge to any passkey", "challenge to a new passkey"
ASKED: dict[str, Purpose] = {
    SIGNUP: Purpose.SIGNUP,
    SIGNIN: Purpose.SIGNIN,
    BY_PASSKEY: Purpose.SIGNIN,
    RECOVERY: Purpose.RECOVERY,
    INVITATION: Purpose.RECOVERY,
    TO_EMAIL: Purpose.CHANGE_EMAIL,
    TO_PHONE: Purpose.CHANGE_PHONE,
    STEP_UP: Purpose.STEP_UP,
    STEP_UP_BY_PASSKEY: Purpose.STEP_UP,
    PHONE: Purpose.PHONE,
    FACTOR: Purpose.FACTOR,
    PASSKEY: Purpose.PASSKEY,
    NEW_PASSKEY: Purpose.NEW_PASSKEY,
}
_addresses = itertools.count(1)
CHANGES = {TO_EMAIL, TO_PHONE}
RECOVERS = {RECOVERY, INVITATION}


def address() -> str:
    """One that nobody has."""
    return f"new{next(_addresses)}@example.com"


@dataclass(frozen=True)
class Asked:
    """A challenge that is open: its id, its right answer, and where it is about whom."""

    id: str
    answer: dict[str, Any]  # as `login/verify` takes it
    identifier: str  # as the browser's routes take it
    token: str  # of a session: its own, where the challenge has one

    @property
    def code(self) -> dict[str, str]:
        return {"otp": self.answer["otp"]} if "otp" in self.answer else NO_CODE

    @property
    def credential(self) -> dict[str, Any]:
        return {"credential": self.answer.get("credential", NO_CREDENTIAL)}

    @property
    def proof(self) -> dict[str, Any]:
        """A code or what a passkey signed."""
        return NO_CODE if "password" in self.answer else self.answer


@dataclass
class Asker:
    """Asks for challenges, each anew, and knows what is right. `admin`: who invites."""

    opened: World
    admin: Person
    keys: Authenticator = field(default_factory=lambda: Authenticator(counts=False))  # answers may come in any order

    def __post_init__(self) -> None:
        person = self.opened.person
        self.person, self.holder = person().sign_up(), person().sign_up()
        self.numbered = person(phone=number())
        self.numbered.sign_up()
        second = {"challenge_id": self.numbered.tokens["pending"]["challenge_id"], "otp": self.numbered.code("sms")}
        self.numbered.api.post(f"{AUTH}/verify-otp", second).ok()
        self.bind(self.make(NEW_PASSKEY, self.holder))

    def bind(self, asked: Asked) -> None:
        path = f"{AUTH}/factors/passkeys/{asked.id}/confirm"
        self.holder.api.post(path, asked.credential, asked.token).ok()

    def make(self, kind: str, *who: Person) -> Asked:
        made: Callable[..., Asked] = getattr(self, MAKERS[kind])
        return made(*who)

    def _by_code(self, path: str, body: Any, person: Person, channel: str = "email", to: str = "") -> Asked:
        answer = person.api.post(path, body, person.tokens.get("access_token")).ok()
        to = to or person.email
        challenge_id = (answer.body.get("invitation") or answer.body)["challenge_id"]
        return Asked(challenge_id, {"otp": self.opened.read(channel, to)}, to, self.person.token)

    def sign_up(self) -> Asked:
        stranger = self.opened.person()
        return self._by_code(f"{AUTH}/signup", {"email": stranger.email, "password": PASSWORD}, stranger)

    def sign_in(self) -> Asked:
        given = {"identifier": self.person.email, "password": PASSWORD}
        return self._by_code(f"{AUTH}/login", given, self.person)

    def recover(self) -> Asked:
        person = self.opened.person().sign_up()
        return self._by_code(f"{AUTH}/forgot-password", {"email": person.email}, person)

    def invite(self) -> Asked:
        email = address()
        return self._by_code(f"{ADMIN}/users", {"email": email, "invite": True}, self.admin, to=email)

    def change_email(self) -> Asked:
        email = address()
        return self._by_code(f"{AUTH}/change-email", {"email": email}, self.opened.person().sign_up(), to=email)

    def change_phone(self) -> Asked:
        mobile = number()
        person = self.opened.person().sign_up()
        return self._by_code(f"{AUTH}/change-phone", {"phone": mobile}, person, "sms", mobile)

    def step_up(self) -> Asked:
        return self._by_code(f"{AUTH}/step-up", {}, self.person)

    def phone(self) -> Asked:
        mobile = number()
        return self._by_code(f"{MOBILE}/send-otp", {"mobile_number": mobile}, self.opened.person(), "sms", mobile)

    def factor(self) -> Asked:
        mobile = self.numbered.phone or ""
        asked = self._by_code(f"{MOBILE}/send-otp", {"mobile_number": mobile}, self.numbered, "sms", mobile)
        given = {"mobile_number": mobile, **asked.code}
        answer = self.opened.api().post(f"{MOBILE}/verify-otp", given).ok()
        return Asked(answer["challenge_id"], {"password": PASSWORD}, mobile, self.numbered.token)

    def sign_in_by_passkey(self) -> Asked:
        return self._to_passkey(self.holder.ask_signin(channel="passkey").ok()["challenge_id"])

    def step_up_by_passkey(self) -> Asked:
        asked = self.holder.api.post(f"{AUTH}/step-up", {"channel": "passkey"}, self.holder.token).ok()
        return self._to_passkey(asked["challenge_id"])

    def passkey(self) -> Asked:
        return self._to_passkey()

    def _to_passkey(self, challenge_id: str = "") -> Asked:
        given = {"challenge_id": challenge_id} if challenge_id else {}
        shown = self.opened.api().post(f"{AUTH}/passkeys/options", given).ok()
        answer = {"method": "passkey", "credential": self.keys.get(shown["options"], held=self.keys.held[0])}
        return Asked(shown["challenge_id"], answer, self.holder.email, self.holder.token)

    def new_passkey(self, *who: Person) -> Asked:
        person = who[0] if who else self.opened.person().sign_up()
        begun = person.api.post(f"{AUTH}/factors/passkeys", {}, person.token).ok()
        answer = {"method": "passkey", "credential": self.keys.create(begun["options"])}
        return Asked(begun["challenge_id"], answer, person.email, person.token)


MAKERS = {
    SIGNUP: "sign_up", SIGNIN: "sign_in", BY_PASSKEY: "sign_in_by_passkey", RECOVERY: "recover", INVITATION: "invite",
    TO_EMAIL: "change_email", TO_PHONE: "change_phone", STEP_UP: "step_up", STEP_UP_BY_PASSKEY: "step_up_by_passkey",
    PHONE: "phone", FACTOR: "factor", PASSKEY: "passkey", NEW_PASSKEY: "new_passkey",
}  # fmt: skip
Does = Callable[..., tuple[int, Any]]  # method, path, body, and where a token goes: status and answer


@dataclass(frozen=True)
class AskedDoor:
    """Takes the id of a challenge, with an answer or without."""

    name: str
    own: set[str]
    opens: Callable[[Does, Asked], bool]


def _posts(path: str, body: Callable[[Asked], dict[str, Any]], where: str = "") -> Callable[[Does, Asked], bool]:
    """A body with the challenge's id beside what is given; `where`: `bearer`, or `cookie` in place of the body."""

    def opens(does: Does, asked: Asked) -> bool:
        beside = {"cookie": f"challenge={asked.id}"} if where == "cookie" else {}
        beside |= {"bearer": asked.token} if where == "bearer" else {}
        given = body(asked) if where == "cookie" else {"challenge_id": asked.id, **body(asked)}
        status, answer = does("POST", path.replace("<challenge_id>", asked.id), given, **beside)
        return 200 <= status < 300 or answer.get("code") == "resend_too_soon"

    return opens


def _about(asked: Asked, **more: Any) -> dict[str, Any]:
    return {"identifier": asked.identifier, **more}


def _shows(does: Does, asked: Asked) -> bool:
    return does("GET", f"{AUTH}/challenges/{asked.id}")[0] == 200


def doors() -> Iterator[AskedDoor]:
    """All of them. The first that is a kind's own uses its challenge up."""
    sent = {SIGNUP, SIGNIN, BY_PASSKEY, *CHANGES, *RECOVERS}  # where a passkey is asked, a code may be had in its place
    new = {"new_password": NEW_PASSWORD}
    confirm = "/factors/passkeys/<challenge_id>/confirm"
    for path, own, opens in (
        (f"{AUTH}/verify-otp by challenge_id", {SIGNUP, *CHANGES}, lambda a: a.code),
        (f"{AUTH}/login/verify by challenge_id", {SIGNIN, BY_PASSKEY, FACTOR}, lambda a: a.answer),
        (f"{AUTH}/reset-password by challenge_id", RECOVERS, lambda a: {**a.code, **new}),
        (f"{AUTH}/step-up/verify by challenge_id", {STEP_UP, STEP_UP_BY_PASSKEY}, lambda a: a.proof),
        (f"{MOBILE}/verify-otp by challenge_id", {PHONE}, lambda a: {"mobile_number": _number(a), **a.code}),
        (f"{AUTH}/passkeys/login by challenge_id", {PASSKEY}, lambda a: a.credential),
        (f"{AUTH}{confirm} by path", {NEW_PASSKEY}, lambda a: a.credential),
        ("/verify-otp by cookie", {SIGNUP, SIGNIN, *CHANGES}, lambda a: _about(a, **a.code)),
        ("/validate-otp by cookie", RECOVERS, lambda a: _about(a, **a.code)),
        ("/reset-password by cookie", RECOVERS, lambda a: _about(a, **a.code, **new)),
        ("/resend-otp by cookie", sent, _about),
        (f"{AUTH}/resend-otp by challenge_id", {*sent, STEP_UP, STEP_UP_BY_PASSKEY, PHONE}, lambda _: {}),
        (f"{AUTH}/passkeys/options by challenge_id", {BY_PASSKEY, STEP_UP_BY_PASSKEY}, lambda _: {}),
    ):  # fmt: skip
        to = path.partition(" by ")[0]
        in_session = "step-up" in path or "confirm" in path
        where = "cookie" if path.endswith("cookie") else "bearer" if in_session else ""
        yield AskedDoor(f"POST {path}", own, _posts(to, opens, where))
    yield AskedDoor(f"GET {AUTH}/challenges/<challenge_id> by path", set(ASKED), _shows)


def _number(asked: Asked) -> str:
    return asked.identifier if asked.identifier.startswith("+") else "+919812345670"
