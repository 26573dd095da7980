"""Accounts from another system: what a row must be, whose addresses it names already, and the account it becomes."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any
from uuid import UUID

from sqlalchemy import insert, literal, select, union_all

from app.core import identifiers, people
from app.core.accounts import COLUMN, DEFAULT_ROLE
from app.core.audit import Event
from app.core.identifiers import Identifier, Kind
from app.core.text import LONGEST_NAME, named
from app.crypto import legacy
from app.crypto.ids import made_at, uuid7
from app.errors import ValidationFailed
from app.models import AuditLog, User
from app.work import Work

COLUMNS = ("email", "phone", "username", "name", "role", "password_hash", "created_at", "language")
IDENTIFYING = COLUMNS[:3]
RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)  # to which an id tells when it was made


@dataclass(frozen=True, slots=True)
class Row:
    """What stands in a line of a file: text by column."""

    line: int
    values: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Refused:
    """A row that is not taken, and why. It repeats nothing of the row, so that a report holds no hash."""

    line: int
    field: str
    code: str
    message: str

    @classmethod
    def of(cls, line: int, refused: ValidationFailed) -> Refused:
        first = refused.extra["errors"][0]
        return cls(line, first["field"], first["code"], first["message"])


@dataclass(frozen=True, slots=True)
class Candidate:
    """A row that could be an account. `details`: the columns of a user beside its identifiers."""

    line: int
    identifiers: tuple[Identifier, ...]
    details: dict[str, Any]

    @property
    def marks(self) -> set[int]:
        """Its identifiers as 64-bit numbers: a file of a million rows must be remembered in little memory."""
        return _marks(self.identifiers)

    @property
    def above_user(self) -> bool:
        """Whether its role is another than everybody's."""
        return bool(self.details["role"] != DEFAULT_ROLE)

    @property
    def format(self) -> str | None:
        """Which function made its hash; None without one."""
        return legacy.name(stored) if (stored := self.details["password_hash"]) else None


def _marks(named: Iterable[Identifier]) -> set[int]:
    return {hash(each) for each in named}


class Verdict(Enum):
    NEW = "new"
    THERE = "there"  # every identifier is on one same account: this row was imported before
    REPEATED = "repeated"  # an earlier row of the file has one of them
    TAKEN = "taken"  # an account has one of them, and not all, or a username that proves nothing
    HELD = "held"  # its username is kept for somebody who is signing up


@dataclass(slots=True)
class Outcome:
    """What became of some rows. `claimed`: the marks that later rows of the file cannot have."""

    imported: int = 0
    above_user: int = 0  # of those imported, by role
    already_there: int = 0
    passed_over: int = 0  # they stand in an earlier file
    refused: list[Refused] = field(default_factory=list)
    claimed: set[int] = field(default_factory=set)


def was_done(work: Work) -> bool:
    """Whether the audit log knows of an import."""
    return work.db.scalar(select(AuditLog.id).where(AuditLog.event == Event.ACCOUNT_IMPORTED).limit(1)) is not None


def marks(row: Row, region: str) -> set[int]:
    """What `Candidate.marks` tells, of a row that may have been refused. `region`: of numbers without a prefix."""
    found: set[int] = set()
    for column, text in _given(row).items():
        with suppress(ValidationFailed):
            found |= _marks(_identifiers({column: text}, region))
    return found


def read(work: Work, row: Row, languages: Collection[str]) -> Candidate:
    """Check and normalise a row. `languages`: those that there are messages in. Raises ValidationFailed."""
    given = _given(row)
    named = _identifiers(given, work.settings.default_phone_region)
    role = given.get("role", DEFAULT_ROLE)
    if role not in work.settings.roles:
        raise _wrong("role", "unknown_role", f"The roles are: {', '.join(work.settings.roles)}.")
    language = given.get("language")
    if language and language not in languages:
        raise _wrong("language", "unknown_language", f"There are messages in: {', '.join(languages)}.")
    password_hash = _hash(given.get("password_hash"))
    details = {
        "name": _name(given.get("name")),
        "role": role,
        "language": language,
        "password_hash": password_hash,
        "created_at": _instant(given.get("created_at"), work.now),
        "password_changed_at": work.now if password_hash else None,  # when it was is not known, but not later
    }
    return Candidate(row.line, named, details)


def _given(row: Row) -> dict[str, str]:
    return {column: text for column, value in row.values.items() if (text := value.strip(" "))}


def _wrong(column: str, code: str, message: str) -> ValidationFailed:
    return ValidationFailed.field(column, code, message)


def _identifiers(given: Mapping[str, str], region: str) -> tuple[Identifier, ...]:
    named = []
    if "email" in given:
        named.append(identifiers.email(given["email"]))
    if "phone" in given:
        named.append(identifiers.phone(given["phone"], region))
    if "username" in given:
        named.append(identifiers.username(given["username"]))
    if not named:
        raise _wrong("email", "no_identifier", "A row needs an email, a phone or a username.")
    return tuple(named)


def _name(text: str | None) -> str | None:
    if text is None:
        return None
    if (name := named(text)) is None:
        raise _wrong("name", "invalid_name", f"At most {LONGEST_NAME} characters, none of them a control character.")
    return name


def _hash(text: str | None) -> str | None:
    if text is None:
        return None
    stored = legacy.kept(text)
    if stored is None:
        message = "No hash of Argon2, bcrypt, PBKDF2 or scrypt in a known form and of a bearable cost."
        raise _wrong("password_hash", "unknown_hash", message)
    return stored


def _instant(text: str | None, now: datetime) -> datetime:
    """An RFC 3339 instant between 1970 and now; now for none."""
    if text is None:
        return now
    try:
        instant = datetime.fromisoformat(text.upper()).astimezone(UTC) if RFC3339.fullmatch(text) else None
    except (ValueError, OverflowError):
        instant = None
    if instant is None or not EPOCH <= instant <= now:
        message = "A date and time with its offset (RFC 3339), such as 2024-05-01T09:30:00Z, and not in the future."
        raise _wrong("created_at", "invalid_created_at", message)
    return instant


def owners(work: Work, candidates: Iterable[Candidate]) -> dict[Identifier, UUID]:
    """The accounts that have any of these identifiers, in one statement: three look-ups in an index each, where an
    OR over three columns would read the table.
    """
    named = {each for candidate in candidates for each in candidate.identifiers}
    looks = [
        select(literal(kind.value), column, User.id).where(column.in_(values))
        for kind, column in COLUMN.items()
        if (values := sorted(each.value for each in named if each.kind is kind))
    ]
    kinds = {kind.value: kind for kind in COLUMN}
    found = work.db.execute(union_all(*looks)) if looks else ()
    return {Identifier(kinds[kind], value or ""): user_id for kind, value, user_id in found}


def judge(candidate: Candidate, owned: Mapping[Identifier, UUID], held: Set[Identifier], *claimed: Set[int]) -> Verdict:
    """What is to be done with a row. The answer is the same in a trial, in a first run and in a second one.

    `owned`: from `owners`. `held`: usernames that are kept for others. `claimed`: the marks of the rows before it in
    the file that were taken or are there.
    """
    if not all(candidate.marks.isdisjoint(marks) for marks in claimed):
        return Verdict.REPEATED
    accounts = {owned.get(each) for each in candidate.identifiers}
    if accounts == {None}:
        return Verdict.NEW if held.isdisjoint(candidate.identifiers) else Verdict.HELD
    [account, *others] = accounts
    return Verdict.THERE if account and not others and _proves(candidate, account) else Verdict.TAKEN


def _proves(candidate: Candidate, account: UUID) -> bool:
    """Whether the account that has all of a row's identifiers is the row's. A username alone may be anybody's, who has
    registered it since; that of an import was made when the row says.
    """
    age = candidate.details["created_at"] - made_at(account)
    return any(each.kind is not Kind.USERNAME for each in candidate.identifiers) or timedelta(0) <= age < MILLISECOND


def refusal(candidate: Candidate, verdict: Verdict) -> Refused:
    """How a row is refused whose identifiers are somebody else's."""
    if verdict is Verdict.HELD:
        return Refused(candidate.line, Kind.USERNAME.value, "taken", "Somebody who is signing up has this username.")
    who = "An earlier row of the file" if verdict is Verdict.REPEATED else "Another account"
    named = " or ".join(each.kind.value for each in candidate.identifiers)
    return Refused(candidate.line, candidate.identifiers[0].kind.value, "taken", f"{who} has this {named}.")


def create(work: Work, candidates: Sequence[Candidate]) -> dict[UUID, Candidate]:
    """Make the accounts and say which is whose. Missing are those that somebody took an identifier of in the meantime.

    The id tells when the account was made, not when it was imported: ids sort by age.
    """
    made = {uuid7(each.details["created_at"]): each for each in candidates}
    if not made or _insert(work, made):
        return made
    return {user_id: each for user_id, each in made.items() if _insert(work, {user_id: each})}


def _insert(work: Work, made: Mapping[UUID, Candidate]) -> bool:
    """All of them in one statement, past the session's book-keeping, or none."""
    nobody = dict.fromkeys(IDENTIFYING)
    rows = [
        {
            "id": user_id,
            "name_key": people.folded(each.details["name"]),
            **nobody,
            **{named.kind.value: named.value for named in each.identifiers},
            **each.details,
        }
        for user_id, each in made.items()
    ]
    return work.if_free(lambda: work.db.execute(insert(User), rows))
