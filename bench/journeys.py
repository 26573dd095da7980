"""Clients that sign up, sign in, change and recover, without end, whatever the service answers; and keep a journal."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from bench.journal import UNKNOWN, Caller, Held, Journal, Somebody
from bench.rig import address, number

AUTH, MOBILE = "/api/auth", "/api/v1/auth"
CODE_S = 40.0  # for a code to come: a lease of a courier that died lapses in 30 s
PAUSE_S = 0.3  # after an answer that was none
AGAIN = 0.3  # how often a code that was taken, or may have been, is offered again
GUESS_S = 0.3  # between two guesses
WRONG = "wrong horse 7777"


class Gone(Exception):
    """A step was not answered well: the journey ends here, and somebody else begins another."""


@dataclass
class Crowd:
    """`read`: (channel, address, how many came before) -> the newest code, or nothing. `admin`: whose token gives
    roles.
    """

    base: str
    read: Callable[[str, str, int], str]
    seen: Callable[[str, str], int]
    admin: Callable[[], str]
    patience: float = 15.0
    journal: Journal = field(default_factory=Journal)
    rests: bool = False  # nobody waits for a code any more
    _over: threading.Event = field(default_factory=threading.Event)
    _go: threading.Event = field(default_factory=threading.Event)
    _busy: int = 0
    _changed: threading.Condition = field(default_factory=threading.Condition)

    @contextmanager
    def at_work(self, clients: int) -> Iterator[Crowd]:
        self._go.set()
        threads = [threading.Thread(target=self._work, args=(n,), name=f"client-{n}") for n in range(clients)]
        threads += [threading.Thread(target=self._guess, name="guesser"), threading.Thread(target=self._look)]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self.rests = True
            self._over.set()
            self._go.set()
            for thread in threads:
                thread.join()

    @contextmanager
    def resting(self) -> Iterator[None]:
        """While nobody asks: every request was answered or given up."""
        self._go.clear()
        self.rests = True
        with self._changed:
            self._changed.wait_for(lambda: self._busy == 0, 120)
        yield
        self.rests = False
        self._go.set()

    def _turns(self) -> Iterator[None]:
        """One after the other, until it is over; none while the crowd rests."""
        while not self._over.is_set():
            self._go.wait()
            with self._changed:
                self._busy += 1
            try:
                if self._go.is_set() and not self._over.is_set():
                    yield
            finally:
                with self._changed:
                    self._busy -= 1
                    self._changed.notify_all()

    def _work(self, number_of: int) -> None:
        dice = random.Random(number_of)
        for _ in self._turns():
            journey = Journey(self, dice, _somebody(dice))
            with self.journal.lock:
                self.journal.people.append(journey.who)
                self.journal.secrets.add(journey.who.password.sure)
            try:
                journey.go()
            except Gone:
                self._over.wait(PAUSE_S)
            journey.who.over = True

    def _guess(self) -> None:
        """Somebody who tries wrong passwords at an account until it is said to be locked; then at another."""
        caller = Caller(self.base, self.journal, self.patience, "198.51.100.9")
        victim = ""
        for _ in self._turns():
            if not victim or self.journal.guesses[victim]["423"] > 2:
                victim = self._victim()
            answers = self.journal.guesses.setdefault(victim, Counter())
            status, _ = caller.ask("POST", f"{AUTH}/login", {"identifier": victim, "password": WRONG})
            answers[str(status)] += 1
            self._over.wait(GUESS_S)

    def _victim(self) -> str:
        """An address that nobody else uses any more; of an account, if there is one."""
        with self.journal.lock:
            left = [who.email for who in self.journal.people if who.id and who.over and not who.email.perhaps]
        known = [held.sure for held in left if held.sure and held.sure not in self.journal.guesses]
        return known[-1] if known else address()

    def _look(self) -> None:
        """Somebody who asks whether the process lives."""
        caller = Caller(self.base, self.journal, self.patience)
        for _ in self._turns():
            caller.ask("GET", "/health/live")
            self._over.wait(0.25)


def _somebody(dice: random.Random) -> Somebody:
    network = ".".join(["198", "18", str(dice.randrange(256)), str(dice.randrange(1, 255))])
    return Somebody(Held(address()), Held(""), Held(_password(dice)), network)


def _password(dice: random.Random) -> str:
    return f"bench horse {dice.randrange(10**9):09d}"


@dataclass
class Journey:
    """One account's life. Each step raises Gone unless it was answered well."""

    crowd: Crowd
    dice: random.Random
    who: Somebody

    def go(self) -> None:
        steps = [self.refresh, self.change_password, self.sign_in, self.recover, self.change_address, self.role]
        if self.dice.random() < 0.4:
            self.sign_up_by_phone()
            steps = [self.refresh, self.sign_in_by_phone, self.role]
        else:
            self.sign_up()
        for step in self.dice.sample(steps, k=min(4, len(steps))):
            step()

    def ask(self, method: str, path: str, body: Any = None, token: str = "") -> tuple[int, dict[str, Any]]:
        journal = self.crowd.journal
        return Caller(self.crowd.base, journal, self.crowd.patience, self.who.network).ask(method, path, body, token)

    def must(self, path: str, body: Any, token: str = "") -> dict[str, Any]:
        """A step that changes nothing that the journal holds."""
        status, told = self.ask("POST", path, body, token)
        if status not in (200, 201):
            raise Gone
        return told

    def code(self, channel: str, to: str, seen: int) -> str:
        code = self.crowd.read(channel, to, seen)
        if not code:
            raise Gone
        with self.crowd.journal.lock:
            self.crowd.journal.secrets.add(code)
        return code

    def act(self, event: str, path: str, body: dict[str, Any], token: str = "", what: Held | None = None) -> Any:
        """A step whose acknowledgement binds. `what` becomes the last value of the body, if it is acknowledged."""
        status, told = self.offer(path, body, token)
        if what:
            what.note(body["new_password"], status)
            self.crowd.journal.secrets.add(body["new_password"])
        if not self.who.note(event, status):
            raise Gone
        return told

    def offer(self, path: str, body: dict[str, Any], token: str = "") -> tuple[int, dict[str, Any]]:
        """Ask, and now and then offer the same code again. One that was taken must be refused; one that may have been
        is taken once, if the second answer is good.
        """
        status, told = self.ask("POST", path, body, token)
        if "otp" not in body or status not in (200, *UNKNOWN) or self.dice.random() >= AGAIN:
            return status, told
        again, told_again = self.ask("POST", path, body, token)
        journal = self.crowd.journal
        with journal.lock:
            if status in UNKNOWN:
                journal.unsure[str(again)] += 1
            else:
                journal.retried += 1
                journal.twice += [f"{path} took a code twice"] if again == 200 else []
        return (again, told_again) if status in UNKNOWN and again == 200 else (status, told)

    def keep(self, told: dict[str, Any]) -> None:
        self.who.tokens = {name: told[name] for name in ("access_token", "refresh_token")}
        self.who.id = UUID(told["user"]["id"])

    def sign_up(self) -> None:
        who = self.who
        asked = self.must(f"{AUTH}/signup", {"email": who.email.sure, "password": who.password.sure})
        code = self.code("email", who.email.sure, 0)
        body = {"challenge_id": asked["challenge_id"], "otp": code}
        self.keep(self.act("signup.completed", f"{AUTH}/verify-otp", body))

    def sign_up_by_phone(self) -> None:
        who = self.who
        who.email.sure, who.password.sure = "", ""
        who.phone.sure = number()
        proven = self.must(f"{MOBILE}/verify-otp", self.proof())
        body = {"registration_token": proven["registration_token"], "name": "Asha", "consent": True}
        self.keep(self.act("signup.completed", f"{MOBILE}/complete-registration", body))

    def proof(self) -> dict[str, str]:
        to = self.who.phone.sure
        seen = self.crowd.seen("sms", to)
        self.must(f"{MOBILE}/send-otp", {"mobile_number": to})
        return {"mobile_number": to, "otp": self.code("sms", to, seen)}

    def sign_in_by_phone(self) -> None:
        self.keep(self.act("signin.completed", f"{MOBILE}/verify-otp", self.proof()))

    def sign_in(self) -> None:
        who = self.who
        seen = self.crowd.seen("email", who.email.sure)
        asked = self.must(f"{AUTH}/login", {"identifier": who.email.sure, "password": who.password.sure})
        body = {"challenge_id": asked["challenge_id"], "otp": self.code("email", who.email.sure, seen)}
        self.keep(self.act("signin.completed", f"{AUTH}/login/verify", body))

    def refresh(self) -> None:
        status, told = self.ask("POST", f"{AUTH}/refresh", {"refresh_token": self.who.tokens["refresh_token"]})
        if status in (0, 503):  # it may have been used up: within ten seconds the same token gets the same answer
            status, told = self.ask("POST", f"{AUTH}/refresh", {"refresh_token": self.who.tokens["refresh_token"]})
        if status != 200:
            raise Gone
        self.who.tokens |= {name: told[name] for name in ("access_token", "refresh_token")}

    def change_password(self) -> None:
        new = _password(self.dice)
        body = {"current_password": self.who.password.sure, "new_password": new}
        self.act(
            "password.changed", f"{AUTH}/change-password", body, self.who.tokens["access_token"], self.who.password
        )

    def recover(self) -> None:
        """The password is forgotten, and every session ends."""
        who = self.who
        seen = self.crowd.seen("email", who.email.sure)
        asked = self.must(f"{AUTH}/forgot-password", {"email": who.email.sure})
        code = self.code("email", who.email.sure, seen)
        body = {"challenge_id": asked["challenge_id"], "otp": code, "new_password": _password(self.dice)}
        self.act("recovery.completed", f"{AUTH}/reset-password", body, "", who.password)
        who.ended.append(who.tokens["access_token"])
        self.sign_in()

    def change_address(self) -> None:
        who, new = self.who, address()
        token = who.tokens["access_token"]
        asked = self.must(f"{AUTH}/change-email", {"email": new}, token)
        body = {"challenge_id": asked["challenge_id"], "otp": self.code("email", new, 0)}
        status, _ = self.offer(f"{AUTH}/verify-otp", body, token)
        who.email.note(new, status)
        if not who.note("contact.changed", status):
            raise Gone

    def role(self) -> None:
        """An admin gives a role, and every session ends."""
        who, token = self.who, self.crowd.admin()
        new = "doctor" if who.role.sure == "user" else "user"
        status, _ = self.ask("PUT", f"/api/admin/users/{who.id}/role", {"role": new}, token)
        who.role.note(new, status)
        if not who.note("user.changed", status):
            raise Gone
        who.ended.append(who.tokens["access_token"])
        raise Gone  # its sessions are over
