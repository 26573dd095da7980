"""The courier: takes due messages from the outbox and hands them to the senders.

Threads of each web process by default, or `flask courier` processes; any number may run beside each other. Each
channel has a thread of its own: a hanging SMS provider keeps no mail waiting.
Nothing is sent inside a unit of work: claim, commit, send, then mark in a unit of its own. What went out quickly is
marked together, after a tenth of a second or after the one send that takes longer: a courier that dies before has those
repeated, each with the same code.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from app import logs
from app.core import api_keys, sessions
from app.delivery import compose, outbox, reports, tally
from app.delivery.compose import Claimed
from app.delivery.outbox import State
from app.delivery.senders import Reason, Receipt, Sender, SendFailed
from app.delivery.upkeep import Upkeep
from app.errors import Unavailable
from app.models.outbox import LONGEST_ID, LONGEST_NAME
from app.work import Client, Kit, Work, run

BATCH = 5
MARK_S = 0.1  # how long a message that was sent may wait for its mark while others are sent
POLL_S = 2.0  # how soon a message left by a dead process is found
UPKEEP_S = 5.0  # how soon upkeep that is due begins
STAMP_S = 60.0  # how often the last use of sessions and API keys is written
FIRST_RETRY_S = 1.0
LONGEST_RETRY_S = 900.0
LONGEST_CODE_RETRY_S = 20.0  # for a code: its reader waits, so it goes out soon after the provider is back
MOST_UNKNOWN = 3  # tries of a message that may have sent it
MOST_UNKNOWN_CODE = 5  # likewise of a code, whose reader waits
UNKNOWN_TRIES = "unknown_tries"  # a fact of a message: how many those were
STALE = timedelta(seconds=1)  # after which what a claim read is asked again
UNKNOWN_S = {"email": 5.0, "sms": 15.0}  # after the first such try; a report of an SMS may take so long
CLIENT = Client(user_agent="courier")
NEVER = datetime.min.replace(tzinfo=UTC)
CHANNELS = ("email", "sms")
STAMPING = "email"  # the thread that also stamps the last use of sessions

Bells = dict[str, threading.Event]

log = logging.getLogger("latchkey.courier")


def new_bells() -> Bells:
    return {channel: threading.Event() for channel in CHANNELS}


def ring(bells: Bells, channels: Iterable[str]) -> None:
    """Wake the threads that send on these channels."""
    for channel in channels:
        bells[channel].set()


class Courier:
    def __init__(self, kit: Kit, senders: Mapping[str, Sender], bells: Bells, *, sends: bool = True) -> None:
        """`senders`: one for each channel. `bells`: set when a message was queued in this process. Without
        `sends` it only stamps the last use of sessions: others send.
        """
        self.sends = sends
        self.kit = kit
        self._senders = senders
        self._bells = bells
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._stamped_at = NEVER  # not now: before the fork nobody asks for the time

    def start(self) -> None:
        """Run in threads of this process. Call it after the fork."""
        self._threads = [
            threading.Thread(target=self._run, args=(channel,), name=f"courier-{channel}", daemon=True)
            for channel in self._bells
        ]
        self._threads.append(threading.Thread(target=self._keep_up, name="courier-upkeep", daemon=True))
        for thread in self._threads:
            thread.start()

    def stop(self, patience: float = 10.0) -> None:
        """Finish the messages in hand and end. What is left stays queued."""
        self._stopping.set()
        ring(self._bells, self._bells)
        for thread in self._threads:
            thread.join(patience)

    def run(self) -> None:
        """Run until stopped: what `flask courier` does."""
        self.start()
        self._stopping.wait()
        self.stop()

    @property
    def alive(self) -> bool:
        return bool(self._threads) and all(thread.is_alive() for thread in self._threads)

    def _run(self, channel: str) -> None:
        """Send until stopped. A fault is logged and the loop goes on."""
        bell = self._bells[channel]
        while not self._stopping.is_set():
            bell.clear()
            try:
                busy = self.sends and self.round(channel) > 0
                if channel == STAMPING:
                    self._stamp()
            except Unavailable:
                log.warning("the database is away; messages wait")
                busy = False
            except Exception:
                log.exception("the courier stumbled")
                busy = False
            if not busy:
                bell.wait(_about(POLL_S))

    def _keep_up(self) -> None:
        """Upkeep has a thread of its own: no code waits for it."""
        upkeep = None
        while not self._stopping.wait(_about(UPKEEP_S)):
            try:
                upkeep = upkeep or Upkeep(self.kit)
                upkeep.tick()
            except Unavailable:
                log.warning("the database is away; upkeep waits")
            except Exception:
                log.exception("upkeep stumbled")

    def round(self, channel: str) -> int:
        """Claim a batch and deliver it. Returns how many messages were due: 0 means that nothing waits."""
        ids = run(self.kit, lambda work: outbox.due(work, channel, BATCH), client=CLIENT, reads=True)
        if not ids:
            return 0
        claimed = run(self.kit, lambda work: compose.claim(work, ids), client=CLIENT)
        self._deliver_all(claimed)
        return len(ids)

    def _deliver_all(self, claimed: list[Claimed]) -> None:
        taken: list[tuple[Claimed, Receipt]] = []  # by a provider, and not marked yet
        began = time.monotonic()
        try:
            for at, message in enumerate(claimed):
                if self._stopping.is_set():
                    self._give_back(claimed[at:])
                    break
                with _about_it(message):
                    if receipt := self._deliver(message):
                        taken.append((message, receipt))
                if time.monotonic() - began > MARK_S:
                    self._mark(taken)
                    began = time.monotonic()
        finally:
            self._mark(taken)

    def _give_back(self, untried: list[Claimed]) -> None:
        def release(work: Work) -> None:
            for each in untried:
                outbox.release(work, each.outgoing, each.lease, each.facts)

        run(self.kit, release, client=CLIENT)

    def _mark(self, taken: list[tuple[Claimed, Receipt]]) -> None:
        """Note of messages that they are sent, and forget them here."""
        marked = taken.copy()
        taken.clear()  # first: what cannot be marked is sent again when its lease ends, and not marked by then
        if marked:
            run(self.kit, partial(_note_sent, taken=marked), client=CLIENT)
        for message, receipt in marked:
            with _about_it(message):
                log.info(
                    "message is sent", extra={"fields": {"provider": receipt.provider, "attempts": message.attempts}}
                )

    def _stamp(self) -> None:
        if not (self.kit.seen or self.kit.seen_keys):
            return
        now = self.kit.clock()
        if abs(now - self._stamped_at).total_seconds() < STAMP_S:  # it may have been set back
            return
        self._stamped_at = now
        self._stamp_each(self.kit.seen, sessions.stamp_used)
        self._stamp_each(self.kit.seen_keys, api_keys.stamp)

    def _stamp_each(self, seen: dict[UUID, datetime], stamp: Callable[[Work, dict[UUID, datetime]], None]) -> None:
        stamped = dict(seen)
        if stamped:
            run(self.kit, lambda work: stamp(work, stamped), client=CLIENT)
        for each, at in stamped.items():
            if seen.get(each) == at:
                del seen[each]

    def _deliver(self, claimed: Claimed) -> Receipt | None:
        """Send a message, if it still should be. Returns what a provider said that took it."""
        out, now = claimed.outgoing, self.kit.clock()
        if now > claimed.leased_until - outbox.LEASE / 2:  # the ones before it took long
            self._give_back([claimed])
        elif out.expires_at and out.expires_at <= now:
            self._drop(claimed, "expired")
        elif not self._is_wanted(claimed, now):
            self._drop(claimed, "closed")
        else:
            return self._send(claimed)
        return None

    def _send(self, claimed: Claimed) -> Receipt | None:
        out, sender = claimed.outgoing, self._senders[claimed.outgoing.channel]
        try:
            return _storable(sender.send(out))
        except SendFailed as failed:
            failure = failed
        except Exception:
            log.exception("sender of %s stumbled over message %s", out.channel, out.id)
            failure = SendFailed(Reason.UNKNOWN, "the sender stumbled")
        failure.provider = reports.word(failure.provider or sender.name)[:LONGEST_NAME]
        failure.text = "".join(filter(str.isprintable, str(failure.text)))
        self._failed(claimed, failure)
        return None

    def _is_wanted(self, claimed: Claimed, now: datetime) -> bool:
        """Asked again if those before it took some time: its code may have been used meanwhile."""
        if now - claimed.claimed_at <= STALE:
            return True
        return run(self.kit, lambda work: compose.is_wanted(work, claimed), client=CLIENT, reads=True)

    def _drop(self, claimed: Claimed, why: str) -> None:
        run(self.kit, lambda work: compose.drop(work, claimed.outgoing, claimed.lease, why), client=CLIENT)

    def _failed(self, claimed: Claimed, failure: SendFailed) -> None:
        log.warning("message %s was not sent: %s (%s)", claimed.outgoing.id, failure.text, failure.reason)
        run(self.kit, lambda work: _again_or_never(work, claimed, failure), client=CLIENT)


def _about_it(claimed: Claimed) -> AbstractContextManager[None]:
    out = claimed.outgoing
    return logs.about(message_id=str(out.id), channel=out.channel, kind=out.kind)


def _storable(receipt: Receipt) -> Receipt:
    """What a sender returned, as far as a message can remember it and a report can name it: the sender may be an
    operator's own, and the id is anybody's words.
    """
    known = reports.word(str(receipt.provider_id or ""))[:LONGEST_ID]
    return Receipt(reports.word(receipt.provider)[:LONGEST_NAME], known or None)


def _note_sent(work: Work, taken: Iterable[tuple[Claimed, Receipt]]) -> None:
    for claimed, receipt in taken:
        out = claimed.outgoing
        if outbox.sent(work, out, claimed.lease, receipt.provider, receipt.provider_id):
            tally.note_sent(work, out.kind, out.channel, receipt.provider)


def _again_or_never(work: Work, claimed: Claimed, failure: SendFailed) -> None:
    """Queue a message again after a pause, if it would still come in time; else it has failed.

    The pause doubles up to a bound, and is at least what the provider asked for; after an 'unknown' it is longer and
    has no bound, for each such try may be a copy, and a report may say that one arrived: then another provider is tried
    first, and after a few of them the message is given up. A code has its last try just before its end.
    """
    out = claimed.outgoing
    longest = LONGEST_CODE_RETRY_S if out.expires_at else LONGEST_RETRY_S
    pause = _about(min(FIRST_RETRY_S * 2 ** (claimed.attempts - 1), longest))
    unknown = failure.reason is Reason.UNKNOWN
    tries = claimed.facts.get(UNKNOWN_TRIES, 0) + unknown
    patience = UNKNOWN_S[out.channel] * 2 ** (tries - 1) if unknown else 0.0
    at = work.now + timedelta(seconds=max(pause, failure.retry_after or 0, patience))
    if out.expires_at:
        at = min(at, out.expires_at - compose.LAST_TRY)
    last = out.expires_at or claimed.created_at + outbox.GIVE_UP
    enough = unknown and tries >= (MOST_UNKNOWN_CODE if out.expires_at else MOST_UNKNOWN)
    facts = claimed.facts | {outbox.ENDED: claimed.attempts}
    values: dict[str, Any] = {"last_error": failure.text[:255], "facts": facts}
    if unknown:
        values |= {"avoid": failure.provider, "facts": facts | {UNKNOWN_TRIES: tries}}
    if failure.reason is Reason.PERMANENT or enough or not work.now < at < last:
        if outbox.settle(work, out, claimed.lease, State.FAILED, **values):  # else a report came first, or a courier
            compose.note_dropped(work, out, failure.reason, failure.text)
        return
    outbox.settle(work, out, claimed.lease, State.QUEUED, next_attempt_at=at, **values)


def _about(seconds: float) -> float:
    """Spread by a fifth either way, so that couriers which began together do not go on together."""
    return seconds * random.uniform(0.8, 1.2)  # noqa: S311 (jitter, not a secret)
