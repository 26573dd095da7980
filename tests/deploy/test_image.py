"""The Dockerfile, line by line, without an engine: its stages are made in folders, and the last one serves on a read-only file
system as its own user. compose.yaml and the Procfile say the same commands.
"""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import requests
import yaml

from app import production
from app.config import Settings
from tests import lanes
from tests.conftest import Lane
from tests.deploy import dockerfile
from tests.deploy.checkout import ROOT, clean_checkout
from tests.deploy.dockerfile import Stage
from tests.lanes import SECRETS
from tools import servers

DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
GIVEN = {name: SECRETS[name.lower()] for name in ("SECRET_KEY", "JWT_SECRET_KEY", "MASTER_SECRET")}


def lend(venv: Path) -> None:
    """The packages of this environment count as installed, so that pip only compares them with the lock."""
    [target] = venv.glob("lib/python3*/site-packages")
    (target / "lent.pth").write_text(dockerfile.LENT + "\n")
    for name in ("flask", "gunicorn"):
        head, *body = (Path(sys.executable).parent / name).read_text().splitlines(keepends=True)
        assert head.startswith("#!")
        (venv / "bin" / name).write_text("".join(["#!/opt/venv/bin/python\n", *body]))
        (venv / "bin" / name).chmod(0o755)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    if not dockerfile.possible():
        pytest.skip("*** NOT TESTED: this needs root and mount namespaces ***")
    folder = tmp_path_factory.mktemp("image")
    checkout = clean_checkout(folder)
    sent = folder / "sent"
    dockerfile.context(checkout, sent)
    yield dockerfile.build(DOCKERFILE, sent, folder / "stages", lend)


@pytest.mark.slow
@pytest.mark.one_lane("postgresql")
def test_the_image_serves_as_nobody_on_a_read_only_file_system(lane: Lane, worker: str, image: Stage) -> None:
    if lane.name != "postgresql":
        pytest.skip("there is no PostgreSQL here")
    port = servers.free_port()
    given = {**GIVEN, "PORT": str(port), "REDIS_URL": lane.redis_url or "redis://127.0.0.1:1/0", "WEB_CONCURRENCY": "1",
             "ALLOW_CONSOLE_DELIVERY": "true"}  # fmt: skip
    with lanes.database("postgresql", f"image_{worker}") as url:
        given["DATABASE_URL"] = url.replace("postgresql+psycopg2://", "postgresql://")
        run(image, ["flask", "db", "upgrade"], given)
        process = subprocess.Popen(
            image.words(image.command, read_only=True, given=given), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        try:
            assert until_ready(port, process).json()["checks"]["database"] == "ok"
            run(image, image.check, given)
            status = Path(f"/proc/{process.pid}/status").read_text()
            assert re.search(r"^Uid:\t10001\t10001\t10001\t10001$", status, re.MULTILINE)
            assert re.search(r"^CapEff:\t0+$", status, re.MULTILINE)
            assert run(image, ["sh", "-c", "touch /srv/latchkey/x /opt/venv/x /x; true"], given).count("Read-only") == 3
        finally:
            process.terminate()
            said = process.communicate(timeout=40)[0].decode()
    assert "Traceback" not in said
    assert dockerfile_check_fails(image, given)


def run(image: Stage, command: list[str], given: dict[str, str]) -> str:
    done = subprocess.run(
        image.words(command, read_only=True, given=given), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def dockerfile_check_fails(image: Stage, given: dict[str, str]) -> bool:
    """When nothing answers, the health check says so."""
    return subprocess.run(image.words(image.check, read_only=True, given=given), capture_output=True).returncode == 1


def until_ready(port: int, process: subprocess.Popen[bytes]) -> requests.Response:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            return requests.get(f"http://127.0.0.1:{port}/health", timeout=5)
        except requests.RequestException:
            time.sleep(0.05)
    process.kill()
    raise AssertionError(process.communicate()[0])


@pytest.mark.covers("asvs 13.4.1")
def test_only_what_the_image_needs_is_sent_to_the_engine(tmp_path: Path) -> None:
    source, sent = tmp_path / "source", tmp_path / "sent"
    wanted = ["app/wsgi.py", "app/web/static/a.js", "migrations/versions/1.py", "gunicorn.conf.py", ".flaskenv",
              "requirements.txt", "tools/fast_argon2.sh"]  # fmt: skip
    secret = [".env", ".git/config", "app/.git/config", "instance/latchkey.db", "app/__pycache__/x.pyc", "app/web/__pycache__/y.pyc", "tests/test_x.py",
              "tools/servers.py", ".venv/bin/python", "requirements-dev.txt", "x/app/y.py"]  # fmt: skip
    for name in (*wanted, *secret):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text("x")
    (source / ".dockerignore").write_text((ROOT / ".dockerignore").read_text())
    dockerfile.context(source, sent)
    assert sorted(str(p.relative_to(sent)) for p in sent.rglob("*") if p.is_file()) == sorted(wanted)


def test_the_image_holds_no_secret_and_does_not_run_as_root() -> None:
    found = dockerfile.lines(DOCKERFILE)
    assert [rest for word, rest in found if word == "USER"] == ["10001:10001"]
    last = max(i for i, (word, _) in enumerate(found) if word == "FROM")
    assert [rest for word, rest in found[last:] if word in ("RUN", "ARG")] == [], "the last stage only copies"
    set_ = {pair.split("=")[0] for word, rest in found if word in ("ENV", "ARG") for pair in rest.split()}
    assert set_ & {name.upper() for name in Settings.model_fields} == {"ENVIRONMENT", "PORT"}


def composed(given: dict[str, str]) -> dict[str, str]:
    """The environment of compose.yaml's service, with its variables filled in."""
    values = COMPOSE["services"]["web"]["environment"]
    return {k: re.sub(r"\$\{(\w+):\?[^}]*\}", lambda m: given[m[1]], str(v)) for k, v in values.items()}


def test_compose_keeps_its_schema() -> None:
    schema = json.loads((files("check_jsonschema.builtin_schemas.vendor") / "compose-spec.json").read_text())
    check = jsonschema.validators.validator_for(schema)(schema)
    assert [error.message for error in check.iter_errors(COMPOSE)] == []
    for broken in (
        {"servces": {}},
        {"services": {"web": {"image": 5}}},
        {"services": {"web": {"read_only": "maybe so", "prts": []}}},
    ):
        assert list(check.iter_errors(COMPOSE | broken)), broken


def test_compose_starts_with_the_secrets_that_its_own_lines_make(tmp_path: Path) -> None:
    text = (ROOT / "compose.yaml").read_text()
    [recipe] = re.findall(r"^#   (\(set -C.*?done > \.env\))$", text, re.MULTILINE | re.DOTALL)
    script = recipe.replace("\n#   ", "\n")
    subprocess.run(["sh", "-euc", script], cwd=tmp_path, env={"PATH": os.environ["PATH"]}, check=True)
    made = (tmp_path / ".env").read_text()
    assert stat.S_IMODE((tmp_path / ".env").stat().st_mode) == 0o600
    again = subprocess.run(["sh", "-euc", script], cwd=tmp_path, env={"PATH": os.environ["PATH"]}, capture_output=True)
    assert (again.returncode != 0, (tmp_path / ".env").read_text()) == (True, made), "it made other secrets"
    given = dict(line.split("=", 1) for line in made.splitlines())
    assert set(given) == set(re.findall(r"\$\{(\w+)", text))
    environment = composed(given)
    assert set(environment) <= {name.upper() for name in Settings.model_fields}
    settings = Settings(_env_file=None, environment="production", **{k.lower(): v for k, v in environment.items()})
    assert [*production.unsafe(settings), *production.incomplete(settings)] == []
    assert settings.db_url.password == given["POSTGRES_PASSWORD"]


def test_compose_runs_the_image_as_the_image_is_meant_to_run() -> None:
    services = COMPOSE["services"]
    for name in ("web", "migrate"):
        assert services[name]["read_only"] is True
        assert services[name]["cap_drop"] == ["ALL"]
    assert services["web"].get("command") is None
    assert services["mail"]["network_mode"] == "service:web"
    assert all(port.startswith("127.0.0.1:") for port in services["web"]["ports"])


def test_the_procfile_has_the_same_commands() -> None:
    procfile: dict[str, Any] = yaml.safe_load((ROOT / "Procfile").read_text())
    blueprint = yaml.safe_load((ROOT / "render.yaml").read_text())["services"][0]
    assert (
        procfile["web"] == blueprint["startCommand"] == " ".join(dockerfile.lines(DOCKERFILE)[-1][1].split('"')[1::2])
    )
    assert procfile["release"] == blueprint["preDeployCommand"] == " ".join(COMPOSE["services"]["migrate"]["command"])
    assert procfile["worker"] == "flask courier"


def test_the_fast_argon2_is_built_from_the_lock_and_from_nothing_else(tmp_path: Path) -> None:
    pip = tmp_path / "pip"
    pip.write_text('#!/bin/sh\necho "$CFLAGS $*"\nfor last; do :; done\ncat "$last"\n')
    pip.chmod(0o755)
    words = [str(ROOT / "tools" / "fast_argon2.sh"), str(pip), "--python", "x"]
    said = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.splitlines()
    assert said[0].startswith("-O3 -march=native --python x install ")
    assert "--no-binary argon2-cffi-bindings --require-hashes -r " in said[0]
    assert said[1].startswith("argon2-cffi-bindings==")
    hashes = [line.strip(" \\") for line in said[2:] if "# via" not in line]
    assert all(re.fullmatch("--hash=sha256:[0-9a-f]{64}", line) for line in hashes)
    assert (ROOT / "requirements.txt").read_text().count("--hash=sha256:") > len(hashes) > 10
