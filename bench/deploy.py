"""A real build as a platform makes it, nothing lent: how long it takes, how big it is, and what the fast Argon2 gains.

The build, pre-deploy and start commands are those of render.yaml, in a clean checkout with a fresh environment.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import requests
import yaml

from bench.report import Report
from tests import lanes
from tests.deploy import blueprint
from tests.deploy.checkout import Checkout, clean_checkout, fresh_venv
from tests.deploy.test_render import PROMPTED
from tools import servers

LIMIT_MIB = 512  # Render's two smallest plans
HASHES = """
import sys, time
from argon2.low_level import Type, hash_secret
begun, done = time.process_time(), 0
while time.process_time() - begun < float(sys.argv[1]):
    hash_secret(b"correct horse 7", b"0123456789abcdef", 2, 19_456, 1, 32, Type.ID)
    done += 1
print(done / (time.process_time() - begun))
"""


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, help="CPU seconds of hashes in a block (5; short: 1)")


def run(given: argparse.Namespace) -> Report:
    given.seconds = given.seconds or (1 if given.short else 5)
    lanes.look_for_servers()
    report = Report()
    with tempfile.TemporaryDirectory(prefix="latchkey-deploy-") as place:
        made = Checkout(clean_checkout(Path(place)), Path(place, "checkout", ".venv"))
        document = yaml.safe_load((made.folder / "render.yaml").read_text())
        [web] = [service for service in document["services"] if service["type"] == "web"]
        report.tables["render.yaml's own commands"] = [_build(made, web), *_serve(made, web, document, report)]
        _compare(made, given, report)
    return report


def _build(made: Checkout, web: dict[str, Any]) -> dict[str, Any]:
    begun = time.monotonic()
    fresh_venv(made.venv, lent=False)
    made.run(web["buildCommand"], {"CI": "true"})
    size = sum(path.stat().st_size for path in made.venv.rglob("*") if path.is_file() and not path.is_symlink())
    return {"step": "environment and build", "s": time.monotonic() - begun, "MiB": size / 2**20}


def _serve(made: Checkout, web: dict[str, Any], document: dict[str, Any], report: Report) -> list[dict[str, Any]]:
    """Pre-deploy and start on an empty PostgreSQL; memory is PSS of all processes, idle."""
    rows = []
    redis = lanes.available()["redis"] or "redis://127.0.0.1:1/0"
    with lanes.database("postgresql", "bench_deploy") as url:
        stores = {"latchkey-db": url.replace("postgresql+psycopg2://", "postgres://"), "latchkey-limits": redis}
        given = blueprint.environment(document, PROMPTED, stores) | {"PORT": str(servers.free_port())}
        begun = time.monotonic()
        made.run(web["preDeployCommand"], given)
        rows.append({"step": "pre-deploy", "s": time.monotonic() - begun})
        for workers in ("1", "2"):
            begun = time.monotonic()
            with made.started(web["startCommand"], given | {"WEB_CONCURRENCY": workers}) as service:
                rows.append({"step": f"start to first answer, {workers} worker(s)", "s": time.monotonic() - begun})
                answer = requests.get(service.base + web["healthCheckPath"], timeout=10)
                report.check(f"{web['healthCheckPath']}, {workers} worker(s)", answer.status_code, "200", answer.ok)
                rows[-1]["MiB"] = pss = _pss(service.process.pid)
                report.check(f"MiB idle, {workers} worker(s)", round(pss), f"below {LIMIT_MIB}", pss < LIMIT_MIB)
    return rows


def _pss(pid: int) -> float:
    master = psutil.Process(pid)
    return sum(p.memory_full_info().pss for p in (master, *master.children(recursive=True))) / 2**20


def _compare(made: Checkout, given: argparse.Namespace, report: Report) -> None:
    """Hashes a CPU second with the wheel, and with tools/fast_argon2.sh in a second environment; blocks in turn."""
    fast = made.folder.parent / "fast"
    fresh_venv(fast, lent=False)
    python = fast / "bin" / "python"
    made.run(f"{python} -m pip install --quiet --require-hashes -r requirements.txt", {})
    made.run(f"tools/fast_argon2.sh {python} -m pip", {})
    seen: dict[str, list[float]] = {"wheel": [], "native": []}
    for _ in range(3):
        for name, program in (("wheel", made.venv / "bin" / "python"), ("native", python)):
            words = [str(program), "-c", HASHES, str(given.seconds)]
            seen[name].append(float(subprocess.run(words, capture_output=True, text=True, check=True).stdout))
    rates = {name: statistics.median(values) for name, values in seen.items()}
    report.tables["Argon2id, 19,456 KiB, 2 passes: hashes a CPU second"] = [
        {"build": n, "rate": r} for n, r in rates.items()
    ]
    gain = rates["native"] / rates["wheel"]
    report.check("native against wheel", gain, "at least 1", gain >= 1)
