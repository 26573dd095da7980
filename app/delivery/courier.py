"""The courier: takes due messages from the outbox and hands them to the senders.

Threads of each web process by default, or `flask courier` processes; any number may run beside each other. Each
channel has a thread of its own: a hanging SMS provider keeps no mail waiting.
Nothing is sent inside a unit of work: claim, commit, send, then mark in a unit of its own. What went out quickly is
marked together, after a tenth of a second or after the one send that takes longer: a courier that dies before has those
repeated, each with the same code.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import UUID

from app import logs
from app.core import api_keys, sessions
from app.delivery import compose, outbox, reports, retrying, tally
from app.delivery.compose import Claimed
from app.delivery.senders import Reason, Receipt, Sender, SendFailed
from app.delivery.upkeep import Upkeep
from app.errors import Unavailable
from app.models.outbox import LONGEST_ID, LONGEST_NAME
from app.work import Client, Kit, Work, run

BATCH = 5
MARK_S = 0.1  # how long a message that was sent may wait for its mark while others are sent
SPREAD_S = 0.25  # at most, by chance, until what was just asked for is begun: a second request tells nothing of it
POLL_S = 2.0  # how soon a message left by a dead process is found
UPKEEP_S = 5.0  # how soon upkeep that is due begins
STAMP_S = 60.0  # how often the last use of sessions and API keys is written
STALE = timedelta(seconds=1)  # after which what a claim read is asked again
MARKING_S = 2.0  # how long it may take to note what came of a message
PATIENCE_S = outbox.MOST_S + MARKING_S  # how long a stop waits for the messages that were begun
NOBODYS = Receipt(outbox.NOBODY)  # of a message to nobody
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
        self._untried: dict[UUID, Claimed] = {}  # claimed by our threads, and not begun
        self._lock = threading.Lock()  # of these
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

    def halt(self) -> None:
        """Begin no other message. It waits for nothing, so a signal's handler may call it; `stop` does the rest."""
        self._stopping.set()
        ring(self._bells, self._bells)

    def stop(self, patience: float = PATIENCE_S) -> None:
        """Give back at once what is claimed and not begun, for others to send, and wait until what is begun has ended:
        `patience` seconds in all. What is left stays queued.
        """
        deadline = time.monotonic() + patience
        self.halt()
        try:
            self._give_back_untried()
        except Exception:
            log.exception("messages that were not begun wait until their lease ends")
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

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
            except Unavailable as away:
                log.warning("the database is away (%s); messages wait", away.extra.get("cause"))
                busy = False
            except Exception:
                log.exception("the courier stumbled")
                busy = False
            if not busy and bell.wait(retrying.about(POLL_S)):
                self._stopping.wait(retrying.at_most(SPREAD_S))

    def _keep_up(self) -> None:
        """Upkeep has a thread of its own: no code waits for it."""
        upkeep = None
        while not self._stopping.wait(retrying.about(UPKEEP_S)):
            try:
                upkeep = upkeep or Upkeep(self.kit)
                upkeep.tick()
            except Unavailable as away:
                log.warning("the database is away (%s); upkeep waits", away.extra.get("cause"))
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
        with self._lock:
            self._untried |= {message.outgoing.id: message for message in claimed}
        try:
            for message in claimed:
                if self._stopping.is_set():
                    self._give_back_untried()
                    break
                if not self._begins(message):  # a stop has given it back just now
                    continue
                with _about_it(message):
                    if receipt := self._deliver(message):
                        taken.append((message, receipt))
                if time.monotonic() - began > MARK_S:
                    self._mark(taken)
                    began = time.monotonic()
        finally:
            for message in claimed:
                self._begins(message)  # none: what a fault has left waits until its lease ends
            self._mark(taken)

    def _begins(self, message: Claimed) -> bool:
        """Take a message out of those that were not begun. False if it is none of them any more."""
        with self._lock:
            return self._untried.pop(message.outgoing.id, None) is not None

    def _give_back_untried(self) -> None:
        with self._lock:
            untried, self._untried = list(self._untried.values()), {}
        if untried:
            self._give_back(untried)

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
                    "message is to nobody" if receipt is NOBODYS else "message is sent",
                    extra={"fields": {"provider": receipt.provider, "attempts": message.attempts}},
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
        elif out.kind == outbox.DECOY:
            return NOBODYS
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
        run(self.kit, lambda work: retrying.again_or_never(work, claimed, failure), client=CLIENT)


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
        if receipt is NOBODYS:
            compose.drop(work, out, claimed.lease, outbox.NOBODY)
        elif outbox.sent(work, out, claimed.lease, receipt.provider, receipt.provider_id):
            tally.note_sent(work, out.kind, out.channel, receipt.provider)
