"""Clients of a service that is measured: people, numbers and machines who have what each act needs, and the acts.

They read no mail: a code is derived again from its challenge's row, by the service's own secret, so that nothing waits.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.client import HTTPConnection
from typing import Any, TypeVar
from urllib.parse import urlsplit
from uuid import UUID

import psutil
import pyotp
import sqlalchemy as sa

from app.crypto import codes
from app.crypto.keys import KeyRing
from app.models import OtpChallenge
from bench.rig import PASSWORD, address, number
from tests.lanes import SECRETS
from tests.service import Service

T = TypeVar("T")
AT_ONCE = 4
AUTH, MOBILE = "/api/auth", "/api/v1/auth"
STEP_S = 30
_turn = itertools.count(1)  # every request has an address of its own: limits are counted, and met by nobody


@dataclass
class Client:
    """Somebody or something that acts: what it holds between its acts."""

    name: str
    holds: dict[str, Any] = field(default_factory=dict)


class Desk:
    """Where clients act from: connections that are kept, one a thread."""

    def __init__(self, base: str, engine: sa.Engine | None = None) -> None:
        self._base, self._engine = base, engine
        self._keys = KeyRing([SECRETS["secret_key"]])
        self._own = threading.local()
        self.backends: set[int] = set()  # of PostgreSQL, that serve this program and not the service
        if engine:
            sa.event.listen(engine, "connect", lambda raw, _: self.backends.add(raw.info.backend_pid))

    def ask(self, method: str, path: str, body: Any = None, token: str = "") -> dict[str, Any]:
        """Ask something that must succeed."""
        line = getattr(self._own, "line", None)
        if line is None:
            line = self._own.line = HTTPConnection(urlsplit(self._base).netloc, timeout=60)
        turn = next(_turn)
        headers = {
            "Content-Type": "application/json",
            "X-Forwarded-For": f"10.{turn >> 16 & 255}.{turn >> 8 & 255}.{turn & 255}",
        }
        headers |= {"Authorization": f"Bearer {token}"} if token else {}
        line.request(method, path, None if body is None else json.dumps(body), headers)
        answer = line.getresponse()
        said = answer.read()
        assert answer.status in (200, 201), (path, answer.status, said)
        found: dict[str, Any] = json.loads(said)
        return found

    def code(self, challenge_id: str) -> str:
        """The digits of a challenge."""
        assert self._engine is not None
        where = OtpChallenge.id == UUID(challenge_id)
        with self._engine.connect() as connection:
            key_id, factor = connection.execute(sa.select(OtpChallenge.key_id, OtpChallenge.factor).where(where)).one()
        return codes.derive(self._keys, key_id, factor, 6)

    def person(self, _: int) -> Client:
        """Somebody with an account by e-mail and password, signed in."""
        email = address()
        asked = self.ask("POST", f"{AUTH}/signup", {"email": email, "password": PASSWORD})["challenge_id"]
        made = Client(email)
        return self._keep(
            made, self.ask("POST", f"{AUTH}/verify-otp", {"challenge_id": asked, "otp": self.code(asked)})
        )

    def phone(self, _: int) -> Client:
        """Somebody with an account by phone alone."""
        made = Client(number())
        self.send(made)
        token = self.verify_phone(made)["registration_token"]
        self.ask(
            "POST", f"{MOBILE}/complete-registration", {"registration_token": token, "name": "Asha", "consent": True}
        )
        return made

    def machine(self, count: int) -> Client:
        body = {"device_id": f"till-{count}", "user_id": "shop"}
        key = self.ask("POST", "/api/v1/devices/register", body, SECRETS["api_key"])["data"]["derived_key"]
        app = pyotp.TOTP(base64.b32encode(base64.b64decode(key)).decode())
        return Client(body["device_id"], {"app": app, "step": int(time.time()) // STEP_S - 2})

    def _keep(self, who: Client, tokens: dict[str, Any]) -> Client:
        who.holds.update(access=tokens["access_token"], refresh=tokens["refresh_token"])
        return who

    def me(self, who: Client) -> None:
        self.ask("GET", f"{AUTH}/me", token=who.holds["access"])

    def refresh(self, who: Client) -> None:
        self._keep(who, self.ask("POST", f"{AUTH}/refresh", {"refresh_token": who.holds["refresh"]}))

    def login(self, who: Client) -> None:
        asked = self.ask("POST", f"{AUTH}/login", {"identifier": who.name, "password": PASSWORD})
        who.holds["challenge"] = asked["challenge_id"]

    def read_code(self, who: Client) -> None:
        """What the act before asked for. The service does nothing here."""
        who.holds["code"] = self.code(who.holds["challenge"])

    def verify(self, who: Client) -> None:
        proof = {"challenge_id": who.holds["challenge"], "otp": who.holds["code"]}
        self._keep(who, self.ask("POST", f"{AUTH}/login/verify", proof))

    def send(self, who: Client) -> None:
        who.holds["challenge"] = self.ask("POST", f"{MOBILE}/send-otp", {"mobile_number": who.name})["challenge_id"]
        who.holds.pop("code", None)

    def verify_phone(self, who: Client) -> dict[str, Any]:
        if "code" not in who.holds:
            self.read_code(who)
        return self.ask("POST", f"{MOBILE}/verify-otp", {"mobile_number": who.name, "otp": who.holds["code"]})

    def next_step(self, who: Client) -> None:
        """Wait until there is a code it has not shown yet: of the step before, of this one or the next."""
        who.holds["step"] = max(who.holds["step"], int(time.time()) // STEP_S - 2) + 1
        while who.holds["step"] > int(time.time()) // STEP_S + 1:
            time.sleep(0.2)

    def check(self, who: Client) -> None:
        body = {"device_id": who.name, "otp": who.holds["app"].at(who.holds["step"] * STEP_S)}
        assert self.ask("POST", "/api/v1/otp/verify", body, SECRETS["api_key"])["data"]["valid"]


def each(act: Callable[[T], Any], over: Sequence[T], at_once: int = AT_ONCE) -> list[Any]:
    """Do an act for each, so many at once."""
    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(act, over))


class Turns:
    """The next so many of some clients, round and round."""

    def __init__(self, clients: Sequence[Client]) -> None:
        self._clients = itertools.cycle(clients)

    def take(self, count: int) -> list[Client]:
        return list(itertools.islice(self._clients, count))


class Meter:
    """CPU seconds of a service and of the PostgreSQL backends that serve it, summed up from reading to reading: a
    backend that ends takes nothing back of what it has spent.
    """

    def __init__(self, service: Service, url: str, not_of: Callable[[], set[int]] = set) -> None:
        self._service, self._database, self._not_of = service, str(sa.make_url(url).database), not_of
        self._known: dict[psutil.Process, float] = {}
        self._spent = [0.0, 0.0]

    def read(self) -> tuple[float, float]:
        master = psutil.Process(self._service.process.pid)
        for side, processes in enumerate(([master, *master.children(recursive=True)], self._backends())):
            for process in processes:
                with contextlib.suppress(psutil.NoSuchProcess):
                    now = sum(process.cpu_times()[:2])
                    self._spent[side] += now - self._known.get(process, 0.0)
                    self._known[process] = now
        return self._spent[0], self._spent[1]

    def _backends(self) -> list[psutil.Process]:
        running = psutil.process_iter(["cmdline", "name"])
        ours = [
            p
            for p in running
            if p.info["name"] == "postgres" and f" {self._database} " in " ".join(p.info["cmdline"] or [])
        ]
        return [process for process in ours if process.pid not in self._not_of()]
