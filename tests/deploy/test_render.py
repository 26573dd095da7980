"""render.yaml is a blueprint that Render takes, and its own commands make a service that answers."""

from __future__ import annotations

import copy
import json
import os
import re
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
import sqlalchemy as sa
import yaml

from app.config import Settings
from app.models import User
from app.production import weak
from tests import lanes
from tests.conftest import Lane
from tests.deploy import blueprint
from tests.deploy.checkout import ROOT, Checkout, clean_checkout, fresh_venv
from tests.people import PASSWORD
from tools import servers

GUIDE = (ROOT / "deployment_guide.md").read_text()
FILES = ["render.yaml", "deploy/render-free.yaml"]
PROMPTED = {"RESEND_API_KEY": "re_0123456789", "SENDER_EMAIL": "no-reply@example.com"}


def read(name: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / name).read_text())


def web(document: dict[str, Any]) -> dict[str, Any]:
    [found] = [service for service in document["services"] if service["type"] == "web"]
    return found


@pytest.mark.parametrize("name", FILES)
def test_the_blueprint_keeps_render_s_rules(name: str) -> None:
    assert list(blueprint.problems(read(name))) == []


BREAKS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "an unknown field": lambda d: web(d).update(healthcheckPath="/health"),
    "a path without its slash": lambda d: web(d).update(healthCheckPath="health"),
    "a plan that there is not": lambda d: web(d).update(plan="tiny"),
    "no start command": lambda d: web(d).pop("startCommand"),
    "a shutdown longer than allowed": lambda d: web(d).update(maxShutdownDelaySeconds=301),
    "a pre-deploy command on the free plan": lambda d: web(d).update(plan="free"),
    "a store open to whom it does not say": lambda d: d["services"][1].pop("ipAllowList"),
    "two values for one variable": lambda d: web(d)["envVars"].append({"key": "X", "value": "1", "sync": False}),
    "a variable twice": lambda d: web(d)["envVars"].append({"key": "SECRET_KEY", "generateValue": True}),
    "a database that there is not": lambda d: d["databases"][0].update(name="other"),
    "a group that there is not": lambda d: d["envVarGroups"][0].update(name="other"),
    "a store that there is not": lambda d: d["services"][1].update(name="other"),
    "a prompt in a group": lambda d: d["envVarGroups"][0]["envVars"].append({"key": "X", "sync": False}),
    "another region": lambda d: d["databases"][0].update(region="ohio"),
    "one name for two": lambda d: d["services"][1].update(name="latchkey-db"),
}  # fmt: skip


@pytest.mark.parametrize("what", BREAKS)
def test_each_rule_can_be_broken(what: str) -> None:
    document = copy.deepcopy(read("render.yaml"))
    BREAKS[what](document)
    assert list(blueprint.problems(document)), what


@pytest.mark.parametrize("name", FILES)
def test_no_secret_stands_in_the_blueprint_and_others_can_share_the_key_of_tokens(name: str) -> None:
    document = read(name)
    secret = {n.upper() for n, field in Settings.model_fields.items() if "Secret" in str(field.annotation)}
    hard = [v["key"] for v in web(document)["envVars"] if "value" in v]
    assert not secret & set(hard)
    [group] = document["envVarGroups"]
    assert {"key": "JWT_SECRET_KEY", "generateValue": True} in group["envVars"]
    assert all(v.get("key") != "JWT_SECRET_KEY" for v in web(document)["envVars"])


def test_the_free_blueprint_is_the_other_one_but_for_what_is_free() -> None:
    paid, free = web(read("render.yaml")), web(read("deploy/render-free.yaml"))
    assert free["startCommand"] == f"{paid['preDeployCommand']} && exec {paid['startCommand']}"
    same = ("name", "runtime", "region", "buildCommand", "healthCheckPath", "envVars")
    assert [free[field] for field in same] == [paid[field] for field in same]
    assert free["plan"] == "free"


@pytest.mark.covers("asvs 11.2.3")
def test_the_secrets_that_render_makes_are_strong_enough() -> None:
    made = [b64encode(os.urandom(32)).decode() for _ in range(20_000)]
    assert [secret for secret in made if weak(secret)] == []


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    """HEAD, cloned; the build command ran in an environment of its own."""
    folder = clean_checkout(tmp_path_factory.mktemp("render"))
    made = Checkout(folder, fresh_venv(folder / ".venv", lent=True))
    made.run(web(read_in(made, "render.yaml"))["buildCommand"], {"CI": "true"})
    yield made


def read_in(checkout: Checkout, name: str) -> dict[str, Any]:
    return yaml.safe_load((checkout.folder / name).read_text())


@pytest.fixture
def stores(lane: Lane, worker: str) -> Iterator[dict[str, str]]:
    """Empty ones, with the scheme that hosts hand out."""
    with lanes.database(lane.name, f"render_{worker}") as url:
        yield {
            "latchkey-db": url.replace("postgresql+psycopg2://", "postgres://"),
            "latchkey-limits": lane.redis_url or "redis://127.0.0.1:1/0",
        }


@pytest.mark.slow
@pytest.mark.one_lane("postgresql")
@pytest.mark.parametrize("name", FILES)
def test_its_own_commands_make_a_service_that_answers(
    lane: Lane, checkout: Checkout, stores: dict[str, str], name: str
) -> None:
    if lane.name != "postgresql" or lane.redis_url is None:
        pytest.skip("render.yaml is about PostgreSQL and Redis, and one of them is missing here")
    document = read_in(checkout, name)
    given = blueprint.environment(document, PROMPTED, stores) | {"PORT": str(servers.free_port())}
    assert given["DATABASE_URL"].startswith("postgres://")
    if before := web(document).get("preDeployCommand"):
        checkout.run(before, {k: v for k, v in given.items() if k not in (*blueprint.AT_RUN_ONLY, "PORT")})
    with checkout.started(web(document)["startCommand"], given) as service:
        answer = requests.get(service.base + web(document)["healthCheckPath"], timeout=10)
        assert answer.status_code == 200, answer.text
        assert answer.json() == json.loads(re.findall(r"```json\n(.*?)```", GUIDE, re.DOTALL)[0])
        assert len(psutil.Process(service.process.pid).children()) == int(blueprint.DEFAULTS["WEB_CONCURRENCY"])
        assert requests.get(service.base + "/docs", timeout=10).status_code == 404
        assert first_admin(checkout, name, given) == [("you@example.com", "admin")]
    log = service.log.read_text()
    assert "Traceback" not in log
    assert "GET /health" not in log, "gunicorn wrote its own line for a request"
    assert not list(Path(checkout.folder).glob("instance/*.db"))


def first_admin(checkout: Checkout, name: str, given: dict[str, str]) -> list[tuple[str, str]]:
    """As the guide says: in the service's shell, or where there is none from somebody's own machine."""
    [shell] = re.findall(r"^ *(flask create-admin .*)$", GUIDE, re.MULTILINE)
    [own] = re.findall(r"^(\(read -rsp .*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
    if name == "render.yaml":
        checkout.run(shell, given, typed=f"{PASSWORD}\n{PASSWORD}\n")
        assert not (checkout.folder / ".env").exists()
    else:
        typed = [given["DATABASE_URL"], given["SECRET_KEY"], PASSWORD, PASSWORD]
        checkout.run(own, {}, typed="".join(f"{line}\n" for line in typed))
    engine = sa.create_engine(given["DATABASE_URL"].replace("postgres://", "postgresql+psycopg2://"))
    with engine.connect() as connection:
        found = [tuple(row) for row in connection.execute(sa.select(User.email, User.role))]
    engine.dispose()
    return found
