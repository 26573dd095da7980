"""The best attacker we can write against one account's codes and password: no more guesses than the published budget.

*The storm*: gunicorn with four workers; many sockets at every way to guess (`bench.attack`), each at a victim of its own
and all at one, in 200 spellings and path variants, from changing addresses, while Redis is flushed every second and
workers are killed. What was evaluated is what the service itself had compared (`bench.watched`).
*The siege*: the app in this process with a clock moved by hand; attackers who never sleep (`bench.siege`).
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import psutil
import pyotp
import redis
import sqlalchemy as sa

from app.core import lockout
from app.models import AuditLog, OtpChallenge, Throttle, User
from bench import siege, watched
from bench.attack import ACCOUNT, APART, AUTH, GOES_ON, MOBILE, WAYS, WRONG_CODE, Told, Victim, Way, spellings, variants
from bench.clients import each
from bench.report import Report, no_faults
from bench.rig import PASSWORD, Rig, number, rig
from bench.siege import Attacker
from bench.world import world
from tests import lanes

THRESHOLD = 5  # LOCKOUT_THRESHOLD
DAYS = 30
TURNS = 10  # of each way in a storm, however slow the machine; so many meet every budget
PATIENCE_S = 60  # for those
SABOTAGE_S = 8  # in which a worker dies at least once, however slow the machine: every other second is meant
WILD = 0.3  # of the turns go to the victim of all, in any spelling and path
MIXED = "all ways at once"
HASTY = {(MIXED, "passwords"), (MIXED, "codes")}  # 3 s may be over when the ones have locked the others out
OF_A_CODE = 10**-6  # six digits: the chance of one guess
CHANCES = {"an app's": 3 * OF_A_CODE, "a backup code": 10 * 2.0**-80}  # three steps count; any of ten, of 80 bits
LISTS = (10_000, 100_000, 1_000_000)  # passwords, one of which is the victim's, each as likely: an assumption
ATTACKERS = (
    Attacker("code", ("password",)),
    Attacker("code", ("password",), owner=True),
    Attacker("code"),
    Attacker("code", ("password", "session"), app=True),
    Attacker("password"),
    Attacker("password", owner=True),
    Attacker("password", ("session", "device", "SIM")),
)
SHORT = (ATTACKERS[0], ATTACKERS[-1])
# Wrong guesses a day at the account, and one for each recovery whose message a stranger may have sent in a day, by e-mail
# (to which the username leads as well) and by SMS.
DAY_BUDGET = {"code": lockout.DAY_CAP + 30 // 2 + 10 // 2, "password": lockout.DAY_CAP}


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, help="of the storm (300; short: 3)")
    parser.add_argument("--sockets", type=int, help="in the storm at once (64; short: 12)")
    parser.add_argument("--days", type=int, help=f"of the siege in this process ({DAYS}; short: 1)")
    parser.add_argument("--only", choices=("storm", "siege"), help="one of the two")
    parser.add_argument("--database", choices=("sqlite", "postgresql", "mariadb"), default="postgresql")


def run(given: argparse.Namespace) -> Report:
    lanes.look_for_servers()
    given.seconds = given.seconds or (3 if given.short else 300)
    given.sockets = given.sockets or (12 if given.short else 64)
    given.days = given.days or (1 if given.short else DAYS)
    database = given.database if given.database in lanes.wanted() else lanes.wanted()[0]
    report = Report()
    if given.only != "siege":
        _storm(report, database, given)
    if given.only != "storm":
        _sieges(report, given.days, SHORT if given.short else ATTACKERS)
    return report


@dataclass
class Storm:
    """What every attacker's thread shares."""

    opened: Rig
    until: float  # and then until each way has had its turns
    victims: dict[str, Victim]  # by the name of the way that is theirs
    turns: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    told: int = 0  # answers that said that a guess was wrong
    lost: int = 0
    killed: int = 0
    flushed: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def rages(self) -> bool:
        late = time.monotonic() - self.until
        return late < 0 or (late < PATIENCE_S and min(self.turns[way.name] for way in WAYS) < TURNS)

    def next_way(self) -> Way:
        """The one that had the fewest turns."""
        with self.lock:
            chosen = min(WAYS, key=lambda way: self.turns[way.name])
            self.turns[chosen.name] += 1
            return chosen


@dataclass
class Socket:
    """An attacker's line into the storm: one connection, a new one whenever it is lost."""

    storm: Storm
    dice: random.Random
    wild: bool = False
    cookies: dict[str, str] = field(default_factory=dict)
    network: str = "203.0"  # requests come from all over it: the browser's way goes by the network
    kept: HTTPConnection | None = None

    def attack(self) -> None:
        """Take turns until the storm is over."""
        while self.storm.rages:
            self.wild = self.dice.random() < WILD
            way = self.dice.choice(WAYS[:-1]) if self.wild else self.storm.next_way()
            victim = self.storm.victims[MIXED if self.wild else way.name]
            self.network = _network(victim)
            self.cookies.clear()
            try:
                way.act(self, victim)
            except (OSError, HTTPException, ValueError):
                self.storm.lost += 1
                self.drop()
        self.drop()

    def drop(self) -> None:
        if self.kept:
            self.kept.close()
        self.kept = None

    def ask(self, path: str, body: Told, token: str = "") -> Told:
        self.kept = self.kept or HTTPConnection(urlsplit(self.storm.opened.service.base).netloc, timeout=30)
        at = f"{self.network}.{self.dice.randrange(1, 255)}.{self.dice.randrange(1, 255)}"
        headers = {"Content-Type": "application/json", "X-Forwarded-For": at, "X-Real-IP": at}
        if self.cookies:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        if token:
            headers["Authorization"] = f"Bearer {token}"
        wild = self.wild and self.dice.random() < 0.5
        method = "PUT" if wild and self.dice.random() < 0.04 else "POST"
        self.kept.request(method, self.dice.choice(variants(path)) if wild else path, json.dumps(body), headers)
        answer = self.kept.getresponse()
        told: Told = json.loads(answer.read() or b"{}")
        for line in answer.headers.get_all("Set-Cookie") or []:
            name, _, value = line.partition(";")[0].partition("=")
            self.cookies[name] = value
        with self.storm.lock:
            self.storm.answers[f"{answer.status} {told.get('code', '')}".strip()] += 1
            self.storm.told += told.get("code") in GOES_ON
        return told

    def guess(self, path: str, body: Told, _at: Victim, token: str = "") -> bool:
        return self.ask(path, body, token).get("code") in GOES_ON

    def spelled(self, victim: Victim) -> str:
        every = spellings(victim.email, victim.phone, victim.username) if self.wild else victim.typed
        return self.dice.choice(every)

    def sms(self, victim: Victim) -> str:
        for _ in range(20):
            if codes := [sms.code for sms in self.storm.opened.handset.got if sms.number == victim.phone]:
                return codes[-1]
            time.sleep(0.05)
        return WRONG_CODE

    def session(self, victim: Victim) -> str:
        return victim.token


def _network(victim: Victim) -> str:
    dice = random.Random(victim.email or victim.phone)
    return f"{dice.randrange(1, 200)}.{dice.randrange(255)}"


def _storm(report: Report, database: str, given: argparse.Namespace) -> None:
    at = lanes.available()["redis"]
    store = f"{at.rsplit('/', 1)[0]}/15" if at else None
    if store is None:
        report.tables["NOT MADE: there is no Redis, and none that can be started"] = [{"left out": "flushing Redis"}]
    shown: dict[str, Any] = {
        "ratelimit": "true",
        "trusted_proxies": 1,
        "sends_per_minute": 3,
        "sends_per_day_email": 30,
        "sends_per_day_sms": 10,
        **({"redis_url": store} if store else {}),
    }
    with TemporaryDirectory() as folder:
        kept = Path(folder) / "watched"
        kept.touch()
        watching = {"flags": ("-c", "python:bench.watched"), "watched": kept}
        with rig(database, "budget", sms_shield="off", default_phone_region="IN", **shown, **watching) as opened:
            victims = _victims(opened)
            kept.write_text("")  # what they did themselves is nobody's guess
            storm = Storm(opened, time.monotonic() + given.seconds, victims)
            with ThreadPoolExecutor(given.sockets + 1) as pool:
                sockets = [Socket(storm, random.Random(n)) for n in range(given.sockets)]
                at_work = [pool.submit(socket.attack) for socket in sockets]
                for one in [pool.submit(_sabotage, opened, store, storm), *at_work]:
                    one.result()
            opened.service.wait()
            _settle(report, database, storm, watched.read(kept), given)
            due = max(1, int(given.seconds / SABOTAGE_S))
            report.check("workers were killed", storm.killed, f"{due} or more times", storm.killed >= due)
            if store:
                report.check("Redis was flushed", storm.flushed, "1 or more times", storm.flushed > 0)
            no_faults(report, opened.service.log)


def _sabotage(opened: Rig, store: str | None, storm: Storm) -> None:
    """Every second Redis forgets everything; every other second one of the workers dies."""
    client = redis.Redis.from_url(store) if store else None
    for turn in itertools.count():
        if not storm.rages:
            break
        time.sleep(1)
        if client:
            client.flushdb()
            storm.flushed += 1
        workers = opened.service.workers()
        if turn % 2 and workers:
            with suppress(psutil.NoSuchProcess):
                random.choice(workers).kill()
                storm.killed += 1
    if client:
        client.close()


def _victims(opened: Rig) -> dict[str, Victim]:
    """One for each way, and one that every way is tried on."""
    names = [(way.name, way.victim) for way in WAYS] + [(MIXED, MIXED)]
    made = each(lambda pair: _victim(opened, pair[1], names.index(pair)), names, 6)
    with opened.engine.begin() as connection:
        connection.execute(sa.delete(AuditLog))
        connection.execute(sa.delete(Throttle))
    return {name: victim for (name, _), victim in zip(names, made, strict=True)}


def _victim(opened: Rig, kind: str, place: int) -> Victim:
    """An account with an address, a number and a name, and whatever its kind asks for."""
    found = Victim(kind, f"victim.{place}.i@example.com", number(), f"victim.{place}")

    def ask(path: str, token: str = "", **body: Any) -> Told:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return opened.ask(path, body, X_Forwarded_For=f"198.51.{place}.1", **headers)

    if kind == "nobody yet":
        found.phone = found.username = ""
        return found
    if kind == "phone only":
        return _by_phone(opened, found, ask)
    asked = ask(f"{AUTH}/signup", email=found.email, username=found.username, password=PASSWORD)
    code = opened.mailbox.code("email", found.email)
    tokens = ask(f"{AUTH}/verify-otp", challenge_id=asked["challenge_id"], otp=code)
    found.user_id, found.token = tokens["user"]["id"], tokens["access_token"]
    with opened.engine.begin() as connection:
        connection.execute(sa.update(User).where(User.email == found.email).values(phone=found.phone))
    if kind in ("app", MIXED):
        begun = ask(f"{AUTH}/factors/totp", found.token)
        found.app = pyotp.parse_uri(begun["otpauth_uri"])
        assert isinstance(found.app, pyotp.TOTP)
        path = f"{AUTH}/factors/totp/{begun['factor_id']}/confirm"
        found.backup_codes = ask(path, found.token, otp=found.app.now())["backup_codes"]
    if kind in ("device stolen", MIXED):
        asked = ask(f"{AUTH}/login", identifier=found.email, password=PASSWORD)
        code = found.backup_codes[0] if found.app else _another_code(opened, found.email, code)
        answer = {"challenge_id": asked["challenge_id"], "otp": code, "remember_device": True}
        found.device_token = ask(f"{AUTH}/login/verify", **answer)["device_token"]
    if kind in ("in a recovery", MIXED):
        ask(f"{AUTH}/forgot-password", identifier=found.email)
    return found


def _another_code(opened: Rig, email: str, before: str) -> str:
    """The code that came after the one of before. Raises TimeoutError."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if (code := opened.mailbox.code("email", email)) != before:
            return code
        time.sleep(0.05)
    raise TimeoutError("no other code has come")


def _by_phone(opened: Rig, found: Victim, ask: Any) -> Victim:
    found.email = found.username = ""
    ask(f"{MOBILE}/send-otp", mobile_number=found.phone)
    proven = ask(f"{MOBILE}/verify-otp", mobile_number=found.phone, otp=opened.handset.code(found.phone))
    agreed = {
        "registration_token": proven["registration_token"],
        "name": "Asha",
        "consent": {"terms": True, "version": "1"},
    }
    found.user_id = ask(f"{MOBILE}/complete-registration", **agreed)["user"]["id"]
    return found


Line = dict[str, Any]  # of what was watched


def _settle(report: Report, database: str, storm: Storm, lines: Sequence[Line], given: argparse.Namespace) -> None:
    """What the service had compared and told, against what `docs/limits.md` grants within one lock."""
    opened = storm.opened
    title = f"{database}, storm of {given.seconds:.0f} s, {given.sockets} sockets, 200 spellings"
    requests = {"requests": storm.answers.total(), "connections lost": storm.lost, "workers killed": storm.killed}
    flushed = {"Redis flushed": storm.flushed, "answers": dict(storm.answers.most_common(12))}
    report.tables[title] = [{**requests, **flushed}]
    hashes = {row.id.hex: row.password_hash for row in opened.rows(sa.select(User.id, User.password_hash))}
    rows = []
    for way in WAYS:
        rows += _rows(storm, way.name, way, lines, hashes)
    rows += _rows(storm, MIXED, None, lines, hashes)
    report.tables["guesses evaluated in the storm, by the service's own comparisons"] = rows
    for row in rows:
        what = f"{row['way']}: {row['of']}"
        fewest = 0 if given.short and (row["way"], row["of"]) in HASTY else 1
        told = row["told"]
        report.check(f"{what} told", told, f"{fewest} to {row['granted']}", fewest <= told <= row["granted"])
        report.check(f"{what} live", row["live"], f"at most {row['live granted']}", row["live"] <= row["live granted"])
    at = Counter(line["route"] for line in lines if _is_told(line) and _guessed_at(line))
    report.tables["guesses told in the storm, by route"] = [{"route": path, "told": n} for path, n in at.most_common()]
    told = sum(line["code"] in GOES_ON for line in lines)
    report.check("wrong guesses that arrived and were not watched", max(0, storm.told - told), "0", storm.told <= told)
    audited = opened.count(AuditLog.reason.in_(GOES_ON))
    report.check("wrong guesses told and not audited", max(0, told - audited), "0", told <= audited)
    most = max((row[0] for row in opened.rows(sa.select(OtpChallenge.attempts))), default=0)
    report.check("guesses at one challenge", most, "at most 3", most <= 3)
    ways = 3 * 3 * math.ceil((given.seconds + PATIENCE_S + 10) / 60)  # SENDS_PER_MINUTE, by each identifier
    begun = max(row["recoveries"] for row in rows)
    report.check("recoveries of one account", begun, f"at most {ways}", begun <= ways)


def _rows(
    storm: Storm, name: str, way: Way | None, lines: Sequence[Line], hashes: dict[str, str]
) -> list[dict[str, Any]]:
    """Of one victim: wrong passwords and codes compared, told of, and live, beside what is granted."""
    victim = storm.victims[name]
    who = UUID(victim.user_id).hex if victim.user_id else victim.email
    recoveries = _recoveries(storm.opened, victim)
    # Each identifier locks by itself; the account's own budget is silent: of what is told, so much was live.
    apart = THRESHOLD * len(APART) if way is None else 0
    granted = THRESHOLD * (1 if way and way.counter != ACCOUNT else way.identifiers if way else 3) + apart + recoveries
    live_granted = THRESHOLD + apart + recoveries
    wrong = [line for line in lines if {who, hashes.get(who)} & _guessed_at(line)]
    told = [line for line in wrong if _is_told(line)]
    live = [line for line in told if line["live"] is not False]
    secrets = (way.secret,) if way else ("password", "code", "password or code")
    found = []
    for secret in secrets:
        compared, evaluated, alive = (
            sum(secret in (_secret(line), "password or code") for line in some) for some in (wrong, told, live)
        )
        found.append({
            "way": name, "of": f"{secret}s", "victim": victim.kind, "turns": storm.turns[name], "compared": compared,
            "told": evaluated, "granted": granted, "live": alive, "live granted": live_granted, "recoveries": recoveries,
        })  # fmt: skip
    return found


def _recoveries(opened: Rig, victim: Victim) -> int:
    if not victim.user_id:
        return 0
    return opened.count(OtpChallenge.purpose == "recovery", OtpChallenge.user_id == UUID(victim.user_id))


def _is_told(line: Line) -> bool:
    """True if the answer said anything of the guess: a lock's or a closed challenge's is the same for right and wrong."""
    return line["code"] in GOES_ON or line["status"] < 300


def _guessed_at(line: Line) -> set[str]:
    """Whose secret was compared and was another. The password of a sign-up of one's own is right beside that."""
    return {whose for _, whose, right in line["compared"] if not right}


def _secret(line: Line) -> str:
    return "password" if any(secret == "password" for secret, _, _ in line["compared"]) else "code"


def _sieges(report: Report, days: int, attackers: Sequence[Attacker]) -> None:
    tables: dict[str, list[dict[str, Any]]] = {"code": [], "password": []}
    for attacker in attackers:
        with world(label="siege", ratelimit=False, default_phone_region="IN") as opened:
            found = siege.besieged(opened, attacker)
            siege.lay(found, days, 1 + _most(attacker, days))  # one more than there may be says enough
        live = found.live.total()
        print(f"{attacker}: {live} of {found.guesses} guesses were live in {days} days", file=sys.stderr, flush=True)
        tables[attacker.secret].append({
            "attacker": str(attacker), "guesses": found.guesses, "live": live, "a day": live / days,
            **_chances(attacker, found.live, days), "live by way": dict(found.live.most_common()),
        })  # fmt: skip
        _hold_against(report, attacker, found, days)
    for secret, rows in tables.items():
        if rows:
            report.tables[f"{days} days against one account: {secret}s"] = rows


def _chances(attacker: Attacker, live: Counter[str], days: int) -> dict[str, str]:
    """How likely a takeover is, an account and thirty days."""
    if attacker.secret == "password":
        month = live.total() * DAYS / days
        return {f"takeover in {DAYS} days, if one of {size:,}": f"{min(1.0, month / size):.3%}" for size in LISTS}
    missed = 1.0
    for way, count in live.items():
        chance = next((each for name, each in CHANCES.items() if name in way), OF_A_CODE)
        missed *= (1 - chance) ** (count * DAYS / days)
    return {f"takeover in {DAYS} days": f"{1 - missed:.4%}"}


def _most(attacker: Attacker, days: int) -> int:
    """Live guesses that are granted, of days that begin and end at any hour."""
    apart = lockout.DAY_CAP * len(_apart(attacker))
    return (DAY_BUDGET[attacker.secret] + apart) * (days + 1)


def _apart(attacker: Attacker) -> list[str]:
    return [each for each in APART if each in attacker.stolen]


def _hold_against(report: Report, attacker: Attacker, found: siege.Siege, days: int) -> None:
    live, most = found.live.total(), _most(attacker, days)
    report.check(f"{attacker}: live guesses", live, f"1 to {most}", 1 <= live <= most)
    limit = lockout.STREAK_CAP
    for counter in (ACCOUNT, *_apart(attacker)):
        longest = found.longest[counter]
        report.check(f"{attacker}: in a row at the {counter}", longest, f"at most {limit}", longest <= limit)
