"""The README, followed by somebody new: a copy of the tree, an empty environment, its commands as they stand."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
import pytest
import requests
from latchkey_client import InvalidToken

from tools import servers

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
PORT = "5000"
LEFT_OUT = shutil.ignore_patterns(
    ".venv", ".git", ".env", "instance", "__pycache__", ".*_cache", ".cache", "node_modules", ".hypothesis"
)

pytestmark = pytest.mark.slow


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


CURLS = [block for block in blocks("sh") if block.startswith("curl")]


@dataclass
class Newcomer:
    folder: Path
    port: str
    process: subprocess.Popen[bytes]
    log: Path

    def shell(self, command: str, **variables: str) -> Any:
        """A command of the README, as it stands but for the port."""
        here = command.replace(f":{PORT}/", f":{self.port}/")
        done = subprocess.run(
            ["bash", "-c", here],
            env={"PATH": os.environ["PATH"], **variables},
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def wait_for(self, words: str) -> None:
        for _ in range(600):
            if words in self.log.read_text():
                return
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.1)
        raise AssertionError(self.log.read_text())

    def code(self, seen: int) -> str:
        for _ in range(100):
            codes = re.findall(
                r"^OTP for j\*\*\*@example.com: (\d{6}) \(.*, valid 5 minutes\)$", self.log.read_text(), re.MULTILINE
            )
            if len(codes) > seen:
                return codes[-1]
            time.sleep(0.1)
        raise AssertionError(self.log.read_text())


def start(folder: Path, port: str) -> Newcomer:
    log = folder.parent / f"run-{time.monotonic()}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            ["./run.sh"], cwd=folder, stdout=out, stderr=out,
            env={"HOME": str(folder.parent), "PATH": os.environ["PATH"], "PORT": port},
        )  # fmt: skip
    newcomer = Newcomer(folder, port, process, log)
    newcomer.wait_for("Codes appear here")
    return newcomer


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Newcomer]:
    """A fresh copy of the tree; only what pip would bring is lent to it."""
    folder = tmp_path_factory.mktemp("clone") / "latchkey"
    shutil.copytree(ROOT, folder, ignore=LEFT_OUT)
    (folder / ".venv").symlink_to(ROOT / ".venv")
    started = start(folder, str(servers.free_port()))
    yield started
    started.process.terminate()
    started.process.wait(20)


def test_it_says_where_it_listens_where_the_docs_are_and_where_codes_appear(newcomer: Newcomer) -> None:
    said = newcomer.log.read_text()
    assert f"Latchkey listens on http://127.0.0.1:{newcomer.port}" in said
    assert f"http://127.0.0.1:{newcomer.port}/docs" in said
    assert "Codes appear here, in this terminal." in said
    assert requests.get(f"http://127.0.0.1:{newcomer.port}/docs", timeout=5).ok


def test_the_first_run_made_its_secrets_for_the_owner_alone(newcomer: Newcomer) -> None:
    env_file = newcomer.folder / ".env"
    assert stat.S_IMODE(env_file.stat().st_mode) == 0o600
    assert re.search(r"^SECRET_KEY=\S{64}$", env_file.read_text(), re.MULTILINE)
    assert (newcomer.folder / "instance" / "latchkey.db").exists()


def test_the_walk_from_sign_up_to_sign_out(newcomer: Newcomer) -> None:
    signup, verify, me, login, login_verify, refresh, logout = CURLS
    asked = newcomer.shell(signup)
    tokens = newcomer.shell(verify, CHALLENGE=asked["challenge_id"], CODE=newcomer.code(0))
    assert newcomer.shell(me, TOKEN=tokens["access_token"])["email"] == "jane@example.com"
    asked = newcomer.shell(login)
    tokens = newcomer.shell(login_verify, CHALLENGE=asked["challenge_id"], CODE=newcomer.code(1))
    fresh = newcomer.shell(refresh, REFRESH=tokens["refresh_token"])
    check_from_another_backend(newcomer, fresh)
    assert newcomer.shell(logout, TOKEN=fresh["access_token"])["message"] == "You are signed out."
    assert newcomer.shell(me, TOKEN=fresh["access_token"])["code"] == "token_revoked"


def check_from_another_backend(newcomer: Newcomer, tokens: dict[str, Any]) -> None:
    """The README's Python, with the secret of this service's own .env."""
    [snippet] = blocks("python")
    secret = re.search(r"^JWT_SECRET_KEY=(\S+)$", (newcomer.folder / ".env").read_text(), re.MULTILINE)
    assert secret
    place: dict[str, Any] = {"JWT_SECRET_KEY": secret[1], "TOKEN": tokens["access_token"]}
    exec(snippet, place)
    caller = place["caller"]
    assert (caller.user_id, caller.role, caller.session_id) == (tokens["user"]["id"], "user", tokens["session_id"])
    for bad_token, bad_secret in (
        (tokens["access_token"] + "x", secret[1]),
        (tokens["access_token"], "x" * 64),
        (jwt.encode({}, secret[1]), secret[1]),
    ):
        with pytest.raises(InvalidToken):
            exec(snippet, {"JWT_SECRET_KEY": bad_secret, "TOKEN": bad_token})


def test_a_second_start_keeps_accounts_and_secrets(newcomer: Newcomer) -> None:
    secrets = (newcomer.folder / ".env").read_text()
    newcomer.process.terminate()
    newcomer.process.wait(20)
    again = start(newcomer.folder, newcomer.port)
    try:
        assert (newcomer.folder / ".env").read_text() == secrets
        asked = again.shell(CURLS[3])
        assert asked["status"] == "otp_required"
        assert again.code(0)
    finally:
        again.process.terminate()
        again.process.wait(20)


def test_the_other_way_to_run_serves_the_same(newcomer: Newcomer, tmp_path: Path) -> None:
    """`python -m app` is what run.bat starts: waitress, for where gunicorn does not run."""
    port = str(servers.free_port())
    log = tmp_path / "waitress.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [".venv/bin/python", "-m", "app"], cwd=newcomer.folder, stdout=out, stderr=out,
            env={"PATH": os.environ["PATH"], "PORT": port, "HOME": str(tmp_path)},
        )  # fmt: skip
    try:
        other = Newcomer(newcomer.folder, port, process, log)
        other.wait_for("Latchkey listens")
        body = CURLS[0].replace("jane@", "joan@")
        asked = other.shell(body)
        assert other.shell(CURLS[1], CHALLENGE=asked["challenge_id"], CODE=other.code(0))["status"] == "complete"
    finally:
        process.terminate()
        process.wait(20)


def test_every_file_that_the_readme_names_is_there() -> None:
    for name in re.findall(r"`((?:app|tests|docs|migrations|tools)[\w/.]*|[\w.]+\.(?:sh|bat|sql|example))`", README):
        assert (ROOT / name).exists(), name
    for link in re.findall(r"\]\((?!http)([^)]+)\)", README):
        assert (ROOT / link.partition("#")[0]).exists(), link


@pytest.mark.parametrize("name", ["setup.bat", "run.bat"])
def test_the_windows_files_end_their_lines_as_windows_does(name: str) -> None:
    data = (ROOT / name).read_bytes()
    assert data.count(b"\r\n") == data.count(b"\n") > 5
