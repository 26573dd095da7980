"""docs/backups.md, followed: its commands as they stand, beside a process that has the database open."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lanes import ROOT, SECRETS
from tests.people import PASSWORD
from tests.test_readme import LEFT_OUT

[BACKUP, RESTORE] = re.findall(
    r"^```sh\n(.*?)^```", (ROOT / "docs" / "backups.md").read_text(), re.MULTILINE | re.DOTALL
)
HOLDS = (
    "import sqlite3, sys; line = sqlite3.connect(sys.argv[1]); line.execute('SELECT * FROM users'); print(); input()"
)

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkout with a database of its own."""
    made = tmp_path / "latchkey"
    shutil.copytree(ROOT, made, ignore=LEFT_OUT)
    (made / ".venv").symlink_to(ROOT / ".venv")
    shell(made, ".venv/bin/flask db upgrade")
    return made


def shell(folder: Path, commands: str) -> str:
    given = {"PATH": os.environ["PATH"], **{name.upper(): value for name, value in SECRETS.items()}}
    done = subprocess.run(
        ["bash", "-e", "-c", commands], cwd=folder, env=given, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def add(folder: Path, name: str) -> None:
    shell(folder, f".venv/bin/flask create-admin --email {name}@example.com --password '{PASSWORD}'")


def people(folder: Path) -> set[str]:
    return {user["email"].partition("@")[0] for user in json.loads(shell(folder, ".venv/bin/flask users list --json"))}


def test_a_backup_has_what_was_written_last_and_brings_back_what_was(folder: Path) -> None:
    add(folder, "ada")
    database = folder / "instance" / "latchkey.db"
    service = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(database)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert service.stdout
        service.stdout.readline()
        add(folder, "bea")
        shell(folder, BACKUP)
        add(folder, "carl")
    finally:
        service.kill()
        service.communicate(timeout=20)
    left = folder / "instance" / "latchkey.db-wal"
    assert left.stat().st_size > 0, "it was killed, and has left what was written"
    [copy] = folder.glob("latchkey-*.db")
    assert copy.stat().st_mode & 0o077 == 0
    before = copy.read_bytes()
    ended = shell(folder, RESTORE)
    assert "people" in ended
    assert people(folder) == {"ada", "bea"}
    assert "all is as it was written" in shell(folder, ".venv/bin/flask audit-seal && .venv/bin/flask audit-verify")
    assert copy.read_bytes() == before


def test_a_backup_is_not_written_over(folder: Path) -> None:
    shell(folder, BACKUP)
    with pytest.raises(AssertionError, match="already exists"):
        shell(folder, BACKUP)
