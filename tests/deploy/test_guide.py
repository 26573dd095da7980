"""deployment_guide.md and SECURITY.md say what is so: their commands run, or are named here as those of other programs."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import twilio
import yaml

from app.config import Settings
from tests.deploy.checkout import ROOT

GUIDE = (ROOT / "deployment_guide.md").read_text()
SECURITY = (ROOT / "SECURITY.md").read_text()
PROCFILE = yaml.safe_load((ROOT / "Procfile").read_text())
BLUEPRINT = yaml.safe_load((ROOT / "render.yaml").read_text())["services"][0]

# Where each command of the two pages is run by a test, or what keeps it from being run here.
COMMANDS = {
    "flask create-admin --email you@example.com": "tests/deploy/test_render.py",
    "(read -rsp 'DATABASE_URL: ' DATABASE_URL && read -rsp 'SECRET_KEY: ' SECRET_KEY && "
    ': "${DATABASE_URL:?}" "${SECRET_KEY:?}" && export DATABASE_URL SECRET_KEY && '
    ".venv/bin/flask create-admin --email you@example.com)": "tests/deploy/test_render.py",
    "curl -s https://YOUR-SERVICE.onrender.com/api/auth/signup": "the README's, run by tests/test_readme.py, to another host",
    "docker build -t latchkey .": "no engine; its lines run in tests/deploy/test_image.py",
    "docker run --stop-timeout 40 --read-only --tmpfs /tmp -p 127.0.0.1:8000:8000 --env-file .env latchkey": "no engine",
    "docker run --rm --read-only --tmpfs /tmp --env-file .env latchkey flask db upgrade": "no engine",
    "python3 -m venv .venv && .venv/bin/pip install --require-hashes -r requirements.txt": "as tools/venv.sh, run by test_readme.py",
    "test -e /etc/latchkey.env || install -m 600 .env.example /etc/latchkey.env": "another machine",
    "install -m 755 -t /usr/local/sbin deploy/latchkey-flask": "tests/deploy/test_hosts.py runs it without systemd",
    "latchkey-flask check-config": "tests/deploy/test_hosts.py",
    "latchkey-flask create-admin --email you@example.com": "tests/deploy/test_hosts.py",
    "latchkey-flask rotate-keys --check": "tests/deploy/test_hosts.py",
    "latchkey-flask audit-verify": "tests/deploy/test_hosts.py",
    "cp deploy/latchkey.service /etc/systemd/system/ && systemctl enable --now latchkey": "another machine",
    "cp deploy/nginx.conf /etc/nginx/conf.d/latchkey.conf && systemctl reload nginx": "another machine",
    "kubectl create secret generic latchkey --from-env-file=latchkey.env": "no cluster",
    "kubectl apply -f deploy/kubernetes.yaml": "no cluster",
    ".venv/bin/python -m tools.supply licences": "tests/deploy/test_supply.py",
    ".venv/bin/python -m tools.supply sbom sbom.json": "tests/deploy/test_supply.py",
    ".venv/bin/python -m tools.supply audit": "tests/deploy/test_supply.py",
}
# Variables that are somebody else's.
FOREIGN = {"CREDENTIALS_DIRECTORY", "GUNICORN_CMD_ARGS", "SIGTERM", "SIGKILL", "ARGON2", "NOT_CHECKED"}


def commands(page: str) -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    joined = "\n".join(re.sub(r"\\\n\s*", "", re.sub(r"^ {3}", "", block, flags=re.MULTILINE)) for block in blocks)
    return [re.split(r" {2,}#| -H ", line)[0].strip() for line in joined.splitlines() if line.strip()]


def test_every_command_is_known() -> None:
    assert set(commands(GUIDE) + commands(SECURITY)) == set(COMMANDS)
    assert set(commands((ROOT / "docs" / "dependencies.md").read_text())) <= set(COMMANDS)


def test_no_secret_is_typed_into_a_command_and_the_database_is_up_to_date_before_the_service_runs() -> None:
    said = commands(GUIDE)
    assert [line for line in said if re.search(r"(SECRET|KEY|URL|PASSWORD)=", line)] == []
    upgrade, serve = (i for i, line in enumerate(said) if line.startswith("docker run"))
    assert said[upgrade].endswith("flask db upgrade")
    assert "-p 127.0.0.1:" in said[serve], "TRUSTED_PROXIES believes whoever comes past the proxy"


@pytest.mark.parametrize("typed", ["\n\n", "sqlite:///x\n\n", "\nsomething\n"])
def test_the_first_admin_is_made_from_another_machine_with_both_values_or_not_at_all(
    tmp_path: Path, typed: str
) -> None:
    """An empty one counts as unset: the key or the database of the checkout's own `.env` would take its place."""
    flask = tmp_path / ".venv" / "bin" / "flask"
    flask.parent.mkdir(parents=True)
    flask.write_text("#!/bin/sh\ntouch ran\n")
    flask.chmod(0o755)
    [command] = re.findall(r"^(\(read -rsp .*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
    for given, code in ((typed, 1), ("sqlite:///x\nsomething\n", 0)):
        done = subprocess.run(["bash", "-c", command], cwd=tmp_path, input=given, capture_output=True, text=True)
        assert (bool(done.returncode), (tmp_path / "ran").exists()) == (bool(code), not code), done.stderr


def test_the_four_commands_are_those_of_the_platforms() -> None:
    table = dict(re.findall(r"^\| ([^|]+) \| `([^`]+)`", GUIDE, re.MULTILINE))
    assert table["build"] == BLUEPRINT["buildCommand"]
    assert table["before a new version starts"] == BLUEPRINT["preDeployCommand"] == PROCFILE["release"]
    assert table["start"] == BLUEPRINT["startCommand"] == PROCFILE["web"]
    assert table["is it ready? is it alive?"] == f"GET {BLUEPRINT['healthCheckPath']}"
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert table["build"].removeprefix("pip install ") in dockerfile


@pytest.mark.parametrize("page", ["deployment_guide.md", "SECURITY.md"])
def test_every_file_and_setting_that_it_names_is_there(page: str) -> None:
    text = (ROOT / page).read_text()
    for link in re.findall(r"\]\((?!http)([^)#]+)", text):
        assert (ROOT / link).exists(), link
    for name in re.findall(r"`((?:deploy|docs|tools|tests|examples)/[\w./-]+)`", text):
        assert (ROOT / name).exists(), name
    named = set(re.findall(r"`([A-Z][A-Z0-9]+_[A-Z0-9_]+)[=`]", text))
    assert named - {name.upper() for name in Settings.model_fields} <= FOREIGN


def test_the_paths_that_it_names_are_routes() -> None:
    source = "".join(path.read_text() for path in (ROOT / "app" / "web").rglob("*.py"))
    for path in re.findall(r"`GET /api/admin(/[\w-]+)`", GUIDE):
        assert f'"{path}"' in source, path


def test_a_path_on_windows_stays_short_enough() -> None:
    """What the guide says of long paths: Windows ends them at 260 characters."""
    [longest] = re.findall(r"one package has names of (\d+)", GUIDE)
    [room] = re.findall(r"path\s+below (\d+) characters", GUIDE)
    assert int(room) + len("\\.venv\\Lib\\site-packages\\") + int(longest) < 260
    root = Path(twilio.__file__).parent.parent
    names = [len(str(path.relative_to(root))) for path in (root / "twilio").rglob("*") if path.is_file()]
    assert max(names) <= int(longest)


@pytest.mark.covers("asvs 15.1.1")
def test_the_security_page_says_within_how_many_days_a_vulnerable_package_is_replaced() -> None:
    assert re.search(r"3\s+days after it is known if it is critical, 7 if it is high", SECURITY)
