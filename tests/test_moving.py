"""The pages about moving, followed: an old database, the page's own statement and commands, and then people sign in."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bcrypt
import pytest
import sqlalchemy as sa
from werkzeug.security import generate_password_hash

from app.models import User
from app.store_config import known_driver
from tests import lanes
from tests.conftest import World
from tests.lanes import CHEAP, SECRETS
from tests.people import PASSWORD

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Page:
    text: str

    @classmethod
    def read(cls, name: str) -> Page:
        return cls((ROOT / "docs" / name).read_text())

    def block(self, language: str, word: str) -> str:
        """The one block of code that has a word."""
        blocks = re.findall(rf"^```{language}\n(.*?)^```", self.text, re.MULTILINE | re.DOTALL)
        [found] = [block for block in blocks if word in block]
        return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder where the commands of a page run as they stand."""
    for name in (".venv", ".flaskenv", "app", "migrations"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


def shell(world: World, folder: Path, command: str, **more: str) -> subprocess.CompletedProcess[str]:
    given = {**SECRETS, **CHEAP, "database_url": world.lane.database_url, "default_phone_region": "IN"}
    environment = {name.upper(): str(value) for name, value in given.items()}
    return subprocess.run(
        ["sh", "-c", command], cwd=folder, env={"PATH": os.environ["PATH"], "HOME": str(folder), **environment, **more},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def import_as_told(world: World, folder: Path, page: Page) -> None:
    trial = shell(world, folder, page.block("sh", "--dry-run"))
    assert trial.returncode == 0, trial.stderr
    assert world.count(User) == 0
    done = shell(world, folder, page.block("sh", "import-users users.csv --refused"))
    assert done.returncode == 0, done.stderr
    assert (folder / "refused.ndjson").read_text() == ""


def sign_in_all(world: World, passwords: dict[str, str]) -> None:
    """Each person signs in with the password alone, twice, and by then has a hash of ours."""
    for n, (email, password) in enumerate(passwords.items()):
        jane = world.person(f"203.0.113.{n}", email=email, password="wrong horse 7")
        assert jane.ask_signin().code == "invalid_credentials"
        for _ in range(2):
            jane.password = password
            token = jane.ask_signin().ok()["access_token"]
            assert jane.api.get("/api/auth/me", token).ok()["email"] == email
    assert {user.password_hash[:10] for user in world.rows(User)} == {"$argon2id$"}


def hashed(password: str, cost: int = 10) -> str:
    return bcrypt.hashpw(password.encode()[:72], bcrypt.gensalt(cost)).decode()


LONG = "correct horse battery staple, and then some more of it, until it is long enough to be cut"
OLD_USERS = [
    ("jane", "Jane@Example.com", "+91 98765 43210", PASSWORD, 1, "2019-03-04 05:06:07"),
    ("asha.k", "asha@example.com", "98765 43211", "pässwört, \"quoted\"", 0, "2021-12-31 23:59:59"),
    (None, "o'hara+shop@example.com", None, "short", 0, "2024-02-29 00:00:00"),
    ("long", "long@example.com", None, LONG, 0, "2024-05-01 09:30:00"),
]  # fmt: skip


@pytest.mark.skipif("mariadb" not in lanes.wanted(), reason="needs the MariaDB lane")
def test_a_team_moves_from_mysql_and_bcrypt(make_world: Callable[..., World], folder: Path, worker: str) -> None:
    world, page = make_world(mfa_policy="optional"), Page.read("moving-from-mysql-and-bcrypt.md")
    assert len(LONG.encode()) > 72
    with lanes.database("mariadb", f"{worker}_old") as url:
        old = sa.create_engine(sa.make_url(url).set(drivername=known_driver("mariadb")))
        with old.begin() as connection:
            connection.exec_driver_sql("SET time_zone = '+00:00'")
            connection.exec_driver_sql(page.block("sql", "CREATE TABLE"))
            insert = "INSERT INTO users (username, email, phone, password, is_admin, created_at) VALUES (%s, %s, %s, %s, %s, %s)"
            for username, email, phone, password, *rest in OLD_USERS:
                connection.exec_driver_sql(insert, (username, email, phone, hashed(password), *rest))
        export_from_mysql(world, folder, page, old)
        old.dispose()
    import_as_told(world, folder, page)
    jane, asha, hara, _ = sorted(world.rows(User), key=lambda user: user.created_at)
    assert (jane.email, jane.phone, jane.username, jane.role) == ("jane@example.com", "+919876543210", "jane", "admin")
    assert (asha.phone, asha.role, hara.username, hara.phone) == ("+919876543211", "user", None, None)
    assert jane.created_at.isoformat() == "2019-03-04T05:06:07+00:00"
    sign_in_all(world, {email.lower(): password for _, email, _, password, *_ in OLD_USERS})
    after = world.person(email="long@example.com", password=LONG[:72])
    assert after.ask_signin().code == "invalid_credentials", "the whole password counts from now on"


def export_from_mysql(world: World, folder: Path, page: Page, old: sa.Engine) -> None:
    """By the page's command where there is the client that it names, else by its statement alone."""
    statement, command = page.block("sql", "CONCAT_WS"), page.block("sh", "mysql ")
    (folder / "export-users.sql").write_text(f"SET time_zone = '+00:00';\n{statement}")
    if shutil.which("mysql"):
        url = old.url
        options = {"user": url.username, "password": url.password, "host": url.host, "port": url.port}
        lines = [f"{name}={value}" for name, value in {**options, **dict(url.query)}.items() if value]
        names = {"unix_socket=": "socket="}
        text = "\n".join(["[client]", *lines])
        for ours, theirs in names.items():
            text = text.replace(ours, theirs)
        (folder / ".my.cnf").write_text(text + "\n")
        done = shell(world, folder, command.replace("old_database", url.database or ""))
        assert done.returncode == 0, done.stderr
        return
    with old.connect() as connection:
        connection.exec_driver_sql("SET time_zone = '+00:00'")
        rows = connection.exec_driver_sql(statement.rstrip().rstrip(";").replace("%", "%%"))
        (folder / "users.csv").write_text("".join(f"{line}\n" for (line,) in rows))


def test_a_flask_app_with_werkzeug_s_hashes_moves_its_accounts(make_world: Callable[..., World], folder: Path) -> None:
    world, page = make_world(mfa_policy="optional"), Page.read("moving-from-a-cookie-session-flask-app.md")
    people: dict[str, Any] = {
        "jane@example.com": ("jane", PASSWORD, generate_password_hash(PASSWORD), 1),
        "asha@example.com": ("asha", "pässwört 2", generate_password_hash("pässwört 2", "pbkdf2:sha256:1000"), 0),
        "old@example.com": (None, "short", generate_password_hash("short", "pbkdf2:sha1:1000", 8), 0),
    }
    old = sqlite3.connect(folder / "app.db")
    old.execute(page.block("sql", "CREATE TABLE"))
    for email, (username, _, stored, is_admin) in people.items():
        values = (username, email, stored, is_admin, "2024-05-01 09:30:00.123456")
        old.execute(
            "INSERT INTO user (username, email, password_hash, is_admin, created_at) VALUES (?, ?, ?, ?, ?)", values
        )
    old.commit()
    export_from_sqlite(world, folder, page, old)
    old.close()
    import_as_told(world, folder, page)
    roles = {user.email: (user.role, user.created_at.isoformat()) for user in world.rows(User)}
    assert roles["jane@example.com"] == ("admin", "2024-05-01T09:30:00+00:00")
    assert roles["old@example.com"][0] == "user"
    sign_in_all(world, {email: password for email, (_, password, *_) in people.items()})


def export_from_sqlite(world: World, folder: Path, page: Page, old: sqlite3.Connection) -> None:
    """The same for SQLite: the page's command, or its statement and the csv module of Python."""
    (folder / "export-users.sql").write_text(page.block("sql", "strftime"))
    if shutil.which("sqlite3"):
        done = shell(world, folder, page.block("sh", "sqlite3 "))
        assert done.returncode == 0, done.stderr
        return
    found = old.execute(page.block("sql", "strftime"))
    lines = [[column[0] for column in found.description], *found]
    quoted = [",".join(f'"{"" if cell is None else cell}"' for cell in line) for line in lines]
    (folder / "users.csv").write_text("".join(f"{line}\n" for line in quoted))
