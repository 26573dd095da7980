"""Two web services and two couriers over one database and Redis: anybody may answer, anybody may die."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests
from urllib3.exceptions import NewConnectionError

from tests import lanes
from tests.lanes import CHEAP, SECRETS
from tests.mail import Mailbox, smtp_server
from tests.people import Answer, Api, Person, http_transport
from tests.service import ROOT, Service, launch

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not {"postgresql"} <= set(lanes.wanted()), reason="many copies share a PostgreSQL"),
]


@dataclass
class Copies:
    url: str
    folder: Path
    settings: dict[str, Any]
    mailbox: Mailbox
    services: list[Service]
    couriers: list[subprocess.Popen[bytes]]

    broken: list[requests.RequestException] = field(default_factory=list)  # connections that broke over a request
    _read: set[str] = field(default_factory=set)

    def start_courier(self) -> subprocess.Popen[bytes]:
        given = {**SECRETS, **CHEAP, **self.settings, "database_url": self.url}
        environment = {"PATH": os.environ["PATH"], **{name.upper(): str(value) for name, value in given.items()}}
        return subprocess.Popen([sys.executable, "-m", "flask", "courier"], cwd=ROOT, env=environment)

    def person(self) -> Person:
        return Person(Api(self.in_turn()), self.next_code)

    def next_code(self, channel: str, address: str) -> str:
        """The next code that comes to an address and was not read before."""
        deadline = time.monotonic() + 40
        while (code := self.mailbox.code(channel, address, patience=40)) in self._read:
            assert time.monotonic() < deadline, "no code has come"
            time.sleep(0.05)
        self._read.add(code)
        return code

    def in_turn(self) -> Any:
        """Each request goes to another copy than the one before; if that cannot be had, to the next one."""
        transports = [http_transport(service.base) for service in self.services]
        turn = itertools.cycle(range(len(transports)))

        def send(*request: Any) -> Answer:
            first = next(turn)
            for number in range(first, first + len(transports)):
                try:
                    return transports[number % len(transports)](*request)
                except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError) as error:
                    if not isinstance(getattr(error.args[0], "reason", None), NewConnectionError):
                        self.broken.append(error)
            raise AssertionError("no copy answers")

        return send


@pytest.fixture(scope="module")
def copies(worker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Copies]:
    folder = tmp_path_factory.mktemp("copies")
    with lanes.database("postgresql", f"copies_{worker}") as url, smtp_server(folder) as (mailbox, mail, _):
        lanes.migrate(url)
        redis = {"redis_url": found} if (found := lanes.available()["redis"]) else {}
        settings = {**mail, **redis, "courier": "worker", "ratelimit": "true", "web_concurrency": 1}
        made = Copies(url, folder, settings, mailbox, [launch(url, folder, **settings) for _ in range(2)], [])
        made.couriers += [made.start_courier() for _ in range(2)]
        try:
            for service in made.services:
                service.wait()
            yield made
        finally:
            for service in made.services:
                service.stop()
            for courier in made.couriers:
                courier.terminate()
                assert courier.wait(20) == 0


def test_a_journey_goes_from_copy_to_copy(copies: Copies) -> None:
    """Every step is taken at another copy than the one before it."""
    person = copies.person().sign_up()
    assert person.me()["email"] == person.email
    person.sign_in()
    for _ in range(3):
        person._keep(person.refresh()).ok()
        assert person.me().status == 200
    spent = person.tokens["refresh_token"]
    person._keep(person.refresh()).ok()
    assert person.refresh(spent).status == 200  # two tabs: the same within ten seconds, whoever is asked
    person.api.post("/api/auth/logout", {"everywhere": True}, person.token).ok()
    for _ in range(2):
        assert person.me().code == "token_revoked"


def test_limits_and_locks_are_counted_together(copies: Copies) -> None:
    """Five wrong passwords, some here and some there, lock the identifier at both."""
    person = copies.person().sign_up()
    guesses = [person.ask_signin(password="wrong horse 7").status for _ in range(6)]
    assert guesses == [401] * 5 + [423]
    assert [person.ask_signin().status for _ in range(2)] == [423, 423]


def test_each_message_is_sent_by_one_courier(copies: Copies) -> None:
    people = [copies.person() for _ in range(12)]
    for person in people:
        person.ask_signup().ok()
    for person in people:
        assert copies.mailbox.code("email", person.email, patience=40)
    assert [len(copies.mailbox.to(person.email)) for person in people] == [1] * len(people)


@pytest.mark.covers("fault F21")
@pytest.mark.parametrize("victim", ["courier", "worker", "service"])
def test_whoever_is_killed_takes_only_what_it_had_in_hand(copies: Copies, victim: str) -> None:
    """Four clients ask on and on. Of these at most the four requests of that moment break; all others are answered."""
    person = copies.person().sign_up()
    copies.broken.clear()
    killed = threading.Event()

    def ask() -> list[int]:
        send, answers, after = copies.in_turn(), [], 0
        while after < 25:
            answers.append(send("GET", "/api/auth/me", None, {"Authorization": f"Bearer {person.token}"}).status)
            after += killed.is_set()
        return answers

    with ThreadPoolExecutor(4) as clients:
        asked = [clients.submit(ask) for _ in range(4)]
        try:
            kill(copies, victim)
        finally:
            killed.set()
        assert {status for answers in asked for status in answers.result(120)} == {200}
    assert len(copies.broken) <= 4
    copies.person().sign_up()  # and codes still come


def kill(copies: Copies, victim: str) -> None:
    if victim == "courier":
        courier = copies.couriers.pop()
        courier.kill()
        courier.wait(20)
    elif victim == "worker":
        copies.services[0].workers()[0].send_signal(signal.SIGKILL)
    else:
        copies.services[0].process.kill()
