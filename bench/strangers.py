"""Those beside the journeys: who guesses passwords, who guesses codes, and who asks whether the process lives."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import UUID

from bench.journal import UNKNOWN, Caller, Somebody
from bench.rig import address

if TYPE_CHECKING:
    from bench.crowd import Crowd

AUTH = "/api/auth"
GUESS_S = 0.3  # between two guesses
LOOK_S = 0.25
WRONG, WRONG_CODE = "wrong horse 7777", "000000"  # a code is that one time in a million
BUDGET, CAP = 5, 3  # wrong guesses at an identifier, and at one challenge (docs/limits.md)
PASSWORD_WRONG, CODE_WRONG, CLOSED, LOCKED = "invalid_credentials", "invalid_code", "challenge_closed", "account_locked"


def spent(answers: Counter[str], most: int) -> bool:
    """Whether as many guesses were made as there may be: those that got no answer may have counted."""
    return sum(answers[each] for each in ("400", "401", *map(str, UNKNOWN))) >= most


def guess_passwords(crowd: Crowd) -> None:
    """Somebody who tries wrong passwords at an account until it is said to be locked; then at another."""
    caller = Caller(crowd.base, crowd.journal, crowd.patience, "198.51.100.9")
    victim = ""
    for _ in crowd.turns():
        if not victim or crowd.journal.guesses[victim]["423"] > 2:
            found = _left(crowd)
            victim = found[-1].email.sure if found else address()
        answers = crowd.journal.guesses.setdefault(victim, Counter())
        earned = {PASSWORD_WRONG, *([LOCKED] if spent(answers, BUDGET) else [])}
        status, _ = caller.ask("POST", f"{AUTH}/login", {"identifier": victim, "password": WRONG}, earned=earned)
        answers[str(status)] += 1
        crowd.over.wait(GUESS_S)


def _left(crowd: Crowd) -> list[Somebody]:
    """Accounts with an address that nobody else uses any more, and at which nobody has guessed."""
    with crowd.journal.lock:
        people = [who for who in crowd.journal.people if who.id and who.over and not who.email.perhaps]
    return [who for who in people if who.email.sure and who.email.sure not in crowd.journal.guesses]


@dataclass
class CodeGuesser:
    """Somebody who knows a password, and guesses at the codes, first of a recovery, until the account is locked."""

    crowd: Crowd
    who: Somebody | None = None
    asked: UUID | None = None  # the challenge at hand
    begun: int = 0
    answers: Counter[str] = field(default_factory=Counter)  # to the guesses at this account

    def go(self) -> None:
        self.caller = Caller(self.crowd.base, self.crowd.journal, self.crowd.patience, "198.51.100.10")
        for _ in self.crowd.turns():
            if self.who is None:
                self._choose()
            elif self.asked is None:
                self._begin()
            else:
                self._guess()
            self.crowd.over.wait(GUESS_S)

    def _choose(self) -> None:
        known = [who for who in _left(self.crowd) if who.password.sure and not who.password.perhaps]
        if known:
            self.who, self.asked, self.begun, self.answers = known[0], None, 0, Counter()
            self.crowd.journal.guesses[self.who.email.sure] = self.answers

    def _begin(self) -> None:
        """A recovery first, then sign-ins."""
        assert self.who
        email, password = self.who.email.sure, self.who.password.sure
        path, body = f"{AUTH}/login", {"identifier": email, "password": password}
        if not self.begun:
            path, body = f"{AUTH}/forgot-password", {"email": email}
        status, told = self.caller.ask("POST", path, body, earned=self._locked())
        if status == 423:
            self.who = None
        elif "challenge_id" in told:
            self.asked, self.begun = UUID(told["challenge_id"]), self.begun + 1
            self.crowd.journal.tries[self.asked] = Counter()

    def _guess(self) -> None:
        assert self.asked
        tries = self.crowd.journal.tries[self.asked]
        path, body = f"{AUTH}/login/verify", {"challenge_id": str(self.asked), "otp": WRONG_CODE}
        if self.begun == 1:
            path, body["new_password"] = f"{AUTH}/reset-password", WRONG
        earned = {CODE_WRONG, *self._locked(), *([CLOSED] if spent(tries, CAP) else [])}
        status, _ = self.caller.ask("POST", path, body, earned=earned)
        tries[str(status)] += 1
        self.answers[str(status)] += 1
        if status == 410 or (self.begun == 1 and tries.total() == CAP - 1):
            self.asked = None
        elif status == 423:
            self.who = None

    def _locked(self) -> set[str]:
        return {LOCKED} if spent(self.answers, BUDGET) else set()


def guess_codes(crowd: Crowd) -> None:
    CodeGuesser(crowd).go()


def look(crowd: Crowd) -> None:
    """Somebody who asks whether the process lives."""
    caller = Caller(crowd.base, crowd.journal, crowd.patience)
    for _ in crowd.turns():
        caller.ask("GET", "/health/live")
        crowd.over.wait(LOOK_S)


ACTS = (guess_passwords, guess_codes, look)
