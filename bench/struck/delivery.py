"""Faults of the mail server and of the SMS provider: messages wait, fail or come twice, and sign-in goes on."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from bench.stage import Stage
from bench.struck.fault import Make, fault, through
from tests.providers import Line, Request, Step, answers, resets

MAIL: dict[str, Any] = {"fails": False, "holds": ("email",)}
SMS: dict[str, Any] = {"fails": False, "holds": ("sms",)}
STUCK_S = 14.0  # longer than a send may take
GREY_S = 1.5  # from the first try at a recipient, who is turned away for so long
REFUSED = 3  # every so manieth recipient is refused for good
LATE_S = 2.0  # an SMS provider's answer takes
# What comes from something between us and the provider: good statuses, and no word of a message that was taken.
JUNK = ((200, "<html>Welcome to the hotel's network</html>"), (201, "[]"), (201, '{"sid": 7}'), (200, ""))


def _mail_stuck(verb: str) -> Make:
    def make(stage: Stage) -> Iterator[None]:
        stage.mailbox.stuck_at = verb
        try:
            yield
        finally:
            stage.mailbox.stuck_at = ""

    return make


fault("mail hangs at its banner", least_s=STUCK_S, **MAIL)(through("mail", "hang"))
fault("mail hangs at EHLO", least_s=STUCK_S, **MAIL)(_mail_stuck("EHLO"))
fault("mail hangs at RCPT", least_s=STUCK_S, **MAIL)(_mail_stuck("RCPT"))
fault("mail hangs after the last dot", least_s=STUCK_S, **MAIL)(_mail_stuck("DATA"))
fault("mail resets", **MAIL)(through("mail", "reset"))
fault("mail cuts after the last dot", **MAIL)(through("mail", "cut", mark=b"\r\n.\r\n", every=2))


@dataclass
class Greylist:
    """Turns each recipient away until some time after the first try (RFC 6647)."""

    first: dict[str, float] = field(default_factory=dict)

    def __call__(self, verb: str, recipient: str) -> str | None:
        if verb != "RCPT":
            return None
        now = time.monotonic()
        grey = now < self.first.setdefault(recipient, now) + GREY_S
        return "451 4.7.1 Greylisted, come again" if grey else None


@dataclass
class Picky:
    """Refuses every so manieth recipient for good, at a verb."""

    at: str
    reply: str
    met: dict[str, int] = field(default_factory=dict)

    def __call__(self, verb: str, recipient: str) -> str | None:
        number = self.met.setdefault(recipient, len(self.met))
        return self.reply if verb == self.at and number % REFUSED == 0 else None


@fault("mail greylists (4xx)", **MAIL)
def mail_greylists(stage: Stage) -> Iterator[None]:
    stage.mailbox.judge = judge = Greylist()
    yield
    stage.mailbox.judge = None
    assert judge.first, "nobody was turned away"


def _mail_refuses(at: str, reply: str) -> Make:
    def make(stage: Stage) -> Iterator[None]:
        stage.mailbox.judge = judge = Picky(at, reply)
        yield
        stage.mailbox.judge = None
        assert judge.met, "nobody was refused"

    return make


fault("mail refuses recipients (5xx)", **MAIL)(_mail_refuses("RCPT", "550 5.1.1 No such mailbox"))
fault("mail refuses messages (5xx)", **MAIL)(_mail_refuses("DATA", "554 5.7.1 Not this one"))


@fault("SMS hangs", least_s=STUCK_S, **SMS)
def sms_hangs(stage: Stage) -> Iterator[None]:
    stage.handset.hanging.set()
    yield
    stage.handset.hanging.clear()


def _sms(instead: Step | None = None, then: Step | None = None) -> Make:
    def make(stage: Stage) -> Iterator[None]:
        before = len(stage.handset.provider.requests)
        stage.handset.instead, stage.handset.then = instead, then
        yield
        stage.handset.instead = stage.handset.then = None
        assert len(stage.handset.provider.requests) > before, "no SMS was asked for"

    return make


def _junk() -> Step:
    told = itertools.cycle(JUNK)

    def answer(line: Line, request: Request) -> None:
        answers(*next(told))(line, request)

    return answer


def _accepts_late(line: Line, _request: Request) -> None:
    line.provider.over.wait(LATE_S)
    line.answer((201, '{"sid": "SM00000000000000000000000000000000"}', {}))


fault("SMS answers 5xx", **SMS)(_sms(instead=answers(503, "Service Unavailable")))
fault("SMS answers junk", **SMS)(_sms(instead=_junk()))
fault("SMS answers late", **SMS)(_sms(then=_accepts_late))
fault("SMS is taken and cut", **SMS)(_sms(then=resets))
