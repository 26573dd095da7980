"""Every way to guess at somebody's password or code, told once, for whatever line the attacker has to the service."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Protocol

from bench.rig import PASSWORD

AUTH, MOBILE = "/api/auth", "/api/v1/auth"
WRONG_CODE, WRONG_BACKUP = "000000", "0000-0000-0000-0000"
GOES_ON = ("invalid_code", "invalid_credentials")  # a wrong guess, and there may be another
MOST = 6  # guesses at one challenge: one more than any is said to take
NEW = {"new_password": "another horse 8"}
_words = itertools.count(1)

Told = dict[str, Any]


def word() -> str:
    """A password that was not guessed before."""
    return f"guess horse {next(_words)}"


@dataclass
class Victim:
    """Somebody, and what the attacker has stolen from them."""

    kind: str
    email: str = ""
    phone: str = ""
    username: str = ""
    user_id: str = ""
    refresh_token: str = ""  # of the stolen session, whose access token is `token`
    token: str = ""
    device_token: str = ""
    app: Any = None  # shows the codes that are right; no attacker asks it
    backup_codes: list[str] = field(default_factory=list)

    @property
    def typed(self) -> list[str]:
        """Their identifiers."""
        return [each for each in (self.email, self.phone, self.username) if each]


class Line(Protocol):
    """How an attacker talks to the service. It keeps cookies, unless they are dropped."""

    dice: random.Random
    cookies: dict[str, str]

    def ask(self, path: str, body: Told, token: str = "") -> Told: ...

    def guess(self, path: str, body: Told, _at: Victim, /, token: str = "") -> bool:
        """Ask with a guess in it. True if it was wrong and nothing says that another would not be heard."""
        ...

    def spelled(self, _victim: Victim, /) -> str:
        """One of the victim's identifiers."""
        ...

    def sms(self, victim: Victim) -> str:
        """The newest code that came to their number, which the attacker has."""
        ...

    def session(self, victim: Victim) -> str:
        """An access token of their stolen session."""
        ...


Act = Callable[[Line, Victim], None]
ACCOUNT = "account"
APART = ("device", "session")


@dataclass(frozen=True)
class Way:
    name: str
    secret: str  # password, code
    victim: str  # the kind
    act: Act
    recovers: bool = False
    identifiers: int = 3  # that it types
    stolen: str = ""  # what the attacker needs to have

    @property
    def counter(self) -> str:
        """Where its guesses are counted: at the account, or apart from it at what was stolen."""
        return self.stolen if self.stolen in APART else ACCOUNT


def _log_in(path: str) -> Act:
    return lambda line, at: line.guess(path, {"identifier": line.spelled(at), "password": word()}, at) and None


def _remembered(line: Line, at: Victim) -> None:
    guess = {"identifier": line.spelled(at), "password": word(), "device_token": at.device_token}
    line.guess(f"{AUTH}/login", guess, at)


def _own_signup(line: Line, at: Victim) -> None:
    """A sign-up of one's own with the victim's number or address: its password is compared with theirs at `login`."""
    mine, chosen, typed = next(_words), word(), line.spelled(at)
    if "@" in typed:
        taken, own = {"email": typed}, {"phone": f"+9197{mine * 10_007 % 10**8:08d}", "channel": "sms"}
    else:
        typed = at.phone if at.username.casefold() == typed.strip().casefold() else typed
        taken, own = {"phone": typed}, {"email": f"thief{mine}@example.com", "channel": "email"}
    line.ask(f"{AUTH}/signup", {**taken, **own, "password": chosen})
    line.guess(f"{AUTH}/login", {"identifier": typed, "password": chosen}, at)


def _change_password(line: Line, at: Victim) -> None:
    line.guess(f"{AUTH}/change-password", {"current_password": word(), **NEW}, at, line.session(at))


def _after_sms(line: Line, at: Victim) -> None:
    """The number is stolen: its code is right, and the password is asked behind it."""
    if "challenge_id" not in line.ask(f"{MOBILE}/send-otp", {"mobile_number": at.phone}):
        return
    asked = line.ask(f"{MOBILE}/verify-otp", {"mobile_number": at.phone, "otp": line.sms(at)})
    if challenge := asked.get("challenge_id"):
        _again(line, f"{AUTH}/login/verify", lambda: {"challenge_id": challenge, "password": word()}, at)


def _again(line: Line, path: str, body: Callable[[], Told], at: Victim, token: str = "") -> None:
    for _ in range(MOST):
        if not line.guess(path, body(), at, token):
            return


def _by_id(begin: str, first: Told, verify: str, guess: Told, named: str = "identifier") -> Act:
    """Begin at one route, guess at another with the challenge's id."""

    def act(line: Line, at: Victim) -> None:
        typed = at.phone if named == "mobile_number" else line.spelled(at)
        asked = line.ask(begin, {named: typed, **first})
        if challenge := asked.get("challenge_id"):
            more = {"mobile_number": at.phone} if named == "mobile_number" else {}
            _again(line, verify, lambda: {"challenge_id": challenge, "otp": WRONG_CODE, **guess, **more}, at)

    return act


def _by_browser(begin: str, first: Told, verify: str, guess: Told, *, keeps: bool) -> Act:
    """The browser's way, without an id: the cookie names the challenge, or nothing but who and whence."""

    def act(line: Line, at: Victim) -> None:
        typed = line.spelled(at)
        line.cookies.clear()
        line.ask(begin, {"identifier": typed, **first})
        kept = dict(line.cookies)
        for _ in range(MOST):
            line.cookies.clear()
            if keeps:
                line.cookies.update(kept)
            if not line.guess(verify, {"identifier": typed, "otp": WRONG_CODE, **guess}, at):
                return

    return act


def _by_number(line: Line, at: Victim) -> None:
    line.ask(f"{MOBILE}/send-otp", {"mobile_number": at.phone})
    _again(line, f"{MOBILE}/verify-otp", lambda: {"mobile_number": at.phone, "otp": WRONG_CODE}, at)


def _step_up(guess: Told) -> Act:
    def act(line: Line, at: Victim) -> None:
        token = line.session(at)
        asked = line.ask(f"{AUTH}/step-up", {}, token)
        if challenge := asked.get("challenge_id"):
            body = {"challenge_id": challenge, "otp": WRONG_CODE, **guess}
            _again(line, f"{AUTH}/step-up/verify", lambda: body, at, token)

    return act


def _free_address(line: Line, at: Victim) -> None:
    asked = line.ask(f"{AUTH}/signup", {"email": at.email, "password": PASSWORD})
    if challenge := asked.get("challenge_id"):
        _again(line, f"{AUTH}/verify-otp", lambda: {"challenge_id": challenge, "otp": WRONG_CODE}, at)


KNOWN = {"password": PASSWORD}
LOGIN, RESET = (
    (f"{AUTH}/login", KNOWN, f"{AUTH}/login/verify"),
    (f"{AUTH}/forgot-password", {}, f"{AUTH}/reset-password"),
)
BACKUP = {"method": "backup_code", "otp": WRONG_BACKUP}
WAYS: Sequence[Way] = (
    Way("login", "password", "plain", _log_in(f"{AUTH}/login")),
    Way("/login", "password", "plain", _log_in("/login")),
    Way("login, by sign-ups of one's own", "password", "plain", _own_signup, identifiers=2),
    Way("login, from a remembered device", "password", "device stolen", _remembered, stolen="device"),
    Way("change-password", "password", "plain", _change_password, identifiers=1, stolen="session"),
    Way("login/verify, after a code by SMS", "password", "plain", _after_sms, identifiers=1, stolen="SIM"),
    Way("login/verify", "code", "plain", _by_id(*LOGIN, {}), stolen="password"),
    Way("login/verify, by SMS", "code", "plain",
        _by_id(f"{AUTH}/login", {**KNOWN, "channel": "sms"}, f"{AUTH}/login/verify", {"method": "sms"}),
        stolen="password"),
    Way("login/verify, an app's", "code", "app", _by_id(*LOGIN, {"method": "totp"}), stolen="password"),
    Way("login/verify, a backup code", "code", "app", _by_id(*LOGIN, BACKUP), stolen="password"),
    Way("/verify-otp, by the cookie", "code", "plain",
        _by_browser("/login", KNOWN, "/verify-otp", {}, keeps=True), stolen="password"),
    Way("/verify-otp, without id or cookie", "code", "plain",
        _by_browser("/login", KNOWN, "/verify-otp", {}, keeps=False), stolen="password"),
    Way("step-up/verify", "code", "plain", _step_up({}), identifiers=1, stolen="session"),
    Way("step-up/verify, an app's", "code", "app", _step_up({"method": "totp"}), identifiers=1, stolen="session"),
    Way("v1 verify-otp, by id", "code", "phone only",
        _by_id(f"{MOBILE}/send-otp", {}, f"{MOBILE}/verify-otp", {}, "mobile_number"), identifiers=1),
    Way("v1 verify-otp, by number", "code", "phone only", _by_number, identifiers=1),
    Way("v1 verify-otp, of an account with a password", "code", "plain", _by_number, identifiers=1),
    Way("reset-password", "code", "in a recovery", _by_id(*RESET, NEW), recovers=True),
    Way("/validate-otp, by the cookie", "code", "in a recovery",
        _by_browser("/forgot-password", {}, "/validate-otp", {}, keeps=True), recovers=True),
    Way("/validate-otp, without id or cookie", "code", "in a recovery",
        _by_browser("/forgot-password", {}, "/validate-otp", {}, keeps=False), recovers=True),
    Way("/reset-password, by the cookie", "code", "in a recovery",
        _by_browser("/forgot-password", {}, "/reset-password", NEW, keeps=True), recovers=True),
    Way("/reset-password, without id or cookie", "code", "in a recovery",
        _by_browser("/forgot-password", {}, "/reset-password", NEW, keeps=False), recovers=True),
    Way("verify-otp, of a sign-up", "code", "nobody yet", _free_address, identifiers=1),
)  # fmt: skip


@cache
def spellings(email: str, phone: str, username: str) -> list[str]:
    """200 ways to type one of the three identifiers of an account, and some that are refused."""
    dice = random.Random(3)
    local, _, domain = email.partition("@")
    national = phone.removeprefix("+91")
    front, back = national[:5], national[5:]
    wide = "".join(chr(ord(each) + 0xFEE0) for each in phone[1:])

    def cased(text: str) -> str:
        return "".join(dice.choice((letter.upper(), letter.lower())) for letter in text)

    numbers = [
        phone, f"0091{national}", f"0{national}", national, f"+91 {front} {back}", f"+91-{front}-{back}",
        f"(+91) {national}", f"+91 ({front}) {back}", f"+91.{front}.{back}", f"0091 {front} {back}", f"+{wide}",
        f"tel:{phone}", f"{phone};ext=1", f"{phone[:-1]}O", f"+0{phone[1:]}", f"+91 0 {front} {back}",
    ]  # fmt: skip
    mails = [
        email, email.upper(), f" {email}", f"{email} ", f"\t{email}", f"{local}+1@{domain}",
        f"{local.replace('.', '')}@{domain}", f"{local}@{domain.title()}", f"{email}.", email.replace("a", "\u0430"),
        f"{chr(ord(email[0]) + 0xFEE0)}{email[1:]}", f"{email[0]}\u200b{email[1:]}", f'"{local}"@{domain}',
        f"<{email}>", email.replace(".", "%2E", 1), f"{email}\u0000", f"{email.upper()},x@{domain}",
        email.replace("i", "\u0131"),
    ]  # fmt: skip
    found = dict.fromkeys([*numbers, *mails, username, username.upper(), f"{username} ", f" {username}"])
    while len(found) < 200:
        found[cased(dice.choice((email, email, username)))] = None
    return list(found)


def variants(path: str) -> list[str]:
    """Ways to write a path that a limit by route might not know."""
    head, _, tail = path.rpartition("/")
    return [path] * 12 + [
        f"/{path}", f"{head}//{tail}", f"{path}/", f"{head}/./{tail}", f"{head}/x/../{tail}", f"{path};x=1",
        f"{path}?x=1", path.upper(), f"{head}/%{ord(tail[0]):02x}{tail[1:]}", path.replace("/", "%2f", 2),
        f"{path}%00", f"{path}.json", f"{path}#x", f"{head}/{tail.title()}",
    ]  # fmt: skip
