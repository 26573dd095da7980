"""The shield against SMS pumping: somebody who earns on messages asks for codes to thousands of numbers.

Daily caps by prefix, by country, in all and in money; and a breaker that closes a country where hardly any code comes
back. The courier asks before it sends, so a caller sees no difference; and what was asked for counts, whether or not it
goes, or whoever asks for a code to a number of their own would see whether the one before was to somebody.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import and_, bindparam, or_, select

from app.core import throttles
from app.core.challenges import Purpose
from app.core.identifiers import Identifier
from app.core.throttles import Counter
from app.delivery_config import ANYWHERE
from app.models import OtpChallenge, OutboxMessage
from app.models.outbox import TAKEN, State
from app.work import Work

SAMPLE = 100  # codes that the breaker looks at
LOWEST_SHARE = 20  # percent of them that must have been used
TYPING = timedelta(seconds=60)  # younger codes may still be on their way into the form
FIRST_REST, LONGEST_REST = timedelta(hours=1), timedelta(days=1)
UNITS = 10_000  # of money, in one of SMS_PRICES' currency
PREFIX = 3  # digits at the end in which adjacent numbers differ
NOBODY, SPENT = UNHEARD = ("nobody", "day_spent")  # why a message is dropped that counts as one that goes
EVER = datetime(2000, 1, 1, tzinfo=UTC)
# 3GPP TS 23.038, sections 6.2.1 and 6.2.1.1: the letters of an SMS of 7 bits, and those that take two places in it.
GSM = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿"
    "abcdefghijklmnopqrstuvwxyzäöñüà"
)
GSM_DOUBLE = frozenset("^{}\\[~]|€\f")


@dataclass(frozen=True, slots=True)
class Closing:
    """A country was closed just now."""

    country: str
    sent: int
    verified: int
    until: datetime


@dataclass(frozen=True, slots=True)
class Verdict:
    why: str | None = None  # the message should not be sent
    closing: Closing | None = None


def keys(number: Identifier) -> dict[str, str]:
    """The counters of a number, by what they count."""
    country = number.country or ""
    named = {"prefix": number.value[:-PREFIX], "country": country, "closed": country, "day": "", "budget": ""}
    return {what: throttles.key("sms", what, value) for what, value in named.items()}


def parts(text: str) -> int:
    """How many SMS a text is paid as: of 160 letters of 7 bits or 70 of 16, in a longer one 153 or 67 each."""
    if set(text) <= GSM | GSM_DOUBLE:
        length, alone, joined = len(text) + sum(letter in GSM_DOUBLE for letter in text), 160, 153
    else:
        length, alone, joined = len(text.encode("utf-16-le")) // 2, 70, 67
    return 1 if length <= alone else math.ceil(length / joined)


def judge(work: Work, number: Identifier, text: str, *, known: bool = False, recovers: bool = False) -> Verdict:
    """Whether an SMS to this number may go, and if so take it from every counter.

    `known`: it is to somebody's account. Neither neighbours nor a closed country stop it, or a stranger could stop
    everybody's codes with a hundred requests; the bounds of the day and of money do. `recovers`: it is of a recovery,
    which goes to accounts alone, and to a number that whoever asks may not know: neighbours do not count it.
    """
    allowed = work.settings.sms_allowed_countries
    if allowed and number.country not in allowed:
        return Verdict("shield_not_allowed")
    at = keys(number)
    rows = throttles.held(work, at.values())
    verdict = _breaker(work, number.country or "", rows[at["closed"]])
    if verdict.why and not known:
        return verdict
    rising = [each for each in _counters(work, number, text) if not (recovers and each[0] == "prefix")]
    counted = [(what, rows[at[what]], amount, cap) for what, amount, cap in rising]
    for what, row, amount, cap in counted:
        full = cap and _today(work, row) + amount > cap
        if full and not (known and what == "prefix"):
            return Verdict(f"shield_{what}", verdict.closing)
    for _, row, amount, cap in counted:
        if cap:
            row.day_count, row.touched_at = row.day_count + amount, work.now
    return Verdict(None, verdict.closing)


def _counters(work: Work, number: Identifier, text: str) -> list[tuple[str, int, int]]:
    """What is counted, by how much this message raises it, and to what it may rise."""
    s = work.settings
    price = s.sms_prices.get(number.country or "", s.sms_prices.get(ANYWHERE, 0))
    return [
        ("prefix", 1, s.sms_cap_per_prefix),
        ("country", 1, s.sms_cap_per_country),
        ("day", 1, s.sms_cap_per_day),
        ("budget", math.ceil(price * UNITS) * parts(text), int(s.sms_budget_per_day * UNITS)),
    ]


def _today(work: Work, row: Counter) -> int:
    if row.day_ends_at <= work.now:
        row.day_count, row.day_ends_at = 0, work.now + throttles.DAY
    return row.day_count


def _breaker(work: Work, country: str, row: Counter) -> Verdict:
    """Closed, or to be closed now. After a rest the sample begins anew; each closing in a row rests twice as long."""
    if row.locked_until and row.locked_until > work.now:
        return Verdict("shield_closed")
    sent, verified = _sample(work, country, row.locked_until)
    if sent < SAMPLE:
        return Verdict()
    if verified * 100 >= LOWEST_SHARE * sent:
        row.level = 0
        return Verdict()
    until = work.now + min(FIRST_REST * 2**row.level, LONGEST_REST)
    row.locked_until = row.touched_at = until
    row.level = min(row.level + 1, 20)
    return Verdict("shield_closed", Closing(country, sent, verified, until))


SAMPLED = (
    select(OtpChallenge.used_at)
    .select_from(OutboxMessage)
    .join(OtpChallenge, OtpChallenge.id == OutboxMessage.challenge_id)
    .where(OutboxMessage.country == bindparam("where"), OtpChallenge.purpose != Purpose.RECOVERY)
    .where(
        or_(
            OutboxMessage.state.in_(TAKEN),
            and_(OutboxMessage.state == State.DROPPED, OutboxMessage.last_error.in_(UNHEARD)),
        )
    )
    .where(OutboxMessage.settled_at <= bindparam("then"))  # since when they could be typed at all
    .where(OutboxMessage.created_at >= bindparam("since"))
    .order_by(OutboxMessage.created_at.desc())
    .limit(SAMPLE)
)


def _sample(work: Work, country: str, since: datetime | None) -> tuple[int, int]:
    """Of the last codes asked for to a country: how many, and how many of them came back. Asked once in a unit."""
    key = ("sample", country, since)
    if key not in work.read:
        given = {"where": country, "then": work.now - TYPING, "since": since or EVER}
        # Without what this unit has counted so far: it is written once, at the end.
        used = list(work.db.scalars(SAMPLED, given, execution_options={"autoflush": False}))
        work.read[key] = len(used), sum(at is not None for at in used)
    sample: tuple[int, int] = work.read[key]
    return sample
