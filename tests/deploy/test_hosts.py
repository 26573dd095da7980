"""What stands in deploy/ for a machine of one's own and for Kubernetes: read by the programs that it is for, where there are
such, and in step with the image and the settings.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from configparser import ConfigParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from requests.adapters import HTTPAdapter
from urllib3.util import Retry
from werkzeug.serving import make_server

from app.config import Settings
from app.delivery import courier
from tests.deploy.checkout import ROOT
from tools import servers

UNIT = ROOT / "deploy" / "latchkey.service"
NAMES = {name.upper() for name in Settings.model_fields}
PROCFILE = yaml.safe_load((ROOT / "Procfile").read_text())
MANIFESTS: list[dict[str, Any]] = list(yaml.safe_load_all((ROOT / "deploy" / "kubernetes.yaml").read_text()))


def program(name: str) -> str:
    found = shutil.which(name)
    if not found:
        pytest.skip(f"*** NOT TESTED: there is no {name} here ***")
    return found


def checked(*command: str, folder: Path | None = None) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_systemd_reads_the_unit(tmp_path: Path) -> None:
    verify = program("systemd-analyze")
    unit = tmp_path / UNIT.name
    unit.write_text(re.sub(r"=/srv/\S+", "=/bin/true", UNIT.read_text()).replace("WorkingDirectory=/bin/true", ""))
    assert "Unknown" not in checked(verify, "verify", "--man=no", str(unit))


EGRESS = ROOT / "deploy" / "latchkey.service.d" / "egress.conf"


@pytest.mark.covers("asvs 13.2.5")
def test_systemd_reads_what_keeps_the_service_from_every_address_but_those_allowed(tmp_path: Path) -> None:
    """That the kernel does it is systemd's promise (systemd.resource-control): none runs here."""
    said = [line for line in EGRESS.read_text().splitlines() if line and not line.startswith("#")]
    assert said == ["[Service]", "IPAddressDeny=any", "IPAddressAllow=localhost"]
    assert "AF_INET AF_INET6 AF_UNIX" in UNIT.read_text(), "no other family gets past it"
    assert f"`{EGRESS.relative_to(ROOT)}`" in (ROOT / "deployment_guide.md").read_text()
    verify = program("systemd-analyze")
    unit, more = tmp_path / UNIT.name, tmp_path / EGRESS.parent.name
    unit.write_text(re.sub(r"=/srv/\S+", "=/bin/true", UNIT.read_text()).replace("WorkingDirectory=/bin/true", ""))
    more.mkdir()
    (more / EGRESS.name).write_text(EGRESS.read_text().replace("#IPAddressAllow", "IPAddressAllow"))
    told = checked(verify, "verify", "--man=no", str(unit))
    assert "IPAddress" not in told
    assert "Unknown" not in told


def test_systemd_reads_the_socket_that_keeps_requests_over_a_restart(tmp_path: Path) -> None:
    verify = program("systemd-analyze")
    page = (ROOT / "docs" / "upgrading.md").read_text()
    for where, block in re.findall(
        r"^```ini\n# /etc/systemd/system/([\w./]+)(.*?)^```", page, re.MULTILINE | re.DOTALL
    ):
        (tmp_path / where).parent.mkdir(exist_ok=True)
        (tmp_path / where).write_text(f"# {block}")
    unit = tmp_path / UNIT.name
    unit.write_text(re.sub(r"=/srv/\S+", "=/bin/true", UNIT.read_text()).replace("WorkingDirectory=/bin/true", ""))
    told = checked(verify, "verify", "--man=no", str(tmp_path / "latchkey.socket"), str(unit))
    assert "Unknown" not in told
    assert (tmp_path / "latchkey.service.d" / "socket.conf").exists()


def test_the_unit_runs_the_same_commands_for_the_proxy_alone() -> None:
    unit = ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(UNIT)
    service = dict(unit["Service"])
    commands = [service[name].replace("/srv/latchkey/.venv/bin/", "") for name in ("ExecStartPre", "ExecStart")]
    assert commands == [PROCFILE["release"], f"{PROCFILE['web']} --bind 127.0.0.1:8000"]
    given = dict(pair.split("=") for pair in service["Environment"].split())
    assert given.keys() - {"PYTHONDONTWRITEBYTECODE"} <= NAMES
    assert given["TRUSTED_PROXIES"] == "1"


def handed_over(folder: Path, *words: str) -> list[str]:
    """What `latchkey-flask` gives systemd-run for a command. Something in its place says its words: no systemd runs here."""
    (folder / "systemd-run").write_text("#!/bin/sh\nprintf '%s\\0' \"$@\"\n")
    (folder / "systemd-run").chmod(0o755)
    command = ["sh", str(ROOT / "deploy" / "latchkey-flask"), *words]
    given = {"PATH": f"{folder}:{os.environ['PATH']}"}
    return subprocess.run(command, env=given, capture_output=True, text=True, check=True).stdout.split("\0")[:-1]


def test_a_command_runs_with_the_settings_and_in_the_folder_of_the_unit(tmp_path: Path) -> None:
    words = ["create-admin", "--email", "a b@example.com"]
    said, unit = handed_over(tmp_path, *words), UNIT.read_text()
    assert said[-4:] == ["/srv/latchkey/.venv/bin/flask", *words]
    assert {"DynamicUser=yes", "WorkingDirectory=/srv/latchkey", "EnvironmentFile=/etc/latchkey.env"} <= set(said)
    assert [line for p, line in pairwise(said) if p == "-p" and f"\n{line}\n" not in unit] == []
    [environment] = re.findall(r"^Environment=(.*)$", unit, re.MULTILINE)
    assert [line for e, line in pairwise(said) if e == "-E"] == environment.split()


def test_a_command_reaches_the_service_as_it_was_typed_and_is_not_its_description_in_the_journal(
    tmp_path: Path,
) -> None:
    """systemd logs the description, which is the whole command unless one is given, and puts variables into its words
    unless each `$` is doubled (systemd.service, "Command lines").
    """
    words = ["create-admin", "--password", "Pa$word ${HOME} $$ 100% \\n 'x'", "", "-n", "two\nlines\n", "*"]
    said = handed_over(tmp_path, *words)
    command = said.index("/srv/latchkey/.venv/bin/flask")
    assert said[command + 1 :] == [word.replace("$", "$$") for word in words]
    assert "--description=latchkey-flask" in said[:command]


def test_no_migration_is_ended_by_systemd() -> None:
    assert "\nTimeoutStartSec=infinity\n" in UNIT.read_text()


def test_every_host_waits_for_a_stop_that_waits_for_requests_and_for_the_message_under_way() -> None:
    [given] = re.findall(r"^graceful_timeout = (\d+)$", (ROOT / "gunicorn.conf.py").read_text(), re.MULTILINE)
    longest = int(given) + 1  # and the handshakes before it
    assert int(given) >= courier.PATIENCE_S + 10, "requests have some of it to themselves"
    unit = ConfigParser(strict=False, interpolation=None)
    unit.read(UNIT)
    assert int(unit["Service"]["TimeoutStopSec"]) > longest
    pod = manifest("Deployment")["spec"]["template"]["spec"]
    before = int(pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][-1])
    assert pod["terminationGracePeriodSeconds"] > before + longest
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())
    assert int(compose["services"]["web"]["stop_grace_period"].removesuffix("s")) > longest
    assert yaml.safe_load((ROOT / "render.yaml").read_text())["services"][0]["maxShutdownDelaySeconds"] > longest
    for page in ("Dockerfile", "deployment_guide.md"):
        [run] = re.findall(r"docker run .*-p .*", (ROOT / page).read_text())
        assert int(run.split("--stop-timeout ")[1].split()[0]) > longest, page


def test_systemd_starts_the_service_until_its_database_is_there() -> None:
    """Unless told so, it gives up after five tries in 10 seconds: the database may take longer than the host."""
    unit = ConfigParser(strict=False, interpolation=None)
    unit.read(UNIT)
    assert unit["Unit"]["StartLimitIntervalSec"] == "0"
    assert (unit["Service"]["Restart"], unit["Service"]["RestartSec"]) == ("on-failure", "3")


def test_nginx_reads_its_file(tmp_path: Path) -> None:
    nginx = program("nginx")
    key = ["-subj", "/CN=x", "-keyout", str(tmp_path / "privkey.pem"), "-out", str(tmp_path / "fullchain.pem")]
    checked("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", *key)
    text = (ROOT / "deploy" / "nginx.conf").read_text().replace("/etc/letsencrypt/live/auth.example.com", str(tmp_path))
    whole = (
        "pid PLACE/pid; error_log stderr; events { } http { access_log off;\n".replace("PLACE", str(tmp_path))
        + text
        + "}"
    )
    (tmp_path / "nginx.conf").write_text(whole)
    assert "test is successful" in checked(nginx, "-t", "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf"))


def test_nginx_shares_the_paths_of_a_flask_app_between_it_and_the_service(tmp_path: Path) -> None:
    """As the page about moving has it, beside what a server had before."""
    nginx = program("nginx")
    page = (ROOT / "docs" / "moving-from-a-cookie-session-flask-app.md").read_text()
    [text] = re.findall(r"^```nginx\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    port = servers.free_port()
    with answering("app") as app, answering("latchkey") as latchkey:
        had = f"listen 127.0.0.1:{port}; location / {{ proxy_pass http://127.0.0.1:{app}; }}"
        text = text.replace("server {", f"server {{ {had}", 1).replace("127.0.0.1:5000", f"127.0.0.1:{latchkey}")
        text = text.replace("127.0.0.1:8000", f"127.0.0.1:{app}")
        places = "".join(f"{name}_temp_path {tmp_path};" for name in NGINX_KEEPS)
        (tmp_path / "nginx.conf").write_text(
            f"pid {tmp_path}/pid; error_log stderr; daemon off; events {{ }} http {{ access_log off; {places}\n{text}}}"
        )
        process = subprocess.Popen([nginx, "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")])
        try:
            for method, path, who in [
                ("GET", "/login", "app"),
                ("POST", "/login?next=%2Fcart", "latchkey"),
                ("OPTIONS", "/login", "latchkey"),
                ("GET", "/reset-password", "app"),
                ("POST", "/reset-password", "latchkey"),
                ("GET", "/protected", "latchkey"),
                ("POST", "/cart", "app"),
                ("POST", "/login/next", "app"),
                ("POST", "/api/auth/passkeys/options", "latchkey"),
                ("POST", "/api/auth/login", "app"),
            ]:
                body = "{}" * 2_000 if method == "POST" else ""
                headers = {"X-Forwarded-For": "203.0.113.66", "Host": "shop.example.com"}
                got = ask_once_it_answers(method, f"http://127.0.0.1:{port}{path}", headers, body)
                told = {"who": who, "method": method, "path": path, "body": len(body)}
                assert {name: got[name] for name in told} == told
                if who == "latchkey":
                    assert (got["host"], got["forwarded"]) == ("shop.example.com", "127.0.0.1")
            large = requests.post(f"http://127.0.0.1:{port}/login", data="x" * 5_000_000, timeout=20)
            assert large.status_code == 413, "it would be kept on the proxy's disk"
        finally:
            process.terminate()
            process.wait(20)


NGINX_KEEPS = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


def ask_once_it_answers(method: str, url: str, headers: dict[str, str], body: str) -> dict[str, Any]:
    session = requests.Session()
    session.mount("http://", HTTPAdapter(max_retries=Retry(connect=8, backoff_factor=0.05)))
    with session:
        answered: dict[str, Any] = session.request(method, url, headers=headers, data=body, timeout=20).json()
    return answered


@contextlib.contextmanager
def answering(who: str) -> Iterator[int]:
    """A server that answers with its name and what it was asked; its port."""

    def tell(environ: dict[str, Any], start: Any) -> list[bytes]:
        told = {
            "who": who,
            "method": environ["REQUEST_METHOD"],
            "path": environ["RAW_URI"],
            "body": len(environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))),
            "host": environ["HTTP_HOST"],
            "forwarded": environ.get("HTTP_X_FORWARDED_FOR"),
        }
        start("200 OK", [("Content-Type", "application/json")])
        return [json.dumps(told).encode()]

    server = make_server("127.0.0.1", 0, tell, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()


def test_the_secret_of_a_delivery_report_s_path_is_in_no_log_of_nginx() -> None:
    [block] = re.findall(r"location /api/webhooks/ \{(.*?)\}", (ROOT / "deploy" / "nginx.conf").read_text(), re.DOTALL)
    said = [line.strip() for line in block.strip().splitlines()]
    assert said == ["access_log off;", "error_log /dev/null;", "proxy_pass http://127.0.0.1:8000;"]
    assert "proxy_set_header" not in block, "one of its own would take away those of the server"


def test_the_secret_of_a_delivery_report_s_path_is_in_no_log_of_caddy() -> None:
    """Caddy logs every request that it could not pass on, whether or not requests are logged: with its path."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "deploy" / "Caddyfile").read_text(), flags=re.MULTILINE)
    [options] = re.findall(r"\A\{\n(.*?)^\}", text, re.MULTILINE | re.DOTALL)
    assert " ".join(options.split()) == "log { format filter { wrap json fields { request>uri delete } } }"
    assert text.count("log") == 1, "one of the site's own would have a format of its own"


def test_caddy_reads_its_file() -> None:
    caddy = program("caddy")
    checked(caddy, "validate", "--adapter", "caddyfile", "--config", str(ROOT / "deploy" / "Caddyfile"))


@pytest.mark.parametrize("name", ["nginx.conf", "Caddyfile"])
def test_what_a_caller_forwards_does_not_pass_the_proxy(name: str) -> None:
    """nginx sets the header from the connection; Caddy does so by itself, as long as nobody tells it whom to trust."""
    text = (ROOT / "deploy" / name).read_text()
    assert "proxy_add_x_forwarded_for" not in text
    assert "trusted_proxies" not in text
    assert "127.0.0.1:8000" in text


def manifest(kind: str) -> dict[str, Any]:
    [found] = [one for one in MANIFESTS if one["kind"] == kind]
    return found


@pytest.mark.parametrize(("part", "command"), [("containers", None), ("initContainers", PROCFILE["release"].split())])
def test_a_pod_runs_as_the_image_is_meant_to_run_once_the_database_is_up_to_date(
    part: str, command: list[str] | None
) -> None:
    pod = manifest("Deployment")["spec"]["template"]["spec"]
    [container] = pod[part]
    assert container.get("command") == command
    assert container["image"] == pod["containers"][0]["image"]
    assert pod["enableServiceLinks"] is False
    assert "Job" not in [one["kind"] for one in MANIFESTS], "it would be applied beside the pods, and not before them"
    assert (pod["securityContext"]["runAsNonRoot"], pod["securityContext"]["runAsUser"]) == (True, 10001)
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["volumeMounts"] == [{"name": "tmp", "mountPath": "/tmp"}]
    assert [next(iter(source.values()))["name"] for source in container["envFrom"]] == ["latchkey", "latchkey"]


def test_the_parts_of_the_manifests_fit_each_other_and_the_settings() -> None:
    data = manifest("ConfigMap")["data"]
    assert set(data) <= NAMES
    assert all(isinstance(value, str) for value in data.values())
    deployment = manifest("Deployment")["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    selectors = [deployment["selector"]["matchLabels"], manifest("Service")["spec"]["selector"]]
    assert [*selectors, manifest("PodDisruptionBudget")["spec"]["selector"]["matchLabels"]] == [labels] * 3
    [container] = deployment["template"]["spec"]["containers"]
    assert str(container["ports"][0]["containerPort"]) == data["PORT"]
    probes = [container[probe]["httpGet"]["path"] for probe in ("livenessProbe", "readinessProbe")]
    assert probes == ["/health/live", "/health"]
