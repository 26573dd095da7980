"""`flask import-users`, from outside: a file goes in, and what the people in it can do afterwards."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import argon2
import bcrypt
import pytest
import sqlalchemy as sa
from werkzeug.security import generate_password_hash

from app import work
from app.cli.rows import LONGEST_ROW
from app.core import imports
from app.errors import Unavailable
from app.models import AuditLog, User, UsernameHold
from tests.conftest import World
from tests.lanes import CHEAP, SECRETS
from tests.people import PASSWORD
from tests.web.admins import USERS, of_role

ROOT = Path(__file__).resolve().parent.parent
BCRYPT = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
CHEAP_ARGON2 = argon2.PasswordHasher(time_cost=1, memory_cost=16, parallelism=1)
ARGON2 = CHEAP_ARGON2.hash(PASSWORD)
FORMATS = {
    "argon2": ARGON2,
    "argon2 by Django": f"argon2{ARGON2}",
    "argon2i": argon2.PasswordHasher(time_cost=1, memory_cost=16, parallelism=1, type=argon2.Type.I).hash(PASSWORD),
    "bcrypt 2a": BCRYPT.replace("$2b$", "$2a$"),
    "bcrypt 2b": BCRYPT,
    "bcrypt 2y": BCRYPT.replace("$2b$", "$2y$"),
    "pbkdf2 by Werkzeug": generate_password_hash(PASSWORD, "pbkdf2:sha256:1000"),
    "pbkdf2 sha1 by Werkzeug": generate_password_hash(PASSWORD, "pbkdf2:sha1:1000"),
    "pbkdf2 sha512 by Werkzeug": generate_password_hash(PASSWORD, "pbkdf2:sha512:1000"),
    "pbkdf2 by Django": "pbkdf2_sha256$1000$seasalt$Bv/rmpzmBK04ALsi9BKcs1S9LVlNX3seSr3YfxprQqE=",
    "pbkdf2 sha1 by Django": "pbkdf2_sha1$1000$seasalt$Wd8MvxAs4vDIqEkeMny2W3VAQrk=",
    "scrypt by Werkzeug": generate_password_hash(PASSWORD, "scrypt:1024:8:1"),
}


@dataclass
class Done:
    """What a run said."""

    code: int
    output: str
    summary: dict[str, Any]
    refused: list[dict[str, Any]]

    @property
    def reasons(self) -> list[tuple[int, str]]:
        return [(each["line"], each["code"]) for each in self.refused]


@pytest.fixture
def importing(world: World, tmp_path: Path) -> Callable[..., Done]:
    """Run the command over a text or bytes, in this process."""

    def run(content: str | bytes, *options: str, name: str = "users.csv") -> Done:
        file, report = tmp_path / name, tmp_path / "refused.ndjson"
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        report.unlink(missing_ok=True)
        arguments = ["import-users", str(file), "--json", "--refused", str(report), *options]
        result = world.app.test_cli_runner().invoke(args=arguments)
        if not isinstance(result.exception, SystemExit | None):
            raise result.exception
        refused = [json.loads(line) for line in report.read_text().splitlines()] if report.exists() else []
        summary = json.loads(result.stdout) if result.exit_code < 2 else {}
        return Done(result.exit_code, result.output, summary, refused)

    return run


def table(*rows: dict[str, str]) -> str:
    """CSV as the csv module writes it."""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(dict.fromkeys(name for row in rows for name in row)))
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def ndjson(*rows: Any) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def the_user(world: World, **where: Any) -> User:
    [user] = world.rows(User, **where)
    return user


def test_a_row_becomes_an_account(world: World, importing: Callable[..., Done]) -> None:
    row = {
        "email": " Jane@Example.COM ",
        "phone": "+91 98765 43210",
        "username": "Jane.D",
        "name": "=HYPERLINK(1)",
        "role": "doctor",
        "password_hash": BCRYPT,
        "created_at": "2019-03-04T05:06:07+05:30",
        "language": "hi",
    }
    done = importing(table(row))
    assert done.code == 0, done.output
    assert done.summary | {"seconds": 0} == {
        "rows": 1, "imported": 1, "above_user": 1, "already_there": 0, "passed_over": 0, "refused": 0, "reasons": {},
        "dry_run": False, "seconds": 0,
    }  # fmt: skip
    user = the_user(world)
    assert (user.email, user.phone, user.username) == ("jane@example.com", "+919876543210", "jane.d")
    assert (user.name, user.role, user.language, user.password_hash) == ("=HYPERLINK(1)", "doctor", "hi", BCRYPT)
    assert user.created_at == datetime(2019, 3, 3, 23, 36, 7, tzinfo=UTC)
    assert user.last_login_at is user.disabled_at is None
    assert user.password_changed_at is not None
    [row] = world.audit()
    assert (row.event, row.user_id, row.actor_id, row.success) == ("account.imported", user.id, None, True)
    assert row.user_agent == "latchkey command line"
    assert row.facts == {"format": "bcrypt", "role": "doctor"}


def test_empty_fields_have_their_defaults(world: World, importing: Callable[..., Done]) -> None:
    done = importing(ndjson({"email": "jane@example.com", "role": "", "password_hash": None}), name="users.ndjson")
    assert done.code == 0, done.output
    user = the_user(world)
    assert (user.role, user.password_hash, user.password_changed_at) == ("user", None, None)
    assert (user.name, user.phone, user.username, user.language) == (None, None, None, None)
    assert user.created_at > datetime(2026, 1, 1, tzinfo=UTC)
    assert world.audit()[0].facts == {"format": None, "role": "user"}


def test_somebody_without_a_password_sets_one_by_recovery(world: World, importing: Callable[..., Done]) -> None:
    importing(table({"email": "jane@example.com", "name": "Jane"}))
    jane = world.person(email="jane@example.com")
    assert jane.ask_signin().code == "invalid_credentials"
    asked = jane.api.post("/api/auth/forgot-password", {"email": jane.email}).ok()
    body = {"challenge_id": asked["challenge_id"], "otp": jane.code(), "new_password": "a new horse 42"}
    jane.api.post("/api/auth/reset-password", body).ok()
    jane.password = "a new horse 42"
    world.clock.advance(minutes=2)
    assert jane.sign_in().me().ok()["email"] == "jane@example.com"


@pytest.mark.covers("asvs 11.4.2")
@pytest.mark.parametrize("kind", FORMATS)
def test_each_format_signs_in_and_is_argon2id_after(world: World, importing: Callable[..., Done], kind: str) -> None:
    assert importing(table({"email": "jane@example.com", "password_hash": FORMATS[kind]})).code == 0
    jane = world.person(email="jane@example.com")
    assert the_user(world).password_hash in (FORMATS[kind], f"argon2{FORMATS[kind]}")
    guess = world.person(email="jane@example.com", password="wrong horse 7")
    nobody = world.person(email="nobody@example.com", password="wrong horse 7")
    mine, theirs = guess.ask_signin(), nobody.ask_signin()
    assert (mine.status, {**mine.body, "request_id": 0}) == (theirs.status, {**theirs.body, "request_id": 0})
    assert mine.code == "invalid_credentials"
    assert [row.reason for row in world.audit(event="signin.refused", user_id=the_user(world).id)] == [mine.code]
    changed = the_user(world).password_changed_at
    jane.sign_in()
    user = the_user(world)
    assert user.password_hash.startswith("$argon2id$v=19$m=8,t=1,p=1$")
    assert user.password_changed_at == changed
    world.clock.advance(minutes=2)
    assert jane.sign_in().me().status == 200
    assert the_user(world).password_hash == user.password_hash
    assert guess.ask_signin().code == "invalid_credentials"


def test_wrong_passwords_lock_an_imported_account_like_any_other(world: World, importing: Callable[..., Done]) -> None:
    importing(table({"email": "jane@example.com", "password_hash": BCRYPT}))
    guess = world.person(email="jane@example.com", password="wröng horse 7")
    answers = [guess.ask_signin().code for _ in range(6)]
    assert answers == ["invalid_credentials"] * 5 + ["account_locked"]
    assert the_user(world).password_hash == BCRYPT


@pytest.mark.parametrize("then", ["NFC", "NFD"])
@pytest.mark.parametrize("now", ["NFC", "NFD"])
def test_a_password_matches_in_whichever_form_the_keyboard_sends_it(
    world: World, importing: Callable[..., Done], then: Any, now: Any
) -> None:
    password = "pässwört mit pünktchen"
    hashed = bcrypt.hashpw(unicodedata.normalize(then, password).encode(), bcrypt.gensalt(4)).decode()
    argon = CHEAP_ARGON2.hash(unicodedata.normalize(then, password))
    importing(table(*({"email": f"jane{n}@example.com", "password_hash": h} for n, h in enumerate((hashed, argon)))))
    for n in range(2):
        jane = world.person(email=f"jane{n}@example.com", password=unicodedata.normalize(now, password))
        jane.sign_in()
        world.clock.advance(minutes=2)
        jane.password = unicodedata.normalize("NFC" if now == "NFD" else "NFD", password)
        assert jane.sign_in().me().status == 200


GOOD = {"email": "asha@example.com", "password_hash": BCRYPT}
BAD: dict[str, tuple[dict[str, str], str]] = {
    "nobody": ({"email": " ", "name": "Jane"}, "no_identifier"),
    "no address": ({"email": "jane"}, "invalid_email"),
    "an address with NUL": ({"email": "ja\x00ne@example.com"}, "invalid_email"),
    "formula": ({"email": "=cmd|'/C calc'!A0"}, "invalid_email"),
    "no number": ({"phone": "12"}, "invalid_phone"),
    "landline": ({"phone": "+91 11 2345 6789"}, "no_sms"),
    "no username": ({"username": "a b"}, "invalid_username"),
    "long name": ({"name": "x" * 101}, "invalid_name"),
    "name that grows in its one spelling": ({"name": "\ufb2c" * 34}, "invalid_name"),
    "name with NUL": ({"name": "Ja\x00ne"}, "invalid_name"),
    "role": ({"role": "superuser"}, "unknown_role"),
    "language": ({"language": "tlh"}, "unknown_language"),
    "plain text": ({"password_hash": "hunter2"}, "unknown_hash"),
    "md5": ({"password_hash": "5f4dcc3b5aa765d61d8327deb882cf99"}, "unknown_hash"),
    "dear bcrypt": ({"password_hash": BCRYPT.replace("$04$", "$31$")}, "unknown_hash"),
    "dear scrypt": ({"password_hash": f"scrypt:1048576:8:1$salt${'ab' * 64}"}, "unknown_hash"),
    "hash with NUL": ({"password_hash": BCRYPT + "\x00"}, "unknown_hash"),
    "naive": ({"created_at": "2019-03-04 05:06:07"}, "invalid_created_at"),
    "zero": ({"created_at": "0000-00-00T00:00:00Z"}, "invalid_created_at"),
    "future": ({"created_at": "2031-01-01T00:00:00Z"}, "invalid_created_at"),
    "week date": ({"created_at": "2019-W01-1T00:00:00Z"}, "invalid_created_at"),
    "year 1": ({"created_at": "0001-01-01T00:00:00+23:59"}, "invalid_created_at"),
}


def test_a_wrong_row_is_refused_with_its_reason_and_the_others_are_taken(
    world: World, importing: Callable[..., Done]
) -> None:
    columns = dict.fromkeys(imports.COLUMNS, "")
    ours = {name: {**columns, "email": f"jane{n}@example.com", **bad} for n, (name, (bad, _)) in enumerate(BAD.items())}
    done = importing(table(*ours.values(), {**columns, **GOOD}))
    assert done.code == 1
    assert done.reasons == [(2 + n, code) for n, (_, code) in enumerate(BAD.values())]
    assert done.summary["imported"] == 1
    assert done.summary["refused"] == len(BAD) == sum(done.summary["reasons"].values())
    assert [user.email for user in world.rows(User)] == ["asha@example.com"]
    assert {frozenset(each) for each in done.refused} == {frozenset(("line", "field", "code", "message"))}
    said = done.output + json.dumps(done.refused)
    for secret in ("hunter2", "5f4dcc3b5aa765d61d8327deb882cf99", BCRYPT[7:], "superuser", "calc"):
        assert secret not in said


BROKEN = {
    b"jane@example.com,x,y\n": "broken_row",
    b"jane@example.com\n": "broken_row",
    b'"jane"@example.com,x\n': "broken_row",
    b"jane@example.com,a\rb\n": "broken_row",
    b"j\xff@example.com,x\n": "not_utf8",
    b"jane@example.com," + b"x" * 10_000_000 + b"\n": "too_long",
    b'jane@example.com,"' + b'x""\n' * 3_000_000 + b'"\n': "too_long",
    b'jane@example.com,"x\nevil@example.com,Eve\n"\n': "invalid_name",
    b'"","' + b"\n" * LONGEST_ROW + b'evil@example.com,Eve\n"\n': "too_long",
}


@pytest.mark.parametrize(("broken", "code"), BROKEN.items(), ids=range(len(BROKEN)))
def test_a_broken_row_is_refused_whole_and_the_next_one_is_read(
    world: World, importing: Callable[..., Done], broken: bytes, code: str
) -> None:
    done = importing(b"email,name\nasha@example.com,Asha\n" + broken + b'last@example.com,"Doe, ""J"""\n')
    assert done.reasons == [(3, code)]
    assert {(user.email, user.name) for user in world.rows(User)} == {
        ("asha@example.com", "Asha"),
        ("last@example.com", 'Doe, "J"'),
    }


def test_the_page_about_moving_tells_every_reason() -> None:
    page = (ROOT / "docs" / "moving-from-mysql-and-bcrypt.md").read_text()
    codes = {code for _, code in BAD.values()} | set(BROKEN.values()) | {"taken"}
    assert [code for code in sorted(codes) if f"`{code}`" not in page] == []


def test_a_stray_quote_takes_no_row_behind_it_apart(world: World, importing: Callable[..., Done]) -> None:
    """A quote inside a bare field opens nothing in CSV, but may be a writer's slip: what follows is refused with it."""
    done = importing('email,name\njane@example.com,6" nails\nasha@example.com,5" nails\nlast@example.com,Last\n')
    assert done.reasons == [(2, "broken_row")]
    assert [user.email for user in world.rows(User)] == ["last@example.com"]


def test_a_quote_that_is_never_closed_takes_the_rest_with_it_and_says_so(
    world: World, importing: Callable[..., Done]
) -> None:
    done = importing('email,name\nasha@example.com,Asha\njane@example.com,"Jane\nlast@example.com,Last\n')
    assert done.reasons == [(3, "broken_row")]
    assert "line 4" in done.refused[0]["message"]
    assert world.count(User) == 1


def test_what_spreadsheets_write_is_read(world: World, importing: Callable[..., Done]) -> None:
    done = importing(b'\xef\xbb\xbf"email","name"\r\n"jane@example.com","Jane"\r\n\r\nasha@example.com,\xe0\xa4\x86')
    assert done.code == 0, done.refused
    assert {user.name for user in world.rows(User)} == {"Jane", "\u0906"}


def test_ndjson_is_read(world: World, importing: Callable[..., Done]) -> None:
    good = ndjson({"email": "jane@example.com", "name": 'J "\n"'}, {"email": "asha@example.com", "username": None})
    bad = '{"email": 7}\n[1]\n{"email":\n' + "[" * 60_000 + '\n{"email": "a@example.com", "name": "\\ud800"}\n'
    twice = '{"email": "b@example.com", "role": "user", "role": "admin"}\n'
    done = importing(good + bad + twice, "--format", "ndjson", name="users.txt")
    broken = [(n, "broken_row") for n in (3, 4, 5, 6)]
    assert done.reasons == [(1, "invalid_name"), *broken, (7, "invalid_name"), (8, "broken_row")]
    assert "twice" in done.refused[-1]["message"]
    assert [user.email for user in world.rows(User)] == ["asha@example.com"]


WHOLE = {
    "unknown": ("email,nickname\nasha@example.com,x\n", "users.csv", "'nickname'"),
    "unknown in ndjson": (ndjson({"email": "a@example.com"}, {"email": "b@example.com", "id": 7}), "u.ndjson", "'id'"),
    "unknown beside a hidden one": ("email,nickname,x@y\n", "users.csv", "'nickname', 1 not shown"),
    "nobody": ("name\nJane\n", "users.csv", "'email', 'phone', 'username'"),
    "twice": ("email,email\na@example.com,b@example.com\n", "users.csv", "twice: 'email'"),
    "empty": ("", "users.csv", "line of column names"),
    "UTF-16": ("\ufeffemail\nasha@example.com\n".encode("utf-16"), "users.csv", "UTF-8"),
    "no format": ("email\nasha@example.com\n", "users", "--format"),
}


@pytest.mark.parametrize("what", WHOLE)
def test_a_file_that_is_not_ours_is_refused_before_anything_is_written(
    world: World, importing: Callable[..., Done], what: str
) -> None:
    content, name, said = WHOLE[what]
    done = importing(content, name=name)
    assert done.code == 2
    assert said in done.output
    assert world.count(User) == 0


PEOPLE = {
    "no names": f"jane@example.com,jane,{BCRYPT}\n",
    "no names, an address twice": f"jane@example.com,jane@example.com,{BCRYPT}\n",
    "one that is a name": f"jane@example.com,email,{BCRYPT}\n",
    "a key of ndjson": ndjson({"email": "asha@example.com", "nickname": "x", "jane@example.com": BCRYPT}),
}


@pytest.mark.parametrize("what", PEOPLE)
@pytest.mark.parametrize("option", ["--dry-run", "--ignore-unknown"])
def test_a_person_in_place_of_a_column_s_name_is_not_shown(
    world: World, importing: Callable[..., Done], what: str, option: str
) -> None:
    name = "users.ndjson" if "ndjson" in what else "users.csv"
    done = importing(PEOPLE[what], option, name=name)
    assert [secret for secret in ("jane", BCRYPT[7:]) if secret in done.output] == []
    if option == "--dry-run":
        assert done.code == 2
        assert ("names no column of ours" if "no names" in what else "do not look like names") in done.output


def test_unknown_columns_can_be_left_out(world: World, importing: Callable[..., Done]) -> None:
    assert importing("id,email\n7,jane@example.com\n", "--ignore-unknown").code == 0
    more = ndjson({"id": 7, "email": "asha@example.com"})
    assert importing(more, "--ignore-unknown", "--whole", name="u.jsonl").code == 0
    assert world.count(User) == 2


def test_the_report_does_not_overwrite_the_file(world: World, tmp_path: Path) -> None:
    file = tmp_path / "users.csv"
    file.write_text("email\njane@example.com\n")
    result = world.app.test_cli_runner().invoke(args=["import-users", str(file), "--refused", str(file)])
    assert result.exit_code == 2
    assert file.read_text() == "email\njane@example.com\n"


def test_a_dry_run_says_the_same_and_writes_nothing(world: World, importing: Callable[..., Done]) -> None:
    world.person(email="old@example.com").sign_up()
    before = world.count(AuditLog)
    rows = table(
        {"email": "jane@example.com", "username": "jane"},
        {"email": "JANE@example.com", "username": ""},
        {"email": "other@example.com", "username": "Jane"},
        {"email": "old@example.com", "username": ""},
        {"email": "old@example.com", "username": "older"},
        {"email": "?", "username": ""},
    )
    trial = importing(rows, "--dry-run")
    assert (world.count(User), world.count(AuditLog)) == (1, before)
    real = importing(rows)
    assert trial.reasons == real.reasons == [(3, "taken"), (4, "taken"), (6, "taken"), (7, "invalid_email")]
    assert {**trial.summary, "dry_run": False, "seconds": 0} == {**real.summary, "seconds": 0}
    assert (real.summary["imported"], real.summary["already_there"]) == (1, 1)


def test_a_second_run_finds_everybody_there_and_refuses_the_same_rows(
    world: World, importing: Callable[..., Done]
) -> None:
    rows = table(
        {"email": "jane@example.com", "phone": "+919876543210", "password_hash": BCRYPT},
        {"email": "asha@example.com", "phone": "", "password_hash": BCRYPT},
        {"email": "Jane@example.com", "phone": "", "password_hash": ARGON2},  # another account there, the same here
        {"email": "asha@example.com", "phone": "+919876543211", "password_hash": BCRYPT},
    )
    first = importing(rows)
    world.person(email="asha@example.com").sign_in()
    hashes = {user.id: user.password_hash for user in world.rows(User)}
    second = importing(rows, "--whole")
    assert first.code == second.code == 1
    assert first.refused == second.refused
    assert first.reasons == [(4, "taken"), (5, "taken")]
    assert "earlier row" in first.refused[0]["message"]
    assert (first.summary["imported"], first.summary["already_there"]) == (2, 0)
    assert (second.summary["imported"], second.summary["already_there"]) == (0, 2)
    assert {user.id: user.password_hash for user in world.rows(User)} == hashes


@pytest.fixture
def left(world: World, importing: Callable[..., Done]) -> str:
    """A file that was imported, and of whose people nobody is there as they were: one was dismissed, one has erased
    herself, one has another address, one was refused.
    """
    rows = table(
        {"email": "mallory@example.com", "phone": "", "username": "", "role": "admin", "password_hash": BCRYPT},
        {"email": "", "phone": "+91 98765 43210", "username": "jane", "role": "", "password_hash": BCRYPT},
        {"email": "moved@example.com", "phone": "", "username": "", "role": "doctor", "password_hash": BCRYPT},
        {"email": "refused@example.com", "phone": "?", "username": "", "role": "", "password_hash": "hunter2"},
    )
    assert importing(rows).summary["imported"] == 3
    boss = of_role(world, "admin")
    boss.api.delete(f"{USERS}/{the_user(world, email='mallory@example.com').id}", boss.token).ok()
    boss.api.delete(f"{USERS}/{the_user(world, username='jane').id}", boss.token).ok()
    moved = world.person(email="moved@example.com").sign_in()
    asked = moved.api.post("/api/auth/change-email", {"email": "new@example.com"}, moved.token).ok()
    proof = {"challenge_id": asked["challenge_id"], "otp": world.read("email", "new@example.com")}
    moved.api.post("/api/auth/verify-otp", proof, moved.token).ok()
    return rows


LATER = ndjson(
    {"email": "Mallory@Example.com", "role": "admin", "password_hash": BCRYPT},
    {"phone": "0091 98765-43210", "email": "jane@example.com", "password_hash": BCRYPT},
    {"username": "JANE", "password_hash": BCRYPT},
    {"email": "moved@example.com", "role": "doctor", "password_hash": BCRYPT},
    {"email": "refused@example.com", "password_hash": "hunter2"},
    {"email": "late@example.com", "role": "admin", "password_hash": BCRYPT},
    {"email": "asha@example.com", "password_hash": BCRYPT},
    {"email": "?"},
)


@pytest.mark.parametrize("option", ["", "--dry-run"])
def test_a_second_run_asks_which_people_it_is_about(
    world: World, importing: Callable[..., Done], left: str, option: str
) -> None:
    before = world.count(User), world.count(AuditLog)
    done = importing(left, *option.split())
    assert done.code == 2
    assert "--after FILE" in done.output
    assert "--whole" in done.output
    assert (world.count(User), world.count(AuditLog)) == before


def test_whoever_stands_in_the_earlier_file_is_passed_over(
    world: World, importing: Callable[..., Done], left: str, tmp_path: Path
) -> None:
    before = {user.id for user in world.rows(User)}
    after = ("--after", str(tmp_path / "users.csv"))
    trial = importing(LATER, "--dry-run", *after, name="later.ndjson")
    real = importing(LATER, *after, name="later.ndjson")
    assert {**trial.summary, "dry_run": False, "seconds": 0} == {**real.summary, "seconds": 0}
    assert real.summary | {"seconds": 0} == {
        "rows": 8, "imported": 2, "above_user": 1, "already_there": 0, "passed_over": 5, "refused": 1,
        "reasons": {"invalid_email": 1}, "dry_run": False, "seconds": 0,
    }  # fmt: skip
    new = {user.email for user in world.rows(User) if user.id not in before}
    assert new == {"late@example.com", "asha@example.com"}
    assert world.person(email="mallory@example.com").ask_signin().code == "invalid_credentials"
    again = importing(LATER, *after, name="later.ndjson")
    assert (again.summary["imported"], again.summary["already_there"]) == (0, 2)


def test_each_of_several_earlier_files_counts(world: World, importing: Callable[..., Done], tmp_path: Path) -> None:
    names = ("jane", "asha", "late")
    for n, name in enumerate(names):
        after = [word for earlier in names[:n] for word in ("--after", str(tmp_path / f"{earlier}.csv"))]
        rows = table(*({"email": f"{each}@example.com"} for each in names[: n + 1]))
        done = importing(rows, *after, name=f"{name}.csv")
        assert (done.summary["imported"], done.summary["passed_over"]) == (1, n)


def test_the_whole_file_is_imported_again_for_whoever_says_so(
    world: World, importing: Callable[..., Done], left: str
) -> None:
    done = importing(left, "--whole")
    assert (done.summary["imported"], done.summary["above_user"], done.summary["passed_over"]) == (3, 2, 0)
    assert the_user(world, email="mallory@example.com").role == "admin"


WRONG_AFTER = {
    "both": (("--after", "earlier.csv", "--whole"), "not both"),
    "itself": (("--after", "later.csv"), "--after is FILE itself"),
    "nobody": (("--after", "nobody.csv"), "nobody stands in nobody.csv"),
    "no file of people": (("--after", "names.csv"), "'email', 'phone', 'username'"),
    "a pipe": (("--after", "pipe.csv"), "not a pipe"),
    "the report": (("--after", "earlier.csv", "--refused", "earlier.csv"), "--refused would write over"),
}


@pytest.mark.parametrize("what", WRONG_AFTER)
def test_an_earlier_file_that_is_none_is_refused(
    world: World, importing: Callable[..., Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe.csv")
    for name, content in {"earlier": "email\njane@example.com\n", "nobody": "email\n?\n", "names": "name\nJ\n"}.items():
        Path(f"{name}.csv").write_text(content)
    options, said = WRONG_AFTER[what]
    done = importing("email\nasha@example.com\n", *options, name="later.csv")
    assert done.code == 2
    assert said in done.output
    assert world.count(User) == 0
    assert Path("earlier.csv").read_text() == "email\njane@example.com\n"


def test_whose_address_is_another_account_s_is_refused(world: World, importing: Callable[..., Done]) -> None:
    world.person(email="jane@example.com", username="jane").sign_up()
    world.person(email="asha@example.com", username="asha").sign_up()
    world.clock.advance(seconds=1)
    done = importing(
        table(
            {"email": "jane@example.com", "phone": "+919876543210", "username": ""},  # half of it is hers
            {"email": "jane@example.com", "phone": "", "username": "asha"},  # two people's
            {"email": "asha@example.com", "phone": "", "username": "Asha"},  # hers
            {"email": "", "phone": "", "username": "jane"},  # anybody may have registered that
        )
    )
    assert done.reasons == [(2, "taken"), (3, "taken"), (5, "taken")]
    assert done.summary["already_there"] == 1


def test_a_username_alone_is_known_again_by_when_its_account_was_made(
    world: World, importing: Callable[..., Done]
) -> None:
    rows = table(
        {"username": "jane", "password_hash": BCRYPT, "created_at": "2019-03-04T05:06:07.123456Z"},
        {"username": "asha", "password_hash": BCRYPT, "created_at": ""},
    )
    assert importing(rows).summary["imported"] == 2
    world.clock.advance(seconds=1)
    again = importing(rows, "--whole")
    assert (again.summary["already_there"], again.reasons) == (1, [(3, "taken")])
    other = table({"username": "jane", "password_hash": BCRYPT, "created_at": "2019-03-04T05:06:08Z"})
    assert importing(other, "--whole").reasons == [(2, "taken")]


def test_who_signs_up_in_that_very_moment_keeps_the_address(
    world: World, importing: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look at what is there finds nobody yet, and the insertion meets them."""
    jane = world.person(email="jane@example.com").sign_up()
    monkeypatch.setattr(imports, "owners", lambda *_: {})
    done = importing(table({"email": "asha@example.com"}, {"email": "jane@example.com"}, {"email": "last@example.com"}))
    assert done.reasons == [(3, "taken")]
    assert done.summary["imported"] == 2
    assert world.count(User) == 3
    assert len(world.audit(event="account.imported")) == 2
    assert jane.me().status == 200


def test_a_username_that_is_held_for_a_sign_up_is_taken_until_that_ends(
    world: World, importing: Callable[..., Done]
) -> None:
    rows = table(
        {"email": "other@example.com", "username": "Jane"},
        {"email": "other@example.com", "username": ""},  # the row before is no account
        {"email": "asha@example.com", "username": "asha"},
    )
    jane = world.person(username="jane")
    asked = jane.ask_signup().ok()
    trial, real = importing(rows, "--dry-run"), importing(rows)
    assert trial.refused == real.refused
    assert [(each["line"], each["field"], each["code"]) for each in real.refused] == [(2, "username", "taken")]
    assert {user.username for user in world.rows(User)} == {None, "asha"}
    assert [row.username for row in world.rows(UsernameHold)] == ["jane"]
    jane.verify_signup(asked["challenge_id"], jane.code()).ok()
    world.person(username="late").ask_signup().ok()
    world.clock.advance(hours=24, seconds=1)
    assert importing(table({"email": "late@example.com", "username": "late"}), "--whole").code == 0
    assert world.count(UsernameHold) == 0


def test_people_get_a_summary_and_the_first_refusals(world: World, tmp_path: Path) -> None:
    file = tmp_path / "users.csv"
    file.write_text("email\njane@example.com\n" + "?\n" * 30)
    result = world.app.test_cli_runner().invoke(args=["import-users", str(file), "--dry-run"])
    assert result.exit_code == 1
    assert "nothing written" in result.stdout
    assert result.stderr.count("invalid_email") == 20
    assert "--refused FILE" in result.stderr
    said = [line.split() for line in result.stdout.splitlines()]
    assert [line for line in said if line[0] in ("above", "passed", "refused")] == [
        ["above", "user", "0"],
        ["passed", "over", "0"],
        ["refused", "30"],
    ]


def test_a_database_that_is_away_ends_the_run_with_a_sentence(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any, **__: Any) -> None:
        raise Unavailable(retry_after=2)

    monkeypatch.setattr(work, "run", away)
    (tmp_path / "users.csv").write_text("email\njane@example.com\n")
    result = world.app.test_cli_runner().invoke(args=["import-users", str(tmp_path / "users.csv")])
    assert result.exit_code == 1
    assert "goes on where it stopped" in result.stderr


@pytest.mark.slow
def test_killed_in_the_middle_and_run_again_every_row_is_there_once(world: World, tmp_path: Path) -> None:
    count, file = 12_000, tmp_path / "users.csv"
    file.write_text("email,password_hash\n" + "".join(f"jane{n}@example.com,{BCRYPT}\n" for n in range(count)))
    command = [sys.executable, "-m", "flask", "import-users", str(file), "--json"]
    given = {**SECRETS, **CHEAP, "database_url": world.lane.database_url}
    environment = {"PATH": os.environ["PATH"], **{name.upper(): str(value) for name, value in given.items()}}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while process.poll() is None and not imported(world):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = imported(world)
    assert 0 < before < count, "killed in the middle"
    done = subprocess.run([*command, "--whole"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert (summary["imported"], summary["already_there"]) == (count - before, before)
    assert before % 500 == 0, "a batch is there whole or not at all"
    assert world.count(User) == count
    assert len({row.user_id for row in world.audit(event="account.imported")}) == count == world.count(AuditLog)


def imported(world: World) -> int:
    with world.kit.reads() as db:
        return db.scalar(sa.select(sa.func.count()).select_from(User)) or 0
