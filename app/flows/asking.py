"""Asking for a proof by code: leave to send, the question, its message; the same code again. For every purpose."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

from app.core import accounts, audit, challenges, lockout, policy, sends
from app.core.audit import Event
from app.core.challenges import Purpose, Question
from app.core.identifiers import Identifier, Kind
from app.core.policy import Step
from app.delivery import outbox
from app.delivery.outbox import Notice
from app.errors import ChallengeClosed, Forbidden, RateLimited, Refusal, ResendTooSoon, ValidationFailed
from app.models import OtpChallenge, User
from app.work import Work


def ask_leave(
    work: Work, event: Event, typed: Identifier, to: Identifier | None = None, *, user_id: UUID | None = None
) -> None:
    """Take one message from the budget of what was typed, before anything else is changed. `to`: where the message
    goes, if that is another address. `user_id`: whose refusal it is, if that is known. Raises RateLimited.
    """
    wait = sends.ask(work, typed, to)
    if wait:
        raise audit.refusal(work, event, typed.masked, RateLimited(retry_after=wait), user_id=user_id)


def ask_for(
    work: Work,
    user: User,
    step: Step,
    purpose: Purpose,
    event: Event,
    *,
    budget_key: str,
    channel: str | None = None,
    methods: tuple[str, ...] = (),
    session_id: UUID | None = None,
) -> OtpChallenge:
    """Ask somebody who has proven something already (`methods`) for one of a step's methods: by the wished channel, or
    the first. No message is sent for what the person knows or has. Raises Forbidden if no method is left, RateLimited.
    """
    if step == policy.NO_WAY:
        raise audit.refusal(work, event, None, Forbidden(), user_id=user.id)
    chosen = channel if channel in step.methods else _first(work, step)
    question = Question(
        purpose,
        accounts.contact(user, chosen),
        budget_key,
        asks=chosen,
        user_id=user.id,
        session_id=session_id,
        stands_on=user.password_changed_at,
        methods=methods,
        language=user.language,
    )
    if question.destination:
        # Where a page is sent a code in a passkey's place, an address without a message left keeps nobody out.
        spared = chosen != channel and step.methods[0] == policy.PASSKEY
        instead = replace(question, destination=None, asks=policy.PASSKEY) if spared else None
        return _ask_in_turn(work, question, question.destination, event, instead)
    return challenges.issue(work, question)


def _first(work: Work, step: Step) -> str:
    """A classic page has a field for a code and no more: it is sent one before a passkey is asked for."""
    sent = [method for method in step.methods if method in policy.CONTACTS]
    by_message = work.client.keeps_cookie and step.methods[0] == policy.PASSKEY and sent
    return sent[0] if by_message else step.methods[0]


def _ask_in_turn(
    work: Work, question: Question, destination: Identifier, event: Event, instead: Question | None
) -> OtpChallenge:
    """If the destination's budget is spent for this minute, the code waits its turn rather than being refused. If its
    turn would come too late, another question `instead`; without one it raises RateLimited.
    """
    wait = sends.charge(work, destination, invited=question.purpose is not Purpose.STEP_UP)
    late = wait >= challenges.life(work, question).total_seconds()
    if late and instead:
        return challenges.issue(work, instead)
    if late:
        refused = RateLimited(retry_after=wait)
        raise audit.refusal(work, event, destination.masked, refused, user_id=question.user_id)
    challenge = challenges.issue(work, question)
    outbox.code(work, challenge, wait)
    return challenge


def ask(
    work: Work,
    question: Question,
    owner: User | None = None,
    warning: Notice | None = None,
    *,
    invited: bool = False,
    act: str | None = None,
) -> OtpChallenge:
    """Store the question and queue its code; over the destination's budget it waits its turn, and nothing tells. The
    caller has taken leave (`ask_leave`). A code for which the day has no message left is nobody's to know: the question
    is a decoy then, or whoever asks without end could guess without end at codes that reach no mailbox.

    If the destination is an account's already (`owner`), the question is a decoy that no code answers, and
    the owner gets `warning` in place of the code. `act`: what the message says that the code is for, if not the
    purpose.
    """
    assert question.destination is not None
    wait = sends.charge(work, question.destination, invited=invited)
    taken = owner is not None and warning is not None
    unsent = sends.is_spent(wait) or wait >= challenges.life(work, question).total_seconds()
    decoy = replace(question, decoy=True, user_id=question.asked_by)
    challenge = challenges.issue(work, decoy if taken or unsent else question)
    if unsent:  # now, like any other: how long it waited would tell
        outbox.code(work, challenge, act=act, unsent=owner.id if owner else question.subject)
    elif owner and warning:
        outbox.warn(work, warning, owner, challenge, wait)
    else:
        outbox.code(work, challenge, wait, act)
    return challenge


def ask_contact(work: Work, user_id: UUID, session_id: UUID, address: Identifier) -> OtpChallenge:
    """Ask for the proof of an address that shall become the user's. The caller has taken leave."""
    purpose = Purpose.CHANGE_PHONE if address.kind is Kind.PHONE else Purpose.CHANGE_EMAIL
    question = Question(
        purpose, address, lockout.key(address), user_id=user_id, asked_by=user_id, session_id=session_id
    )
    owner = accounts.by_identifier(work, address)
    challenge = ask(work, question, owner, Notice.CHANGE_TRIED)
    audit.record(
        work, Event.CONTACT_CHANGE_STARTED, address.masked,
        user_id=user_id, channel=challenge.channel, decoy=owner is not None,
    )  # fmt: skip
    return challenge


def ask_again(work: Work, challenge_id: UUID | None, channel: str | None = None) -> OtpChallenge:
    """Send the code of an open challenge again: the same digits while it lives, so the first to arrive works.

    In a sign-in, with another `channel`, to the person's other address, if there is one, and then it is another code
    (`docs/adr/0035`); where an app's code is asked, to an address in its place. Raises ChallengeClosed, ResendTooSoon,
    RateLimited, ValidationFailed if there is no address at all.
    """
    row = challenges.find(work, challenge_id) if challenge_id else None
    if row is None or not challenges.is_open(work, row) or row.purpose in challenges.UNSENT:
        raise refusal(work, row, ChallengeClosed())
    wait = challenges.resend_in(work, row)
    if wait:
        raise refusal(work, row, ResendTooSoon(retry_after=wait))
    if row.sends >= challenges.MAX_SENDS:
        left = int((row.expires_at - work.now).total_seconds()) + 1
        raise refusal(work, row, RateLimited(retry_after=left))
    destination = _goes_to(row, channel)
    if destination is None:
        nowhere = ValidationFailed.field("channel", "no_address", "No code can be sent for this.")
        raise refusal(work, row, nowhere)
    return _send_again(work, row, destination, paced=True)


def repeat(work: Work, row: OtpChallenge) -> OtpChallenge:
    """Send the code of an open challenge again for somebody who has taken leave (`ask_leave`), which is pace enough.

    Raises ChallengeClosed.
    """
    return _send_again(work, row, challenges.destination(row), paced=False)


def _send_again(work: Work, row: OtpChallenge, destination: Identifier, *, paced: bool) -> OtpChallenge:
    shown = row.shown if destination.value == row.destination else destination.masked
    wait = sends.charge(work, destination, invited=_is_invited(row))
    if not challenges.sent_again(work, row, destination, shown, paced=paced):
        soon = ResendTooSoon(retry_after=max(1, challenges.resend_in(work, row)))
        raise refusal(work, row, soon if paced else ChallengeClosed())
    outbox.code(work, row, wait)
    about = challenges.subject(row)
    audit.record(work, Event.CODE_SENT_AGAIN, row.shown, user_id=about, purpose=row.purpose, channel=row.channel)
    return row


def _is_invited(row: OtpChallenge) -> bool:
    """True if the owner's password or phone asked for it: half of a day's messages are for those alone. By phone
    anybody can ask, and it is the owner's only way in where there is no password; a session may be stolen.
    """
    if row.purpose == Purpose.PHONE:  # a decoy may be of an account that has one
        by_phone_alone = row.user.password_hash is None if row.user else row.signup_id is not None
        return by_phone_alone and not challenges.is_decoy(row)
    return row.purpose == Purpose.SIGNIN


def _goes_to(row: OtpChallenge, channel: str | None) -> Identifier | None:
    """Where a challenge's code goes when it is asked for again: of a sign-in or step-up, to any proven address of the
    same person that policy takes.

    What a sign-up or a change asks about is fixed, because a code that reached one address must not prove
    another; and a recovery would tell whether there is another.
    """
    if row.purpose not in challenges.PROVEN or row.user is None:
        return challenges.destination(row)
    reached = {method: accounts.contact(row.user, method) for method in methods_of(row, row.user)}
    open_to = {method: address for method, address in reached.items() if address}
    return open_to.get(channel or "") or open_to.get(row.channel) or next(iter(open_to.values()), None)


def methods_of(row: OtpChallenge, user: User) -> tuple[str, ...]:
    """The methods that may answer a sign-in or step-up."""
    standing = accounts.standing(user)
    if row.purpose == Purpose.STEP_UP:
        return policy.again(standing).methods
    left = policy.next_step(standing, frozenset(row.methods.split()), "required").methods
    return left or policy.again(standing).methods  # none, where a recovery is over by now: any will do


def refusal(work: Work, row: OtpChallenge | None, refused: Refusal) -> Refusal:
    """Write the row of a refusal about a challenge and hand it back to be raised."""
    facts = {"purpose": row.purpose} if row else {}
    if "attempts_left" in refused.extra:
        facts |= {"attempts_left": refused.extra["attempts_left"]}
    shown, about = (row.shown, challenges.subject(row)) if row else (None, None)
    return audit.refusal(work, Event.CODE_REFUSED, shown, refused, user_id=about, **facts)
