"""The service as production runs it: gunicorn, several workers, its own log lines."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
import requests

from tests import lanes
from tests.service import Service, at_once, running

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
