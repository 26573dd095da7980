"""The lanes the suite runs on: each database with one kind of limit storage. One database for each worker."""

from __future__ import annotations

import contextlib
import os
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from flask_migrate import upgrade

from app import create_app
from app.config import Settings
from app.db import Base
from app.store_config import known_driver
from tools import servers

ROOT = Path(__file__).resolve().parent.parent
CHECKOUT = f"{zlib.crc32(str(ROOT).encode()):08x}"  # two checkouts may run their tests at once
SECRETS = {
    "secret_key": "k3yPsWq8Zr1VtYb6NmXc9LdFgHjKoIuTeRwQaSzD2f4",
    "jwt_secret_key": "j7mKp2LxQv9RnTb4WcYz6HsDfGgJkEuIoAaSlZ1X3c5",
    "master_secret": "m4nWq8RtYx2LpZv7BcKd9GhJfSsAeUiOoTrEwQ1N6b3",
    "api_key": "a9bVx5CzLk3JhGf8DsPoIu7YtReWq2MnB4vNx6ZlKj1",
}
CHEAP = {"argon2_memory_kib": 8, "argon2_time_cost": 1}  # a hash in a test proves nothing by being slow


@dataclass(frozen=True)
class Lane:
    name: str
    database_url: str
    redis_url: str | None

    def settings(self, **changes: object) -> Settings:
        """Settings as a test wants them: nothing from the environment or .env but what stands here."""
        given = {"database_url": self.database_url, "redis_url": self.redis_url, **SECRETS, **CHEAP, **changes}
        return Settings(_env_file=None, **given)


def available() -> dict[str, str | None]:
    """Which database and Redis URLs the controller found, as it told its workers."""
    names = ("postgresql", "mariadb", "redis")
    return {name: os.environ.get(f"LATCHKEY_TEST_{name.upper()}") or None for name in names}


def look_for_servers() -> None:
    """Find or start the servers, once, and tell the workers."""
    for name, url in servers.find_all().items():
        os.environ[f"LATCHKEY_TEST_{name.upper()}"] = url or ""


def wanted() -> list[str]:
    """The lanes of this run: those that can be had, or the ones that LANES names."""
    found = available()
    lanes = ["sqlite", *(name for name in ("postgresql", "mariadb") if found[name])]
    asked = os.environ.get("LANES", "").split()
    return [lane for lane in lanes if not asked or lane in asked]


def missing() -> list[str]:
    return [name for name, url in available().items() if not url]


@contextlib.contextmanager
def open_lane(name: str, worker: str) -> Iterator[Lane]:
    """A migrated, empty database of this worker's own. PostgreSQL comes with limits in Redis, the others in memory."""
    found = available()
    with database(name, worker) as url:
        redis = found["redis"] if name == "postgresql" else None
        migrate(url)
        yield Lane(name, url, _redis_of(redis, worker))


def _redis_of(url: str | None, worker: str) -> str | None:
    if url is None:
        return None
    number = int(worker.removeprefix("gw") or 0) if worker.startswith("gw") else 15
    return f"{url.rsplit('/', 1)[0]}/{1 + number % 14}"


@contextlib.contextmanager
def database(name: str, label: str) -> Iterator[str]:
    """An empty database and its URL; gone afterwards."""
    if name == "sqlite":
        folder = "/dev/shm" if Path("/dev/shm").is_dir() else None
        with tempfile.TemporaryDirectory(dir=folder) as path:
            yield f"sqlite:///{path}/{label}.db"
        return
    admin = engine(available()[name] or "", isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    schema = f"latchkey_test_{CHECKOUT}_{label}"
    _drop(admin, schema)
    with admin.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {schema}"))
        if name == "postgresql":
            connection.execute(sa.text(f"ALTER DATABASE {schema} SET synchronous_commit = off"))
    try:
        yield admin.url.set(database=schema).render_as_string(hide_password=False)
    finally:
        _drop(admin, schema)


def engine(url: str, **options: Any) -> sa.Engine:
    """An engine on a database of a lane, by the driver that the service takes for it."""
    parsed = sa.make_url(url)
    return sa.create_engine(parsed.set(drivername=known_driver(parsed.drivername)), **options)


def _drop(admin: sa.Engine, schema: str) -> None:
    force = " WITH (FORCE)" if admin.dialect.name == "postgresql" else ""
    with admin.connect() as connection:
        connection.execute(sa.text(f"DROP DATABASE IF EXISTS {schema}{force}"))


def migrate(url: str, revision: str = "head") -> None:
    """Bring a database to a revision, as `flask db upgrade` does."""
    app = create_app(Settings(_env_file=None, database_url=url, **SECRETS, **CHEAP))
    with app.app_context():
        upgrade(revision=revision)
        app.extensions["sqlalchemy"].engine.dispose()


def empty(engine: sa.Engine) -> None:
    """Delete every row."""
    with engine.begin() as connection:
        for table in reversed(Base.metadata.sorted_tables):
            connection.execute(table.delete())
