"""The `flask` commands of this service."""

from __future__ import annotations

import signal
from typing import Any

from flask import Flask

from app.cli import api_keys, audit, check_config, import_users, keys, port, purge, users
from app.delivery.courier import Courier
from app.start import leave_no_dump


def install(app: Flask) -> None:
    """Register the commands on an app."""
    courier: Courier = app.extensions["courier"]

    @app.cli.command("courier")
    def run_courier() -> None:
        """Send queued messages until stopped. Run it beside the web processes with COURIER=worker.

        With METRICS_PORT its own figures and health are served there.
        """

        def stop(_signal: int, _frame: Any) -> None:
            courier.halt()

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        leave_no_dump()
        courier.sends = True
        with port.serving(app, courier.kit.settings):
            courier.run()

    for command in (
        check_config.command, import_users.command, users.create_admin, users.users, api_keys.group, purge.command,
    ):  # fmt: skip
        app.cli.add_command(command)
    for command in (keys.make_key, keys.public_key, keys.audience_key, keys.rotate_keys):
        app.cli.add_command(command)
    for command in (audit.seal, audit.verify, audit.export, audit.purge):
        app.cli.add_command(command)
