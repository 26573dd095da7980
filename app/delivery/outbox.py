"""The outbox: messages are rows, written with the fact that they tell, claimed and settled by the courier.

At least once: a courier that dies between 'sent' and 'marked' leaves a lease that lapses, and the next one
sends the same code again. No row holds a code.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import timedelta
from enum import StrEnum
from typing import Any, Protocol
from uuid import UUID

from sqlalchemy import ColumnElement, and_, bindparam, delete, or_, select, update
from sqlalchemy.orm import joinedload

from app.core import accounts, challenges, shield, signups
from app.core.challenges import channel_of
from app.core.identifiers import Identifier, Kind
from app.crypto.ids import uuid7
from app.models import OtpChallenge, OutboxMessage, Signup, User
from app.models.outbox import State
from app.work import Work

LEASE = timedelta(seconds=30)
MOST_S = LEASE.total_seconds() / 2  # within which a send ends


class Notice(StrEnum):
    NEW_SIGNIN = "notice.new_signin"
    PASSWORD_CHANGED = "notice.password_changed"  # noqa: S105 (a name of a message)
    CONTACT_CHANGED = "notice.contact_changed"
    FACTOR_ADDED = "notice.factor_added"
    FACTOR_REMOVED = "notice.factor_removed"
    FACTORS_RESET = "notice.factors_reset"
    BACKUP_CODES_MADE = "notice.backup_codes_made"
    BACKUP_CODE_USED = "notice.backup_code_used"
    SIGNUP_TRIED = "notice.signup_tried"
    CHANGE_TRIED = "notice.change_tried"
    TOKEN_REUSED = "notice.token_reused"  # noqa: S105 (a name of a message)
    ACCOUNT_ERASED = "notice.account_erased"
    SHIELD_CLOSED = "notice.shield_closed"


INVITE = "invite"  # the code with which somebody sets the first password of an account that was made for them
UNPAID = "unpaid"  # a fact of a message that has still to be taken from its destination's budget
COUNTED = "counted"  # a fact of a message: what it costs is counted already, and its last try sent nothing for sure
UNSENT = "unsent_tries"  # a fact of a message: how many of its tries sent nothing for sure
ENDED = "ended"  # a fact of a message: up to which of its tries it is known what came of them


class Named(Protocol):
    """A message, claimed or as it goes out."""

    @property
    def id(self) -> UUID: ...
    @property
    def kind(self) -> str: ...
    @property
    def channel(self) -> str: ...


NOBODY = shield.NOBODY  # why a decoy is dropped
SPENT = shield.SPENT  # why the message of a decoy is dropped that is one because its destination's day is spent
SHIELD = "shield_"  # how the shield's reasons begin
DECOY = "decoy"  # a message to nobody: the same work as a real one
CODES = tuple(f"code.{act}" for act in (*challenges.SENT, INVITE))
KINDS = (DECOY, *CODES, *map(str, Notice))  # what this version can make
GIVE_UP = timedelta(days=1)  # for a message that has no expiry of its own


def code(
    work: Work, challenge: OtpChallenge, wait: int = 0, act: str | None = None, *, unsent: UUID | None = None
) -> None:
    """Queue the code of a challenge to its destination; for a decoy, a message that is never sent.

    With `wait` seconds its destination's budget is spent: the courier takes it from the budget when it sends. `act`: of
    what kind the message is, if not of the challenge's purpose. `unsent`: whom a decoy is about whose message is one
    too many, so that it is audited as theirs that it is dropped.
    """
    about = unsent if challenges.is_decoy(challenge) else challenges.subject(challenge)
    kind = f"code.{act or challenge.purpose}" if about else DECOY
    # A code to an address that somebody wants is not theirs yet, nor in their export.
    whose = None if challenge.asked_by else about
    to = challenges.destination(challenge)
    _queue(work, kind, to, whose, language=challenge.language, facts={}, asks=challenge, wait=wait)


def warn(work: Work, kind: Notice, owner: User, challenge: OtpChallenge, wait: int) -> None:
    """Queue, in place of a decoy's code, the notice to the owner of its destination; under the same budget."""
    to, language = challenges.destination(challenge), _language(work, owner)
    _queue(work, kind, to, owner.id, language=language, facts=_where(work), asks=challenge, wait=wait)


def notice(work: Work, kind: Notice, to: Identifier, user: User, **facts: Any) -> None:
    """Queue a security notice to one address of a user, in their language, with when and from where."""
    whose = None if kind is Notice.ACCOUNT_ERASED else user.id  # the row goes with what is erased under its name
    _queue(work, kind, to, whose, language=_language(work, user), facts=_where(work) | facts)


def _language(work: Work, user: User) -> str:
    own = work.client.language if work.caller.user_id == user.id else ""
    return user.language or own or challenges.FALLBACK_LANGUAGE


def _where(work: Work) -> dict[str, Any]:
    return {"at": work.now.isoformat(), "ip": work.client.address, "client": work.client.user_agent}


def tell(work: Work, user: User, kind: Notice, **facts: Any) -> None:
    """Queue a security notice to every proven address of a user (ASVS 6.3.7)."""
    for address in accounts.contacts(user):
        notice(work, kind, address, user, **facts)


def _queue(
    work: Work,
    kind: str,
    to: Identifier,
    user_id: UUID | None,
    *,
    language: str,
    facts: dict[str, Any],
    asks: OtpChallenge | None = None,
    wait: int = 0,
) -> None:
    """`asks`: the challenge that the message is about. With `wait` seconds, it has still to be paid for then."""
    message_id, channel = uuid7(work.now), channel_of(to)
    row = {
        "id": message_id,
        "kind": kind,
        "channel": channel,
        "recipient": to.value,
        "language": language,
        "country": to.country,
        "user_id": user_id,
        "challenge_id": asks.id if asks else None,
        "expires_at": asks.expires_at if asks else None,
        "facts": {**facts, UNPAID: True} if wait else facts,
        "state": State.QUEUED.value,
        "attempts": 0,
        "next_attempt_at": work.now + timedelta(seconds=wait),
        "created_at": work.now,
    }
    work.insert(OutboxMessage, row)
    work.wakes.add(channel)
    work.tell("message is queued", message_id=str(message_id), channel=channel, kind=kind)


def recipient(row: OutboxMessage) -> Identifier:
    return Identifier(Kind.PHONE if row.channel == "sms" else Kind.EMAIL, row.recipient)


def again(work: Work, row: OutboxMessage) -> bool:
    """Queue a message that failed or was dropped once more. False if it was not, or is on its way again by now."""
    given_up = (OutboxMessage.id == row.id, OutboxMessage.state.in_((State.FAILED, State.DROPPED)))
    fresh = {"state": State.QUEUED, "next_attempt_at": work.now, "settled_at": None, "lease": None, "avoid": None}
    fresh["facts"] = row.facts | {ENDED: row.attempts}
    if work.changes(update(OutboxMessage).where(*given_up).values(fresh)) != 1:
        return False
    work.wakes.add(row.channel)
    work.db.refresh(row)
    return True


def forget_person(work: Work, user: User) -> None:
    """Delete the messages of a user, sent or not. What others are told of what the user asked is theirs: it stays, and
    lets go of the question, which ends with the user; with it go those that were to nobody.
    """
    work.changes(delete(OutboxMessage).where(OutboxMessage.user_id == user.id))
    theirs = select(Signup.id).where(signups.is_of(user))
    asked = or_(OtpChallenge.user_id == user.id, OtpChallenge.signup_id.in_(theirs))
    decoys = select(OtpChallenge.id).where(OtpChallenge.decoy.is_(True), asked)
    to_others = (OutboxMessage.user_id.is_not(None), OutboxMessage.user_id.not_in(theirs))
    told = update(OutboxMessage).where(OutboxMessage.challenge_id.in_(decoys), *to_others)
    work.changes(told.values(challenge_id=None))


def claimable(now: Any) -> Any:
    """Whether a message may be claimed at an instant, or at that of a parameter."""
    waiting = and_(OutboxMessage.state == State.QUEUED, OutboxMessage.next_attempt_at <= now)
    lapsed = and_(OutboxMessage.state == State.SENDING, OutboxMessage.leased_until <= now)
    return or_(waiting, lapsed)


# What another version queued is left to it, as long as it is of use.
OURS = or_(
    OutboxMessage.kind.in_(KINDS),
    OutboxMessage.expires_at <= bindparam("now"),
    OutboxMessage.created_at <= bindparam("given_up"),
)
ON = (claimable(bindparam("now")), OutboxMessage.channel == bindparam("on"), OURS)
DUE = (
    select(OutboxMessage.id, OutboxMessage.recipient)
    .where(*ON)
    .order_by(OutboxMessage.kind == DECOY, OutboxMessage.created_at.desc())
    .limit(bindparam("most"))
)
OLDER = (
    select(OutboxMessage.id)
    .join(OtpChallenge, OtpChallenge.id == OutboxMessage.challenge_id)
    .where(OtpChallenge.destination.in_(bindparam("to", expanding=True)), OutboxMessage.kind != DECOY)
    .where(*ON)
    .where(OutboxMessage.id.not_in(bindparam("ids", expanding=True)))
    .limit(bindparam("most"))
)


def clock(work: Work) -> dict[str, Any]:
    """What `OURS` is asked with."""
    return {"now": work.now, "given_up": work.now - GIVE_UP}


def due(work: Work, channel: str, limit: int) -> list[UUID]:
    """What may be claimed of a channel now: the newest, decoys last; of a queue, older codes to the same people too."""
    given = clock(work) | {"on": channel, "most": limit}
    found = work.db.execute(DUE, given).all()
    ids = [each.id for each in found]
    if len(found) == limit:  # left for later, they would come after these
        ids += work.db.scalars(OLDER, given | {"ids": ids, "to": [each.recipient for each in found]})
    return ids


WANTED = (OutboxMessage.id.in_(bindparam("ids", expanding=True)), claimable(bindparam("now")))
CLAIMED = (
    update(OutboxMessage)
    .where(*WANTED)
    .values(state=State.SENDING, lease=bindparam("ours"), leased_until=bindparam("till"))
    .values(attempts=OutboxMessage.attempts + 1)
)
# To wait for a row that another courier marks, with others locked that it marks next, is a deadlock. MySQL may not read
# the table that it updates: there the unit is done again.
PASSING = CLAIMED.where(OutboxMessage.id.in_(select(OutboxMessage.id).where(*WANTED).with_for_update(skip_locked=True)))
MINE = (
    select(OutboxMessage)
    .where(OutboxMessage.lease == bindparam("ours"))
    .order_by(OutboxMessage.created_at.desc())
    .options(joinedload(OutboxMessage.challenge))
)


def claim(work: Work, ids: Sequence[UUID]) -> list[OutboxMessage]:
    """Take what is still free of these under one lease, each with its challenge. Two couriers never hold the same
    message.
    """
    lease = secrets.token_hex(16)
    statement = PASSING if work.db.get_bind().dialect.name == "postgresql" else CLAIMED
    if not work.changes(statement, ids=ids, now=work.now, ours=lease, till=work.now + LEASE):
        return []
    return list(work.db.scalars(MINE, {"ours": lease}))


def release(work: Work, message: Named, lease: str | None, facts: dict[str, Any]) -> bool:
    """Give a message back untried, so that it need not wait for its lease to lapse, nor be counted again."""
    untried: dict[str, Any] = {"attempts": OutboxMessage.attempts - 1, "facts": facts | {COUNTED: True}}
    work.wakes.add(message.channel)
    return settle(work, message, lease, State.QUEUED, **untried)


SENT = (
    update(OutboxMessage)
    .where(OutboxMessage.id == bindparam("row"), OutboxMessage.lease == bindparam("ours"))
    .values(state=State.SENT, provider=bindparam("by"), provider_id=bindparam("as_what"), settled_at=bindparam("at"))
    .values(lease=None, leased_until=None, last_error=None)
)


def sent(work: Work, message: Named, lease: str | None, provider: str, provider_id: str | None) -> bool:
    """Settle a message that a provider took."""
    if message.kind == Notice.ACCOUNT_ERASED:
        return settle(work, message, lease, State.SENT)
    ours = {"row": message.id, "ours": lease}
    return work.changes(SENT, **ours, by=provider, as_what=provider_id, at=work.now) == 1


def settle(work: Work, message: Named, lease: str | None, state: State, **values: Any) -> bool:
    """Write what became of a message, if the lease is still ours. False if another courier has it by now."""
    return become(work, message, OutboxMessage.lease == lease, state, **values)


def become(work: Work, message: Named, unchanged: ColumnElement[bool], state: State, **values: Any) -> bool:
    """Write what became of a message, whoever has it; False unless it still is as `unchanged` says. The notice of an
    erasure goes once it is settled: it is the last place that knows the address.
    """
    same = (OutboxMessage.id == message.id, unchanged)
    settled = state is not State.QUEUED
    if settled and message.kind == Notice.ACCOUNT_ERASED:
        return work.changes(delete(OutboxMessage).where(*same)) == 1
    known = {"state": state, "lease": None, "leased_until": None, "settled_at": work.now if settled else None}
    return work.changes(update(OutboxMessage).where(*same).values(known | values)) == 1
