"""`flask api-keys`: the keys of servers, from the command line."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import click

from app.cli import output
from app.cli.output import AS_JSON
from app.core import api_keys
from app.core.api_keys import Scope
from app.flows import keys
from app.web import present
from app.work import Work

COLUMNS = ("id", "prefix", "name", "scopes", "created_at", "expires_at", "revoked_at", "last_used_at")
MOST = 1000

group = output.Group("api-keys", help="List, make and revoke the keys by which servers call.")


@group.command("list")
@AS_JSON
def list_keys(*, as_json: bool) -> None:
    """Every key, newest first, revoked and expired ones too."""
    rows = output.act(lambda work: [present.api_key(row) for row in api_keys.page(work, MOST, None)], reads=True)
    output.show(rows, COLUMNS, as_json=as_json)


@group.command("create")
@click.argument("name", callback=output.as_name)
@click.option("--scope", "scopes", multiple=True, required=True, type=click.Choice([s.value for s in Scope]),
              help="What it may do; can be said more than once.")  # fmt: skip
@click.option("--days", type=click.IntRange(1, 3660), help="It ends after so many days; without, never.")
@AS_JSON
def create(*, name: str, scopes: tuple[str, ...], days: int | None, as_json: bool) -> None:
    """Make a key called NAME. It is printed here and never again; one that cannot be printed is revoked at once."""

    def story(work: Work) -> dict[str, object]:
        until = work.now + timedelta(days=days) if days else None
        row, key = keys.create(work, name, [Scope(scope) for scope in scopes], until)
        return {"key": key, **present.api_key(row)}

    made = output.act(story)
    try:
        output.show_one(made, as_json=as_json)
    except OSError:
        output.act(lambda work: keys.revoke(work, UUID(str(made["id"]))))
        click.echo("The key was not shown, and is revoked.", err=True)
        raise


@group.command("revoke")
@click.argument("key_id", type=click.UUID)
def revoke(*, key_id: UUID) -> None:
    """End the key with this id at once, in every process."""
    output.act(lambda work: keys.revoke(work, key_id))
    click.echo("The key is revoked.")
