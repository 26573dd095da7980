"""A thousand devices over ten workers: each right code is right once, and MASTER_SECRET changes meanwhile.

Every code is sent twice at about the same moment, so one of the two is right. Then a second service on the same
database takes a new MASTER_SECRET, with the old one in MASTER_SECRET_PREVIOUS; the first goes on, and leaves in the
middle of a round. Usage counts are exact at the end.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import hmac
import json
import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import sqlalchemy as sa

from app.models import Device
from bench.report import Report
from bench.rig import Connection, Rig, rig
from tests import lanes
from tests.service import Service, running

WORKERS, THREADS = 10, 20
STEP_S = 30
NEW_MASTER = "n8ZqWx3RtYv6LpKc1JdGh5SfAaUeOiTrEwQmNb2B7x9"
KEY = lanes.SECRETS["api_key"]


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--devices", type=int, help="how many (1,000; short: 60)")
    parser.add_argument("--rounds", type=int, help="codes of each device before the change, and after it (3; short: 1)")
    parser.add_argument("--database", choices=("sqlite", "postgresql", "mariadb"), help="this one alone")


def run(given: argparse.Namespace) -> Report:
    lanes.look_for_servers()
    given.devices = given.devices or (60 if given.short else 1000)
    given.rounds = given.rounds or (1 if given.short else 3)
    report = Report()
    for database in [given.database] if given.database else lanes.wanted():
        with rig(database, "machines", web_concurrency=WORKERS) as opened, TemporaryDirectory() as folder:
            _one(report, database, opened, Path(folder), given)
    return report


def _one(report: Report, database: str, opened: Rig, folder: Path, given: argparse.Namespace) -> None:
    keys = _registered(opened.service, [f"device-{n}" for n in range(given.devices)])
    told: Counter[str] = Counter()
    for _ in range(given.rounds):
        told += _round(lambda: opened.service, keys)
    rotated = _rotated(opened, folder, keys, given.rounds)
    report.tables[f"{database}, {given.devices} devices, {WORKERS} workers"] = [
        {"phase": "one MASTER_SECRET", "answers": dict(told)},
        {"phase": "while it is changed", "answers": dict(rotated)},
    ]
    right = {"right once": given.devices * given.rounds}
    report.check(f"{database}: pairs of one code", dict(told), "each right once", dict(told) == right)
    report.check(
        f"{database}: while MASTER_SECRET is changed", dict(rotated), "each right once", dict(rotated) == right
    )
    counts = Counter(row[0] for row in opened.rows(sa.select(Device.usage_count)))
    exact = {2 * given.rounds: given.devices}
    report.check(f"{database}: usage_count of the devices", dict(counts), str(exact), dict(counts) == exact)


def _registered(service: Service, names: list[str]) -> dict[str, bytes]:
    """The key of each device."""

    def register(name: str) -> bytes:
        said = _post(service, "/api/v1/devices/register", {"device_id": name, "user_id": "bench"})
        return base64.b64decode(said["data"]["derived_key"])

    with ThreadPoolExecutor(THREADS) as pool:
        return dict(zip(names, pool.map(register, names), strict=True))


def _round(service: Any, keys: dict[str, bytes]) -> Counter[str]:
    """One new code of each device, sent twice at about the same moment, to whatever `service` names then."""
    _next_step()
    names = list(keys)
    random.shuffle(names)

    def pair(name: str) -> str:
        code = _code(keys[name])
        start, valid = threading.Barrier(2), []

        def send() -> None:
            start.wait(60)
            said = _post(service(), "/api/v1/otp/verify", {"device_id": name, "otp": code})
            valid.append(said["data"]["valid"])

        other = threading.Thread(target=send)
        other.start()
        send()
        other.join(60)
        return {1: "right once", 2: "right twice"}.get(sum(valid), "never right")

    with ThreadPoolExecutor(THREADS // 2) as pool:
        return Counter(pool.map(pair, names))


def _rotated(opened: Rig, folder: Path, keys: dict[str, bytes], rounds: int) -> Counter[str]:
    """Rounds over both services, the old one leaving in the middle of the last."""
    masters = {"master_secret": NEW_MASTER, "master_secret_previous": lanes.SECRETS["master_secret"]}
    url = opened.engine.url.render_as_string(hide_password=False)
    given = {**opened.settings, **masters, "web_concurrency": WORKERS}
    with running(url, folder, **given) as after:
        services, told = [opened.service, after], Counter[str]()
        for left in reversed(range(rounds)):
            if not left:
                threading.Timer(0.5, services.remove, (opened.service,)).start()
            told += _round(lambda: random.choice(services), keys)
        opened.service.stop()
        return told


def _next_step() -> None:
    """Wait until a new time step has begun, so that every device has a code that it did not have before."""
    time.sleep(STEP_S - time.time() % STEP_S + 0.1)


def _code(key: bytes) -> str:
    """RFC 6238 once more, so that the service is not held against itself."""
    mac = hmac.digest(key, (int(time.time()) // STEP_S).to_bytes(8), hashlib.sha1)
    value = int.from_bytes(mac[mac[-1] & 15 :][:4]) & 0x7FFFFFFF
    return f"{value % 10**6:06}"


def _post(service: Service, path: str, body: Any) -> dict[str, Any]:
    line = Connection(service.base)
    status, answer = line.post(path, body, Authorization=f"Bearer {KEY}")
    line.close()
    assert status in (200, 201), (path, status, answer)
    found: dict[str, Any] = json.loads(answer)
    return found
