"""The invariants that `bench faults` asks after each fault: they hold when all is well, and each sees what breaks it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email.message import EmailMessage
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa

from app.models import AuditLog, Authenticator, OtpChallenge, RefreshToken, Session, Throttle, User
from bench.invariants import INVARIANTS, broken
from bench.journal import Act, Held, Journal, Somebody
from bench.scene import Scene
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
    app = person.api.post("/api/auth/factors/totp", {}, person.token).ok()
    with opened.engine.begin() as connection:
        connection.execute(sa.update(User).values(role="admin"))
    journal = Journal(guesses={person.email: Counter({"401": 1})})
    journal.secrets = {PASSWORD, person.token, person.tokens["refresh_token"], app["secret"]}
    journal.seeds = {UUID(app["factor_id"]): app["secret"]}
    who = Somebody(Held(person.email), Held(""), Held(PASSWORD), "", Held("admin"), UUID(person.tokens["user"]["id"]))
    who.sure, who.ended = Counter({"signup.completed": 1, "signin.completed": 1, "session.ended": 1}), [ended]
    who.lived = [(time.monotonic(), dict(person.tokens))]
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
        renew=lambda token: api.post("/api/auth/refresh", {"refresh_token": token}).status,
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


def _a_wrong_code_uncounted(scene: Scene) -> None:
    scene.journal.tries[next(iter(scene.journal.sends))] = Counter({"400": 2})


def _a_guess_of_nobody(scene: Scene) -> None:
    _does(sa.update(Throttle).values(day_count=2))(scene)


def _a_session_that_should_be_over(scene: Scene) -> None:
    [who] = scene.journal.people
    who.lived = [(began - 31 * 86_400, tokens) for began, tokens in who.lived]


def _two_who_took_the_office(scene: Scene) -> None:
    scene.journal.coups.append("both admins took the office from each other")


def _a_refusal_that_nobody_earned(scene: Scene) -> None:
    scene.journal.acts.append(Act("GET /api/auth/me", 0.0, 0.1, 401, "token_revoked"))


def _a_refusal_too_early(scene: Scene) -> None:
    scene.journal.unfair.append("a refresh token was called stolen within its grace")


def _a_code_in_an_error(scene: Scene) -> None:
    code = next(secret for secret in scene.journal.secrets if secret.isdigit())
    scene.journal.errors.append(f'{{"detail": "the code is {code}"}}')


def _an_address_in_an_error(scene: Scene) -> None:
    scene.journal.errors.append(f'{{"detail": "no account has {scene.journal.people[0].email.sure}"}}')


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
    "every refusal was earned": _a_refusal_that_nobody_earned,
    "what is sealed opens": _does(sa.update(Authenticator).values(secret="another")),
    "no secret where it must not be": _a_code_in_a_name,
}
MORE: list[tuple[str, Callable[[Scene], None]]] = [
    ("guesses are within their budget", _a_wrong_code_uncounted),
    ("guesses are within their budget", _a_guess_of_nobody),
    ("an admin is left", _two_who_took_the_office),
    ("no session outlives its end", _a_session_that_should_be_over),
    ("every refusal was earned", _a_refusal_too_early),
    ("what is sealed opens", _does(sa.delete(Authenticator))),
    ("no secret where it must not be", _a_code_in_an_error),
    ("no secret where it must not be", _an_address_in_an_error),
]


def test_each_invariant_holds_when_all_is_well(scene: Scene) -> None:
    assert broken(scene) == {}


@pytest.mark.parametrize("name", INVARIANTS)
def test_an_invariant_sees_what_breaks_it(scene: Scene, name: str) -> None:
    BREAKS[name](scene)
    assert name in broken(scene)


@pytest.mark.parametrize(("name", "spoil"), MORE, ids=[spoil.__name__.strip("_") for _, spoil in MORE])
def test_it_sees_that_too(scene: Scene, name: str, spoil: Callable[[Scene], None]) -> None:
    spoil(scene)
    assert name in broken(scene)
