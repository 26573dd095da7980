"""`flask purge`: rows that nothing needs any more."""

from __future__ import annotations

import json
from functools import partial

import click
from flask.cli import with_appcontext

from app.cli import output
from app.core import retention
from app.delivery import upkeep
from app.work import Kit, run

WITHOUT_END = 2**31


@click.command("purge", cls=output.Command)
@click.option("--dry-run", is_flag=True, help="Count what may go now and delete nothing.")
@click.option("--json", "as_json", is_flag=True, help="The counts as one JSON object.")
@with_appcontext
def command(*, dry_run: bool, as_json: bool) -> None:
    """Delete settled messages, expired challenges and sign-ups, sessions that ended long ago, and counters at rest.

    The service does it by itself, soon after its start and every hour, as RETAIN_OUTBOX_DAYS and RETAIN_SESSIONS_DAYS
    say. Accounts, consents and audit rows stay; see flask audit-purge.
    """
    with output.refusals():
        rows = counted(output.kit()) if dry_run else upkeep.purge(output.kit(), WITHOUT_END)
    if as_json:
        click.echo(json.dumps({"rows": rows, "dry_run": dry_run}))
        return
    for name, count in rows.items():
        click.echo(f"{name:16} {count}")
    click.echo("nothing was deleted" if dry_run else "done")


def counted(kit: Kit) -> dict[str, int]:
    """How many rows of each kind may go now."""
    return {kind.name: run(kit, partial(retention.count, kind=kind), reads=True) for kind in retention.KINDS}
