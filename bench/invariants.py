"""What must hold after every fault, asked of the database, the mailbox, the SMS provider and the clients' journal.

Each invariant is a function that yields what is wrong: nothing, if it holds.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from flask import Flask

from app import create_app
from app.config import Settings
from app.core import lockout, locks
from app.core.identifiers import Identifier, Kind
from app.core.passwords import bytes_of
from app.db import Base
from app.delivery.outbox import DECOY, State
from app.models import AuditLog, OtpChallenge, OutboxMessage, RefreshToken, Session, Signup, Throttle, User
from bench.journal import Journal
from bench.rig import Sms
from tests.lanes import CHEAP, SECRETS
from tests.mail import Mailbox

WAITING = (State.QUEUED, State.SENDING)
MAY_HOLD_ADDRESSES = {
    "users",
    "signups",
    "otp_challenges",
    "outbox_messages",
    "server.log",
}  # the last: PostgreSQL's own
SIGN_INS = ("signup.completed", "signin.completed")
CLOCKS_S = 2.0  # between the courier's last look at the time and the arrival of a message
TIMES = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[.\d]*")
CODES = re.compile(r"(?<![\w.-])\d{6}(?![\w-])")
WORDS = re.compile(r"[A-Za-z0-9_-]{20,}")
PASSWORDS = ("bench horse", "wrong horse")
SHOWN = 3  # of the ended sessions of somebody that are tried
Wrong = Iterator[str]


@dataclass
class Scene:
    """All that is asked. `url`: of the database, past every fault. `at`: when each mail came. `me`: the status of
    that request with a token.
    """

    url: str
    engine: sa.Engine
    journal: Journal
    mailbox: Mailbox
    at: list[datetime]
    sms: list[Sms]
    logs: list[Path]
    stored: Callable[[], str]  # all that Redis holds
    metrics: Callable[[], str]
    me: Callable[[str], int]

    def rows(self, query: sa.Select[Any]) -> list[Any]:
        with self.engine.connect() as connection:
            return list(connection.execute(query))

    def app(self) -> Flask:
        """The service in this process, past every fault."""
        return create_app(Settings(_env_file=None, **SECRETS, **CHEAP, database_url=self.url))

    def copies(self) -> dict[UUID, list[tuple[str, datetime]]]:
        """By message: each copy's code (or its subject, if it is a notice) and when it came."""
        came: dict[UUID, list[tuple[str, datetime]]] = defaultdict(list)
        for mail, at in zip(self.mailbox.mails, self.at, strict=False):
            found = re.match(r"\d{6}", str(mail["Subject"]))
            name = re.match(r"<([0-9a-f-]{36})@", str(mail["Message-ID"]))
            assert name, mail["Message-ID"]
            came[UUID(name[1])].append((found[0] if found else str(mail["Subject"]), at))
        for sms in self.sms:
            came[sms.message_id].append((sms.code, sms.at))
        return came


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
    """What was answered as a wrong guess was counted, and no more than the budget was."""
    counts = dict(tuple(row) for row in scene.rows(sa.select(Throttle.key, Throttle.day_count)))
    for victim, answers in list(scene.journal.guesses.items()):
        counted = counts.get(lockout.key(Identifier(Kind.EMAIL, victim)), 0)
        if not answers["401"] <= counted <= 5:
            yield f"{answers['401']} guesses were answered, {counted} counted"


def sends_arrive(scene: Scene) -> Wrong:
    """Each accepted send was delivered at least once before its end, or is audited as dropped."""
    table = OutboxMessage.__table__
    rows = scene.rows(sa.select(table).where(OutboxMessage.kind != DECOY))
    came, of = scene.copies(), {row.challenge_id for row in rows}
    decoys = {row[0] for row in scene.rows(sa.select(OutboxMessage.challenge_id).where(OutboxMessage.kind == DECOY))}
    for challenge in scene.journal.sends.keys() - of - decoys:
        yield f"nothing was queued for challenge {challenge}"
    for row in rows:
        late = [at for _, at in came.get(row.id, []) if row.expires_at and at > _utc(row.expires_at) + _s(CLOCKS_S)]
        if late:
            yield f"{row.kind} {row.id} came after its end"
        if row.state in WAITING and _utc(row.expires_at or row.created_at + _s(60)) < datetime.now(UTC):
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
    """At least one admin can act."""
    able = (User.role == "admin", User.disabled_at.is_(None), locks.unlocked(datetime.now(UTC)))
    [[admins]] = scene.rows(sa.select(sa.func.count()).where(*able))
    if not admins:
        yield "no admin is left"


def the_seal_holds(scene: Scene) -> Wrong:
    """`flask audit-seal` and `flask audit-verify`."""
    runner = scene.app().test_cli_runner()
    for command in ("audit-seal", "audit-verify"):
        done = runner.invoke(args=[command])
        if done.exit_code:
            yield f"{command}: {done.output[-300:]}"


def sessions_end(scene: Scene) -> Wrong:
    """No session outlives its end: ended ones are refused, and no token lasts longer than its session may."""
    for who in scene.journal.people[-40:]:
        for token in who.ended[-SHOWN:]:
            status = scene.me(token)
            if status != 401:
                yield f"an ended session of {who.id} was answered {status}"
    longer = sa.select(sa.func.count()).where(
        RefreshToken.session_id == Session.id, RefreshToken.expires_at > Session.expires_at
    )
    [[tokens]] = scene.rows(longer)
    if tokens:
        yield f"{tokens} refresh tokens last longer than their sessions"
    bound = _s(30 * 86400)
    rows = scene.rows(sa.select(Session.created_at, Session.expires_at))
    if any(_utc(row.expires_at) > _utc(row.created_at) + bound for row in rows):
        yield "a session lasts longer than SESSION_MAX_AGE"


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


def nothing_leaks(scene: Scene) -> Wrong:
    """No password, code, token or secret in logs, text columns, Redis, metrics; no address but where addresses are."""
    known = {part for each in (*scene.journal.secrets, *SECRETS.values()) for part in each.split(".")[-1:]}
    places = {**{path.name: path.read_text(errors="replace") for path in scene.logs}, "Redis": scene.stored()}
    places["metrics"] = scene.metrics()
    for table in Base.metadata.sorted_tables:
        columns = [column for column in table.columns if isinstance(column.type, (sa.String, sa.JSON))]
        found = scene.rows(sa.select(*columns)) if columns else []
        places[table.name] = "\n".join(str(value) for row in found for value in row if value)
    addresses = {str(mail["To"]) for mail in scene.mailbox.mails} | {sms.number for sms in scene.sms}
    for place, text in places.items():
        plain = TIMES.sub("", text)
        leaked = known & {*CODES.findall(plain), *WORDS.findall(plain)}
        leaked |= {words for words in PASSWORDS if words in plain}
        if leaked:
            yield f"{place} holds {len(leaked)} secrets, such as {min(leaked)[:12]}"
        if place not in MAY_HOLD_ADDRESSES and any(each in plain for each in addresses):
            yield f"{place} holds a full address"


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
    "no secret where it must not be": nothing_leaks,
}


def broken(scene: Scene) -> dict[str, list[str]]:
    """By invariant that does not hold: what is wrong."""
    found = {name: list(invariant(scene)) for name, invariant in INVARIANTS.items()}
    return {name: wrong for name, wrong in found.items() if wrong}


def _utc(value: datetime) -> datetime:
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def _s(seconds: float) -> timedelta:
    return timedelta(seconds=seconds)
