"""`flask check-config`: what is in force, and whose address the service takes for the client's."""

from __future__ import annotations

import click
from flask.cli import with_appcontext

from app.cli import output
from app.config import Settings
from app.delivery import dlt
from app.production import remarks
from app.web import hops


@click.command("check-config", cls=output.Command)
@click.option("--forwarded-for", metavar="HEADER", help="Say which address the service sees for an X-Forwarded-For.")
@with_appcontext
def command(*, forwarded_for: str | None) -> None:
    """Print every setting that is in force, secrets masked. An unsafe one ends with a line that says why.

    What TRUSTED_PROXIES makes of a request, and what may not be meant, goes to stderr.
    """
    settings = output.kit().settings
    for name, value in settings.masked().items():
        click.echo(f"{name}={value}")
    for line in (_rule(settings.trusted_proxies), *remarks(settings), *dlt.remarks(settings)):
        click.echo(line, err=True)
    if forwarded_for is not None:
        click.echo(_seen(settings, hops.split([forwarded_for])), err=True)


def _rule(trusted: int) -> str:
    if not trusted:
        return "The client's address is that of the connection; X-Forwarded-For is ignored (TRUSTED_PROXIES=0)."
    return (
        f"The client's address is entry {trusted} from the right of X-Forwarded-For (TRUSTED_PROXIES={trusted}); "
        "with fewer entries, that of the connection."
    )


def _seen(settings: Settings, given: list[str]) -> str:
    lines = [f"It sees {hops.address(given, '', settings.trusted_proxies) or 'the address of the connection'}."]
    for choice in hops.choices(given, "")[1:]:
        lines.append(f"TRUSTED_PROXIES={choice['trusted_proxies']} would see {choice['address'] or 'no address'}.")
    return "\n".join(lines)
