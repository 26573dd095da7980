"""The `flask` commands of this service."""

from __future__ import annotations

import signal
from typing import Any

import click
from flask import Flask

from app.cli import import_users
from app.delivery.courier import Courier


def install(app: Flask) -> None:
    """Register the commands on an app."""
    courier: Courier = app.extensions["courier"]

    @app.cli.command("check-config")
    def check_config() -> None:
        """Print every setting that is in force, secrets masked. An unsafe one ends with a line that says why."""
        for name, value in courier.kit.settings.masked().items():
            click.echo(f"{name}={value}")

    @app.cli.command("courier")
    def run_courier() -> None:
        """Send queued messages until stopped. Run it beside the web processes with COURIER=worker."""

        def stop(_signal: int, _frame: Any) -> None:
            courier.stop(patience=0)

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        courier.sends = True
        courier.run()

    app.cli.add_command(import_users.command)
