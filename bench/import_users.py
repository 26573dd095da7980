"""A hundred thousand accounts from a CSV file: how long `flask import-users` takes, and how much memory, at most.

On each database that can be had: a trial, the import, and the import again. Every tenth hash is of another format.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any

import argon2
import bcrypt
from werkzeug.security import generate_password_hash

from bench.report import Report
from bench.rig import PASSWORD
from tests import lanes
from tests.lanes import SECRETS

ROOT = Path(__file__).resolve().parent.parent
MOST_SECONDS, MOST_MIB = 60, 200
COLUMNS = ["email", "phone", "username", "name", "role", "password_hash", "created_at"]
RUNS = {"trial": ["--dry-run"], "import": [], "again": ["--whole"]}


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rows", type=int, help="of the file (100,000; short: 10,000)")
    parser.add_argument("--database", choices=("sqlite", "postgresql", "mariadb"), help="this one alone")


def run(given: argparse.Namespace) -> Report:
    lanes.look_for_servers()
    given.rows = given.rows or (10_000 if given.short else 100_000)
    report = Report()
    with TemporaryDirectory() as folder:
        file = Path(folder, "users.csv")
        write(file, given.rows)
        for database in [given.database] if given.database else lanes.wanted():
            title = f"{database}, {given.rows} rows, {file.stat().st_size / 2**20:.1f} MiB"
            report.tables[title] = list(measure(report, database, file, given.rows))
    return report


def write(file: Path, rows: int) -> None:
    """Everybody with an e-mail address, a number and a username."""
    common = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    others = [
        generate_password_hash(PASSWORD, "pbkdf2:sha256:1000"),
        generate_password_hash(PASSWORD, "scrypt:1024:8:1"),
        argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD),
    ]
    rare = itertools.cycle(others)
    with file.open("w", newline="") as out:
        table = csv.writer(out)
        table.writerow(COLUMNS)
        for n in range(rows):
            who = [f"Person{n}@example.com", f"+91 98{n * 10_007 % 10**8:08d}", f"person.{n}", f"Person {n}", "user"]
            made = f"2024-05-{1 + n % 28:02d}T09:{n % 60:02d}:00+05:30"
            table.writerow([*who, common if n % 10 else next(rare), made])


def measure(report: Report, database: str, file: Path, rows: int) -> Any:
    """A row of figures for each run; the bounds are checked for the one that writes."""
    with lanes.database(database, "bench_import") as url:
        lanes.migrate(url)
        for name, options in RUNS.items():
            took, mib, summary = once(url, file, options)
            counts = {key: summary[key] for key in ("imported", "already_there", "refused")}
            yield {"run": name, "s": took, "peak MiB": mib, **counts}
            right = (
                {"imported": 0, "already_there": rows} if name == "again" else {"imported": rows, "already_there": 0}
            )
            report.check(f"{database}: {name}, what was done", counts, "every row", counts == {**right, "refused": 0})
            if name == "import":
                report.check(f"{database}: seconds", took, f"< {MOST_SECONDS}", took < MOST_SECONDS)
                report.check(f"{database}: peak MiB", mib, f"< {MOST_MIB}", mib < MOST_MIB)


def once(url: str, file: Path, options: list[str]) -> tuple[float, float, dict[str, Any]]:
    """Seconds from start to end of the process, the most memory it had, and what it says."""
    environment = {**os.environ, **{name.upper(): value for name, value in SECRETS.items()}, "DATABASE_URL": url}
    with TemporaryFile() as errors:
        began = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", "flask", "import-users", str(file), "--json", *options],
            cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=errors,
        )  # fmt: skip
        assert process.stdout is not None
        with process.stdout:
            said = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        took = time.monotonic() - began
        errors.seek(0)
        assert process.returncode == 0, errors.read().decode()
    return took, used.ru_maxrss / 1024, json.loads(said)
