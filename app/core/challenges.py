"""Challenges: a question asked of one person, for one purpose, at one destination.

Whoever verifies a code burns it: counting the guess, comparing it and using the challenge up are one
guarded UPDATE, so of a thousand at once one wins and wrong ones are counted to exactly the cap.
"""

from __future__ import annotations

import hmac
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, StrEnum
from uuid import UUID

from sqlalchemy import ColumnElement, SQLColumnExpression, and_, bindparam, delete, func, not_, or_, select, update
from sqlalchemy.orm import joinedload

from app.core import audit, sessions
from app.core.identifiers import Identifier, Kind
from app.crypto import codes
from app.crypto.ids import uuid7
from app.errors import ChallengeClosed
from app.models import OtpChallenge
from app.work import Work

FALLBACK_LANGUAGE = "en"
MAX_SENDS = 5  # messages one challenge allows, over all channels


class Purpose(StrEnum):
    SIGNUP = "signup"
    SIGNIN = "signin"
    RECOVERY = "recovery"
    CHANGE_EMAIL = "change_email"
    CHANGE_PHONE = "change_phone"
    STEP_UP = "step_up"  # once more, in a session that is open
    PHONE = "phone"  # passwordless: sign in, or begin an account
    FACTOR = "factor"  # what remains to be proven after a code by SMS; no message asks it
    PASSKEY = "passkey"  # whoever answers says who they are: it has no user
    NEW_PASSKEY = "new_passkey"  # to be made, in a session that is open


PROVEN = (Purpose.SIGNIN, Purpose.STEP_UP)  # asked of somebody who gave a password or a session: any method answers
ENDING = (Purpose.CHANGE_EMAIL, Purpose.CHANGE_PHONE, Purpose.NEW_PASSKEY)  # a right answer ends the user's others
UNSENT = (Purpose.FACTOR, Purpose.PASSKEY, Purpose.NEW_PASSKEY)
SENT = tuple(purpose for purpose in Purpose if purpose not in UNSENT)  # those that a message asks
ANYBODYS = (Purpose.RECOVERY, Purpose.PHONE)  # asked of an account by whoever names it
CHANNELS = ("email", "sms")  # those of messages
WITH_USER = select(OtpChallenge).options(joinedload(OtpChallenge.user))
SHOWN = {"totp": "authenticator app", "passkey": "passkey", "pwd": "password"}  # where no message goes


class Outcome(Enum):
    RIGHT = "right"
    WRONG = "wrong"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Question:
    """What a challenge asks. A decoy counts, expires, and no code is right; so does one with neither user nor sign-up.

    Without a destination no message asks it, for the person knows or has what is asked: the method `asks`.
    """

    purpose: Purpose
    destination: Identifier | None
    budget_key: str
    asks: str = ""
    user_id: UUID | None = None
    signup_id: UUID | None = None
    decoy: bool = False
    asked_by: UUID | None = None
    session_id: UUID | None = None
    stands_on: datetime | None = None  # the user's password_changed_at when the question arose
    methods: tuple[str, ...] = ()
    shown: str | None = None
    language: str | None = None  # of the person, if they chose one

    @property
    def subject(self) -> UUID | None:
        return self.user_id or self.signup_id


def channel_of(destination: Identifier) -> str:
    return "sms" if destination.kind is Kind.PHONE else "email"


def goes_out(row: OtpChallenge) -> bool:
    """True if a message carries the challenge's code."""
    return row.channel in CHANNELS


def destination(row: OtpChallenge) -> Identifier:
    """Where a challenge's code goes, if it `goes_out`."""
    return Identifier(Kind.PHONE if row.channel == "sms" else Kind.EMAIL, row.destination)


def subject(row: OtpChallenge) -> UUID | None:
    """Whom a challenge is about: a user, or the sign-up whose account will have its id. None if it is nobody."""
    return row.user_id or row.signup_id


def is_decoy(row: OtpChallenge) -> bool:
    """True if no code answers it. It ends with whoever asked, or their sign-up, as the question it stands in for."""
    return row.decoy or subject(row) is None


def issue(work: Work, question: Question) -> OtpChallenge:
    """Store a new challenge with a fresh code. Its expiry is fixed now and no resend moves it."""
    challenge_id, to = uuid7(work.now), question.destination
    about, own = None if question.decoy else question.subject, question.language
    others = work.caller.user_id not in (None, question.user_id)  # it asks for somebody else, in a language of its own
    row = OtpChallenge(
        id=challenge_id,
        purpose=question.purpose.value,
        channel=channel_of(to) if to else question.asks,
        destination=to.value if to else "",
        shown=question.shown or (to.masked if to else SHOWN[question.asks]),
        user_id=question.user_id,
        signup_id=question.signup_id,
        decoy=question.decoy,
        asked_by=question.asked_by,
        session_id=question.session_id,
        budget_key=question.budget_key,
        stands_on=question.stands_on,
        begun_by=sessions.client_keys(work)[0] if work.client.keeps_cookie else None,
        methods=" ".join(question.methods),
        language=(own if others else None) or work.client.language or own or FALLBACK_LANGUAGE,
        **codes.fresh(work.kit.keys, work.settings.otp_length, challenge_id, question.purpose, about),
        attempts=0,
        max_attempts=work.settings.otp_max_attempts,
        sends=1 if to else 0,
        last_sent_at=work.now if to else work.now - timedelta(seconds=work.settings.otp_resend_in),
        created_at=work.now,
        expires_at=work.now + life(work, question),
    )
    return work.add(row)


def life(work: Work, question: Question) -> timedelta:
    """How long the code of a question works."""
    s = work.settings
    by_sms = question.destination and question.destination.kind is Kind.PHONE
    usual = s.otp_ttl_sms if by_sms else s.otp_ttl
    return timedelta(seconds=s.otp_ttl_reset if question.purpose is Purpose.RECOVERY else usual)


FOUND = WITH_USER.where(OtpChallenge.id == bindparam("id"))


def find(work: Work, challenge_id: UUID) -> OtpChallenge | None:
    """A challenge with its user, in one statement, whatever its state."""
    return work.db.scalar(FOUND, {"id": challenge_id}, execution_options={"populate_existing": True})


def hold(work: Work, challenge_id: UUID, cap: int | None = None) -> OtpChallenge | None:
    """A challenge with its user, locked until the unit ends; None if no answer would be taken. `cap`: as `answer`."""
    held = FOUND.with_for_update(of=OtpChallenge)
    row = work.db.scalar(held, {"id": challenge_id}, execution_options={"populate_existing": True})
    return row if row and is_open(work, row) and (cap is None or row.attempts < cap) else None


NEWEST = (
    WITH_USER.where(OtpChallenge.destination == bindparam("to"), OtpChallenge.purpose == bindparam("purpose"))
    .order_by(OtpChallenge.id.desc())
    .limit(1)
)


def newest(work: Work, purpose: Purpose, destination: Identifier) -> OtpChallenge | None:
    """The newest challenge of a purpose at a destination, with its user, whatever its state."""
    return work.db.scalar(NEWEST, {"to": destination.value, "purpose": purpose})


def newest_of(work: Work, budget_key: str, purposes: Sequence[Purpose]) -> OtpChallenge | None:
    """The newest challenge that this kind of browser, in this network, has begun for an identifier, if it is open."""
    begun = (OtpChallenge.budget_key == budget_key, OtpChallenge.begun_by.in_(sessions.client_keys(work)))
    row = work.db.scalar(
        WITH_USER.where(*begun, OtpChallenge.purpose.in_(purposes)).order_by(OtpChallenge.id.desc()).limit(1)
    )
    return row if row and is_open(work, row) else None


def add_method(work: Work, row: OtpChallenge, method: str) -> bool:
    """Note on an open challenge that another method was proven beside it. False if it is gone."""
    methods = " ".join(dict.fromkeys([*row.methods.split(), method]))
    return work.changes(update(OtpChallenge).where(OtpChallenge.id == row.id).values(methods=methods)) == 1


def is_open(work: Work, row: OtpChallenge) -> bool:
    """True while a right code would be accepted."""
    unanswered = row.used_at is None and row.void_at is None
    return unanswered and row.expires_at > work.now and row.attempts < row.max_attempts


def is_right(work: Work, row: OtpChallenge, code: str) -> bool:
    """Compare a code with the digest in constant time. Decides nothing: `answer` does."""
    if row.key_id not in work.kit.keys.ids:
        return False
    given = codes.digest(work.kit.keys, row.key_id, code, challenge=row.id, purpose=row.purpose, subject=subject(row))
    return hmac.compare_digest(given, row.digest) and not is_decoy(row)


USED = bindparam("used", type_=OtpChallenge.used_at.type)
ANSWERED = (
    update(OtpChallenge)
    .where(OtpChallenge.id == bindparam("row"), OtpChallenge.used_at.is_(None), OtpChallenge.void_at.is_(None))
    .where(OtpChallenge.expires_at > bindparam("now"))
    .where(OtpChallenge.attempts < func.coalesce(bindparam("cap"), OtpChallenge.max_attempts))
    .where(or_(USED.is_(None), OtpChallenge.stands_on.is_not_distinct_from(bindparam("stood_on"))))
    .values(attempts=OtpChallenge.attempts + 1, used_at=USED)
)


def answer(work: Work, row: OtpChallenge, right: bool, *, burn: bool = True, cap: int | None = None) -> Outcome:
    """Count the guess and, if it is right, use the challenge up. One statement decides both.

    With `burn=False` a right guess is counted only: the caller refuses something else about the request. `cap`:
    fewer guesses than the challenge allows. One that changes a credential ends others: they are locked with it.
    """
    if right and row.user_id and row.purpose in ENDING:
        hold_all(work, row.user_id)
    used = work.now if right and burn else None
    if not work.changes(ANSWERED, row=row.id, now=work.now, cap=cap, used=used, stood_on=row.stands_on):
        return Outcome.CLOSED
    return Outcome.RIGHT if right else Outcome.WRONG


def attempts_left(work: Work, row: OtpChallenge) -> int:
    """Guesses that remain after the one just counted."""
    used = work.db.scalar(select(OtpChallenge.attempts).where(OtpChallenge.id == row.id)) or row.max_attempts
    return max(0, row.max_attempts - used)


def resend_in(work: Work, row: OtpChallenge) -> int:
    """Seconds until the challenge may be sent again; 0: now."""
    due = row.last_sent_at + timedelta(seconds=work.settings.otp_resend_in)
    return max(0, math.ceil((due - work.now).total_seconds()))


def sent_again(work: Work, row: OtpChallenge, destination: Identifier, shown: str, *, paced: bool = True) -> bool:
    """Take one of the challenge's sends, to the same or another proven destination, whose code is another: the answer
    says which was read. False if none is left or one was sent less than `resend_in` ago; not `paced`, only if the
    challenge has ended. Raises ChallengeClosed if it is gone.
    """
    due = work.now - timedelta(seconds=work.settings.otp_resend_in)
    pace = (OtpChallenge.sends < MAX_SENDS, OtpChallenge.last_sent_at <= due) if paced else ()
    to = {"channel": channel_of(destination), "destination": destination.value, "shown": shown}
    if destination.value != row.destination:
        to |= codes.fresh(work.kit.keys, work.settings.otp_length, row.id, row.purpose, subject(row))
    taken = work.changes(
        update(OtpChallenge)
        .where(OtpChallenge.id == row.id, OtpChallenge.destination == row.destination, *pace)
        .where(OtpChallenge.used_at.is_(None), OtpChallenge.void_at.is_(None), OtpChallenge.expires_at > work.now)
        .values(sends=OtpChallenge.sends + 1, last_sent_at=work.now, **to)
    )
    if find(work, row.id) is None:  # whom it was about was erased a moment ago, and is not named again
        raise audit.refusal(work, audit.Event.CODE_REFUSED, None, ChallengeClosed(), purpose=row.purpose)
    return taken == 1


def void_all(work: Work, user_id: UUID) -> int:
    """Take back every open challenge of a user: a changed credential ends what was begun with the old one.

    Not recoveries and codes by phone (`begun`), which would tell: they stand on password and address.
    """
    return work.changes(update(OtpChallenge).where(*voidable(user_id)).values(void_at=work.now))


def hold_all(work: Work, user_id: UUID) -> None:
    """Lock what `void_all` takes back."""
    work.begin_writing()
    work.db.execute(select(OtpChallenge.id).where(*voidable(user_id)).order_by(OtpChallenge.id).with_for_update())


def voidable(user_id: UUID | SQLColumnExpression[UUID]) -> list[ColumnElement[bool]]:
    """Which challenges `void_all` takes back, of a user by id or by the column of another statement."""
    unanswered = [OtpChallenge.used_at.is_(None), OtpChallenge.void_at.is_(None)]
    return [OtpChallenge.user_id == user_id, OtpChallenge.purpose.not_in(ANYBODYS), *unanswered]


def of_user(work: Work, user_id: UUID) -> list[OtpChallenge]:
    """Every stored challenge about a user or the sign-up before. Of those to an address that is not theirs only the
    proven: whether the others were asked for real would tell whose the address is.
    """
    wanted = OtpChallenge.purpose.in_((Purpose.SIGNUP, Purpose.CHANGE_EMAIL, Purpose.CHANGE_PHONE))
    about = and_(
        or_(OtpChallenge.user_id == user_id, OtpChallenge.signup_id == user_id),
        or_(not_(wanted), OtpChallenge.used_at.is_not(None)),
    )
    return list(work.db.scalars(select(OtpChallenge).where(about).order_by(OtpChallenge.id)))


def forget_destinations(work: Work, destinations: list[Identifier]) -> None:
    """Delete every challenge to these addresses, decoys among them."""
    at = [destination.value for destination in destinations]
    work.changes(delete(OtpChallenge).where(OtpChallenge.destination.in_(at)))
