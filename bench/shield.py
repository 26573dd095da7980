"""SMS pumping: floods of adjacent, premium and dear numbers and of 50 countries; what gets through the shield?

The app in this process, emptied for each attack; four couriers race for its messages. Each attacker has a new client
address for every request, so nothing stops them but the shield.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import os
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from decimal import Decimal
from ipaddress import ip_address
from typing import Any

import phonenumbers
import sqlalchemy as sa
from flask import Flask
from phonenumbers import PhoneNumberFormat, PhoneNumberType

from app import create_app
from app.core.shield import SAMPLE, TYPING
from app.delivery.courier import Courier, new_bells
from app.delivery.senders import Outgoing
from app.models import AuditLog, OutboxMessage
from bench.report import Report
from tests import lanes
from tests.people import Clock, MemorySender

SEND = "/api/v1/auth/send-otp"
COURIERS = 4
CHUNK = 20  # sends between two rounds of the couriers
PREMIUM_EACH = 4  # every fourth number of a flood is a premium one
COUNTRIES = [
    "AE", "AR", "AT", "AU", "BD", "BE", "BG", "BR", "CH", "CL", "CN", "CO", "CZ", "DE", "DK", "EG", "ES",
    "FI", "FR", "GB", "GH", "GR", "HU", "ID", "IE", "IL", "IN", "IT", "JP", "KE", "KR", "LK", "MA", "MX",
    "MY", "NG", "NL", "NO", "NP", "NZ", "PE", "PH", "PK", "PL", "PT", "RO", "SE", "TH", "US", "ZA",
]  # fmt: skip
PREFIX_CAP = 30  # the default
CHEAP, DEAR = Decimal("0.002"), Decimal("0.05")
SPELLINGS = [f"{plus}91{gap}98765{gap}43210" for plus in ("+", "00", " +", " 00") for gap in ("", " ", "-", ".", "/")]


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sends", type=int, help="in all attacks together (10,000; short: 500)")
    parser.add_argument("--database", choices=("sqlite", "postgresql", "mariadb"), default="sqlite")


@dataclass
class Ground:
    """The app, emptied; its clock; what reached the providers, and what the callers saw."""

    app: Flask
    clock: Clock
    senders: dict[str, MemorySender]
    answers: list[tuple[int, Any]] = field(default_factory=list)
    shown: set[Any] = field(default_factory=set)

    def __post_init__(self) -> None:
        kit = self.app.extensions["courier"].kit
        self._couriers = [Courier(kit, self.senders, new_bells()) for _ in range(COURIERS)]
        self._writes, self._client = kit.writes, self.app.test_client()
        lanes.empty(kit.writes.kw["bind"])

    @property
    def sent(self) -> list[Outgoing]:
        return self.senders["sms"].messages

    def answers_of(self, status: int) -> int:
        return sum(each == status for each, _ in self.answers)

    def ask(self, number: str) -> None:
        address = {"REMOTE_ADDR": str(ip_address("10.0.0.0") + len(self.answers))}
        answer = self._client.post(SEND, json={"mobile_number": number}, environ_base=address)
        self.answers.append((answer.status_code, answer.json))

    def deliver(self) -> None:
        def drain(courier: Courier) -> None:
            while courier.round("sms"):
                pass

        with ThreadPoolExecutor(COURIERS) as pool:
            list(pool.map(drain, self._couriers))

    def flood(self, numbers: Iterator[str], sends: int, pause: float = 0, chunk: int = CHUNK) -> None:
        for n in range(sends):
            self.ask(next(numbers))
            if n % chunk == chunk - 1:
                self.deliver()
                self._look()
            self.clock.advance(seconds=pause)
        self.deliver()

    def _look(self) -> None:
        """What one of the last challenges says of its delivery."""
        last = next(body for status, body in reversed(self.answers) if status == 200)
        found = self._client.get(f"/api/auth/challenges/{last['challenge_id']}").json
        self.shown.add((*found, found.get("delivery")))

    def check_faces(self, report: Report, name: str) -> None:
        """That all callers saw the same of numbers that can get SMS: status, and each field but what is theirs alone;
        and afterwards of the delivery.
        """
        own = ("challenge_id", "destination")
        good = [(status, body) for status, body in self.answers if status != 422]
        seen = {(status, *((k, v) for k, v in body.items() if k not in own)) for status, body in good}
        report.check(f"{name}: kinds of answers", len(seen), "1", len(seen) == 1)
        report.check(f"{name}: kinds of delivery shown", len(self.shown), "1", len(self.shown) == 1)

    def rows(self, query: sa.Select[Any]) -> list[Any]:
        with self._writes() as db:
            return list(db.execute(query))


@dataclass(frozen=True)
class Bounds:
    """The caps of a run, and what an SMS costs."""

    prefix: int
    country: int
    day: int
    budget: Decimal
    cheap: tuple[str, ...]

    def settings(self) -> dict[str, Any]:
        prices = [*(f"{country}:{CHEAP}" for country in self.cheap), f"*:{DEAR}"]
        return {
            "sms_cap_per_prefix": self.prefix,
            "sms_cap_per_country": self.country,
            "sms_cap_per_day": self.day,
            "sms_budget_per_day": self.budget,
            "sms_prices": ",".join(prices),
        }

    def used(self, through: list[Any]) -> dict[str, Any]:
        """The most that any prefix, any country, and all got; and what it cost."""
        return {
            "prefix": max(Counter(m.recipient[:-3] for m in through).values(), default=0),
            "country": max(Counter(m.country for m in through).values(), default=0),
            "day": len(through),
            "budget": sum((CHEAP if m.country in self.cheap else DEAR for m in through), Decimal(0)),
        }


def run(given: argparse.Namespace) -> Report:
    logging.disable(logging.WARNING)
    if given.database != "sqlite":
        lanes.look_for_servers()
    given.sends = given.sends or (500 if given.short else 10_000)
    share = given.sends * 12 // 100
    cheap = ("IN", *(country for country in COUNTRIES[::2] if country != "IN"))
    bounds = Bounds(PREFIX_CAP, share * 60 // 100, share * 65 // 100, DEAR * (share // 3), cheap)
    dice, report = random.Random(1), Report()
    attacks = {  # by name: what should stop it, and its numbers
        "adjacent numbers": ("prefix", (f"+91987654{n:04d}" for n in itertools.cycle(range(500, 10_000)))),
        "one country": ("country", _mobiles(["IN"], dice)),
        f"{len(COUNTRIES)} countries": ("day", _mobiles(COUNTRIES, dice)),
        "dear countries": ("budget", _mobiles([country for country in COUNTRIES if country not in cheap], dice)),
    }
    with lanes.database(given.database, f"bench_shield_{os.getpid()}") as url:
        lanes.migrate(url)
        lane = lanes.Lane(given.database, url, None)

        def ground(**changes: Any) -> Ground:
            clock, senders = Clock(), {channel: MemorySender(channel) for channel in ("sms", "email")}
            return Ground(create_app(lane.settings(**changes), clock=clock, senders=senders), clock, senders)

        rows = []
        for name, (cap, numbers) in attacks.items():
            fresh = ground(**bounds.settings())
            fresh.flood(_with_premium(numbers), share)
            rows.append(_attack(report, name, cap, bounds, fresh))
        report.tables[f"what got through; caps {_shown(bounds.used([]), bounds)}"] = rows
        _breaker(report, given.sends - 4 * share, _mobiles(["IN"], dice), ground())
        _spellings(report, ground)
    return report


def _attack(report: Report, name: str, cap: str, bounds: Bounds, ground: Ground) -> dict[str, Any]:
    through, used = ground.sent, bounds.used(ground.sent)
    stopped = Counter(row.last_error for row in ground.rows(sa.select(OutboxMessage.last_error)) if row.last_error)
    refused, premium = ground.answers_of(422), -(-len(ground.answers) // PREMIUM_EACH)
    over = [what for what, amount in used.items() if amount > getattr(bounds, what)]
    report.check(f"{name}: caps exceeded", ", ".join(over) or "none", "none", not over)
    report.check(f"{name}: stopped by the cap '{cap}'", stopped[f"shield_{cap}"], "some", stopped[f"shield_{cap}"])
    report.check(f"{name}: premium numbers refused", refused, f"all {premium}", refused == premium)
    ground.check_faces(report, name)
    most = {f"most: {what}": amount for what, amount in used.items()}
    kinds = {"attack": name, "sends": len(ground.answers), "premium, refused": refused, "through": len(through)}
    return kinds | most | {"stopped by": dict(stopped)}


def _breaker(report: Report, sends: int, numbers: Iterator[str], ground: Ground) -> None:
    """A send a second to one country, of whose codes none comes back. Only the default settings."""
    ground.flood(numbers, sends, pause=1)
    query = sa.select(AuditLog.at, AuditLog.facts).where(AuditLog.event == "shield.closed").order_by(AuditLog.at)
    closings = [f"after {row.facts['verified']} of {row.facts['sent']} used" for row in ground.rows(query)]
    through, each = len(ground.sent), SAMPLE + int(TYPING.total_seconds()) + CHUNK
    row = {"sends": sends, "through": through, "closings": "; ".join(closings)}
    report.tables["a country where no code comes back, a send a second, default settings"] = [row]
    report.check("breaker: closings", len(closings), "some", closings)
    report.check("breaker: through", through, f"at most {each} a closing", through <= each * len(closings))
    ground.check_faces(report, "breaker")


def _spellings(report: Report, ground: Callable[..., Ground]) -> None:
    """One number in 20 spellings: at once, and one a minute."""
    rows = report.tables["one number in 20 spellings"] = []
    for pace, pause, cap in (("at once", 0, 3), ("one a minute", 61, 10)):
        fresh = ground()
        fresh.flood(iter(SPELLINGS), len(SPELLINGS), pause, chunk=1)
        statuses = dict(Counter(str(status) for status, _ in fresh.answers))
        sent, numbers = len(fresh.sent), len({m.recipient for m in fresh.sent})
        rows.append({"pace": pace, "spellings": len(set(SPELLINGS)), "answers": statuses, "sent": sent, "to": numbers})
        report.check(f"spellings, {pace}: SMS", sent, f"1 to {cap}, to one number", 1 <= sent <= cap and numbers == 1)


def _shown(names: Iterable[str], bounds: Bounds) -> str:
    return ", ".join(f"{name} {getattr(bounds, name)}" for name in names)


def _with_premium(numbers: Iterator[str]) -> Iterator[str]:
    premium = _premium()
    for n in itertools.count():
        yield next(numbers if n % PREMIUM_EACH else premium)


def _mobiles(countries: list[str], dice: random.Random) -> Iterator[str]:
    """Mobile numbers of these countries in turn, no two adjacent but by chance."""
    given: set[str] = set()
    for country in itertools.cycle(countries):
        number = _like(country, PhoneNumberType.MOBILE, 5, dice)
        if number not in given:
            given.add(number)
            yield number


def _premium() -> Iterator[str]:
    dice = random.Random(2)
    regions = sorted(phonenumbers.SUPPORTED_REGIONS)
    rated = [r for r in regions if phonenumbers.example_number_for_type(r, PhoneNumberType.PREMIUM_RATE)]
    for region in itertools.cycle(rated):
        yield _like(region, PhoneNumberType.PREMIUM_RATE, 2, dice)


def _like(region: str, kind: int, digits: int, dice: random.Random) -> str:
    """A valid number of a kind: the example of the library with other digits at its end."""
    example = phonenumbers.example_number_for_type(region, kind)
    exactly = _kind(example)  # in some countries fixed and mobile numbers look the same, or several share a plan
    stem = phonenumbers.format_number(example, PhoneNumberFormat.E164)[:-digits]
    for _ in range(10_000):
        number = phonenumbers.parse(f"{stem}{dice.randrange(10**digits):0{digits}d}")
        if _kind(number) == exactly:
            return phonenumbers.format_number(number, PhoneNumberFormat.E164)
    raise AssertionError(f"no such number in {region}")


def _kind(number: phonenumbers.PhoneNumber) -> tuple[int, str | None]:
    return phonenumbers.number_type(number), phonenumbers.region_code_for_number(number)
