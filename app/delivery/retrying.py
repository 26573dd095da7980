"""What becomes of a message that could not be sent: when it is tried again, and when it is given up."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

from app.delivery import compose, outbox
from app.delivery.compose import Claimed
from app.delivery.senders import Reason, SendFailed
from app.models.outbox import State
from app.work import Work

FIRST_RETRY_S = 1.0
LONGEST_RETRY_S = 900.0
LONGEST_CODE_RETRY_S = 20.0  # for a code: its reader waits, so it goes out soon after the provider is back
MOST_UNKNOWN = 3  # tries of a message that may have sent it
MOST_UNKNOWN_CODE = 5  # likewise of a code, whose reader waits
UNKNOWN_TRIES = "unknown_tries"  # a fact of a message: how many those were
UNKNOWN_S = {"email": 5.0, "sms": 15.0}  # after the first such try; a report of an SMS may take so long


def again_or_never(work: Work, claimed: Claimed, failure: SendFailed) -> None:
    """Queue a message again after a pause, if it would still come in time; else it has failed.

    The pause doubles up to a bound, and is at least what the provider asked for; after an 'unknown' it is longer and
    has no bound, for each such try may be a copy, and a report may say that one arrived: then another provider is tried
    first, and after a few of them the message is given up. A code has its last try just before its end.
    """
    out = claimed.outgoing
    longest = LONGEST_CODE_RETRY_S if out.expires_at else LONGEST_RETRY_S
    pause = about(min(FIRST_RETRY_S * 2 ** (claimed.attempts - 1), longest))
    unknown = failure.reason is Reason.UNKNOWN
    tries = claimed.facts.get(UNKNOWN_TRIES, 0) + unknown
    patience = UNKNOWN_S[out.channel] * 2 ** (tries - 1) if unknown else 0.0
    at = work.now + timedelta(seconds=max(pause, failure.retry_after or 0, patience))
    if out.expires_at:
        at = min(at, out.expires_at - compose.LAST_TRY)
    last = out.expires_at or claimed.created_at + outbox.GIVE_UP
    enough = unknown and tries >= (MOST_UNKNOWN_CODE if out.expires_at else MOST_UNKNOWN)
    facts = claimed.facts | {outbox.ENDED: claimed.attempts}
    values: dict[str, Any] = {"last_error": failure.text[:255]}
    if unknown:
        values |= {"avoid": failure.provider, "facts": facts | {UNKNOWN_TRIES: tries}}
    else:
        unsent = claimed.facts.get(outbox.UNSENT, 0) + 1
        values |= {"facts": facts | {outbox.COUNTED: True, outbox.UNSENT: unsent}}
    if failure.reason is Reason.PERMANENT or enough or not work.now < at < last:
        if outbox.settle(work, out, claimed.lease, State.FAILED, **values):  # else a report came first, or a courier
            compose.note_dropped(work, out, failure.reason, failure.text)
        return
    outbox.settle(work, out, claimed.lease, State.QUEUED, next_attempt_at=at, **values)


def about(seconds: float) -> float:
    """Spread by a fifth either way, so that couriers which began together do not go on together."""
    return seconds * random.uniform(0.8, 1.2)  # noqa: S311 (jitter, not a secret)


def at_most(seconds: float) -> float:
    """Any time up to this, so that nobody knows when what they asked for is begun."""
    return random.uniform(0, seconds)  # noqa: S311 (jitter, not a secret)
