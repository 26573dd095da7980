"""The service as production runs it: gunicorn, several workers, its own log lines."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import requests
import sqlalchemy as sa

from app import stopping
from app.models import OutboxMessage
from tests import lanes
from tests.lanes import CHEAP, ROOT, SECRETS
from tests.service import Service, at_once, launch, running
from tests.slow_sender import TAKES_S
from tools import servers

PRODUCTION = {
    "environment": "production",
    "allow_sqlite": "true",
    "allow_console_delivery": "true",
    "metrics_public": "true",
    "argon2_memory_kib": 19_456,
    "argon2_time_cost": 2,
    "web_concurrency": 3,
}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def service(worker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("service")
    with lanes.database("sqlite", f"service_{worker}") as url:
        lanes.migrate(url)
        with running(url, folder, **PRODUCTION) as started:
            yield started


def test_metrics_are_those_of_all_workers(service: Service) -> None:
    at_once(60, lambda _: service.api().get("/api/auth/me"), threads=12)
    text = requests.get(f"{service.base}/metrics", timeout=5).text
    counted = [line for line in text.splitlines() if line.startswith('latchkey_refusals_total{code="token_missing"}')]
    assert [float(line.split()[-1]) for line in counted] == [60.0]
    assert "latchkey_limits_shared 0.0" in text


def test_docs_are_not_served(service: Service) -> None:
    for path in ("/docs", "/redoc", "/openapi.json"):
        assert requests.get(service.base + path, timeout=5).status_code == 404


@pytest.mark.covers("asvs 13.4.6")
def test_no_answer_names_a_version_of_what_it_runs_on(service: Service) -> None:
    for path in ("/health/live", "/nowhere"):
        headers = requests.get(service.base + path, timeout=5).headers
        assert headers.get("Server", "gunicorn") == "gunicorn"
        assert "X-Powered-By" not in headers


@pytest.mark.covers("asvs 16.2.4")
def test_every_line_of_the_log_is_one_json_object(service: Service) -> None:
    """Gunicorn's own lines too, as of a worker that was killed; but for the welcome and the printed codes."""
    service.api().post("/api/auth/signup", {"email": "jane@example.com", "password": "correct horse 7"}).ok()
    service.workers()[0].kill()
    time.sleep(1.5)
    service.wait()
    lines = service.log.read_text().splitlines()
    ours = [line for line in lines if not line.startswith(("Latchkey listens", "Codes appear", "OTP for", "Notice to"))]
    parsed = [json.loads(line) for line in ours]
    assert {"at", "level", "logger", "message"} <= set.intersection(*(set(line) for line in parsed))
    assert any(line["logger"] == "gunicorn.error" for line in parsed)
    assert all("jane@" not in line for line in ours)


def test_a_reload_goes_on_with_the_settings_and_the_figures_of_the_start(tmp_path: Path, worker: str) -> None:
    """As the code of it does: what stands in .env meanwhile counts at the next start, and is refused then if need be."""
    root, temporary = tmp_path / "root", tmp_path / "tmp"
    shutil.copytree(ROOT / "app", root / "app")
    shutil.copy(ROOT / "gunicorn.conf.py", root)
    temporary.mkdir()
    with lanes.database("sqlite", f"reload_{worker}") as url:
        lanes.migrate(url)
        with running(url, tmp_path, root=root, tmpdir=temporary, **PRODUCTION | {"web_concurrency": 2}) as service:
            first = {each.pid for each in service.workers()}
            at_once(20, lambda _: service.api().get("/api/auth/me"), threads=4)
            (root / ".env").write_text("OTP_TTL=9999\n")
            for _ in range(2):
                before = {each.pid for each in service.workers()}
                service.process.send_signal(signal.SIGHUP)
                deadline = time.monotonic() + 60
                while before & {each.pid for each in service.workers()}:
                    assert time.monotonic() < deadline, service.log.read_text()
                    time.sleep(0.1)
                service.wait()
            assert not first & {each.pid for each in service.workers()}
            text = requests.get(f"{service.base}/metrics", timeout=5).text
            counted = [float(line.split()[-1]) for line in text.splitlines() if 'code="token_missing"' in line]
            assert counted == [20.0]
            assert len(list(temporary.glob("latchkey-metrics-*"))) == 1
        assert list(temporary.glob("latchkey-metrics-*")) == []
        refused = launch(url, tmp_path, root=root, **PRODUCTION)
        assert refused.process.wait(60) != 0
        assert "OTP_TTL: " in refused.log.read_text()


def test_the_welcome_names_where_it_listens(tmp_path: Path, worker: str) -> None:
    """Not where it would without a flag of gunicorn's, or without a socket of systemd."""
    port = servers.free_port()
    with lanes.database("sqlite", f"welcome_{worker}") as url, socket.create_server(("127.0.0.1", 0)) as listener:
        lanes.migrate(url)
        bound = launch(url, tmp_path, flags=["--bind", f"127.0.0.1:{port}"], **PRODUCTION)
        given = launch(url, tmp_path, listener=listener, **PRODUCTION)
        try:
            for service, where in ((bound, f"http://127.0.0.1:{port}"), (given, given.base)):
                Service(where, service.process, service.log).wait()
                assert f"Latchkey listens on {where}\n" in service.log.read_text()
        finally:
            bound.stop()
            given.stop()


@pytest.mark.covers("asvs 11.7.2")
@pytest.mark.skipif(resource.getrlimit(resource.RLIMIT_CORE)[1] == 0, reason="this machine allows no dumps anyway")
def test_no_process_leaves_a_copy_of_its_memory_when_it_crashes(tmp_path: Path, worker: str) -> None:
    """Started where the host would have one written."""
    dumps, port = ["prlimit", "--core=unlimited"], servers.free_port()
    with lanes.database("sqlite", f"dumps_{worker}") as url:
        lanes.migrate(url)
        given = {**SECRETS, **CHEAP, "database_url": url, "metrics_port": port}
        environment = {"PATH": os.environ["PATH"], **{name.upper(): str(value) for name, value in given.items()}}
        with (
            (tmp_path / "courier.log").open("wb") as log,
            running(url, tmp_path, under=dumps, web_concurrency=1, courier="worker") as service,
        ):
            courier = subprocess.Popen(
                [*dumps, sys.executable, "-m", "flask", "courier"], cwd=ROOT, env=environment, stdout=log, stderr=log
            )
            try:
                limits = {process.rlimit(psutil.RLIMIT_CORE) for process in service.workers()}
                limits.add(psutil.Process(service.process.pid).rlimit(psutil.RLIMIT_CORE))
                _until_it_listens(courier, port)
                limits.add(psutil.Process(courier.pid).rlimit(psutil.RLIMIT_CORE))
            finally:
                courier.terminate()
                courier.wait(20)
    assert limits == {(0, 0)}


@pytest.mark.parametrize("sends", ["the web process", "flask courier"])
def test_a_process_that_is_told_to_stop_ends_the_send_that_it_has_begun(
    tmp_path: Path, worker: str, sends: str
) -> None:
    """Else the message goes out once more when its lease ends: at every deploy, while a provider is slow."""
    alone = sends == "flask courier"
    log = tmp_path / "courier.log"
    with lanes.database("sqlite", f"stop_{worker}") as url, contextlib.ExitStack() as held:
        lanes.migrate(url)
        slow = {"email_provider": "tests.slow_sender.Slow", "courier": "worker" if alone else "web"}
        service = held.enter_context(running(url, tmp_path, web_concurrency=1, **slow))
        process: subprocess.Popen[bytes] = service.process
        if alone:
            given = {
                name.upper(): str(value) for name, value in {**SECRETS, **CHEAP, **slow, "database_url": url}.items()
            }
            environment = {"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1", **given}
            out = held.enter_context(log.open("wb"))
            command = [sys.executable, "-m", "flask", "courier"]
            process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=out)
            held.callback(process.kill)
        else:
            log = service.log
        service.api().post("/api/auth/signup", {"email": "jane@example.com", "password": "a long horse 42"}).ok()
        _until(lambda: "begun" in log.read_text())
        began = time.monotonic()
        process.terminate()
        assert process.wait(30) == 0
        assert TAKES_S - 2 < time.monotonic() - began < TAKES_S + 6
        engine = sa.create_engine(url)
        with engine.connect() as connection:
            assert connection.execute(sa.select(OutboxMessage.state, OutboxMessage.attempts)).all() == [("sent", 1)]
        engine.dispose()
    assert (log.read_text().count("begun"), log.read_text().count("ended")) == (1, 1)


def test_a_worker_that_is_long_at_its_requests_lets_its_courier_stop_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "LOOK_S", 0.05)
    worker, ended = SimpleNamespace(alive=True), threading.Event()
    stopping.ends_in_time(worker, ended.set, 0.6)  # type: ignore[arg-type]
    assert not ended.wait(0.8), "nobody has told it to stop"
    worker.alive = False
    assert not ended.wait(0.3)
    assert ended.wait(0.3)


def _until(look: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not look():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _until_it_listens(courier: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and courier.poll() is None:
        with suppress(requests.RequestException):
            if requests.get(f"http://127.0.0.1:{port}/health/live", timeout=2).ok:
                return
        time.sleep(0.1)
    raise AssertionError("the courier does not start")
