"""The invariants that `bench faults` asks after each fault: they hold when all is well, and each sees what breaks it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email.message import EmailMessage
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa

from app.models import AuditLog, OtpChallenge, RefreshToken, Session, User
from bench.invariants import INVARIANTS, Scene, broken
from bench.journal import Held, Journal, Somebody
from bench.world import world
from tests.conftest import World
from tests.mail import Mailbox
from tests.people import PASSWORD


@pytest.fixture
def opened() -> Iterator[World]:
    with world(label="invariants") as made:
        yield made


@pytest.fixture
def scene(opened: World) -> Scene:
    """An admin who signed up, signed in and guessed wrong once, and what their client wrote down of it."""
    person = opened.person().sign_up()
    person.ask_signin(password="wrong horse 7")
    ended = person.token
    person.sign_in()
    person.api.post("/api/auth/logout", {}, ended).ok()
    with opened.engine.begin() as connection:
        connection.execute(sa.update(User).values(role="admin"))
    journal = Journal(guesses={person.email: Counter({"401": 1})})
    journal.secrets = {PASSWORD, person.token, person.tokens["refresh_token"]}
    who = Somebody(Held(person.email), Held(""), Held(PASSWORD), "", Held("admin"), UUID(person.tokens["user"]["id"]))
    who.sure, who.ended = Counter({"signup.completed": 1, "signin.completed": 1}), [ended]
    journal.people.append(who)
    sent = opened.senders["email"].messages
    with opened.engine.connect() as connection:
        journal.sends = dict.fromkeys(connection.scalars(sa.select(OtpChallenge.id)), opened.clock.now)
    journal.secrets |= {message.code for message in sent if message.code}
    box = Mailbox([_mail(message.id, message.subject, message.recipient) for message in sent])
    api = opened.api()
    return Scene(
        opened.lane.database_url, opened.engine, journal, box, [opened.clock.now] * len(sent), [], [], lambda: "",
        metrics=lambda: opened.app.test_client().get("/metrics").text, me=lambda token: api.get("/api/auth/me", token).status,
    )  # fmt: skip


def _mail(name: Any, subject: str, to: str) -> EmailMessage:
    mail = EmailMessage()
    mail["Message-ID"], mail["Subject"], mail["To"] = f"<{name}@example.com>", subject, to
    return mail


def _does(statement: Any) -> Callable[[Scene], None]:
    def act(scene: Scene) -> None:
        with scene.engine.begin() as connection:
            connection.execute(statement)

    return act


def _another_session(scene: Scene) -> None:
    with scene.engine.begin() as connection:
        row = connection.execute(sa.select(Session.__table__)).first()
        assert row
        connection.execute(sa.insert(Session).values({**row._mapping, "id": uuid4()}))


def _another_code(scene: Scene) -> None:
    mail = next(mail for mail in scene.mailbox.mails if str(mail["Subject"])[:6].isdigit())
    again = _mail(str(mail["Message-ID"])[1:37], "000000 is your code", str(mail["To"]))
    scene.mailbox.mails.append(again)
    scene.at.append(scene.at[0])


def _nothing_came(scene: Scene) -> None:
    scene.mailbox.mails.clear()
    scene.at.clear()


def _a_guess_more(scene: Scene) -> None:
    next(iter(scene.journal.guesses.values()))["401"] += 1


def _somebody_in_capitals(scene: Scene) -> None:
    with scene.engine.begin() as connection:
        row = connection.execute(sa.select(User.__table__)).first()
        assert row
        other = {**row._mapping, "id": uuid4(), "email": row.email.upper()}
        connection.execute(sa.insert(User).values(other))


def _a_code_in_a_name(scene: Scene) -> None:
    code = next(secret for secret in scene.journal.secrets if secret.isdigit())
    _does(sa.update(User).values(name=f"my code is {code}"))(scene)


def _orphans(scene: Scene) -> None:
    with scene.engine.connect() as connection:  # the switch is not heard within a transaction
        line = connection.connection.driver_connection
        assert line
        for statement in ("PRAGMA foreign_keys = OFF", "DELETE FROM users", "PRAGMA foreign_keys = ON"):
            line.execute(statement)


BREAKS: dict[str, Callable[[Scene], None]] = {
    "what was acknowledged is there": _does(sa.update(User).values(password_hash="another")),
    "nothing single-use was taken twice": _another_session,
    "audit rows match the journal": _does(sa.delete(AuditLog).where(AuditLog.event == "signin.completed")),
    "guesses are within their budget": _a_guess_more,
    "sends came in time or are audited": _nothing_came,
    "copies carry the same code": _another_code,
    "no address is on two accounts": _somebody_in_capitals,
    "an admin is left": _does(sa.update(User).values(role="user")),
    "the audit seal verifies": _does(sa.update(AuditLog).values(reason="another")),
    "no session outlives its end": _does(sa.update(RefreshToken).values(expires_at=datetime(2099, 1, 1, tzinfo=UTC))),
    "no row is orphaned": _orphans,
    "no secret where it must not be": _a_code_in_a_name,
}


def test_each_invariant_holds_when_all_is_well(scene: Scene) -> None:
    assert broken(scene) == {}


@pytest.mark.parametrize("name", INVARIANTS)
def test_an_invariant_sees_what_breaks_it(scene: Scene, name: str) -> None:
    BREAKS[name](scene)
    assert name in broken(scene)
