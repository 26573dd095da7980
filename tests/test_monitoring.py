"""What operators get: figures of real processes, and dashboard, alerts and pages that speak of figures that exist."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import promql_parser
import psutil
import pytest
import requests
import yaml
from flask import Flask

from app import production
from app.cli import port
from app.config import Settings
from app.core.audit import Event
from app.db import engine_options
from app.delivery import tally
from app.web import problems
from tests import lanes
from tests.figures import Scrape
from tests.lanes import CHEAP, SECRETS
from tests.people import Person
from tests.service import Service, running
from tools import servers

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"
PAGE = (ROOT / "docs" / "monitoring.md").read_text()
DASHBOARD = json.loads((DEPLOY / "grafana-dashboard.json").read_text())
RULES = [rule for group in yaml.safe_load((DEPLOY / "alerts.yml").read_text())["groups"] for rule in group["rules"]]
SETTINGS = {
    "environment": "production", "allow_sqlite": "true", "allow_console_delivery": "true", "courier": "worker",
    "argon2_memory_kib": 19_456, "argon2_time_cost": 2, "web_concurrency": 2,
}  # fmt: skip
KEY = {"Authorization": f"Bearer {SECRETS['api_key']}"}
OURS = "latchkey_"


def table(marker: str) -> list[list[str]]:
    """The cells of the table below a marker of the page, without its head."""
    [found] = re.findall(rf"{re.escape(marker)}.*?\n\n((?:\|.*\n)+)", PAGE)
    return [re.split(r"\s*\|\s*", row.strip())[1:-1] for row in found.splitlines()[2:]]


METRICS = {row[0].strip("`"): (row[1], set(re.findall(r"`(\w+)`", row[2]))) for row in table("<!-- metrics:")}


@dataclass
class Running:
    service: Service
    courier: psutil.Popen
    port: int
    log: Path

    def ask(self, path: str = "/metrics", headers: dict[str, str] = KEY, *, courier: bool = False) -> requests.Response:
        base = f"http://127.0.0.1:{self.port}" if courier else self.service.base
        return requests.get(base + path, headers=headers, timeout=10)

    def scrape(self, *, courier: bool = False) -> Scrape:
        answer = self.ask(courier=courier)
        assert answer.status_code == 200
        return Scrape(answer.text)

    def code(self, _channel: str = "", _address: str = "") -> str:
        until(lambda: "OTP for" in self.log.read_text())
        return re.findall(r"^OTP for .*?: (\d+) ", self.log.read_text(), re.MULTILINE)[-1]


def until(look: Callable[[], Any], patience: float = 30) -> Any:
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        with contextlib.suppress(requests.RequestException):
            if found := look():
                return found
        time.sleep(0.05)
    raise AssertionError("it has not come")


@pytest.fixture(scope="module")
def run(worker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Two web workers that send nothing and a courier of its own; somebody has signed up."""
    folder, number = tmp_path_factory.mktemp("monitoring"), servers.free_port()
    log = folder / "courier.log"
    with lanes.database("sqlite", f"monitoring_{worker}") as url:
        lanes.migrate(url)
        with running(url, folder, **SETTINGS) as service, log.open("wb") as out:
            given = {**SECRETS, **CHEAP, **SETTINGS, "database_url": url, "metrics_port": number}
            environment = {
                "PATH": os.environ["PATH"],
                "PYTHONUNBUFFERED": "1",
                **{k.upper(): str(v) for k, v in given.items()},
            }
            courier = psutil.Popen(
                [sys.executable, "-m", "flask", "courier"], cwd=ROOT, env=environment, stdout=out, stderr=out
            )
            found = Running(service, courier, number, log)
            try:
                person = Person(service.api(), found.code)
                person.sign_up()
                until(lambda: found.scrape().total("latchkey_codes_verified_total") == 1)
                yield found
            finally:
                courier.terminate()
                assert courier.wait(20) == 0, log.read_text()


@pytest.fixture(scope="module")
def scrapes(run: Running) -> tuple[Scrape, Scrape]:
    """Of the web processes, and of the courier."""
    run.ask("/health", courier=True)
    return run.scrape(), run.scrape(courier=True)


@pytest.mark.slow
def test_the_page_names_every_metric_with_its_kind_and_labels(scrapes: tuple[Scrape, Scrape]) -> None:
    for scrape in scrapes:
        assert scrape.names() == {name: kind for name, (kind, _) in METRICS.items()}
        for name, (_, labels) in METRICS.items():
            assert scrape.labels(name) == labels, name


@pytest.mark.slow
def test_each_process_counts_what_it_does(scrapes: tuple[Scrape, Scrape]) -> None:
    web, courier = scrapes
    way = {"channel": "email", "provider": "console"}
    assert (web.value("latchkey_codes_sent_total", **way), courier.value("latchkey_codes_sent_total", **way)) == (0, 1)
    assert (
        web.value("latchkey_codes_verified_total", **way),
        courier.value("latchkey_codes_verified_total", **way),
    ) == (1, 0)
    assert courier.value("latchkey_sends_total", outcome="taken", **way) >= 1
    assert web.total("latchkey_events_total", event="signup.completed") == 1
    each = engine_options(Settings(_env_file=None, **SECRETS))["pool_size"]
    assert web.value("latchkey_database_pool_size") in (each, 2 * each), "of each worker that has connected"
    for scrape in scrapes:
        assert scrape.value("latchkey_database_up") == 1
        assert scrape.value("latchkey_outbox_messages", channel="email", state="due") == 0


@pytest.mark.slow
@pytest.mark.covers("asvs 13.4.5")
def test_the_courier_s_port_asks_for_a_key_and_serves_nothing_else(run: Running) -> None:
    for courier in (False, True):
        assert run.ask(headers={}, courier=courier).status_code == 401
        assert run.ask("/health", courier=courier).json()["checks"] == {
            "database": "ok",
            "redis": "not used",
            "courier": "ok",
        }
        assert run.ask("/health/live", courier=courier).status_code == 200
    for path in ("/api/auth/me", "/docs", "/", "/metrics/", "/health/x"):
        answer = run.ask(path, courier=True)
        assert (answer.status_code, answer.content) == (404, b"")


def test_a_port_that_is_taken_ends_the_courier_with_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = Settings(_env_file=None, metrics_port=taken.getsockname()[1], **SECRETS)
        line = f"^METRICS_PORT: cannot listen on {settings.metrics_port} "
        with pytest.raises(click.ClickException, match=line), port.serving(Flask("x"), settings):
            raise AssertionError("it must not run")


def test_the_courier_s_port_serves_beside_a_client_that_drips_and_lets_go_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(port, "PATIENCE_S", 2.0)
    settings, app = Settings(_env_file=None, metrics_port=servers.free_port(), **SECRETS), Flask("x")
    app.get("/health/live")(lambda: "alive")
    with port.serving(app, settings), contextlib.ExitStack() as held:
        at, began = ("127.0.0.1", settings.metrics_port), time.monotonic()
        slow = [held.enter_context(socket.create_connection(at, timeout=10)) for _ in range(3)]
        for line in slow:
            line.sendall(b"GET /health/live HTTP/1.1\r\nX: ")
        assert requests.get(f"http://127.0.0.1:{at[1]}/health/live", timeout=1).text == "alive"
        with pytest.raises(OSError):
            while time.monotonic() - began < 8:
                slow[0].sendall(b"x")
                time.sleep(0.1)
        assert time.monotonic() - began < 5


@pytest.mark.slow
def test_a_worker_that_is_killed_takes_nothing_with_it_and_leaves_no_file(run: Running) -> None:
    for _ in range(20):
        run.ask("/api/auth/me", {"Connection": "close"})
    before, [one, *_] = run.scrape(), run.service.workers()
    [folder] = {Path(file.path).parent for file in one.open_files() if file.path.endswith(f"_{one.pid}.db")}
    assert list(folder.glob(f"*_{one.pid}.db"))
    one.kill()
    until(lambda: not list(folder.glob(f"*_{one.pid}.db")) and len(run.service.workers()) == 2)
    run.service.wait()
    after = run.scrape()
    assert list(folder.glob("*_ended.db"))
    asked = {"route": "/api/auth/me", "status": "401"}
    assert after.total("latchkey_requests_total", **asked) == before.total("latchkey_requests_total", **asked) == 20
    for name, (kind, _) in METRICS.items():
        sample = name + ("_count" if kind == "histogram" else "")
        if kind != "gauge":
            assert after.total(sample) >= before.total(sample), name


@pytest.mark.slow
def test_the_log_has_the_fields_of_the_page(run: Running) -> None:
    run.ask(headers={})
    text = run.service.log.read_text() + run.log.read_text()
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    fields = {row[0].strip("`") for row in table("<!-- fields:")} - {"exception", "cause"}
    told = set().union(*lines)
    assert fields <= told
    assert {
        name
        for line in lines
        for name in line
        if line["logger"] in ("latchkey.request", "latchkey.courier", "latchkey.work")
    } <= fields
    [queued] = [line for line in lines if line["message"] == "message is queued" and line["kind"] == "code.signup"]
    assert [line["message"] for line in lines if line.get("message_id") == queued["message_id"]] == [
        "message is queued",
        "message is sent",
    ]
    assert any(line["message"] == "request" and line["request_id"] == queued["request_id"] for line in lines)


@pytest.mark.slow
def test_the_commands_of_the_page_work(run: Running) -> None:
    curl, install = re.findall(r"^```sh\n(.*?)\n```", PAGE, re.MULTILINE | re.DOTALL)
    here = curl.replace("http://127.0.0.1:5000", run.service.base)
    done = subprocess.run(
        ["bash", "-c", here],
        env={"PATH": os.environ["PATH"], "API_KEY": SECRETS["api_key"]},
        capture_output=True,
        text=True,
    )
    assert f"{OURS}info{{" in done.stdout
    assert f"run: {install}" == production.INSTALL
    assert (ROOT / install.split()[-1]).exists()


def expressions() -> list[tuple[str, str]]:
    """Every expression of dashboard and rules, with where it stands."""
    panels = [(panel["title"], target["expr"]) for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]
    given = [*panels, *((rule["alert"], rule["expr"]) for rule in RULES)]
    return [(where, text.replace("$__rate_interval", "5m").replace("$instance", ".*")) for where, text in given]


def selectors(text: str) -> list[Any]:
    """The selectors of an expression. Raises ValueError for one that Prometheus would not take."""
    found: list[Any] = []

    def visit(node: Any) -> None:
        selector = getattr(node, "vector_selector", node)
        if isinstance(selector, promql_parser.VectorSelector) and selector not in found:
            found.append(selector)

    promql_parser.walk(promql_parser.parse(text), visit)
    return found


def grouped(text: str) -> set[str]:
    return {name for names in re.findall(r"\bby \(([^)]*)\)", text) for name in re.split(r",\s*", names)}


FROM_PROMETHEUS = {"instance", "job"}  # labels that a scrape adds


@pytest.mark.parametrize(
    ("where", "text"), expressions(), ids=[f"{n}-{where}" for n, (where, _) in enumerate(expressions())]
)
def test_every_expression_asks_for_what_is_there(where: str, text: str) -> None:
    used = selectors(text)
    assert used
    known: set[str] = set(FROM_PROMETHEUS)
    for selector in used:
        if selector.name == "up":
            continue
        name = re.sub(r"_(bucket|sum|count)$", "", selector.name)
        kind, labels = METRICS[name if name in METRICS and METRICS[name][0] == "histogram" else selector.name]
        assert (kind == "histogram") == (name != selector.name), "a histogram is asked for by its parts"
        matched = {matcher.name: matcher.value for matcher in selector.matchers.matchers}
        known |= labels | ({"le"} if selector.name.endswith("_bucket") else set())
        assert set(matched) <= labels | FROM_PROMETHEUS, selector.name
        assert "code" not in matched or matched["code"] in {r.code for r in problems.STATUS} | {problems.FAULT}
        assert "event" not in matched or set(matched["event"].split("|")) <= set(Event)
        assert "why" not in matched or set(matched["why"].split("|")) <= set(tally.WHYS)
        rises = kind in ("counter", "histogram")
        assert not rises or re.search(rf"(rate|increase)\({selector.name}", text), (
            "of what only rises the rise is asked"
        )
    assert grouped(text) <= known


def test_the_page_says_of_each_why_whether_an_alert_is_raised_and_the_rule_does_so() -> None:
    rows = {row[0].strip("`"): row[1] for row in table("<!-- whys:")}
    assert tuple(rows) == tally.WHYS
    [rule] = [rule["expr"] for rule in RULES if rule["alert"] == "LatchkeyMessagesDropped"]
    for said, group in zip(("always", "if none goes"), re.findall(r'why=~"(.*?)"', rule), strict=True):
        assert {why for why, alert in rows.items() if alert == said} == set(group.split("|"))
    assert set(rows.values()) == {"always", "if none goes", "no"}


def test_every_metric_is_on_the_dashboard() -> None:
    shown = " ".join(text for _, text in expressions())
    assert [name for name in METRICS if name not in shown] == []


def test_every_alert_is_on_the_page_with_its_level_and_tells_what_is_wrong() -> None:
    rows = {row[0].strip("`"): row for row in table("what is usual with you.")}
    assert list(rows) == [rule["alert"] for rule in RULES]
    for rule in RULES:
        assert rows[rule["alert"]][1] == rule["labels"]["severity"]
        assert len(rows[rule["alert"]][2]) > 30
        assert rule["annotations"]["summary"]
        labels = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
        assert labels <= grouped(rule["expr"]) | ({"instance"} if "up{" in rule["expr"] else set())


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed: apt-get install prometheus")
def test_prometheus_takes_configuration_and_rules_and_each_alert_fires_when_it_should() -> None:
    for words in (
        ("check", "config", "--syntax-only", "prometheus.yml"),
        ("check", "rules", "alerts.yml"),
        ("test", "rules", "alerts.test.yml"),
    ):
        done = subprocess.run(["promtool", *words], cwd=DEPLOY, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_has_a_case_in_which_it_fires() -> None:
    cases = yaml.safe_load((DEPLOY / "alerts.test.yml").read_text())["tests"]
    firing = {case["alertname"] for each in cases for case in each["alert_rule_test"] if case.get("exp_alerts")}
    assert firing == {rule["alert"] for rule in RULES}


def test_prometheus_is_told_of_the_rules_and_of_both_kinds_of_process() -> None:
    config = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())
    assert [(DEPLOY / name).exists() for name in config["rule_files"]] == [True]
    jobs = {job["job_name"] for job in config["scrape_configs"]}
    assert jobs == {"latchkey", "latchkey-courier"}
    assert all(re.fullmatch("latchkey.*", job) for job in jobs), "as LatchkeyDown asks"


def test_whoever_sets_prometheus_up_reads_which_key_tells_that_the_database_is_away() -> None:
    assert "latchkey-key # API_KEY\n" in (DEPLOY / "prometheus.yml").read_text()
    rows = {row[0].strip("`"): row[2] for row in table("what is usual with you.")}
    assert all("`API_KEY`" in rows[name] for name in ("LatchkeyDatabaseAway", "LatchkeyDown"))
    assert "database" in rows["LatchkeyDown"]


def test_the_dashboard_has_the_form_that_grafana_imports() -> None:
    assert {"uid", "title", "schemaVersion", "panels", "templating", "time"} <= set(DASHBOARD)
    assert "id" not in DASHBOARD, "a number of another Grafana would clash"
    variables = {variable["name"]: variable["type"] for variable in DASHBOARD["templating"]["list"]}
    assert variables == {"datasource": "datasource", "instance": "query"}
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) > 15
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not taken & cells, panel["title"]
        taken |= cells
        assert panel["type"] in ("row", "stat", "timeseries")
        if panel["type"] != "row":
            assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
            assert [target["refId"] for target in panel["targets"]] == list("ABC"[: len(panel["targets"])])
            assert all(target["datasource"] == panel["datasource"] for target in panel["targets"])
            assert panel["fieldConfig"]["defaults"]["unit"]
