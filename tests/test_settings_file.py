"""The file of settings: it is read as it stands, by every way to start, and refused where a line of it is none."""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import text

from app import create_app, start
from app.config import Settings, SettingsError
from app.db import db
from app.production import remarks
from tests.lanes import SECRETS

ROOT = Path(__file__).resolve().parent.parent
WORKS = "".join(f"{name.upper()}={value}\n" for name, value in SECRETS.items())

pytestmark = pytest.mark.one_lane("sqlite")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*Settings.names(), "CREDENTIALS_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What of the tree a command needs, in a folder below one that may be another project's."""
    folder = tmp_path / "other" / "latchkey"
    for name in ("app", "migrations"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in (".flaskenv", "gunicorn.conf.py"):
        shutil.copy(ROOT / name, folder)
    return folder


def run(folder: Path, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
    clean = {"PATH": os.environ["PATH"], "HOME": str(folder), **env}
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=folder, env=clean, capture_output=True, text=True, timeout=60
    )


def shown(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    assert done.returncode == 0, done.stderr
    return dict(line.split("=", 1) for line in done.stdout.splitlines())


NO_LINES = [
    ("LOCKOUT_THRESHOLD: 3", 1),
    ("LOCKOUT_THRESHOLD:3", 1),
    ("LOCKOUT_THRESHOLD 3", 1),
    ('\n# a remark\n\nSMTP_PASSWORD="hunter2\nOTP_TTL=120', 4),
    ("OTP_TTL=120\r\n\r\nSMTP_PASSWORD='hunter2\r\n", 3),
    ("SMTP_PASSWORD='hunter2'hunter2\n", 1),
    ("JWT_PRIVATE_KEY=-----BEGIN PRIVATE KEY-----\nhunter2\n", 2),
]


@pytest.mark.parametrize(("written", "line"), NO_LINES)
@pytest.mark.parametrize("environment", ["development", "production"])
def test_a_line_that_sets_nothing_stops_the_start_with_its_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: str, written: str, line: int
) -> None:
    (tmp_path / ".env").write_bytes(written.encode())
    monkeypatch.setenv("ENVIRONMENT", environment)
    with pytest.raises(SettingsError, match=rf"\.env: line {line} is no NAME=value") as stopped:
        start.load(tmp_path / ".env")
    assert len(str(stopped.value).splitlines()) == 1
    assert "hunter2" not in str(stopped.value)
    assert (tmp_path / ".env").read_bytes() == written.encode(), "nothing was added"


def test_every_line_that_sets_nothing_is_named(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("OTP_TTL: 120\nPORT=5055\nOTP_LENGTH: 8\n")
    with pytest.raises(SettingsError) as stopped:
        start.load(tmp_path / ".env")
    assert [line.split(": ")[1].split()[:2] for line in str(stopped.value).splitlines()] == [
        ["line", "1"],
        ["line", "3"],
    ]


@pytest.mark.parametrize("again", ["SMTP_PASSWORD=hunter22", "export smtp_password='hunter22'"])
def test_a_setting_that_stands_there_twice_stops_the_start(tmp_path: Path, again: str) -> None:
    (tmp_path / ".env").write_text(f"SMTP_PASSWORD=hunter2\n\n{again}\n")
    with pytest.raises(SettingsError, match=r"\.env: line 3 sets SMTP_PASSWORD again") as stopped:
        start.load(tmp_path / ".env")
    assert "hunter2" not in str(stopped.value)


def test_what_is_empty_or_of_another_program_may_stand_there_twice(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"OTP_TTL=\nTHEIRS=1\nTHEIRS=2\n{WORKS}OTP_TTL=120\nOTP_TTL=\n")
    assert start.load(tmp_path / ".env").otp_ttl == 120


LITERAL = "k7${HOME}Qx2$HOME${NOBODY:-x}"


def test_a_value_is_read_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [f"SMTP_PASSWORD={LITERAL}", f'GUPSHUP_PASSWORD="{LITERAL}" # a remark', "BRAND_NAME=Jane's # a remark"]
    (tmp_path / ".env").write_text(WORKS + "\n".join(lines))
    monkeypatch.setenv("HOME", "/home/jane")
    settings = start.load(tmp_path / ".env")
    assert settings.smtp_password.get_secret_value() == settings.gupshup_password.get_secret_value() == LITERAL
    assert settings.brand_name == "Jane's"
    monkeypatch.setenv("brand_name", "Of the environment")
    assert start.load(tmp_path / ".env").brand_name == "Of the environment"


@pytest.mark.parametrize("value", ["${KEY_OF_ANOTHER_VARIABLE_THAT_IS_LONG}", '"${JWT_SECRET_KEY}"', "${KEY:-none}"])
def test_a_key_that_is_but_the_name_of_another_variable_is_none(tmp_path: Path, value: str) -> None:
    """Whoever reads the file would know it."""
    (tmp_path / ".env").write_text(f"{WORKS}JWT_SECRET_KEY={value}\n")
    with pytest.raises(SettingsError, match=r"\.env: line \d+ names another variable"):
        start.load(tmp_path / ".env")


def test_the_commands_of_flask_read_it_as_the_service_does(checkout: Path) -> None:
    """Flask reads it by itself, and replaces what looks like a variable; the environment wins as ever."""
    (checkout / ".env").write_text(f"{WORKS}BRAND_NAME={LITERAL}\nJWT_ISSUER=of-the-file\nOTP_TTL=120\n")
    for env in ({}, {"FLASK_SKIP_DOTENV": "1"}):
        told = shown(run(checkout, "flask", "check-config", JWT_ISSUER="of-the-environment", **env))
        assert (told["BRAND_NAME"], told["JWT_ISSUER"], told["OTP_TTL"]) == (LITERAL, "of-the-environment", "120")


@pytest.mark.parametrize("own", [False, True], ids=["without an own one", "beside an own one"])
def test_another_project_s_file_counts_for_no_command(checkout: Path, own: bool) -> None:
    """Flask looks for one upwards from where it is called, and the service does not."""
    (checkout.parent / ".env").write_text("DATABASE_URL=sqlite:////nonexistent/theirs.db\nOTP_TTL=120\n")
    if own:
        (checkout / ".env").write_text(WORKS)
    done = run(checkout, "flask", "check-config")
    if own:
        assert shown(done)["OTP_TTL"] == "300"
    else:
        assert done.returncode == 1
        assert done.stderr.splitlines() == [
            "Latchkey does not start:",
            f"{checkout.parent / '.env'} is another project's, and flask has read it; call it with FLASK_SKIP_DOTENV=1",
        ]
        assert not (checkout / ".env").exists()
    done = run(checkout, "flask", "check-config", FLASK_SKIP_DOTENV="1")
    assert (shown(done)["OTP_TTL"], shown(done)["DATABASE_URL"]) == ("300", "sqlite:///latchkey.db")


@pytest.mark.parametrize("name", ["run.sh", "run.bat", "setup.bat"])
def test_what_sets_the_service_up_has_flask_read_no_file(name: str) -> None:
    before, upgrade, _ = (ROOT / name).read_text().partition("flask db upgrade")
    assert upgrade
    assert "FLASK_SKIP_DOTENV=1" in before


NO_TEXT = [WORKS.encode("utf-16"), WORKS.encode("utf-16-le"), b"SMTP_PASSWORD=caf\xe9\n"]


@pytest.mark.parametrize("data", NO_TEXT, ids=["UTF-16", "without its mark", "Latin-1"])
def test_a_file_that_is_no_utf_8_ends_a_command_with_one_line(checkout: Path, data: bytes) -> None:
    (checkout / ".env").write_bytes(data)
    done = run(checkout, "flask", "check-config", FLASK_SKIP_DOTENV="1")
    assert done.returncode == 1
    assert done.stderr == f"Latchkey does not start:\n{checkout / '.env'} cannot be read: save it as UTF-8\n"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.covers("asvs 13.3.2")
def test_the_file_of_sqlite_is_for_its_owner_alone(checkout: Path) -> None:
    """And so is what SQLite writes beside it, which has the mode of the file."""
    (checkout / ".env").write_text(WORKS)
    assert run(checkout, "flask", "check-config").returncode == 0
    done = run(checkout, "flask", "db", "upgrade")
    assert done.returncode == 0, done.stderr
    line = sqlite3.connect(checkout / "instance" / "latchkey.db")
    try:
        line.execute("INSERT INTO throttles SELECT * FROM throttles")
        found = {path.name: mode(path) for path in (checkout / "instance").iterdir()}
    finally:
        line.close()
    assert found == dict.fromkeys(("latchkey.db", "latchkey.db-wal", "latchkey.db-shm"), 0o600)
    assert mode(checkout / "instance") == 0o700


def test_a_file_of_sqlite_elsewhere_is_too_and_one_that_is_there_stays_as_it_is(tmp_path: Path) -> None:
    for name, before in (("new.db", None), ("old.db", 0o640)):
        place = tmp_path / name
        if before is not None:
            place.touch(before)
            place.chmod(before)
        app = create_app(Settings(_env_file=None, database_url=f"sqlite:///{place}", **SECRETS))
        with app.app_context():
            db.session.execute(text("CREATE TABLE x (y)"))
            db.session.rollback()
            db.engine.dispose()
        assert mode(place) == (before or 0o600)


@pytest.mark.parametrize(
    ("folder", "file", "said"), [(0o755, 0o644, True), (0o755, 0o640, False), (0o700, 0o644, False)]
)
def test_production_says_that_others_may_read_its_sqlite(tmp_path: Path, folder: int, file: int, said: bool) -> None:
    place = tmp_path / "data" / "old.db"
    place.parent.mkdir()
    place.touch()
    place.chmod(file)
    place.parent.chmod(folder)
    given = {"environment": "production", "database_url": f"sqlite:///{place}", **SECRETS}
    lines = list(remarks(Settings(_env_file=None, **given)))
    assert [line for line in lines if "DATABASE_URL" in line] == (
        ["DATABASE_URL: everybody on this host may read that file of SQLite; chmod 600 it, and 700 its folder."]
        if said
        else []
    )


@pytest.mark.parametrize(
    "command", [("flask", "db", "upgrade"), ("flask", "users", "list"), ("gunicorn", "-c", "gunicorn.conf.py")]
)
def test_a_folder_of_sqlite_that_cannot_be_made_ends_a_command_with_one_line(
    checkout: Path, command: tuple[str, ...]
) -> None:
    (checkout / ".env").write_text(WORKS)
    (checkout / "instance").write_text("in the way")
    done = run(checkout, *command)
    assert done.returncode == 1
    told = f"DATABASE_URL: the folder of SQLite, {checkout / 'instance'}, cannot be made: FileExistsError"
    assert done.stderr == f"Latchkey does not start:\n{told}\n"


def test_a_port_that_is_in_use_ends_the_start_on_waitress_with_one_line(checkout: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        (checkout / ".env").write_text(f"{WORKS}PORT={port}\n")
        done = run(checkout, "app")
    assert done.returncode == 1
    assert f"Latchkey does not start:\nPORT={port} is not to be had: Address already in use; set another" in done.stderr
    assert "Traceback" not in done.stderr
