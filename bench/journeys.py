"""Journeys: somebody signs up, signs in and out, changes and recovers, whatever the answers, and keeps a journal."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from bench.journal import UNKNOWN, Caller, Held, Somebody
from bench.rig import address, number

if TYPE_CHECKING:
    from bench.crowd import Crowd

AUTH, MOBILE = "/api/auth", "/api/v1/auth"
CODE_S = 40.0  # for a code to come: a lease of a courier that died lapses in 30 s
AGAIN = 0.3  # how often a code that was taken is offered again
PAUSES_S = (0.5, 2.0, 5.0)  # before a code that got no answer is offered again, each time until it gets one
FUMBLES = 0.3  # how often somebody types one wrong code before the right one, once in a life
GRACE_S = 9.0  # in which a refresh token surely gets the same answer again; the service says 10
USED = ("challenge_closed", "token_invalid")  # what is told of a code, or a registration token, that was used
REUSED = "token_reused"
OVER = ("token_expired", "token_revoked")  # what a session is told that has ended


class Gone(Exception):
    """A step was not answered well: the journey ends here, and somebody else begins another."""


def fresh_password(dice: random.Random) -> str:
    return f"bench horse {dice.randrange(10**9):09d}"


@dataclass
class Journey:
    """One account's life. Each step raises Gone unless it was answered well."""

    crowd: Crowd
    dice: random.Random
    who: Somebody
    at: str = ""  # the address of the code at hand
    began: float = 0.0  # when the step at hand was asked for

    def go(self) -> None:
        if self.dice.random() < 0.4:
            self.sign_up_by_phone()
            steps = [self.refresh, self.sign_in_again, self.sign_out, self.role]
        else:
            self.sign_up()
            steps = [self.refresh, self.change_password, self.sign_in_again, self.recover, self.change_address]
            steps += [self.sign_out, self.role]
        for step in self.dice.sample(steps, k=4):
            step()

    def ask(
        self, method: str, path: str, body: Any = None, token: str = "", *, earned: Collection[str] = ()
    ) -> tuple[int, dict[str, Any]]:
        caller = Caller(self.crowd.base, self.crowd.journal, self.crowd.patience, self.who.network)
        return caller.ask(method, path, body, token, earned={*earned, *(OVER if self.overdue else ())})

    @property
    def overdue(self) -> bool:
        """Whether the session may be over before the next answer comes."""
        return time.monotonic() + self.crowd.patience > self.who.opened + self.crowd.session_s

    def must(self, path: str, body: Any, token: str = "") -> dict[str, Any]:
        """A step that changes nothing that the journal holds."""
        status, told = self.ask("POST", path, body, token)
        if status not in (200, 201):
            raise Gone
        return told

    def code(self, channel: str, to: str, seen: int) -> str:
        self.at, code = to, self.crowd.read(channel, to, seen)
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
        """Ask, and if there was no answer, offer the same code again until there is one: it was taken once, if one of
        them is good. One that was taken is offered again now and then, and must be refused.
        """
        if "otp" in body and not self.who.fumbled and self.dice.random() < FUMBLES:
            self.fumble(path, body, token)
        self.began = time.monotonic()
        status, told = self.ask("POST", path, body, token)
        journal, single = self.crowd.journal, "otp" in body or "registration_token" in body
        if single and status in UNKNOWN:
            return self.insist(path, body, token, status)
        if single and status in (200, 201) and self.dice.random() < AGAIN:
            again, _ = self.ask("POST", path, body, token, earned=USED)
            with journal.lock:
                journal.retried += 1
                journal.twice += [f"{path} took a code twice"] if again in (200, 201) else []
        return status, told

    def insist(self, path: str, body: dict[str, Any], token: str, first: int) -> tuple[int, dict[str, Any]]:
        """After no answer: the last one if it is good. Otherwise the first: what was asked for may have been done."""
        again, told = first, {}
        for pause in PAUSES_S:
            if again in UNKNOWN:
                self.crowd.over.wait(pause)
                again, told = self.ask("POST", path, body, token, earned=USED)
        with self.crowd.journal.lock:
            self.crowd.journal.unsure[str(again)] += 1
        return (again, told) if again in (200, 201) else (first, {})

    def fumble(self, path: str, body: dict[str, Any], token: str) -> None:
        """Type a wrong code. It is counted, and the right one is still taken."""
        self.who.fumbled = True
        wrong = f"{(int(body['otp']) + 1) % 10**6:06d}"
        status, _ = self.ask("POST", path, body | {"otp": wrong}, token, earned={"invalid_code"})
        with self.crowd.journal.lock:
            self.crowd.journal.guesses.setdefault(self.at, Counter())[str(status)] += 1

    def keep(self, told: dict[str, Any]) -> None:
        """A session was opened."""
        self.who.tokens = {name: told[name] for name in ("access_token", "refresh_token")}
        self.who.id, self.who.opened = UUID(told["user"]["id"]), self.began
        self.who.lived.append((time.monotonic(), self.who.tokens))

    def ended(self, why: str) -> None:
        """The end of the session was acknowledged."""
        self.who.ended.append(self.who.tokens["access_token"])
        with self.crowd.journal.lock:
            self.crowd.journal.ends[why] += 1

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
        status, proven = self.offer(f"{MOBILE}/verify-otp", self.proof())
        if status != 200:
            raise Gone
        body = {"registration_token": proven["registration_token"], "name": "Asha", "consent": True}
        self.keep(self.act("signup.completed", f"{MOBILE}/complete-registration", body))

    def proof(self) -> dict[str, str]:
        to = self.who.phone.sure
        seen = self.crowd.seen("sms", to)
        self.must(f"{MOBILE}/send-otp", {"mobile_number": to})
        return {"mobile_number": to, "otp": self.code("sms", to, seen)}

    def sign_in_again(self) -> None:
        """By phone, or by password and mail."""
        who = self.who
        if who.phone.sure:
            self.keep(self.act("signin.completed", f"{MOBILE}/verify-otp", self.proof()))
            return
        seen = self.crowd.seen("email", who.email.sure)
        asked = self.must(f"{AUTH}/login", {"identifier": who.email.sure, "password": who.password.sure})
        body = {"challenge_id": asked["challenge_id"], "otp": self.code("email", who.email.sure, seen)}
        self.keep(self.act("signin.completed", f"{AUTH}/login/verify", body))

    def refresh(self) -> None:
        """Exchange the refresh token, twice if there was no answer: for ten seconds it gets the same answer."""
        body, began = {"refresh_token": self.who.tokens["refresh_token"]}, time.monotonic()
        status, told = self.ask("POST", f"{AUTH}/refresh", body)
        if status in UNKNOWN:
            status, told = self.ask("POST", f"{AUTH}/refresh", body, earned={REUSED})
            if status in UNKNOWN or told.get("code") == REUSED:
                self.who.perhaps["session.ended"] += 1
            if told.get("code") == REUSED and time.monotonic() < began + GRACE_S:
                self.crowd.journal.unfair.append("a refresh token was called stolen within its grace")
        if status != 200:
            raise Gone
        self.who.tokens |= {name: told[name] for name in ("access_token", "refresh_token")}

    def sign_out(self) -> None:
        """The session ends; another begins."""
        if self.overdue:
            raise Gone
        status, _ = self.ask("POST", f"{AUTH}/logout", {}, self.who.tokens["access_token"])
        if not self.who.note("session.ended", status):
            raise Gone
        self.ended("sign-out")
        self.sign_in_again()

    def change_password(self) -> None:
        body = {"current_password": self.who.password.sure, "new_password": fresh_password(self.dice)}
        token, path = self.who.tokens["access_token"], f"{AUTH}/change-password"
        self.act("password.changed", path, body, token, self.who.password)

    def recover(self) -> None:
        """The password is forgotten, and every session ends."""
        who = self.who
        seen = self.crowd.seen("email", who.email.sure)
        asked = self.must(f"{AUTH}/forgot-password", {"email": who.email.sure})
        code = self.code("email", who.email.sure, seen)
        body = {"challenge_id": asked["challenge_id"], "otp": code, "new_password": fresh_password(self.dice)}
        self.act("recovery.completed", f"{AUTH}/reset-password", body, "", who.password)
        self.ended("recovery")
        self.sign_in_again()

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
        """An admin gives a role, and every session ends. Not while the admins fight."""
        assert self.crowd.office
        with self.crowd.office.open() as token:
            if not token:
                return
            new = "doctor" if self.who.role.sure == "user" else "user"
            status, _ = self.ask("PUT", f"/api/admin/users/{self.who.id}/role", {"role": new}, token)
        self.who.role.note(new, status)
        if not self.who.note("user.changed", status):
            raise Gone
        self.ended("another role")
        raise Gone  # its sessions are over
