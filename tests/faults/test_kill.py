"""kill -9 anywhere: what was accepted arrives, with the same code, and nothing arrives late."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import lanes
from tests.lanes import CHEAP, SECRETS
from tests.mail import smtp_server
from tests.people import Person
from tests.service import ROOT, running
from tools import servers

pytestmark = pytest.mark.slow


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "kind" in metafunc.fixturenames:
        metafunc.parametrize("kind", [lane for lane in lanes.wanted() if lane != "mariadb"])


@pytest.fixture
def url(kind: str, worker: str) -> Iterator[str]:
    with lanes.database(kind, f"faults_{worker}") as made:
        lanes.migrate(made)
        yield made


def until(check, patience: float = 60) -> None:
    deadline = time.monotonic() + patience
    while not check():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


@pytest.mark.covers("fault F19", "fault F17")
def test_a_worker_killed_between_commit_and_send_loses_no_message(url: str, tmp_path: Path) -> None:
    """The mail server is away, the sign-up is committed, every worker is killed; then the mail server comes."""
    port = servers.free_port()
    settings = {
        "email_provider": "smtp",
        "smtp_server": "localhost",
        "smtp_port": port,
        "smtp_tls": "none",
        "sender_email": "a@b.example",
    }
    with running(url, tmp_path, **settings) as service:
        person = Person(service.api(), lambda *_: "")
        asked = person.ask_signup().ok()
        service.kill_workers()
        with smtp_server(tmp_path, port=port) as (mailbox, _, _cert):
            code = mailbox.code("email", person.email, patience=30)
            service.wait()
            person.verify_signup(asked["challenge_id"], code).ok()


@pytest.mark.covers("fault F18")
def test_a_courier_killed_between_send_and_mark_repeats_the_same_code(url: str, tmp_path: Path) -> None:
    """The mail server kills the workers in the moment in which it has taken the message."""
    with (
        smtp_server(tmp_path) as (mailbox, settings, _),
        running(url, tmp_path, **settings, web_concurrency=2) as service,
    ):

        def kill_once() -> None:
            mailbox.on_message = None
            service.kill_workers()

        mailbox.on_message = kill_once
        person = Person(service.api(), mailbox.code)
        asked = person.ask_signup().ok()
        until(lambda: len(mailbox.to(person.email)) == 2)
        first, second = (str(mail["Subject"])[:6] for mail in mailbox.to(person.email))
        assert first == second
        assert mailbox.to(person.email)[0]["Message-ID"] == mailbox.to(person.email)[1]["Message-ID"]
        service.wait()
        person.verify_signup(asked["challenge_id"], first).ok()


@pytest.mark.covers("fault F16")
def test_nothing_is_sent_after_its_expiry(url: str, tmp_path: Path) -> None:
    port = servers.free_port()
    settings = {
        "email_provider": "smtp",
        "smtp_server": "localhost",
        "smtp_port": port,
        "smtp_tls": "none",
        "sender_email": "a@b.example",
    }
    with running(url, tmp_path, **settings, otp_ttl=2) as service:
        early, late = (Person(service.api(), lambda *_: "") for _ in range(2))
        early.ask_signup().ok()
        time.sleep(2.5)
        with smtp_server(tmp_path, port=port) as (mailbox, _, _cert):
            late.ask_signup().ok()
            mailbox.code("email", late.email)
            time.sleep(3)
            assert mailbox.to(early.email) == []


@pytest.mark.covers("fault F21", "fault F17")
def test_workers_killed_again_and_again_lose_nothing_that_was_answered(url: str, tmp_path: Path) -> None:
    with (
        smtp_server(tmp_path) as (mailbox, settings, _),
        running(url, tmp_path, **settings, otp_resend_in=0) as service,
    ):
        finished = []
        for n in range(12):
            person = Person(service.api(), mailbox.code)
            try:
                if n % 3 == 0:
                    service.workers()[n % 4].send_signal(signal.SIGKILL)
                asked = person.ask_signup()
                if asked.status != 201:
                    continue
                code = mailbox.code("email", person.email, patience=40)
                if n % 3 == 1:
                    service.workers()[n % 4].send_signal(signal.SIGKILL)
                if person.verify_signup(asked["challenge_id"], code).status == 200:
                    finished.append(person)
            except OSError:
                service.wait()  # a request in flight died with its worker
        assert len(finished) >= 6
        service.wait()
        for person in finished:
            until(lambda person=person: _me(person) == person.email, 10)


def _me(person: Person) -> str | None:
    try:
        return person.me().body.get("email")
    except OSError:
        return None


def test_messages_are_sent_by_couriers_of_their_own(url: str, tmp_path: Path) -> None:
    with (
        smtp_server(tmp_path) as (mailbox, settings, _),
        running(url, tmp_path, **settings, courier="worker") as service,
    ):
        person = Person(service.api(), mailbox.code)
        asked = person.ask_signup().ok()
        time.sleep(1)
        assert mailbox.mails == []
        environment = {k.upper(): str(v) for k, v in {**SECRETS, **CHEAP, **settings, "database_url": url}.items()}
        process = subprocess.Popen(
            [sys.executable, "-m", "flask", "courier"], cwd=ROOT, env={"PATH": os.environ["PATH"], **environment}
        )
        try:
            person.verify_signup(asked["challenge_id"], mailbox.code("email", person.email)).ok()
        finally:
            process.terminate()
            assert process.wait(15) == 0


def test_a_stop_finishes_the_message_in_hand(url: str, tmp_path: Path) -> None:
    """SIGTERM while the mail server holds the answer back: the message is marked sent, not sent again."""
    with smtp_server(tmp_path) as (mailbox, settings, _):
        with running(url, tmp_path, **settings, web_concurrency=1) as service:
            mailbox.on_message = lambda: (service.process.send_signal(signal.SIGTERM), time.sleep(1))
            person = Person(service.api(), mailbox.code)
            person.ask_signup().ok()
            until(lambda: service.process.poll() is not None, 20)
        mailbox.on_message = None
        with running(url, tmp_path, **settings, web_concurrency=1):
            time.sleep(4)
        assert len(mailbox.to(person.email)) == 1
