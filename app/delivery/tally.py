"""The tally of codes for the figures: those sent, arrived and back again, by channel and provider; and what waits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, func, literal, select

from app import figures
from app.core import challenges
from app.core.challenges import CHANNELS
from app.delivery import outbox
from app.delivery.reports import Report, Said
from app.delivery.senders import Reason
from app.models import OtpChallenge, OutboxMessage
from app.models.outbox import CODE, TAKEN, State
from app.work import Kit, Work, run

AT_ONCE = 500  # challenges that one statement asks about
MOST = 10_000  # messages that are counted of each queue: a figure must not cost more the longer a queue is
SHIELDS = ("not_allowed", "closed", "prefix", "country", "day", "budget")
HELD_BACK = ("expired", "lapsed", "closed", "unmade", "notices_spent", outbox.SPENT)
OTHER = "other"
WHYS = (*map(str, Reason), "reported", *HELD_BACK, *(outbox.SHIELD + each for each in SHIELDS), OTHER)


@dataclass(frozen=True, slots=True)
class Waiting:
    """The queue of a channel. `due` and `later` are at most MOST; `lag` is in seconds."""

    channel: str
    due: int  # could be sent now
    later: int  # wait for their next try, or their turn
    lag: float  # how long the one that waits longest could have been sent


def note_sent(work: Work, kind: str, channel: str, provider: str) -> None:
    """A provider took a message."""
    if kind.startswith(CODE):
        work.count(figures.CODES_SENT, channel, provider)


def note_unmade(work: Work, channel: str) -> None:
    """A message could not be made this time: a template is broken, or a key is not here. No sender was asked."""
    work.count(figures.UNMADE, channel)


def note_dropped(work: Work, channel: str, why: str) -> None:
    """A message does not go out, or will not arrive. `why`: one of WHYS, anything else is counted as `other`."""
    work.count(figures.DROPPED, channel, why if why in WHYS else OTHER)


def note_report(work: Work, row: OutboxMessage, report: Report) -> None:
    """A report moved a message forward, which is here as it was before."""
    unknown = row.state in (State.QUEUED, State.SENDING) and row.provider_id != report.provider_id
    if unknown:  # the provider's own answer was lost
        note_sent(work, row.kind, row.channel, report.provider)
    if row.kind.startswith(CODE) and report.said is Said.DELIVERED:
        work.count(figures.CODES_DELIVERED, row.channel, report.provider)


def note_proof(work: Work, challenge: OtpChallenge, method: str) -> None:
    """A challenge was answered by the code that was sent. Its provider is looked up later, for no sign-in to wait."""
    if challenges.goes_out(challenge) and method == challenge.channel:
        work.afterwards.append(partial(work.kit.proven.append, challenge.id))


def count_proven(kit: Kit) -> int:
    """Count the codes that came back for the provider that carried the last one. Returns how many.

    What a process has not counted when it ends is lost. Raises Unavailable; they are then counted the next time.
    """
    counted = 0
    while kit.proven:
        ids = [kit.proven.popleft() for _ in range(min(AT_ONCE, len(kit.proven)))]
        try:
            ways = run(kit, partial(_ways, ids=ids), reads=True)
        except Exception:
            kit.proven.extendleft(reversed(ids))
            raise
        for way in ways:
            figures.CODES_VERIFIED.labels(*way).inc()
        counted += len(ways)
    return counted


def _ways(work: Work, ids: Sequence[UUID]) -> list[tuple[str, str]]:
    """Channel and provider of each challenge's last message that a provider took."""
    row = OutboxMessage
    query = select(row.challenge_id, row.channel, row.provider).where(row.challenge_id.in_(ids), row.state.in_(TAKEN))
    newest = {
        challenge_id: (channel, provider)
        for challenge_id, channel, provider in work.db.execute(query.order_by(row.id))
        if provider
    }
    return list(newest.values())


def waiting(work: Work) -> list[Waiting]:
    """The queue of each channel."""
    return [_waiting(work, channel) for channel in CHANNELS]


def _waiting(work: Work, channel: str) -> Waiting:
    own = OutboxMessage.channel == channel
    later = (OutboxMessage.state == State.QUEUED, OutboxMessage.next_attempt_at > work.now)
    due_now = (own, outbox.claimable(work.now), outbox.OURS)
    due, rest = work.db.execute(select(_counted(*due_now), _counted(own, *later)), outbox.clock(work)).one()
    since = oldest_due(work, own)
    return Waiting(channel, due, rest, (work.now - since).total_seconds() if since else 0.0)


def oldest_due(work: Work, *where: Any) -> datetime | None:
    """Since when the longest waiting message (of some) could have been sent: the courier's lag. What another version
    has queued is not ours to send.
    """
    query = select(OutboxMessage.next_attempt_at).where(outbox.claimable(work.now), outbox.OURS, *where)
    return work.db.scalar(query.order_by(OutboxMessage.next_attempt_at).limit(1), outbox.clock(work))


def _counted(*where: ColumnElement[bool]) -> Any:
    some = select(literal(1)).select_from(OutboxMessage).where(*where).limit(MOST).subquery()
    return select(func.count()).select_from(some).scalar_subquery()
