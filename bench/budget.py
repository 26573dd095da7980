"""The best attacker we can write against one account's codes: guesses evaluated never exceed the published budget.

*The storm*: gunicorn with four workers; many sockets at every route and dialect that can verify, in 200 spellings and
path variants, each request from another client address, while Redis is flushed every second and workers are killed.
*The month*: the app in this process with a clock moved by hand; an attacker who never sleeps and knows the password. What
they got evaluated in thirty days gives the probability of a takeover.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import psutil
import redis
import sqlalchemy as sa

from app.core import lockout
from app.core.identifiers import Identifier, Kind
from app.models import AuditLog, OtpChallenge, Throttle, User
from bench.report import Report, no_faults
from bench.rig import PASSWORD, Rig, rig
from bench.world import world
from tests import lanes
from tests.conftest import World

EMAIL, PHONE, USERNAME = "victim.one@example.com", "+919812345670", "victim.one"
AUTH, MOBILE = "/api/auth", "/api/v1/auth"
WRONG_CODE, WRONG = "000000", "wrong horse 77"
THRESHOLD = 5  # LOCKOUT_THRESHOLD
OF_A_CODE = 10**-6  # six digits: the chance of one guess
DAYS = 30
LEAST = 300  # requests of a storm, however slow the machine; so many meet every budget
PATIENCE_S = 60  # for those
EVALUATED = ("invalid_code", "invalid_credentials")


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, help="of the storm (300; short: 3)")
    parser.add_argument("--sockets", type=int, help="in the storm at once (64; short: 12)")
    parser.add_argument("--days", type=int, help=f"of the siege in this process ({DAYS}; short: 1)")
    parser.add_argument("--database", choices=("sqlite", "postgresql", "mariadb"), default="postgresql")


def run(given: argparse.Namespace) -> Report:
    lanes.look_for_servers()
    given.seconds = given.seconds or (3 if given.short else 300)
    given.sockets = given.sockets or (12 if given.short else 64)
    given.days = given.days or (1 if given.short else DAYS)
    database = given.database if given.database in lanes.wanted() else lanes.wanted()[0]
    report = Report()
    _storm(report, database, given)
    _month(report, given.days, ATTACKERS[:1] if given.short else ATTACKERS)
    return report


def spellings() -> list[str]:
    """200 ways to type one of the three identifiers of the account, and some that are refused."""
    dice = random.Random(3)

    def cased(text: str) -> str:
        return "".join(dice.choice((letter.upper(), letter.lower())) for letter in text)

    numbers = [PHONE, "00919812345670", "09812345670", "9812345670", "+91 98123 45670", "+91-98123-45670", "(+91) 9812345670",
               "+91 (98123) 45670", "+91.98123.45670", "0091 98123 45670", "+９１９８１２３４５６７０", "tel:+919812345670",
               "+919812345670;ext=1", "+91981234567O", "+0919812345670", "+91 0 98123 45670"]  # fmt: skip
    mails = [EMAIL, EMAIL.upper(), f" {EMAIL}", f"{EMAIL} ", f"\t{EMAIL}", "victim.one+1@example.com", "victimone@example.com",
             "victim.one@EXAMPLE.com", "victim.one@example.com.", "victim.one@ex\u0430mple.com", "\uff56ictim.one@example.com",
             "v\u200bictim.one@example.com", '"victim.one"@example.com', "<victim.one@example.com>", "victim%2Eone@example.com",
             "victim.one@example.com\u0000", "VICTIM.ONE@example.com,x@example.com", "v\u0131ct\u0131m.one@example.com"]  # fmt: skip
    found = dict.fromkeys([*numbers, *mails, USERNAME, USERNAME.upper(), f"{USERNAME} ", f" {USERNAME}"])
    while len(found) < 200:
        found[cased(dice.choice((EMAIL, EMAIL, USERNAME)))] = None
    return list(found)


def variants(path: str) -> list[str]:
    """Ways to write a path that a limit by route might not know."""
    head, _, tail = path.rpartition("/")
    return [path] * 12 + [
        f"/{path}", f"{head}//{tail}", f"{path}/", f"{head}/./{tail}", f"{head}/x/../{tail}", f"{path};x=1", f"{path}?x=1",
        path.upper(), f"{head}/%{ord(tail[0]):02x}{tail[1:]}", path.replace("/", "%2f", 2), f"{path}%00", f"{path}.json",
        f"{path}#x", f"{head}/{tail.title()}",
    ]  # fmt: skip


@dataclass
class Storm:
    """What every attacker's thread shares."""

    base: str
    until: float  # and then until it has made `least` requests
    least: int
    challenges: list[tuple[str, str]] = field(default_factory=list)  # id and how it was begun
    answers: Counter[str] = field(default_factory=Counter)
    guessed: Counter[str] = field(default_factory=Counter)  # evaluated guesses by what was attacked
    lost: int = 0
    killed: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def rages(self) -> bool:
        late = time.monotonic() - self.until
        return late < 0 or (late < PATIENCE_S and self.answers.total() < self.least)


def _storm(report: Report, database: str, given: argparse.Namespace) -> None:
    at = lanes.available()["redis"]
    store = f"{at.rsplit('/', 1)[0]}/15" if at else None
    shown = {
        "ratelimit": "true",
        "trusted_proxies": 1,
        "sends_per_minute": 3,
        "sends_per_day_email": 30,
        "sends_per_day_sms": 10,
    }
    with rig(
        database,
        "budget",
        sms_shield="off",
        default_phone_region="IN",
        **shown,
        **({"redis_url": store} if store else {}),
    ) as opened:
        _victim(opened)
        storm = Storm(opened.service.base, time.monotonic() + given.seconds, LEAST)
        with ThreadPoolExecutor(given.sockets + 1) as pool:
            at_work = [pool.submit(_attack, storm, n) for n in range(given.sockets)]
            for each in [pool.submit(_sabotage, opened, store, storm), *at_work]:
                each.result()
        opened.service.wait()
        _settle(report, database, opened, storm, given)


def _victim(opened: Rig) -> None:
    """An account with an address, a number and a name, all proven."""
    opened.account(email=EMAIL, username=USERNAME)
    with opened.engine.begin() as connection:
        connection.execute(sa.update(User).where(User.email == EMAIL).values(phone=PHONE))
        connection.execute(sa.delete(AuditLog))
        connection.execute(sa.delete(Throttle))


def _sabotage(opened: Rig, store: str | None, storm: Storm) -> None:
    """Every second Redis forgets everything, and one of the workers dies."""
    client = redis.Redis.from_url(store) if store else None
    for turn in itertools.count():
        if not storm.rages:
            break
        time.sleep(1)
        if client:
            client.flushdb()
        workers = opened.service.workers()
        if turn % 2 and workers:
            with suppress(psutil.NoSuchProcess):
                random.choice(workers).kill()
                storm.killed += 1
    if client:
        client.close()


def _attack(storm: Storm, number: int) -> None:
    """One socket: acts at random until time is up; a new connection whenever one is lost."""
    dice, line = random.Random(number), None
    acts = list(_acts(storm, dice))
    typed = spellings()
    while storm.rages:
        line = line or HTTPConnection(urlsplit(storm.base).netloc, timeout=30)
        try:
            dice.choice(acts)(line, dice.choice(typed))
        except (OSError, HTTPException, ValueError):
            storm.lost += 1
            line.close()
            line = None


Act = Callable[[HTTPConnection, str], None]


def _acts(storm: Storm, dice: random.Random) -> Iterator[Act]:
    """All that the attacker can do: begin, and guess at every route. They know the password."""

    def ask(line: HTTPConnection, path: str, **body: Any) -> tuple[int, dict[str, Any]]:
        forwarded = ".".join(str(dice.randrange(1, 255)) for _ in range(4))
        headers = {"Content-Type": "application/json", "X-Forwarded-For": forwarded, "X-Real-IP": forwarded}
        method = "PUT" if dice.random() < 0.02 else "POST"
        line.request(method, dice.choice(variants(path)), json.dumps(body), headers)
        answer = line.getresponse()
        told = json.loads(answer.read() or b"{}")
        with storm.lock:
            storm.answers[f"{answer.status} {told.get('code', '')}".strip()] += 1
            if told.get("code") in EVALUATED:
                storm.guessed[path] += 1
            if "challenge_id" in told:
                storm.challenges.append((told["challenge_id"], path))
        return answer.status, told

    def begin(path: str, name: str, **more: Any) -> Act:
        return lambda line, typed: ask(line, path, **{name: typed}, **more) and None

    def guess(path: str, **more: Any) -> Act:
        def act(line: HTTPConnection, _typed: str) -> None:
            if storm.challenges:
                ask(line, path, challenge_id=dice.choice(storm.challenges[-30:])[0], otp=WRONG_CODE, **more)

        return act

    yield from [
        begin(f"{AUTH}/login", "identifier", password=PASSWORD),
        begin(f"{AUTH}/login", "identifier", password=WRONG),
        begin(f"{AUTH}/forgot-password", "identifier"),
        begin(f"{AUTH}/forgot-password", "identifier", channel="sms"),
        begin(f"{AUTH}/signup", "email", password=PASSWORD),
        begin(f"{MOBILE}/send-otp", "mobile_number"),
        begin(f"{MOBILE}/verify-otp", "mobile_number", otp=WRONG_CODE),
        begin("/login", "identifier", password=PASSWORD),
        begin("/login", "identifier", password=WRONG),
        begin("/forgot-password", "identifier"),
        begin("/verify-otp", "identifier", otp=WRONG_CODE),
        begin("/validate-otp", "identifier", otp=WRONG_CODE),
        begin("/reset-password", "identifier", otp=WRONG_CODE, new_password="another horse 8"),
    ]
    for _ in range(2):  # guesses twice as often as beginnings
        yield from (guess(f"{AUTH}/login/verify", method=method) for method in ("email", "sms", "totp", None))
        yield guess(f"{AUTH}/login/verify", password=WRONG)
        yield guess(f"{AUTH}/verify-otp")
        yield guess(f"{AUTH}/reset-password", new_password="another horse 8")
        yield guess(f"{MOBILE}/verify-otp", mobile_number=PHONE)


IDENTIFIERS = (Identifier(Kind.EMAIL, EMAIL), Identifier(Kind.PHONE, PHONE), Identifier(Kind.USERNAME, USERNAME))


def _settle(report: Report, database: str, opened: Rig, storm: Storm, given: argparse.Namespace) -> None:
    """What the database says was evaluated, against what `docs/limits.md` grants within one lock."""
    [(victim,)] = opened.rows(sa.select(User.id).where(User.email == EMAIL))
    typed = {who.kind.value: lockout.key(who) for who in IDENTIFIERS}
    shown = {name: _counted(opened, key) for name, key in typed.items()}
    own = _counted(opened, lockout.keys("", victim)[1])
    theirs = opened.count(AuditLog.user_id == victim, AuditLog.reason.in_(EVALUATED))
    audited = opened.count(AuditLog.reason.in_(EVALUATED))
    recovery = (OtpChallenge.purpose == "recovery", OtpChallenge.user_id == victim)
    recoveries = opened.count(*recovery)
    most = max((row[0] for row in opened.rows(sa.select(OtpChallenge.attempts))), default=0)
    title = f"{database}, storm of {given.seconds:.0f} s, {given.sockets} sockets, {len(spellings())} spellings"
    requests = {"requests": storm.answers.total(), "connections lost": storm.lost, "workers killed": storm.killed}
    report.tables[title] = [{**requests, "answers": dict(storm.answers.most_common(12))}]
    counted = {
        "audit rows, of the account": theirs,
        "audit rows, of all identifiers tried": audited,
        "answers that arrived": storm.guessed.total(),
        "the account's own counter": own,
        **{f"the counter of its {name}": count for name, count in shown.items()},
        "recoveries of the account begun": recoveries,
    }
    report.tables["guesses evaluated in the storm"] = [{"counted by": by, "guesses": n} for by, n in counted.items()]
    at = [{"route": path, "answered": n} for path, n in storm.guessed.most_common()]
    report.tables["guesses evaluated in the storm, by route"] = at
    report.check("guesses by all of them", own, f"1 to {THRESHOLD}", 1 <= own <= THRESHOLD)
    for name, count in shown.items():
        report.check(f"guesses by its {name}", count, f"at most {THRESHOLD}", count <= THRESHOLD)
    bound = THRESHOLD * len(IDENTIFIERS) + recoveries
    report.check("guesses at the account", theirs, f"at most {bound}", theirs <= bound)
    told = storm.guessed.total()
    report.check("guesses answered and not recorded", max(0, told - audited), "0", told <= audited)
    report.check("guesses at one challenge", most, "at most 3", most <= 3)
    ways = 3 * len(IDENTIFIERS) * math.ceil((given.seconds + 10) / 60)  # SENDS_PER_MINUTE, by what is typed
    report.check("recoveries begun", recoveries, f"at most {ways}", recoveries <= ways)
    no_faults(report, opened.service.log)


def _counted(opened: Rig, key: str) -> int:
    """Wrong guesses that a counter has seen today."""
    return next((row[0] for row in opened.rows(sa.select(Throttle.day_count).where(Throttle.key == key))), 0)


@dataclass
class Siege:
    """Thirty days against one account, in this process. A guess is *live* if the right code would have been taken."""

    opened: World
    victim: UUID
    knows_password: bool
    live: Counter[str] = field(default_factory=Counter)  # by way
    in_a_row: int = 0  # live guesses since the owner was in, recoveries aside
    longest: int = 0
    due: dict[str, datetime] = field(default_factory=dict)  # when each way is worth another try
    client: Any = None

    def __post_init__(self) -> None:
        self.client = self.opened.app.test_client(use_cookies=False)

    def ask(self, path: str, **body: Any) -> tuple[int, dict[str, Any]]:
        answer = self.client.post(path, json=body)
        return answer.status_code, answer.get_json()

    def silent_for(self) -> float:
        """Seconds for which the account's own, silent budget is spent: no guess but a recovery's is right till then. An
        attacker cannot see it; to know it spares this program their vain requests.
        """
        row = next(iter(self.opened.rows(Throttle, key=lockout.keys("", self.victim)[1])), None)
        if row is None:
            return 0
        lasts = (row.locked_until - self.opened.clock.now).total_seconds() if row.locked_until else 0
        return max(lasts, 3600.0 if row.streak >= lockout.STREAK_CAP else 0.0)

    def is_live(self, challenge_id: str) -> bool:
        """Whether any code is right for a challenge: none is for one whose message is one too many."""
        return self.opened.rows(OtpChallenge, id=UUID(challenge_id))[0].user_id is not None

    def guess(self, way: str, path: str, **body: Any) -> int:
        """Guess until refused. Returns the seconds to wait for the next challenge of this way."""
        while True:
            live = self.is_live(body["challenge_id"]) and (way.startswith("recovery") or not self.silent_for())
            _, told = self.ask(path, otp=WRONG_CODE, **body)
            if told.get("code") != "invalid_code":
                return int(told.get("retry_after", 1))
            self.live[way] += live
            if live and not way.startswith("recovery"):
                self.in_a_row += 1
                self.longest = max(self.longest, self.in_a_row)

    def try_way(self, way: str) -> None:
        """Begin once and guess at it; note when it is worth trying again."""
        begin, verify = WAYS[way]
        path, body = begin
        status, told = self.ask(path, **body)
        wait = told.get("retry_after", 1)
        if status == 200 and "challenge_id" in told:
            wait = self.guess(way, verify[0], challenge_id=told["challenge_id"], **verify[1])
        if not way.startswith("recovery"):
            wait = max(wait, self.silent_for())
        self.due[way] = self.opened.clock.now + timedelta(seconds=max(1, wait))

    def owner(self) -> bool:
        """The owner signs in, if a lock lets them."""
        status, told = self.ask(f"{AUTH}/login", identifier=EMAIL, password=PASSWORD)
        if status != 200:
            return False
        code = self.opened.read("email", EMAIL)
        done, _ = self.ask(f"{AUTH}/login/verify", challenge_id=told["challenge_id"], otp=code)
        if done == 200:
            self.in_a_row = 0
        return done == 200


Call = tuple[str, dict[str, Any]]
NEW = {"new_password": "another horse 8"}
WAYS: dict[str, tuple[Call, Call]] = {
    **{
        f"sign-in by {who.kind}": (
            (f"{AUTH}/login", {"identifier": who.value, "password": PASSWORD}), (f"{AUTH}/login/verify", {})
        )
        for who in IDENTIFIERS
    },
    "passwordless": (
        (f"{MOBILE}/send-otp", {"mobile_number": PHONE}), (f"{MOBILE}/verify-otp", {"mobile_number": PHONE})
    ),
    **{
        f"recovery by {who.kind}": (
            (f"{AUTH}/forgot-password", {"identifier": who.value}), (f"{AUTH}/reset-password", NEW)
        )
        for who in IDENTIFIERS
    },
}  # fmt: skip
# Wrong guesses a day at the account, and one for each recovery whose message a stranger may have sent in a day, by e-mail
# (to which the username leads as well) and by SMS.
DAY_BUDGET = lockout.DAY_CAP + 30 // 2 + 10 // 2
OWNER_EVERY = timedelta(hours=8)


ATTACKERS = ((True, True), (True, False), (False, True))  # knows the password; the owner signs in now and then


def _month(report: Report, days: int, attackers: Sequence[tuple[bool, bool]]) -> None:
    rows = []
    for knows, owner in attackers:
        with world(label="siege", ratelimit=False, default_phone_region="IN") as opened:
            siege = _besieged(opened, knows)
            _lay_siege(siege, days, owner)
        guesses = siege.live.total()
        likely = 1 - (1 - OF_A_CODE) ** (guesses * DAYS / days)
        who = f"password {'known' if knows else 'unknown'}, owner {'signs in thrice a day' if owner else 'away'}"
        rows.append({
            "attacker": who, "live guesses": guesses, "a day": guesses / days, "of them recoveries": _recovering(siege),
            f"takeover in {DAYS} days": f"{likely:.4%}", "by way": dict(siege.live),
        })  # fmt: skip
        report.check(f"{who}: live guesses", guesses, f"at most {DAY_BUDGET} a day", guesses <= DAY_BUDGET * (days + 1))
        limit = lockout.STREAK_CAP
        report.check(f"{who}: in a row, recoveries aside", siege.longest, f"at most {limit}", siege.longest <= limit)
    report.tables[f"{days} days against one account, in this process"] = rows


def _recovering(siege: Siege) -> int:
    return sum(count for way, count in siege.live.items() if way.startswith("recovery"))


def _besieged(opened: World, knows_password: bool) -> Siege:
    owner = opened.person(email=EMAIL, username=USERNAME)
    owner.sign_up()
    with opened.engine.begin() as connection:
        connection.execute(sa.update(User).values(phone=PHONE))
    opened.clock.advance(minutes=2)
    opened.sends_at_once = False
    return Siege(opened, UUID(owner.tokens["user"]["id"]), knows_password)


def _lay_siege(siege: Siege, days: int, owner_comes: bool) -> None:
    """Try whatever is due, sleep until the next is, and so on for so many days."""
    clock = siege.opened.clock
    end = clock.now + timedelta(days=days)
    owner_at = clock.now + OWNER_EVERY if owner_comes else end
    ways = [way for way in WAYS if siege.knows_password or not way.startswith("sign-in")]
    while clock.now < end:
        if clock.now >= owner_at:
            owner_at = clock.now + (OWNER_EVERY if siege.owner() else timedelta(minutes=15))
            siege.due.clear()
        for way in ways:
            if siege.due.get(way, clock.now) <= clock.now:
                siege.try_way(way)
        clock.now = max(clock.now, min(*siege.due.values(), owner_at, end))
