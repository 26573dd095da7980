"""The commands for people and keys, as somebody types them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from click.testing import Result

from app.core import credentials
from app.crypto.keys import KeyRing
from app.db import Base
from app.delivery import upkeep
from app.flows import administration
from app.models import ApiKey, User
from app.work import Work, run
from tests.authenticator import enrol
from tests.conftest import World
from tests.people import PASSWORD
from tests.web.admins import USERS, id_of
from tests.web.test_trusted_devices import remember

Flask = Callable[..., Result]


@pytest.fixture
def flask(world: World) -> Flask:
    def command(*words: str, typed: str | None = None) -> Result:
        return world.app.test_cli_runner().invoke(args=words, input=typed)

    return command


def said(result: Result) -> Any:
    assert result.exit_code == 0, result.output + result.stderr
    return json.loads(result.stdout)


def test_the_first_admin_is_made_and_signs_in(world: World, flask: Flask) -> None:
    made = flask("create-admin", "--email", "Ada@Example.com", "--name", "Ada", typed=f"{PASSWORD}\n{PASSWORD}\n")
    assert made.exit_code == 0, made.output
    assert PASSWORD not in made.output
    ada = world.person(email="ada@example.com").sign_in()
    assert len(ada.api.get(USERS, ada.token).ok()["items"]) == 1
    [row] = world.audit(event="user.created")
    assert (row.actor_id, row.user_agent) == (None, "latchkey command line")


@pytest.mark.parametrize(
    "name", ["x" * 101, "\ufb2c" * 34, "a\x1b[31mb", " "], ids=["long", "grows", "steers", "empty"]
)
@pytest.mark.one_lane
def test_a_name_that_is_none_is_a_usage_error(world: World, flask: Flask, name: str) -> None:
    for words in (
        ("create-admin", "--email", "a@example.com", "--password", PASSWORD, "--name", name),
        ("api-keys", "create", name, "--scope", "otp:verify"),
    ):
        refused = flask(*words)
        assert (refused.exit_code, refused.stdout) == (2, "")
        assert "control character" in refused.stderr
    assert world.count(User) == world.count(ApiKey) == 0


@pytest.mark.parametrize(
    "words",
    [
        ("users", "list", "\udcff"),
        ("users", "list", "--role", "\udcff"),
        ("users", "show", "\udcff"),
        ("users", "set-role", "nobody@example.com", "\udcff"),
        ("create-admin", "--email", "caf\udce9@example.com", "--password", PASSWORD),
        ("create-admin", "--email", "a@example.com", "--password", "caf\udce9 horse 7"),
    ],
)
@pytest.mark.one_lane
def test_words_that_are_no_text_are_a_usage_error(world: World, flask: Flask, words: tuple[str, ...]) -> None:
    """As a shell hands over bytes that are not of its encoding."""
    refused = flask(*words)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert refused.stderr.endswith(": This is no text in UTF-8.\n")
    assert world.count(User) == 0


def test_somebody_who_is_there_becomes_admin_and_keeps_their_password(world: World, flask: Flask) -> None:
    jane = world.person().sign_up()
    assert said(flask("create-admin", "--email", jane.email, "--json"))["role"] == "admin"
    assert jane.me().code == "token_revoked"
    assert jane.sign_in().me()["role"] == "admin"
    assert world.count(User) == 1


@pytest.mark.parametrize("words", [("--password", "another horse 8"), ("--name", "Ada")], ids=["password", "name"])
def test_it_says_so_if_somebody_who_is_there_was_to_get_a_password_or_a_name(
    world: World, flask: Flask, words: tuple[str, ...]
) -> None:
    jane = world.person(name="Jane").sign_up()
    made = flask("create-admin", "--email", jane.email, *words, "--json")
    assert (said(made)["name"], made.stderr) == (
        "Jane",
        "The account was there: its name and password stay as they are.\n",
    )
    jane.sign_in()
    assert flask("create-admin", "--email", jane.email).stderr == ""


@pytest.mark.parametrize(
    ("kept_out", "way"), [("locked", "flask users unlock"), ("disabled", "PATCH /api/admin/users/")]
)
def test_who_is_kept_out_is_not_made_an_admin_who_cannot_sign_in(
    world: World, flask: Flask, kept_out: str, way: str
) -> None:
    jane = world.person().sign_up()
    if kept_out == "locked":
        said(flask("users", "lock", jane.email, "--json"))
    else:
        run(world.kit, lambda work: administration.change(work, id_of(jane), {"disabled": True}))
    refused = flask("create-admin", "--email", jane.email)
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert f"is {kept_out}" in refused.stderr
    assert way in refused.stderr
    assert world.rows(User, id=id_of(jane))[0].role == "user"


@pytest.mark.parametrize(
    ("words", "typed", "why"),
    [(("--email", "nonsense"), "", "email: This is not an e-mail address."),
     (("--email", "a@example.com", "--password", "short"), "", "password: Use at least 8 characters.")],
)  # fmt: skip
def test_an_admin_that_cannot_be_made_says_why(
    world: World, flask: Flask, words: tuple[str, ...], typed: str, why: str
) -> None:
    result = flask("create-admin", *words, typed=typed)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"Error: validation_failed: {why}\n"
    assert world.count(User) == 0


def test_people_are_listed_as_a_table_and_as_json(world: World, flask: Flask) -> None:
    jane = world.person(name="Jane").sign_up()
    world.person(name="Zoe").sign_up()
    table = flask("users", "list").stdout.splitlines()
    assert table[0].startswith("ID ")
    assert [line.split()[-2] for line in table[1:]] == ["Zoe", "Jane"]
    assert [user["email"] for user in said(flask("users", "list", "ja", "--json"))] == [jane.email]
    assert said(flask("users", "list", "--role", "admin", "--json")) == []


def test_somebody_is_shown_by_any_identifier(world: World, flask: Flask) -> None:
    jane = world.person(username="jane").sign_up()
    for who in (jane.email, "jane", jane.tokens["user"]["id"]):
        assert said(flask("users", "show", who, "--json"))["email"] == jane.email
    for who in ("nobody@example.com", "??", str(uuid4())):
        result = flask("users", "show", who)
        words = f"Error: not_found: nobody has the id, address, number or username {who!r}\n"
        assert (result.exit_code, result.stderr) == (1, words)


def test_a_username_that_looks_like_an_id_is_a_username(world: World, flask: Flask) -> None:
    """Whoever takes another's id without dashes for a username is helped as themselves, not as the other."""
    victim = world.person().sign_up()
    mallory = world.person(username=id_of(victim).hex).sign_up()
    enrol(world, victim)
    helped = said(flask("users", "reset-mfa", id_of(victim).hex, "--json"))
    assert (helped["email"], helped["mfa"]) == (mallory.email, [])
    assert "totp" in world.rows(User, id=id_of(victim))[0].mfa
    for who in (str(id_of(victim)), str(id_of(victim)).upper()):
        assert said(flask("users", "show", who, "--json"))["email"] == victim.email


def test_somebody_is_locked_unlocked_and_given_a_role(world: World, flask: Flask) -> None:
    jane = world.person(username="jane").sign_up()
    assert said(flask("users", "lock", "jane", "--hours", "2", "--json"))["status"] == "locked"
    assert jane.me().code == "token_revoked"
    assert said(flask("users", "unlock", "jane", "--json"))["status"] == "active"
    assert said(flask("users", "set-role", "jane", "doctor", "--json"))["role"] == "doctor"
    assert flask("users", "set-role", "jane", "root").stderr.startswith("Error: validation_failed: role: One of ")
    assert [row.event for row in world.audit(user_id=id_of(jane))][-3:] == [
        "user.unlocked", "user.changed", "user.refused",
    ]  # fmt: skip


def test_somebody_is_signed_out_everywhere(world: World, flask: Flask) -> None:
    jane, other = world.person(username="jane").sign_up(), world.person().sign_up()
    jane.sign_in()
    assert said(flask("users", "sign-out", "jane", "--json")) == {"people": 1, "sessions_ended": 2}
    assert jane.me().code == "token_revoked"
    other.me().ok()
    jane.sign_in().me().ok()
    [row] = world.audit(event="user.signed_out")
    assert (row.actor_id, row.user_id, row.user_agent) == (None, id_of(jane), "latchkey command line")


@pytest.fixture
def backup(world: World) -> Callable[[], Callable[[], None]]:
    """Keeps what all tables hold, and gives a call that brings it back."""
    tables = Base.metadata.sorted_tables

    def keep() -> Callable[[], None]:
        with world.engine.connect() as db:
            rows = {table: [dict(row) for row in db.execute(table.select()).mappings()] for table in tables}

        def restore() -> None:
            with world.engine.begin() as db:
                for table in reversed(tables):
                    db.execute(table.delete())
                for table in tables:
                    if rows[table]:
                        db.execute(table.insert(), rows[table])

        return restore

    return keep


@pytest.mark.covers("asvs 7.4.5", "fault F38")
def test_after_a_backup_was_restored_everybody_is_signed_out_by_one_command(
    world: World, flask: Flask, backup: Callable[[], Callable[[], None]]
) -> None:
    """What had ended comes back with the older state: a session, a spent refresh token, a device that was forgotten."""
    people = [world.person().sign_up() for _ in range(3)]
    jane, remembered, _ = people
    device = remember(remembered)
    open_question = jane.ask_signin().ok()["challenge_id"]
    code, spent = jane.code(), jane.tokens["refresh_token"]
    restore = backup()
    jane.refresh().ok()
    said(flask("users", "sign-out", jane.email, "--json"))
    said(flask("users", "sign-out", remembered.email, "--json"))
    restore()
    jane.me().ok()
    done = said(flask("users", "sign-out", "--everyone", "--json"))
    assert (done["people"], done["sessions_ended"] >= 4) == (3, True)
    assert [person.me().code for person in people] == ["token_revoked"] * 3
    assert jane.refresh(spent).code == "token_revoked"
    assert jane.verify_signin(open_question, code).code == "challenge_closed"
    assert said(flask("users", "sign-out", "--everyone", "--json")) == {"people": 0, "sessions_ended": 0}
    assert remembered.ask_signin(device_token=device).ok()["status"] == "otp_required"
    jane.sign_in().me().ok()


@pytest.mark.one_lane
def test_who_is_erased_while_everybody_is_signed_out_is_passed_over(
    world: World, flask: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    jane, other = world.person().sign_up(), world.person().sign_up()
    read = credentials.with_something_begun

    def and_then_erased(work: Work, **page: Any) -> list[UUID]:
        found = read(work, **page)
        if found:
            run(world.kit, lambda work: administration.delete(work, id_of(jane)))
        return found

    monkeypatch.setattr(credentials, "with_something_begun", and_then_erased)
    assert said(flask("users", "sign-out", "--everyone", "--json"))["people"] == 1
    assert other.me().code == "token_revoked"


def test_who_lost_their_factors_is_helped(world: World, flask: Flask) -> None:
    jane = world.person(username="jane").sign_up()
    enrol(world, jane)
    assert said(flask("users", "reset-mfa", "jane", "--json"))["mfa"] == []
    assert jane.me().code == "token_revoked"
    [row] = world.audit(event="user.factors_reset")
    assert (row.actor_id, row.user_id, row.user_agent) == (None, id_of(jane), "latchkey command line")
    assert flask("users", "reset-mfa", "nobody@example.com").stderr.endswith("username 'nobody@example.com'\n")


@pytest.mark.parametrize("words", [("set-role", "ada@example.com", "user"), ("lock", "ada@example.com")])
def test_the_last_admin_stays_one_here_too(world: World, flask: Flask, words: tuple[str, ...]) -> None:
    said(flask("create-admin", "--email", "ada@example.com", "--password", PASSWORD, "--json"))
    result = flask("users", *words)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: last_admin: ")


@pytest.mark.parametrize(
    "words",
    [("create-admin", "--email", "ada@example.com", "--password", PASSWORD), ("users", "sign-out", "--everyone"),
     ("import-users", "people.csv"), ("api-keys", "create", "x", "--scope", "users:read"), ("audit-seal",),
     ("audit-seal", "--adopt"), ("audit-export",)],
)  # fmt: skip
def test_a_command_with_another_secret_key_than_the_service_s_changes_nothing(
    world: World, flask: Flask, words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its audit rows would be signed with a key that nobody has later, and the log would no longer verify."""
    world.person().sign_up()
    assert flask("audit-seal").exit_code == 0
    monkeypatch.chdir(tmp_path)
    Path("people.csv").write_text("email\nada@example.com\n")
    rows = len(world.audit())
    monkeypatch.setattr(world.courier, "kit", replace(world.kit, keys=KeyRing(["o" * 40])))
    refused = flask(*words)
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "SECRET_KEY_PREVIOUS" in refused.stderr
    assert (world.count(User), len(world.audit())) == (1, rows)
    assert flask("users", "list").exit_code == 0, "to read is to sign nothing"
    upkeep.seal(world.courier.kit)  # as a service with that key does each minute
    assert flask(*words).exit_code == 1
    assert flask(*words, typed="y\n").exit_code == 0, "for who has lost the key"


def test_a_database_that_is_not_migrated_ends_a_command_with_a_line(
    world: World, flask: Flask, tmp_path: Path, backup: Callable[[], Callable[[], None]]
) -> None:
    """To PostgreSQL and MariaDB a table that is missing is a fault of the statement, not of the connection."""
    (tmp_path / "people.csv").write_text("email\nada@example.com\n")
    commands = [("users", "list"), ("audit-verify",), ("audit-seal",), ("purge", "--dry-run"), ("rotate-keys", "--check"),
                ("api-keys", "list"), ("import-users", str(tmp_path / "people.csv"), "--dry-run"),
                ("create-admin", "--email", "ada@example.com", "--password", PASSWORD)]  # fmt: skip
    restore = backup()
    Base.metadata.drop_all(world.engine)
    try:
        for words in commands:
            ended = flask(*words)
            assert (ended.exit_code, ended.stdout) == (1, ""), words
            assert "The database cannot be reached or is not migrated. It says: " in ended.stderr
            assert world.engine.dialect.name != "sqlite" or "OperationalError SQLITE_ERROR." in ended.stderr
            assert isinstance(ended.exception, SystemExit)
    finally:
        Base.metadata.create_all(world.engine)
        restore()


def test_a_file_to_import_that_cannot_be_read_twice_and_one_of_refusals_that_cannot_be_written_are_named(
    flask: Flask, tmp_path: Path
) -> None:
    pipe, file = tmp_path / "pipe.csv", tmp_path / "people.csv"
    os.mkfifo(pipe)
    file.write_text("email\nada@example.com\n")
    assert "not a pipe" in flask("import-users", str(pipe)).stderr
    nowhere = flask("import-users", str(file), "--refused", str(tmp_path / "nowhere" / "x"))
    assert (nowhere.exit_code, "Could not open file" in nowhere.stderr) == (1, True)


def test_keys_are_made_listed_and_revoked(world: World, flask: Flask) -> None:
    made = said(flask("api-keys", "create", "till server", "--scope", "users:read", "--days", "3", "--json"))
    world.api().get(USERS, made["key"]).ok()
    listed = flask("api-keys", "list").stdout
    assert made["prefix"] in listed
    assert made["key"] not in listed
    assert said(flask("api-keys", "list", "--json"))[0]["scopes"] == ["users:read"]
    assert flask("api-keys", "revoke", made["id"]).exit_code == 0
    assert world.api().get(USERS, made["key"]).code == "token_invalid"
    assert flask("api-keys", "revoke", str(uuid4())).exit_code == 1
    assert len(world.rows(ApiKey)) == 1


@pytest.mark.parametrize(
    "words",
    [("users", "list", "--status", "gone"), ("users", "lock"), ("users", "sign-out"),
     ("users", "sign-out", "jane", "--everyone"), ("api-keys", "create", "x"), ("api-keys", "revoke", "x"),
     ("api-keys", "create", "x", "--scope", "all"), ("users", "list", "--limit", "0"), ("users", "nonsense")],
)  # fmt: skip
def test_what_cannot_be_understood_ends_with_2(flask: Flask, words: tuple[str, ...]) -> None:
    result = flask(*words)
    assert result.exit_code == 2
    assert "Usage: " in result.stderr


@pytest.mark.parametrize(
    "words", [("create-admin",), ("users",), ("users", "lock"), ("api-keys",), ("api-keys", "create")]
)
def test_every_command_helps(flask: Flask, words: tuple[str, ...]) -> None:
    result = flask(*words, "--help")
    assert result.exit_code == 0
    assert all(len(line) <= 80 for line in result.stdout.splitlines())
