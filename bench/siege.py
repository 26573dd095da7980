"""Weeks of guesses against one account, in this process, with a clock that is moved by hand.

What a guess was worth is found by experiment, not by asking what counts: it is made twice, first in a world in which it
is right (the database is put back afterwards), then in the real one. If the answers differ, it told something: it was
live.
"""

from __future__ import annotations

import random
import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pyotp
import sqlalchemy as sa

from app.core import identifiers, lockout
from app.crypto import codes
from app.models import AuditLog, OtpChallenge, User
from bench.attack import ACCOUNT, AUTH, GOES_ON, WAYS, WRONG_CODE, Told, Victim, Way
from bench.rig import PASSWORD
from tests import authenticator
from tests.conftest import World

OWNER_EVERY = timedelta(hours=8)
VAIN_S = 3600.0  # until a recovery is begun again, after one at which no guess was live
REGARDLESS = 0.1  # of the tries that are vain by what the docs say are made all the same
TOKEN_AGE = timedelta(minutes=10)
SAID = ("code", "message", "channel", "destination", "methods")  # of an answer; ids, tokens and times always differ


@dataclass(frozen=True)
class Attacker:
    secret: str  # that is guessed: password, code
    stolen: tuple[str, ...] = ()
    owner: bool = False  # comes and signs in now and then
    app: bool = False  # the victim has one, and backup codes

    def __str__(self) -> str:
        has = " and ".join(self.stolen) or "nothing"
        owner = "signs in thrice a day" if self.owner else "away"
        return f"{self.secret}s; has {has}; {'victim with an app; ' if self.app else ''}owner {owner}"

    @property
    def ways(self) -> list[Way]:
        return [way for way in WAYS if way.secret == self.secret and self._can(way)]

    def _can(self, way: Way) -> bool:
        there = way.victim != "nobody yet" and (self.app or way.victim != "app")
        return there and (not way.stolen or way.stolen in self.stolen)


@dataclass
class Siege:
    """One attacker, who never sleeps, and one victim. A line (`bench.attack.Line`) into this process."""

    opened: World
    victim: Victim
    attacker: Attacker
    dice: random.Random = field(default_factory=lambda: random.Random(5))
    cookies: dict[str, str] = field(default_factory=dict)
    live: Counter[str] = field(default_factory=Counter)  # guesses by way
    guesses: int = 0  # made, live or not
    in_a_row: Counter[str] = field(default_factory=Counter)  # live ones since the owner was in, by where they count
    longest: Counter[str] = field(default_factory=Counter)
    way: Way = WAYS[0]
    typed: str = ""
    wait: float = 0  # seconds that the last answer said
    turned_away: float = 0  # seconds that a beginning was told to wait
    token_at: datetime | None = None
    client: Any = None

    def __post_init__(self) -> None:
        self.client = self.opened.app.test_client(use_cookies=False)
        self.token_at = self.opened.clock.now

    def ask(self, path: str, body: Told, token: str = "") -> Told:
        status, told = self._ask(path, body, token)
        if status in (423, 429):
            self.turned_away = float(told.get("retry_after", 1))
        return told

    def _ask(self, path: str, body: Told, token: str) -> tuple[int, Told]:
        headers = (
            {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())} if self.cookies else {}
        )
        if token:
            headers["Authorization"] = f"Bearer {token}"
        answer = self.client.post(path, json=body, headers=headers)
        for line in answer.headers.getlist("Set-Cookie"):
            name, _, value = line.partition(";")[0].partition("=")
            self.cookies[name] = value
        told: Told = answer.get_json()
        self.wait = float(told.get("retry_after", 0))
        return answer.status_code, told

    def guess(self, path: str, body: Told, at: Victim, token: str = "") -> bool:
        self._keep()
        kept_cookies, now = dict(self.cookies), self.opened.clock.now
        right = self._make_right(body, at)
        would_be = self._said(*self._ask(path, right, token))
        self._put_back()
        self.cookies, self.opened.clock.now = kept_cookies, now  # a lock may end between the two
        status, told = self._ask(path, body, token)
        self.guesses += 1
        if would_be != self._said(status, told):
            self._count()
        return told.get("code") in GOES_ON

    def _count(self) -> None:
        self.live[f"{self.way.name} ({self._kind})" if self.way.identifiers > 1 else self.way.name] += 1
        if not self.way.recovers:
            at = self.way.counter
            self.in_a_row[at] += 1
            self.longest[at] = max(self.longest[at], self.in_a_row[at])

    @property
    def _kind(self) -> str:
        return next(kind for kind in ("email", "phone", "username") if getattr(self.victim, kind) == self.typed)

    @staticmethod
    def _said(status: int, told: Told) -> Any:
        return status, sorted(told) if status < 300 else None, [told.get(name) for name in SAID]

    def _make_right(self, body: Told, at: Victim) -> Told:
        """Change the world, or the guess, so that it is the right one."""
        if password := body.get("current_password") or ("otp" not in body and body.get("password")):
            hashed = self.opened.kit.hasher.hash(password.encode())
            with self.opened.engine.begin() as connection:
                connection.execute(sa.update(User).where(User.id == UUID(at.user_id)).values(password_hash=hashed))
            return body
        if body.get("method") == "totp":
            return {**body, "otp": at.app.at(self.opened.clock.now)}
        if body.get("method") == "backup_code":
            return {**body, "otp": at.backup_codes[0]}
        row = self._challenge(body)
        if row is None:
            return body
        keys = self.opened.kit.keys
        return {**body, "otp": codes.derive(keys, row.key_id, row.factor, self.opened.settings.otp_length)}

    def _challenge(self, body: Told) -> OtpChallenge | None:
        """Which one the guess is about: by its id, or the cookie's, or the newest of what was typed."""
        asked = body.get("challenge_id") or self.cookies.get("challenge")
        if asked:
            return next(iter(self.opened.rows(OtpChallenge, id=UUID(asked))), None)
        if number := body.get("mobile_number"):
            rows = self.opened.rows(OtpChallenge, destination=number, purpose="phone")
        else:
            rows = self.opened.rows(OtpChallenge, budget_key=lockout.key(self._identifier(body["identifier"])))
        return max(rows, key=lambda row: row.id.hex, default=None)

    def _identifier(self, typed: str) -> Any:
        return identifiers.parse(typed, self.opened.settings.default_phone_region)

    def _keep(self) -> None:
        """Copy the database as it is now."""
        _copy(self._file, f"{self._file}.kept")

    def _put_back(self) -> None:
        _copy(f"{self._file}.kept", self._file)

    @property
    def _file(self) -> str:
        return str(self.opened.engine.url.database)

    def spelled(self, _victim: Victim) -> str:
        return self.typed

    def sms(self, victim: Victim) -> str:
        self.opened.deliver()
        sent = (m.code for m in reversed(self.opened.senders["sms"].messages) if m.recipient == victim.phone and m.code)
        return next(sent, WRONG_CODE)

    def session(self, victim: Victim) -> str:
        assert self.token_at is not None
        if self.opened.clock.now - self.token_at > TOKEN_AGE:
            told = self.ask(f"{AUTH}/refresh", {"refresh_token": victim.refresh_token})
            victim.token = told.get("access_token", "")
            victim.refresh_token = told.get("refresh_token", "")
            self.token_at = self.opened.clock.now
        return victim.token

    def silent_for(self) -> float:
        """Seconds for which the account's own, silent budget is spent, and no guess but a recovery's is right. Whoever
        has read the docs can reckon it.
        """
        row = next(iter(self.opened.rows(lockout.Throttle, key=lockout.keys("", UUID(self.victim.user_id))[1])), None)
        if row is None:
            return 0
        lasts = (row.locked_until - self.opened.clock.now).total_seconds() if row.locked_until else 0
        return max(lasts, 3600.0 if row.streak >= lockout.STREAK_CAP else 0.0)

    def try_way(self, way: Way, typed: str) -> float:
        """Begin once and guess at it. Returns the seconds after which another try is worth something."""
        self.way, self.typed, self.turned_away, self.wait = way, typed, 0, 0
        self.cookies.clear()
        before = self.live.total()
        way.act(self, self.victim)
        if way.recovers:  # each has a guess of its own, whatever is locked, while the day has a message left for it
            worth = self.live.total() > before or self.dice.random() < REGARDLESS
            return max(1.0, self.turned_away) if worth else max(VAIN_S, self.turned_away)
        wait = max(1.0, self.wait, self.turned_away)
        vain = 0.0 if way.counter != ACCOUNT or self.dice.random() < REGARDLESS else self.silent_for()
        return max(wait, vain)

    def owner(self) -> bool:
        """The owner signs in, if a lock lets them."""
        self.cookies.clear()
        status, told = self._ask(f"{AUTH}/login", {"identifier": self.victim.email, "password": PASSWORD}, "")
        if status != 200:
            return False
        code = self.opened.read("email", self.victim.email)
        done, _ = self._ask(f"{AUTH}/login/verify", {"challenge_id": told["challenge_id"], "otp": code}, "")
        if done == 200:
            self.in_a_row[ACCOUNT] = 0
        return done == 200


def _copy(one: str, other: str) -> None:
    with closing(sqlite3.connect(one)) as source, closing(sqlite3.connect(other)) as target:
        source.backup(target)


def besieged(opened: World, attacker: Attacker) -> Siege:
    """A victim as the attacker wants it, the clock two minutes later."""
    owner = opened.person(email="victim.one@example.com", username="victim.one")
    owner.sign_up()
    with opened.engine.begin() as connection:
        connection.execute(sa.update(User).values(phone="+919812345670"))
    found = Victim("besieged", owner.email, "+919812345670", "victim.one", owner.tokens["user"]["id"])
    if attacker.app:
        enrolled = authenticator.enrol(opened, owner)
        assert isinstance(enrolled.totp, pyotp.TOTP)
        found.app, found.backup_codes = enrolled.totp, enrolled.backup_codes
    if "device" in attacker.stolen:
        opened.clock.advance(minutes=2)
        asked = owner.ask_signin().ok()
        answer = owner.verify_signin(asked["challenge_id"], owner.code(), remember_device=True).ok()
        found.device_token = answer["device_token"]
    found.token, found.refresh_token = owner.token, owner.tokens["refresh_token"]
    opened.clock.advance(minutes=2)
    opened.sends_at_once = False
    return Siege(opened, found, attacker)


def _in_turn(attacker: Attacker) -> list[tuple[Way, ...]]:
    """Ways that wait for one another: recoveries of one identifier share its messages, others go by themselves."""
    recoveries = tuple(way for way in attacker.ways if way.recovers)
    others = [(way,) for way in attacker.ways if not way.recovers]
    return [*others, recoveries] if recoveries else list(others)


def lay(siege: Siege, days: int, enough: int) -> None:
    """Try whatever is due, sleep until the next is, and so on for so many days, or until `enough` guesses were live."""
    clock = siege.opened.clock
    end = clock.now + timedelta(days=days)
    owner_at = clock.now + OWNER_EVERY if siege.attacker.owner else end
    swept_at = clock.now
    victim = siege.victim
    due = {(ways, at): clock.now for ways in _in_turn(siege.attacker) for at in victim.typed[: ways[0].identifiers]}
    while clock.now < end and siege.live.total() < enough:
        if clock.now >= owner_at:
            owner_at = clock.now + (OWNER_EVERY if siege.owner() else timedelta(minutes=15))
            due = dict.fromkeys(due, clock.now)
        ready = [each for each, at in due.items() if at <= clock.now]
        siege.dice.shuffle(ready)
        for ways, typed in ready:
            due[ways, typed] = clock.now + timedelta(seconds=siege.try_way(siege.dice.choice(ways), typed))
        if clock.now - swept_at > timedelta(hours=6):  # no flow reads them, and each snapshot would copy them
            swept_at = clock.now
            with siege.opened.engine.begin() as connection:
                connection.execute(sa.delete(AuditLog))
        clock.now = max(clock.now, min(*due.values(), owner_at, end))
