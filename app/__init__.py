"""Latchkey: sign people in with a password and a one-time code.

`create_app` builds the kit and registers web, CLI and courier. It is the only place where the parts meet.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from importlib import import_module
from typing import Any

from flask import Flask

from app import cli, config, figures, logs, sqlite_file, start
from app.clock import Clock
from app.config import Settings, SettingsError
from app.core import token_keys
from app.crypto.keys import KeyRing
from app.crypto.passwords import Hasher
from app.db import db, engine_options, sessions_of, watch
from app.delivery.courier import Bells, Courier, new_bells, ring
from app.delivery.senders.registry import senders_of
from app.web import cors, headers, inbox, limits, ops, problems, webhooks
from app.web.admin import admin
from app.web.auth import auth
from app.web.browser import browser
from app.web.endpoint import Edge
from app.web.machine import machines
from app.web.mobile import mobile
from app.work import Kit

SURFACES = [auth, mobile, browser, machines, admin]
HASH_QUEUE = 16  # sign-ins that may wait for a hash slot in one process
MOST_PROVEN = 10_000  # right codes that may wait to be counted by provider


def create_app(settings: Settings | None = None, *, migrates: bool = True, **overrides: Any) -> Flask:
    """The application.

    `settings`: instead of the environment's. `overrides`: `senders` by channel, and parts of the kit such as
    `clock` and `hasher`, for tests. Without `settings`, unsafe ones end the process with one line a problem.
    `migrates`: whether `flask db` works on it; a server does without, and without Alembic's memory.
    """
    settings = settings or start.load_or_exit()
    logs.install(settings)
    app = Flask(__name__, static_folder=None, instance_path=str(sqlite_file.INSTANCE))
    app.config.update(
        SQLALCHEMY_DATABASE_URI=settings.db_url,
        SQLALCHEMY_ENGINE_OPTIONS=engine_options(settings),
    )
    app.json.sort_keys = False  # type: ignore[attr-defined]  # of the default provider, not of its base class
    app.url_map.merge_slashes = False  # another spelling of a path is another path: 404, never a redirect
    start.or_exit(partial(_add_database, app, settings))
    if migrates:
        from flask_migrate import Migrate  # noqa: PLC0415 - it brings all of Alembic

        Migrate(app, db, directory=str(config.ROOT / "migrations"))
    senders = overrides.pop("senders", None) or start.or_exit(partial(senders_of, settings))
    tracing = _extras(settings)
    senders = tracing.senders(senders) if tracing else senders
    bells = new_bells()
    kit = _kit(app, settings, bells, overrides)
    courier = Courier(kit, senders, bells, sends=settings.courier == "web")
    app.extensions["courier"] = courier
    _install_web(app, kit, courier)
    if tracing:
        tracing.install(app, kit.writes.kw["bind"])
    cli.install(app)
    return app


def _add_database(app: Flask, settings: Settings) -> None:
    try:
        sqlite_file.make_folder(settings.db_url)
        db.init_app(app)
    except OSError as error:
        told = f"the folder of SQLite, {app.instance_path}, cannot be made: {type(error).__name__}"
        raise SettingsError(f"DATABASE_URL: {told}") from None


def _extras(settings: Settings) -> Any:
    """Import what is optional, where it is set. Returns what traces; None: nothing does."""
    if settings.sentry_dsn.get_secret_value():
        import_module("app.web.sentry").install(settings)
    traced = settings.otel_exporter_otlp_endpoint
    return import_module("app.web.tracing").Tracing(settings) if traced else None


def _kit(app: Flask, settings: Settings, bells: Bells, overrides: dict[str, Any]) -> Kit:
    with app.app_context():
        writes, reads = sessions_of(db.engine)
        watch(db.engine, figures.POOL_SIZE.set, figures.POOL_USED.inc)
    clock = Clock(reads.kw["bind"])
    parts: dict[str, Any] = {
        "settings": settings,
        "clock": clock,
        "agree": clock.agree,
        "writes": writes,
        "reads": reads,
        "keys": KeyRing(_secrets(settings.secret_key, settings.secret_key_previous)),
        "masters": _masters(settings),
        "tokens": start.or_exit(partial(token_keys.ring, settings)),
        "wake": partial(ring, bells),
        "seen": {},
        "seen_keys": {},
        "proven": deque(maxlen=MOST_PROVEN),
        **overrides,
    }
    if "hasher" not in parts:
        parts["hasher"] = start.or_exit(partial(_hasher, settings))
    return Kit(**parts)


def _secrets(first: Any, more: Any) -> list[str]:
    return [secret.get_secret_value() for secret in (first, *more)]


def _masters(settings: Settings) -> KeyRing | None:
    found = [s for s in _secrets(settings.master_secret, settings.master_secret_previous) if s]
    return KeyRing(found) if found else None


def _hasher(settings: Settings) -> Hasher:
    slots = max(1, start.processors() // settings.web_concurrency)
    try:
        return Hasher(
            memory_kib=settings.argon2_memory_kib,
            time_cost=settings.argon2_time_cost,
            slots=slots,
            queue=HASH_QUEUE,
            waited=figures.HASH_WAIT.observe,
        )
    except MemoryError as error:
        raise SettingsError(f"ARGON2_MEMORY_KIB: {error}") from None


def _install_web(app: Flask, kit: Kit, courier: Courier) -> None:
    problems.install(app)
    headers.install(app, kit.settings)
    cors.install(app, kit.settings)
    limiter = start.or_exit(partial(limits.build, app, kit.settings))
    app.extensions["edge"] = edge = Edge(kit)
    for surface in SURFACES:
        surface.install(app, kit, limiter, edge)
    webhooks.install(app, kit, limiter, edge)
    if not kit.settings.production:
        inbox.install(app, kit)
    ops.install(app, kit, limiter, courier, SURFACES)
