"""Making a claimed message ready: may it still be sent, and what does it say?

The code is derived here, in the moment of sending; before and after it exists nowhere.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from app import logs
from app.core import accounts, audit, challenges, sends, shield, throttles
from app.core.challenges import Purpose
from app.core.identifiers import Identifier, Kind
from app.core.shield import Closing
from app.crypto import codes
from app.delivery import listing, messages, outbox, tally, whose
from app.delivery.outbox import Notice
from app.delivery.senders import Outgoing
from app.models import OtpChallenge, OutboxMessage
from app.models.outbox import CODE, State
from app.work import Work

MADE = (None, outbox.NOBODY)  # a message to nobody costs what one to somebody does, up to its sender
NOTICED = "notices_spent"  # why a notice by SMS is dropped that is one too many
UNMADE_RETRY = timedelta(seconds=30)  # of a code that cannot be made; of a notice at first, then twice as long
LAST_TRY = timedelta(seconds=3)  # before a code expires
MOST_LAPSED = 10  # tries of a message that has no expiry of its own of which nobody said what came of them

log = logging.getLogger("latchkey.courier")


@dataclass(frozen=True, slots=True)
class Claimed:
    """A message that is ours to send until the lease lapses."""

    outgoing: Outgoing
    lease: str | None
    leased_until: datetime
    claimed_at: datetime  # what was read of it is of then
    attempts: int
    created_at: datetime
    challenge_id: UUID | None
    facts: dict[str, Any]


def claim(work: Work, ids: Sequence[UUID]) -> list[Claimed]:
    """Take messages and make them ready; what must not be sent is dropped, what must wait is put back."""
    rows = outbox.claim(work, ids)
    throttles.held(work, {key for row in rows for key in _counters(work, row)})  # all at once, in their order
    found = []
    for row in rows:
        with logs.about(message_id=str(row.id)):
            found.append(_ready(work, row))
    return _in_order([ready for ready in found if ready])


def _in_order(claimed: Sequence[Claimed]) -> list[Claimed]:
    """Between people the newest first; to each of them the oldest, so that the code that comes last is the one that the
    page asks for.
    """
    places: dict[str, int] = {}
    for place, each in enumerate(claimed):
        places.setdefault(each.outgoing.recipient, place)
    return sorted(claimed, key=lambda each: (places[each.outgoing.recipient], each.created_at))


def _counters(work: Work, row: OutboxMessage) -> list[str]:
    """The counters that will be asked about a message."""
    to = outbox.recipient(row)
    keys = list(shield.keys(to).values()) if _is_shielded(work, row) else []
    if _is_counted_notice(row):
        keys.append(sends.notice_key(to, row.kind))
    return [*keys, sends.key(to)] if outbox.UNPAID in row.facts else keys


def _ready(work: Work, row: OutboxMessage) -> Claimed | None:
    challenge = row.challenge
    why = _objection(work, row, challenge)
    shielded = _is_shielded(work, row)
    if not why and not _in_turn(work, row):
        return None
    if why in shield.UNHEARD and challenge and challenge.purpose != Purpose.RECOVERY and shielded:
        _count_unheard(work, row, challenge)
    words = _made(work, row, challenge) if why in MADE else None
    if words and not why:
        if _is_counted_notice(row) and not sends.take_notice(work, outbox.recipient(row), row.kind):
            why = NOTICED
        elif shielded:
            why = _stopped(work, row, challenge, words.text)
    if not words or why not in MADE:
        _leave(work, row, why)
        return None
    _take_off(row, outbox.COUNTED)
    assert row.leased_until is not None
    return Claimed(
        words, row.lease, row.leased_until, work.now, row.attempts, row.created_at, row.challenge_id, row.facts
    )


def _objection(work: Work, row: OutboxMessage, challenge: OtpChallenge | None) -> str | None:
    """Why a message must not be sent at all."""
    if row.kind == outbox.DECOY:
        return outbox.NOBODY
    if row.expires_at and row.expires_at <= work.now:
        return "expired"
    if not row.expires_at and _lapsed(row) >= MOST_LAPSED:
        return "lapsed"
    if row.kind.startswith(CODE) and (challenge is None or not asks_for(work, row, challenge)):
        return "closed"
    spent = row.kind.startswith(CODE) and challenge and challenges.is_decoy(challenge)
    return outbox.SPENT if spent else None


def asks_for(work: Work, message: Outgoing | OutboxMessage, challenge: OtpChallenge) -> bool:
    """Whether a challenge takes a code yet, and the one of this address."""
    return challenges.is_open(work, challenge) and message.recipient == challenge.destination


def _lapsed(row: OutboxMessage) -> int:
    """How many tries ended with their lease: the courier died, or could not store what came of them. Of a message from
    before these were counted: none, if one is known to have failed.
    """
    before = row.attempts - 1
    ended: int = row.facts.get(outbox.ENDED, before if row.last_error else 0)
    return before - ended


def _is_counted(row: OutboxMessage) -> bool:
    """SMS that cost money, or stand in for one that does; not again what is counted and sent nothing for sure."""
    return row.channel == "sms" and outbox.COUNTED not in row.facts


def _is_shielded(work: Work, row: OutboxMessage) -> bool:
    return _is_counted(row) and work.settings.sms_shield != "off"


def _is_counted_notice(row: OutboxMessage) -> bool:
    """Notices of what happens in an account. Those in place of a code have the budget of codes."""
    return _is_counted(row) and not row.kind.startswith(CODE) and row.challenge_id is None


def _stopped(work: Work, row: OutboxMessage, challenge: OtpChallenge | None, text: str) -> str | None:
    """Why the shield keeps a message back. In its shadow mode it only says what it would have kept."""
    number = outbox.recipient(row)
    # What is asked about a change goes to an address that is nobody's yet, whoever the asker is.
    known = challenge is None or (challenge.user_id is not None and challenge.asked_by is None)
    recovers = challenge is not None and challenge.purpose == Purpose.RECOVERY
    verdict = shield.judge(work, number, text, known=known, recovers=recovers)
    if verdict.closing:
        _raise_alarm(work, verdict.closing)
    if verdict.why and work.settings.sms_shield == "shadow":
        audit.record(work, audit.Event.SHIELD_SHADOWED, **whose.named(row), why=verdict.why)
        return None
    return verdict.why


def _count_unheard(work: Work, row: OutboxMessage, challenge: OtpChallenge) -> None:
    """Take a message that does not go from the counters of the shield, as the one that it stands in for. Not a recovery
    of nobody: as many as anybody likes would spend everybody's day, without one SMS.
    """
    minutes = math.ceil((challenge.expires_at - challenge.created_at) / timedelta(minutes=1))
    kind, code = f"{CODE}{challenge.purpose}", "0" * work.settings.otp_length
    with suppress(messages.Unmade):
        words = messages.render(work.settings, kind, row.channel, {}, language=row.language, code=code, minutes=minutes)
        verdict = shield.judge(work, outbox.recipient(row), words.text, known=True)
        if verdict.closing:
            _raise_alarm(work, verdict.closing)


def _raise_alarm(work: Work, closing: Closing) -> None:
    facts = {**asdict(closing), "until": closing.until.isoformat()}
    log.warning("SMS to %(country)s are stopped: %(verified)s of %(sent)s codes were used", facts)
    audit.record(work, audit.Event.SHIELD_CLOSED, **facts)
    for admin in accounts.admins(work):
        outbox.notice(work, Notice.SHIELD_CLOSED, Identifier(Kind.EMAIL, admin.email or ""), admin, **facts)


def _in_turn(work: Work, row: OutboxMessage) -> bool:
    """Take a message that waited for its destination's budget from it, or put it back to wait on."""
    if outbox.UNPAID not in row.facts:
        return True
    wait = sends.turn(work, outbox.recipient(row), row.created_at)
    if wait:
        _put_back(work, row, work.now + timedelta(seconds=wait))
    else:
        _take_off(row, outbox.UNPAID)
    return not wait


def _take_off(row: OutboxMessage, fact: str) -> None:
    if fact in row.facts:
        row.facts = {name: value for name, value in row.facts.items() if name != fact}


def _made(work: Work, row: OutboxMessage, challenge: OtpChallenge | None) -> Outgoing | None:
    try:
        return _words(work, row, challenge, work.now)
    except (KeyError, ValueError, messages.Unmade):
        log.exception("message %s cannot be made", row.id)
        tally.note_unmade(work, row.channel)
        return None


def _leave(work: Work, row: OutboxMessage, why: str | None) -> None:
    """Drop what must not be sent. What cannot be made for now (a template or a key is away) waits, if it can."""
    pause = UNMADE_RETRY if row.expires_at else max(UNMADE_RETRY, work.now - row.created_at)
    last = row.expires_at or row.created_at + outbox.GIVE_UP
    at = min(work.now + pause, last - LAST_TRY)
    if why or at <= work.now:
        drop(work, row, row.lease, why or "unmade")
    else:
        _put_back(work, row, at)


def _put_back(work: Work, row: OutboxMessage, at: datetime) -> None:
    untried = OutboxMessage.attempts - 1
    outbox.settle(work, row, row.lease, State.QUEUED, next_attempt_at=at, attempts=untried)


def _words(work: Work, row: OutboxMessage, challenge: OtpChallenge | None, at: datetime) -> Outgoing:
    code, seconds, kind = "", 0, row.kind
    if challenge and kind == outbox.DECOY:  # as the code that it stands in for: the time that it takes tells nothing
        kind = f"{CODE}{challenge.purpose}"
    if challenge and kind.startswith(CODE):
        code = codes.derive(work.kit.keys, challenge.key_id, challenge.factor, work.settings.otp_length)
        seconds = max(0, int((challenge.expires_at - at).total_seconds()))
    minutes = math.ceil(seconds / 60)
    registered = work.settings.dlt_file and row.channel == "sms"  # then the language may have to be another
    owner = accounts.by_id(work, row.user_id) if registered and row.user_id else None
    words = messages.render(
        work.settings, kind, row.channel, row.facts, language=row.language, code=code, minutes=minutes
    )
    return Outgoing(
        id=row.id,
        user_id=row.user_id,
        kind=row.kind,
        channel=row.channel,
        recipient=row.recipient,
        masked="" if row.kind == outbox.DECOY else outbox.recipient(row).masked,  # it may be no number at all
        code=code,
        minutes=minutes,
        seconds=seconds,
        language=row.language,
        own_language=(owner and owner.language) or "",
        facts=row.facts,
        country=row.country or "",
        avoid=row.avoid or "",
        brand=work.settings.brand_name,
        subject=words.subject,
        text=words.text,
        html=words.html,
        expires_at=row.expires_at,
    )


def is_wanted(work: Work, claimed: Claimed) -> bool:
    """False if a code was used, or its question ended or is gone, while the messages before it were being sent."""
    if not claimed.outgoing.code:
        return True
    challenge = challenges.find(work, claimed.challenge_id) if claimed.challenge_id else None
    return challenge is not None and asks_for(work, claimed.outgoing, challenge)


def drop(work: Work, message: Outgoing | OutboxMessage, lease: str | None, why: str) -> None:
    """Settle a message as not sent, and audit it unless it was to nobody."""
    dropped = outbox.settle(work, message, lease, State.DROPPED, last_error=why)
    if dropped and why != outbox.NOBODY:
        note_dropped(work, message, why, why)


def note_dropped(work: Work, message: Outgoing | OutboxMessage, reason: str, why: str) -> None:
    """Audit and count that a message does not come."""
    facts: dict[str, Any] = {"kind": message.kind, "channel": message.channel, "why": why}
    audit.record(work, audit.Event.MESSAGE_DROPPED, **whose.named(message), reason=reason, **facts)
    tally.note_dropped(work, message.channel, reason)


def preview(work: Work, limit: int) -> list[tuple[OutboxMessage, Outgoing | None]]:
    """The last messages as they read, newest first; None for one that cannot be made. Sends nothing."""
    return [(row, _previewed(work, row)) for row in listing.newest(work, limit)]


def _previewed(work: Work, row: OutboxMessage) -> Outgoing | None:
    challenge = challenges.find(work, row.challenge_id) if row.challenge_id else None
    at = (row.settled_at if row.state == State.SENT else None) or row.created_at  # as it read then
    try:
        return _words(work, row, challenge, at)
    except (KeyError, ValueError, messages.Unmade):
        return None
