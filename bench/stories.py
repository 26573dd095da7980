"""What somebody does who wants to know whether an account exists, and what they get to see.

A story is a few requests about one identifier. It is told in the same words to the app in this process and to a service
over HTTP. Every answer is kept with all that an outsider sees of it; what must differ by chance (random ids, dates) is
put as one word.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.client import HTTPConnection
from typing import Any

from bench.telling import Features
from tests.conftest import World

PASSWORD, WRONG = "correct horse 7", "wrong horse 77"
UUID_SHAPE = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
TOKEN_SHAPE = re.compile(rb"[A-Za-z0-9_-]{43}")
NUMBER_SHAPE = re.compile(rb"\*{6}\d{4}")  # of the phone that was typed; the same for both of a pair
DATE_SHAPE = re.compile(rb"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} [\d:]{8} GMT")
AUTH, MOBILE = "/api/auth", "/api/v1/auth"

Raw = tuple[int, list[tuple[str, str]], bytes]
Transport = Callable[[str, str, Any, str], Raw]  # method, path, body, cookie


@dataclass(frozen=True)
class Who:
    """Somebody who has an account, or somebody just like them who has none."""

    known: bool
    email: str
    phone: str
    username: str


@dataclass
class Seen:
    """What came back on one request."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    seconds: float

    def __getitem__(self, name: str) -> Any:
        return json.loads(self.body).get(name)

    @property
    def shape(self) -> tuple[Any, ...]:
        """All but the time, in order."""
        told = [
            (name, _masked(value.encode()).decode())
            for name, value in self.headers
            if name not in ("X-Request-ID", "Date")
        ]
        body = re.sub(rb'"request_id": ?"[^"]*"', b'"request_id": "-"', _masked(self.body))
        return self.status, tuple(told), len(self.body), body


def _masked(text: bytes) -> bytes:
    for shape in (UUID_SHAPE, TOKEN_SHAPE, NUMBER_SHAPE, DATE_SHAPE):
        text = shape.sub(b"-", text)
    return text


@dataclass
class Line:
    """One person's client: it keeps cookies, and what it has seen."""

    transport: Transport
    wait: Callable[[float], None]  # let so many seconds pass, where time is a dial
    seen: list[Seen] = field(default_factory=list)
    cookies: dict[str, str] = field(default_factory=dict)

    def post(self, path: str, **body: Any) -> Seen:
        return self._ask("POST", path, body)

    def get(self, path: str) -> Seen:
        return self._ask("GET", path, None)

    def _ask(self, method: str, path: str, body: Any) -> Seen:
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        started = time.perf_counter()
        status, headers, text = self.transport(method, path, body, cookie)
        seen = Seen(status, headers, text, time.perf_counter() - started)
        for name, value in headers:
            if name == "Set-Cookie":
                jar, _, rest = value.partition("=")
                self.cookies[jar] = rest.partition(";")[0]
        self.seen.append(seen)
        return seen

    @property
    def features(self) -> Features:
        """Of all answers: each trait by itself, and the time of each."""
        found: Features = {}
        for n, seen in enumerate(self.seen):
            status, headers, size, body = seen.shape
            traits = {"status": status, "headers": headers, "size": size, "body": body, "time": seen.seconds}
            found |= {f"{n} {name}": value for name, value in traits.items()}
        return found


def in_process(opened: World, *, deliver: bool) -> Line:
    """The app itself. `deliver`: messages leave after each request."""
    client = opened.app.test_client(use_cookies=False)

    def send(method: str, path: str, body: Any, cookie: str) -> Raw:
        given = {} if body is None else {"json": body}
        answer = client.open(path, method=method, headers={"Cookie": cookie} if cookie else {}, **given)
        if deliver:
            opened.deliver()
        return answer.status_code, list(answer.headers), answer.data

    return Line(send, lambda seconds: opened.clock.advance(seconds=seconds))


def over_http(line: HTTPConnection) -> Line:
    """A service, over one connection that stays open."""

    def send(method: str, path: str, body: Any, cookie: str) -> Raw:
        headers = {"Content-Type": "application/json"} | ({"Cookie": cookie} if cookie else {})
        line.request(method, path, None if body is None else json.dumps(body), headers)
        answer = line.getresponse()
        return answer.status, answer.getheaders(), answer.read()

    return Line(send, lambda _seconds: None)


Story = Callable[[Line, Who], None]


def login(line: Line, who: Who) -> None:
    line.post(f"{AUTH}/login", identifier=who.email, password=WRONG)


def signup(line: Line, who: Who) -> None:
    line.post(f"{AUTH}/signup", email=who.email, password=PASSWORD)


def forgot_password(line: Line, who: Who) -> None:
    line.post(f"{AUTH}/forgot-password", identifier=who.email)


def send_otp(line: Line, who: Who) -> None:
    line.post(f"{MOBILE}/send-otp", mobile_number=who.phone)


def resend(line: Line, who: Who) -> None:
    asked = line.post(f"{AUTH}/forgot-password", identifier=who.email)
    line.post(f"{AUTH}/resend-otp", challenge_id=asked["challenge_id"])


def verify(line: Line, who: Who) -> None:
    asked = line.post(f"{MOBILE}/send-otp", mobile_number=who.phone)
    line.post(f"{MOBILE}/verify-otp", mobile_number=who.phone, otp="000000", challenge_id=asked["challenge_id"])


# The six of the time measurement: an identifier's first requests, as fast as they come.
ROUTES: dict[str, Story] = {
    "login": login,
    "signup": signup,
    "forgot-password": forgot_password,
    "send-otp": send_otp,
    "resend": resend,
    "verify": verify,
}


def _to_the_lock(line: Line, identifier: str) -> None:
    for _ in range(7):
        line.post(f"{AUTH}/login", identifier=identifier, password=WRONG)
    line.wait(901)
    for _ in range(6):
        line.post(f"{AUTH}/login", identifier=identifier, password=WRONG)


def _challenge_to_its_end(line: Line, asked: Seen, verify: str, **more: Any) -> None:
    """Look at it, have it sent again too soon and in time, and guess until it is closed."""
    line.get(f"{AUTH}/challenges/{asked['challenge_id']}")
    line.post(f"{AUTH}/resend-otp", challenge_id=asked["challenge_id"])
    line.post(f"{AUTH}/resend-otp", challenge_id=asked["challenge_id"], channel="sms")
    for _ in range(2):
        line.wait(31)
        line.post(f"{AUTH}/resend-otp", challenge_id=asked["challenge_id"])
        line.get(f"{AUTH}/challenges/{asked['challenge_id']}")
    for _ in range(4):
        line.post(verify, challenge_id=asked["challenge_id"], otp="000000", **more)
    line.get(f"{AUTH}/challenges/{asked['challenge_id']}")
    line.post(f"{AUTH}/resend-otp", challenge_id=asked["challenge_id"])


def _recovered(line: Line, **asked: str) -> None:
    answer = line.post(f"{AUTH}/forgot-password", **asked)
    _challenge_to_its_end(line, answer, f"{AUTH}/reset-password", new_password="another horse 8")
    for _ in range(4):
        line.post(f"{AUTH}/forgot-password", **asked)


def _signed_up(line: Line, **address: str) -> None:
    answer = line.post(f"{AUTH}/signup", password=PASSWORD, **address)
    _challenge_to_its_end(line, answer, f"{AUTH}/verify-otp")
    for _ in range(4):
        line.post(f"{AUTH}/signup", password=PASSWORD, **address)


def _signed_up_and_in(line: Line, identifier: str, **address: str) -> None:
    """Signs up with somebody's address and a password of their own, and then in with both."""
    line.post(f"{AUTH}/signup", password=PASSWORD, **address)
    answer = line.post(f"{AUTH}/login", identifier=identifier, password=PASSWORD)
    _challenge_to_its_end(line, answer, f"{AUTH}/login/verify")
    line.post(f"{AUTH}/login", identifier=identifier, password=PASSWORD)
    line.post(f"{AUTH}/login", identifier=identifier, password=WRONG)


def _by_phone_alone(line: Line, who: Who) -> None:
    asked = line.post(f"{MOBILE}/send-otp", mobile_number=who.phone)
    line.post(f"{MOBILE}/verify-otp", mobile_number=who.phone, otp="000000")
    for _ in range(3):
        line.post(f"{MOBILE}/send-otp", mobile_number=who.phone)
    _challenge_to_its_end(line, asked, f"{MOBILE}/verify-otp", mobile_number=who.phone)
    line.post(f"{AUTH}/login/verify", challenge_id=asked["challenge_id"], otp="000000")
    line.post(f"{AUTH}/login/verify", challenge_id=asked["challenge_id"], password=WRONG)


def _at_another_route(line: Line, who: Who) -> None:
    """A challenge of one purpose at the routes of the others."""
    asked = line.post(f"{AUTH}/forgot-password", identifier=who.email)
    line.post(f"{AUTH}/login/verify", challenge_id=asked["challenge_id"], otp="000000")
    line.post(f"{AUTH}/verify-otp", challenge_id=asked["challenge_id"], otp="000000")
    line.post(f"{MOBILE}/verify-otp", mobile_number=who.phone, otp="000000", challenge_id=asked["challenge_id"])


def _each_in_turn(line: Line, who: Who) -> None:
    """One budget after the other is spent: whether three identifiers are one person's must not show either."""
    for identifier in (who.username, who.phone, who.email):
        for _ in range(4):
            line.post(f"{AUTH}/forgot-password", identifier=identifier)
    for identifier in (who.email, who.username, who.phone):
        for _ in range(6):
            line.post(f"{AUTH}/login", identifier=identifier, password=WRONG)
    line.post(f"{MOBILE}/send-otp", mobile_number=who.phone)
    line.wait(61)
    for identifier in (who.email, who.phone, who.username):
        line.post(f"{AUTH}/forgot-password", identifier=identifier, channel="email")
        line.post(f"{AUTH}/forgot-password", identifier=identifier, channel="sms")


def _in_a_browser(line: Line, who: Who) -> None:
    line.post("/login", email=who.email, password=WRONG)
    line.post("/forgot-password", identifier=who.email)
    line.post("/resend-otp", identifier=who.email)
    for _ in range(4):
        line.post("/validate-otp", identifier=who.email, otp="000000")
    line.post("/reset-password", identifier=who.email, new_password="another horse 8", otp="000000")
    line.post("/reset-password", identifier=who.email, new_password="another horse 8")


def _signed_up_in_a_browser(line: Line, who: Who) -> None:
    line.post("/signup", name="Jane", email=who.email, password=PASSWORD)
    line.post("/resend-otp", email=who.email)
    line.post("/login", email=who.email, password=PASSWORD)
    for _ in range(4):
        line.post("/verify-otp", email=who.email, otp="000000")
    line.post("/verify-otp", email=who.phone, otp="000000")


def _registered_in_a_browser(line: Line, who: Who) -> None:
    """The username is one's own: those are public."""
    line.post("/register", username=f"x{who.username}", email=who.email, phone=who.phone, password=PASSWORD)
    line.post("/verify-otp", email=who.email, otp="000000")
    line.post("/verify-otp", identifier=who.phone, otp="000000")
    line.post("/login", identifier=f"x{who.username}", password=PASSWORD)
    line.post("/login", identifier=who.phone, password=PASSWORD)


# The same and more, to their end: limits, locks and closed challenges tell nothing either.
STORIES: dict[str, Story] = {
    **ROUTES,
    "login by e-mail until it locks": lambda line, who: _to_the_lock(line, who.email),
    "login by phone until it locks": lambda line, who: _to_the_lock(line, who.phone),
    "login by username until it locks": lambda line, who: _to_the_lock(line, who.username),
    "signup by e-mail": lambda line, who: _signed_up(line, email=who.email),
    "signup by phone": lambda line, who: _signed_up(line, phone=who.phone),
    "signup by both": lambda line, who: _signed_up(line, email=who.email, phone=who.phone),
    "signup and login by e-mail": lambda line, who: _signed_up_and_in(line, who.email, email=who.email),
    "signup and login by phone": lambda line, who: _signed_up_and_in(line, who.phone, phone=who.phone),
    "recovery by e-mail": lambda line, who: _recovered(line, email=who.email),
    "recovery by phone": lambda line, who: _recovered(line, phone=who.phone),
    "recovery by username": lambda line, who: _recovered(line, identifier=who.username),
    "recovery by e-mail, to the phone": lambda line, who: _recovered(line, email=who.email, channel="sms"),
    "recovery by phone, to the e-mail": lambda line, who: _recovered(line, phone=who.phone, channel="email"),
    "by phone alone": _by_phone_alone,
    "at another route": _at_another_route,
    "each identifier in turn": _each_in_turn,
    "in a browser": _in_a_browser,
    "signed up in a browser": _signed_up_in_a_browser,
    "registered in a browser": _registered_in_a_browser,
}
