"""What must hold after every fault, asked of the database, the mailbox, the SMS provider and the clients' journal.

Each invariant is a function that yields what is wrong: nothing, if it holds.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from app.core import lockout, locks
from app.core.identifiers import Identifier, Kind
from app.core.passwords import bytes_of
from app.crypto import sealing, totp
from app.crypto.keys import Purpose
from app.db import Base
from app.delivery.outbox import DECOY
from app.models import (
    AuditLog,
    Authenticator,
    OtpChallenge,
    OutboxMessage,
    RefreshToken,
    Session,
    Signup,
    Throttle,
    User,
)
from app.models.outbox import State
from bench.journal import UNKNOWN
from bench.scene import WAITING, Scene, Wrong, utc
from bench.secrecy import nothing_leaks
from bench.strangers import BUDGET, CAP

SIGN_INS = ("signup.completed", "signin.completed")
CLOCKS_S = 2.0  # between the courier's last look at the time and the arrival of a message
SHOWN = 3  # of the ended sessions of somebody that are tried
TRIED = 40  # people whose ended sessions are tried, and sessions that are over by their age
UNHEARD = tuple(map(str, UNKNOWN))


def acknowledged_is_there(scene: Scene) -> Wrong:
    """Each acknowledged sign-up, password, role and address."""
    there = {row.id: row for row in scene.rows(sa.select(User.__table__))}
    hasher = scene.app().extensions["courier"].kit.hasher
    for who in [who for who in scene.journal.people if who.id]:
        row = there.get(who.id)
        if row is None:
            yield f"the account {who.id} is gone"
            continue
        if not who.email.allows(row.email or "") or not who.phone.allows(row.phone or ""):
            yield f"{who.id} has other addresses"
        if not who.role.allows(row.role):
            yield f"{who.id} has the role {row.role}"
        typed = [password for password in (who.password.sure, *who.password.perhaps) if password]
        if typed and not any(hasher.matches(row.password_hash, bytes_of(each)) for each in typed):
            yield f"{who.id} has another password"


def nothing_twice(scene: Scene) -> Wrong:
    """Nothing single-use was accepted twice: by what clients were told, and by the sessions that came of it."""
    yield from scene.journal.twice
    count = sa.select(Session.user_id, sa.func.count()).group_by(Session.user_id)
    sessions = dict(tuple(row) for row in scene.rows(count))
    for who in [who for who in scene.journal.people if who.id]:
        sure = sum(who.sure[event] for event in SIGN_INS)
        most = sure + sum(who.perhaps[event] for event in SIGN_INS)
        if not sure <= sessions.get(who.id, 0) <= most:
            yield f"{who.id} has {sessions.get(who.id, 0)} sessions, not {sure} to {most}"


def audit_matches(scene: Scene) -> Wrong:
    """Each acknowledged act has its row, and no row tells of an act that nobody did."""
    count = sa.select(AuditLog.user_id, AuditLog.event, sa.func.count()).group_by(AuditLog.user_id, AuditLog.event)
    rows = {(user, event): number for user, event, number in scene.rows(count.where(AuditLog.success))}
    for who in [who for who in scene.journal.people if who.id]:
        for event in {*who.sure, *who.perhaps}:
            acts = SIGN_INS if event == "signin.completed" else (event,)  # a sign-up is one, too
            least = sum(who.sure[each] for each in acts)
            most = least + sum(who.perhaps[each] for each in acts)
            if not least <= rows.get((who.id, event), 0) <= most:
                yield f"{rows.get((who.id, event), 0)} rows of {event} by {who.id}, not {least} to {most}"


def guesses_within_budget(scene: Scene) -> Wrong:
    """What was answered as a wrong guess was counted, by identifier and by challenge; no more than the budget was, and
    nothing that nobody guessed.
    """
    counts = dict(tuple(row) for row in scene.rows(sa.select(Throttle.key, Throttle.day_count)))
    for victim, answers in list(scene.journal.guesses.items()):
        kind = Kind.PHONE if victim.startswith("+") else Kind.EMAIL
        yield from _counted(answers, counts.get(lockout.key(Identifier(kind, victim)), 0), BUDGET, "at somebody")
    tried = dict(tuple(row) for row in scene.rows(sa.select(OtpChallenge.id, OtpChallenge.attempts)))
    for challenge, answers in list(scene.journal.tries.items()):
        yield from _counted(answers, tried.get(challenge, 0), CAP, "at a code")


def _counted(answers: Counter[str], counted: int, most: int, where: str) -> Wrong:
    wrong, unheard = answers["400"] + answers["401"], sum(answers[each] for each in UNHEARD)
    if not wrong <= counted <= min(most, wrong + unheard):
        yield f"{wrong} guesses {where} were answered, {unheard} not, {counted} counted"


def sends_arrive(scene: Scene) -> Wrong:
    """Each accepted send was delivered at least once before its end, or is audited as dropped."""
    table = OutboxMessage.__table__
    rows = scene.rows(sa.select(table).where(OutboxMessage.kind != DECOY))
    came, of = scene.copies(), {row.challenge_id for row in rows}
    decoys = {row[0] for row in scene.rows(sa.select(OutboxMessage.challenge_id).where(OutboxMessage.kind == DECOY))}
    for challenge in scene.journal.sends.keys() - of - decoys:
        yield f"nothing was queued for challenge {challenge}"
    for row in rows:
        late = [
            at
            for _, at in came.get(row.id, [])
            if row.expires_at and at > utc(row.expires_at) + timedelta(seconds=CLOCKS_S)
        ]
        if late:
            yield f"{row.kind} {row.id} came after its end"
        if row.state in WAITING and utc(row.expires_at or row.created_at + timedelta(seconds=60)) < datetime.now(UTC):
            yield f"{row.kind} {row.id} still waits: {row.last_error}"
        elif row.state in (State.SENT, State.DELIVERED) and not came.get(row.id):
            yield f"{row.kind} {row.id} is said to be sent and never came"
    lost = sum(row.state in (State.FAILED, State.DROPPED) for row in rows)
    [[told]] = scene.rows(sa.select(sa.func.count()).where(AuditLog.event == "message.dropped"))
    if told != lost:
        yield f"{lost} messages were dropped, and the audit log tells of {told}"


def copies_are_equal(scene: Scene) -> Wrong:
    """Extra copies of a message carry the same code."""
    for message, copies in scene.copies().items():
        if len({code for code, _ in copies}) > 1:
            yield f"copies of {message} differ"


def addresses_are_unique(scene: Scene) -> Wrong:
    """No address is on two accounts, however it is written."""
    for column in (User.email, User.phone, User.username):
        folded = sa.func.lower(column)
        for value, count in scene.rows(
            sa.select(folded, sa.func.count()).where(column.is_not(None)).group_by(folded).having(sa.func.count() > 1)
        ):
            yield f"{count} accounts have {value}"


def an_admin_is_left(scene: Scene) -> Wrong:
    """At least one admin can act, and of two who took the office from each other at once one was told no."""
    able = (User.role == "admin", User.disabled_at.is_(None), locks.unlocked(datetime.now(UTC)))
    [[admins]] = scene.rows(sa.select(sa.func.count()).where(*able))
    if not admins:
        yield "no admin is left"
    yield from scene.journal.coups


def the_seal_holds(scene: Scene) -> Wrong:
    """`flask audit-seal` and `flask audit-verify`."""
    runner = scene.app().test_cli_runner()
    for command in ("audit-seal", "audit-verify"):
        done = runner.invoke(args=[command])
        if done.exit_code:
            yield f"{command}: {done.output[-300:]}"


def sessions_end(scene: Scene) -> Wrong:
    """No session outlives its end: ended ones are refused, and so are those that lasted as long as a session may."""
    for who in [who for who in scene.journal.people if who.ended][-TRIED:]:
        for token in who.ended[-SHOWN:]:
            status = scene.me(token)
            if status != 401:
                yield f"an ended session of {who.id} was answered {status}"
    for tokens in over(scene):
        told = scene.me(tokens["access_token"]), scene.renew(tokens["refresh_token"])
        if told != (401, 401):
            yield f"a session that is too old was answered {told}"
    longer = sa.select(sa.func.count()).where(
        RefreshToken.session_id == Session.id, RefreshToken.expires_at > Session.expires_at
    )
    [[tokens]] = scene.rows(longer)
    if tokens:
        yield f"{tokens} refresh tokens last longer than their sessions"
    bound = timedelta(seconds=scene.session_s)
    rows = scene.rows(sa.select(Session.created_at, Session.expires_at))
    if any(utc(row.expires_at) > utc(row.created_at) + bound for row in rows):
        yield "a session lasts longer than SESSION_MAX_AGE"


def over(scene: Scene) -> list[dict[str, Any]]:
    """The tokens of the newest sessions that are over by their age."""
    last = time.monotonic() - scene.session_s - CLOCKS_S
    lives = [life for who in scene.journal.people for life in who.lived]
    return [tokens for began, tokens in lives if began < last][-TRIED:]


def refusals_are_earned(scene: Scene) -> Wrong:
    """Nobody was refused who had done nothing to earn it."""
    acts = [act for act in list(scene.journal.acts) if act.refused and not act.earned]
    for told, count in Counter(f"{act.status} {act.code} to {act.what}" for act in acts).items():
        yield f"{count} times {told}"
    yield from scene.journal.unfair


def what_is_sealed_opens(scene: Scene) -> Wrong:
    """Each authenticator app's secret is the one that its owner was shown, under one of the keys."""
    keys = scene.app().extensions["courier"].kit.keys
    there = {row.id: row for row in scene.rows(sa.select(Authenticator.__table__))}
    for name, shown in list(scene.journal.seeds.items()):
        row = there.get(name)
        try:
            secret = sealing.unseal(keys, Purpose.FACTORS, row.secret, row.id.hex, row.user_id.hex) if row else b""
        except (KeyError, ValueError):
            secret = b""
        if totp.spelled(secret) != shown:
            yield f"the secret of the app {name} is lost"


def nothing_is_orphaned(scene: Scene) -> Wrong:
    """Every row's parent is there, every completed sign-up has its account, and a SQLite file is whole."""
    if scene.engine.dialect.name == "sqlite":
        with scene.engine.connect() as connection:
            found = connection.execute(sa.text("PRAGMA integrity_check")).scalars().all()
        yield from [] if found == ["ok"] else [str(each) for each in found]
    for table in Base.metadata.sorted_tables:
        for key in table.foreign_keys:
            parent = key.column.table.alias()
            there = sa.select(sa.literal(1)).where(parent.c[key.column.name] == key.parent)
            missing = sa.select(sa.func.count()).select_from(table).where(key.parent.is_not(None), ~there.exists())
            [[count]] = scene.rows(missing)
            if count:
                yield f"{count} rows of {table.name} have no {key.parent.name}"
    for model, name in ((Session.user_id, "sessions"), (OtpChallenge.user_id, "challenges")):
        [[count]] = scene.rows(
            sa.select(sa.func.count()).where(model.is_not(None), ~sa.exists().where(User.id == model))
        )
        if count:
            yield f"{count} {name} are nobody's"
    half = sa.select(sa.func.count()).where(Signup.completed_at.is_not(None), ~sa.exists().where(User.id == Signup.id))
    [[count]] = scene.rows(half)
    if count:
        yield f"{count} sign-ups are completed and have no account"


INVARIANTS: dict[str, Callable[[Scene], Wrong]] = {
    "what was acknowledged is there": acknowledged_is_there,
    "nothing single-use was taken twice": nothing_twice,
    "audit rows match the journal": audit_matches,
    "guesses are within their budget": guesses_within_budget,
    "sends came in time or are audited": sends_arrive,
    "copies carry the same code": copies_are_equal,
    "no address is on two accounts": addresses_are_unique,
    "an admin is left": an_admin_is_left,
    "the audit seal verifies": the_seal_holds,
    "no session outlives its end": sessions_end,
    "no row is orphaned": nothing_is_orphaned,
    "every refusal was earned": refusals_are_earned,
    "what is sealed opens": what_is_sealed_opens,
    "no secret where it must not be": nothing_leaks,
}


def broken(scene: Scene) -> dict[str, list[str]]:
    """By invariant that does not hold: what is wrong."""
    found = {name: list(invariant(scene)) for name, invariant in INVARIANTS.items()}
    return {name: wrong for name, wrong in found.items() if wrong}
