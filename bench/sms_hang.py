"""The SMS provider hangs: sign-in must not wait for it, no code that still works be lost, none that expired be sent.

Two services under the same light load, in blocks A B B A: the SMS provider of A answers at once; that of B accepts
each request and never answers, until it comes back at the end.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from app.delivery import outbox
from app.models import OutboxMessage
from bench.report import Report, quantile, ratio, spread
from bench.rig import PASSWORD, Connection, Rig, Sms, address, number, rig, soon
from tests import lanes

SEND, LOGIN, MAIL = "/api/v1/auth/send-otp", "/api/auth/login", "/api/auth/signup"
MAIL_EVERY = 5  # rounds of a client, of which one also asks for a code by e-mail
ACCOUNTS = 30
PROVED = 20  # codes that came after the hang, which are used
ON_THE_WAY = timedelta(seconds=1)  # from the courier's last look at the clock to the provider's, on a busy machine
LEASE_S = outbox.LEASE.total_seconds()  # so long a message may be held by a courier that does not send it


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--minutes", type=float, help="how long the provider hangs (10; short: 0.8)")
    parser.add_argument("--ttl", type=int, help="life of a code by SMS, seconds (180; short: 45)")
    parser.add_argument("--block", type=float, help="seconds of one service before the other's turn (5; short: 2)")
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--pause", type=float, default=0.1, help="seconds a client waits after each request")
    parser.add_argument("--database", choices=("sqlite", "postgresql", "mariadb"), default="sqlite")
    parser.add_argument("--providers", type=int, choices=(1, 2), default=1, help="of SMS; they hang together")
    against = "what A's courier does: its work, or nothing"
    parser.add_argument("--against", choices=("sending", "resting"), default="sending", help=against)
    parser.add_argument("--shield", choices=("off", "on"), default="off", help="the shield against SMS pumping")


@dataclass
class Sample:
    path: str
    status: int
    took: float  # seconds


Pairs = list[tuple[list[Sample], list[Sample]]]


@dataclass
class Side:
    rig: Rig
    phones: list[str]
    asked: dict[str, float] = field(default_factory=dict)  # e-mail address -> when its code was asked for
    arrived: dict[str, float] = field(default_factory=dict)

    def mail_came(self) -> None:
        self.arrived[str(self.rig.mailbox.mails[-1]["To"])] = time.monotonic()

    def mail_waits(self) -> list[float]:
        return [self.arrived[each] - at for each, at in self.asked.items() if each in self.arrived]

    def cpu(self) -> float:
        workers = [worker.cpu_times() for worker in self.rig.service.workers()]
        return sum(each.user + each.system for each in workers)


def run(given: argparse.Namespace) -> Report:
    lanes.look_for_servers()
    given.minutes = given.minutes or (0.8 if given.short else 10)
    given.ttl = given.ttl or (45 if given.short else 180)
    given.block = given.block or (2 if given.short else 5)
    settings = {"web_concurrency": 2, "otp_ttl_sms": given.ttl, "sms_shield": given.shield}
    if given.providers == 2:
        settings["sms_provider"] = "twilio,bench.second.Second"
    with ExitStack() as stack:
        rests = {"courier": "worker"} if given.against == "resting" else {}  # nobody else's, and nobody runs one
        a = _side(stack.enter_context(rig(given.database, "a", **settings, **rests)), bool(rests))
        b = _side(stack.enter_context(rig(given.database, "b", **settings)))
        return _tell(given, a, b)


def _side(opened: Rig, rests: bool = False) -> Side:
    phones = [number() for _ in range(ACCOUNTS)]
    with opened.courier() if rests else nullcontext():
        for phone in phones:
            opened.account(phone=phone)
    side = Side(opened, phones)
    opened.mailbox.on_message = side.mail_came
    return side


def _tell(given: argparse.Namespace, a: Side, b: Side) -> Report:
    report = Report()
    for side in (a, b):
        _block(given, side)  # not measured: connections, caches
    before = _blocks(given, a, b, 16 if given.short else 60)
    rests = given.against == "resting"
    for side in (b,) if rests else (a, b):
        soon(lambda side=side: side.asked.keys() == side.arrived.keys())
    for side in (a, b):
        side.asked.clear()
    began, spent = datetime.now(UTC), (a.cpu(), b.cpu())
    b.rig.handset.hanging.set()
    during = _blocks(given, a, b, given.minutes * 60)
    spent = (a.cpu() - spent[0], b.cpu() - spent[1])
    time.sleep(1)  # the last messages of the last block
    unsent = 0 if rests else a.rig.count(OutboxMessage.channel == "sms", OutboxMessage.state != "sent")
    after = _return(given, b.rig, began)
    compared = _compare("B hangs", during)
    report.tables["latency, ms"] = [*_compare("B answers", before), *compared]
    report.tables["while B's provider hangs"] = [
        _service(name, side, [pair[i] for pair in during], spent[i])
        for i, (name, side) in enumerate({"A": a, "B": b}.items())
    ]
    for row in compared:
        report.check(f"{row['route']}: median of B / A", row["median B / A"], "below 1.1", row["median B / A"] < 1.1)
    report.check("codes by SMS of A that were not sent", unsent, "0", unsent == 0)
    refused = sum(sample.status >= 300 for pair in during for block in pair for sample in block)
    report.check("requests refused while B's provider hangs", refused, "0", refused == 0)
    missing, slowest = len(b.asked) - len(b.mail_waits()), quantile(b.mail_waits(), 0.95)
    report.check("e-mail codes of B that did not come", missing, "0", missing == 0)
    report.check("e-mail codes of B: p95 of their wait, s", slowest, "below 1", slowest < 1)
    report.tables |= after.tables
    report.checks += after.checks
    return report


def _service(name: str, side: Side, blocks: Sequence[list[Sample]], spent: float) -> dict[str, Any]:
    answers = Counter(str(sample.status) for block in blocks for sample in block)
    return {
        "service": name,
        "answers": dict(answers),
        "CPU s / 1,000 requests": spent / answers.total() * 1000,
        "mails asked": len(side.asked),
        "mails come": len(side.mail_waits()),
        "their wait, s": spread(side.mail_waits()),
    }


def _blocks(given: argparse.Namespace, a: Side, b: Side, seconds: float) -> Pairs:
    """Pairs of blocks, each in the other order than the one before."""
    until, pairs = time.monotonic() + seconds, []
    while time.monotonic() < until:
        if len(pairs) % 2 == 0:
            pairs.append((_block(given, a), _block(given, b)))
        else:
            pairs.append((_block(given, b), _block(given, a))[::-1])
    return pairs


def _block(given: argparse.Namespace, side: Side) -> list[Sample]:
    until = time.monotonic() + given.block

    def client(n: int) -> list[Sample]:
        line, found = Connection(side.rig.service.base), []
        for turn in itertools.count():
            mail = [(MAIL, {"email": address(), "password": PASSWORD})] if turn % MAIL_EVERY == n % MAIL_EVERY else []
            login = {"identifier": side.phones[(turn * given.clients + n) % ACCOUNTS], "password": PASSWORD}
            for path, body in [(SEND, {"mobile_number": number()}), (LOGIN, login), *mail]:
                if time.monotonic() >= until:
                    line.close()
                    return found
                started = time.perf_counter()
                if path == MAIL:
                    side.asked[body["email"]] = time.monotonic()
                status, _ = line.post(path, body)
                found.append(Sample(path, status, time.perf_counter() - started))
                time.sleep(given.pause)
        raise AssertionError("unreachable")

    with ThreadPoolExecutor(given.clients) as pool:
        return [sample for each in pool.map(client, range(given.clients)) for sample in each]


def _compare(phase: str, pairs: Pairs) -> list[dict[str, Any]]:
    rows = []
    for path in (SEND, LOGIN):
        times = [([s.took for s in a if s.path == path], [s.took for s in b if s.path == path]) for a, b in pairs]
        a, b = ([value * 1000 for pair in times for value in pair[side]] for side in (0, 1))
        row: dict[str, Any] = {"phase": phase, "route": path, "n of A": len(a), "n of B": len(b)}
        for name, share in (("median", 0.5), ("p95", 0.95)):
            found, (low, high) = ratio(times, share)
            row |= {f"{name} A": quantile(a, share), f"{name} B": quantile(b, share)}
            row |= {f"{name} B / A": found, f"95 % of {name} B / A": f"{low:.2f} to {high:.2f}"}
        rows.append(row)
    return rows


def _return(given: argparse.Namespace, b: Rig, began: datetime) -> Report:
    """The provider of B answers again: what becomes of the codes that were asked for while it hung?"""
    back, report = datetime.now(UTC), Report()
    b.handset.hanging.clear()
    proved = _prove(b, back, given.ttl)
    message = OutboxMessage
    waiting = message.channel == "sms", message.state.in_(("queued", "sending"))
    soon(lambda: not b.count(*waiting), given.ttl + 2 * LEASE_S)
    these = message.channel == "sms", message.kind.like("code.%"), message.created_at >= began
    rows = b.rows(sa.select(message.id, message.state, message.expires_at, message.last_error).where(*these))
    copies: dict[Any, list[Sms]] = {row.id: [] for row in rows}
    for sms in b.handset.got:
        copies.get(sms.message_id, []).append(sms)
    came = {sms.message_id: sms.at for sms in b.handset.got if sms.answered}
    alive = [row for row in rows if row.expires_at > back]
    lost = [row for row in alive if row.id not in came]
    report.tables["codes by SMS that were asked of B while its provider hung"] = [
        {
            "asked for": len(rows),
            "expired before the return": len(rows) - len(alive),
            "alive at the return": len(alive),
            "of these sent": len(alive) - len(lost),
            "share": 1 - len(lost) / len(alive),
            "s after the return": spread([(came[row.id] - back).total_seconds() for row in alive if row.id in came]),
            "handed over more than once": sum(len(each) > 1 for each in copies.values()),
            "taken more than once": sum(sum(sms.answered for sms in each) > 1 for each in copies.values()),
        }
    ]
    report.tables["alive at the return, and never sent"] = _lost(lost, back, copies)
    late = sum(row.id in came and came[row.id] > row.expires_at + ON_THE_WAY for row in rows)
    mixed = sum(len({(sms.number, sms.code) for sms in each}) > 1 for each in copies.values())
    early = sum((row.expires_at - back).total_seconds() >= LEASE_S for row in lost)
    what = f"codes with {LEASE_S:g} s or more left at the return that were never sent"
    report.check(what, early, "0", early == 0)
    report.check("codes that expired before the return", len(rows) - len(alive), "some", len(rows) > len(alive))
    report.check("codes that came a second or more after they had expired", late, "0", late == 0)
    report.check("messages whose copies differ in code or number", mixed, "0", mixed == 0)
    report.check(f"of {PROVED} codes that came after the hang, accepted", proved, str(PROVED), proved == PROVED)
    return report


def _lost(lost: Sequence[Any], back: datetime, copies: dict[Any, list[Sms]]) -> list[dict[str, Any]]:
    """Codes that were not sent, by what the outbox says of them and whether the hanging provider had them."""
    groups: dict[Any, list[float]] = {}
    for row in lost:
        fate = (row.state, row.last_error, len(copies[row.id]))
        groups.setdefault(fate, []).append((row.expires_at - back).total_seconds())
    return [
        {
            "state": state,
            "why": why,
            "handed over": tries,
            "codes": len(left),
            "life left at the return, s": spread(left),
        }
        for (state, why, tries), left in groups.items()
    ]


def _prove(b: Rig, back: datetime, patience: float) -> int:
    """Use codes that came after the return and are good for 5 s more; how many of them were taken?"""
    kind, soonest = OutboxMessage.kind == "code.phone", datetime.now(UTC) + timedelta(seconds=5)

    def came() -> list[Sms]:
        rows = b.rows(sa.select(OutboxMessage.id).where(kind, OutboxMessage.expires_at > soonest))
        usable = {row.id for row in rows}
        found = [sms for sms in b.handset.got if sms.answered and sms.at > back and sms.message_id in usable]
        return found[:PROVED] if len(found) >= PROVED else []

    try:
        bodies = [{"mobile_number": sms.number, "otp": sms.code} for sms in soon(came, patience)]
    except TimeoutError:
        return 0
    line = Connection(b.service.base)
    answers = [line.post("/api/v1/auth/verify-otp", body)[0] for body in bodies]
    line.close()
    return answers.count(200)
