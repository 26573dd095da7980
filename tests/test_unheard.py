"""Commands whose words arrive nowhere: a full disk, a stdout that is closed, a reader that went away."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from app import create_app
from app.cli import output
from app.models import ApiKey
from tests.conftest import World
from tests.lanes import ROOT, SECRETS, Lane

CREATE = "api-keys create till --scope users:read"
FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")


def shell(lane: Lane, command: str, **more: str) -> subprocess.CompletedProcess[str]:
    """A command of the service as somebody types it, with where its words go."""
    given = {"DATABASE_URL": lane.database_url, **{name.upper(): value for name, value in SECRETS.items()}}
    return subprocess.run(
        ["bash", "-c", f"exec {sys.executable} -m flask {command}"], cwd=ROOT,
        env={"PATH": os.environ["PATH"], **given, **more}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


@FULL
@pytest.mark.parametrize("command", [CREATE, "users list", "users list --json", "audit-export", "audit-verify"])
def test_a_command_that_cannot_write_ends_with_1_and_a_line(world: World, lane: Lane, command: str) -> None:
    world.person().sign_up()
    ended = shell(lane, f"{command} >/dev/full")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.splitlines()[-1] == "Error: Reading or writing failed: No space left on device."
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("command", [CREATE, "audit-export", "audit-verify", "rotate-keys", "purge"])
def test_a_command_without_a_stdout_does_nothing(world: World, lane: Lane, command: str) -> None:
    world.person().sign_up()
    rows = len(world.audit())
    ended = shell(lane, f"{command} >&-")
    assert (ended.returncode, ended.stderr) == (1, "Error: There is no standard output to write to.\n")
    assert (world.count(ApiKey), len(world.audit())) == (0, rows)


@FULL
@pytest.mark.parametrize("to", [">/dev/full", "| true"])
def test_a_key_that_nobody_saw_is_revoked(world: World, lane: Lane, to: str) -> None:
    ended = shell(lane, f"{CREATE} {to}")
    assert "The key was not shown, and is revoked." in ended.stderr
    [key] = world.rows(ApiKey)
    assert key.revoked_at is not None


@FULL
def test_a_report_that_cannot_be_written_ends_an_import_with_1_and_a_line(
    world: World, lane: Lane, tmp_path: Path
) -> None:
    file = tmp_path / "people.csv"
    file.write_text("email\nada@example.com\nnobody\n")
    ended = shell(lane, f"import-users {file} --refused /dev/full")
    assert (ended.returncode, ended.stderr.splitlines()[-1]) == (
        1,
        "Error: Reading or writing failed: No space left on device.",
    )
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("form", ["", " --json"])
def test_a_letter_that_the_output_cannot_write_costs_nobody_a_key(world: World, lane: Lane, form: str) -> None:
    """As into a file on Windows, which has an encoding of its own."""
    ended = shell(lane, f"api-keys create Клиника --scope users:read{form}", PYTHONIOENCODING="cp1252")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert re.search(r"[\w-]{43}", ended.stdout)
    assert shell(lane, "api-keys list", PYTHONIOENCODING="cp1252").returncode == 0


def test_every_command_is_one_that_ends_so(lane: Lane) -> None:
    """But the courier, which tells nothing."""
    commands = create_app(lane.settings(), migrates=False).cli.commands
    groups = [each for each in commands.values() if isinstance(each, output.Group)]
    alone = [each for each in commands.values() if each not in groups]
    every = [*alone, *(command for group in groups for command in group.commands.values())]
    assert len(every) > 20
    assert [each.name for each in every if not isinstance(each, output.Command)] == ["courier"]
