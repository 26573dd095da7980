"""`flask make-key`, `public-key`, `audience-key`: what signs access tokens; `rotate-keys`: what older keys made."""

from __future__ import annotations

import json
from typing import Any

import click
from flask.cli import with_appcontext

from app.cli import output
from app.config import SettingsError
from app.core import rotation, token_keys
from app.core.rotation import Dependents
from app.crypto import signing
from app.crypto.signing import SHARED
from app.flows import rotation as renewal

ALGORITHMS = click.Choice(["EdDSA", "ES256", "RS256"])


@click.command("make-key", cls=output.Command)
@click.argument("algorithm", type=ALGORITHMS, default="EdDSA")
@with_appcontext
def make_key(*, algorithm: str) -> None:
    """Make a private key that signs access tokens, and print it as settings, each on one line.

    First the public half, which every process has to accept before one of them signs; then the private one.
    """
    made = signing.make(algorithm)
    _print_public(signing.public_pem(signing.private(made)))
    click.echo(f"JWT_ALGORITHM={algorithm}")
    click.echo(f"JWT_PRIVATE_KEY={signing.one_line(made)}")


@click.command("public-key", cls=output.Command)
@with_appcontext
def public_key() -> None:
    """Print the public half of the private key in force, as what goes on accepting its tokens once another signs."""
    settings = output.kit().settings
    if settings.jwt_algorithm == SHARED:
        raise click.ClickException("JWT_ALGORITHM is HS256: there is no private key in force.")
    try:
        _print_public(signing.public_pem(token_keys.private_key(settings)))
    except SettingsError as refused:
        raise click.ClickException(str(refused)) from None


def _print_public(pem: str) -> None:
    click.echo(f"JWT_PREVIOUS_PUBLIC_KEYS={signing.one_line(pem)}")


@click.command("audience-key", cls=output.Command)
@click.argument("name")
@with_appcontext
def audience_key(*, name: str) -> None:
    """Print the secret of the backend NAME, one of JWT_AUDIENCES: what its tokens are signed with.

    A line for each: its key id, what it does, the secret. What `verifies` comes from a secret that is listed in
    JWT_PREVIOUS_SECRET_KEYS: give the backend all of them.
    """
    settings = output.kit().settings
    if name not in settings.jwt_audiences:
        raise click.ClickException("JWT_AUDIENCES does not name it.")
    found = token_keys.of_audience(settings, name)
    if not found:
        raise click.ClickException(f"JWT_ALGORITHM is {settings.jwt_algorithm}: it reads /.well-known/jwks.json.")
    for secret, does in found:
        click.echo(f"{signing.key_id(secret)}  {does:8}  {secret}")


@click.command("rotate-keys", cls=output.Command)
@click.option("--check", is_flag=True, help="Change nothing; only tell what older keys are still needed for.")
@click.option("--json", "as_json", is_flag=True, help="The outcome as one JSON object.")
@click.pass_context
@with_appcontext
def rotate_keys(context: click.Context, *, check: bool, as_json: bool) -> None:
    """Put what is stored under the SECRET_KEY in force, beside a service that runs, and tell what older keys are still
    needed for.

    Run it once every process has the new key. Ends with 1 if the service needs keys of SECRET_KEY_PREVIOUS or
    MASTER_SECRET_PREVIOUS: keep them as they are. Else with 0, also if values are left that no listed key can read.
    """
    kit = output.kit()
    with output.refusals():
        done = {} if check else renewal.renew(kit, output.CLIENT)
        left = list(rotation.dependents(kit))
    needed = any(each.kind.serves and each.listed for each in left)
    if as_json:
        click.echo(json.dumps({"renewed": done, "left": [_plain(each) for each in left], "needed": needed}))
    else:
        _tell(done, left, needed=needed)
    context.exit(1 if needed else 0)


def _tell(done: dict[str, int], left: list[Dependents], *, needed: bool) -> None:
    for name, count in done.items():
        click.echo(f"{name}: {count} renewed")
    for each in left:
        click.echo(f"{each.kind.name}: {each.rows} of {_named(each)}; {_then(each)}")
    lost = any(each.kind.serves and not each.listed for each in left)
    settled = "what was made with keys that no setting has cannot be read" if lost else "the service needs no older key"
    click.echo("older keys are still needed" if needed else settled)


def _plain(each: Dependents) -> dict[str, Any]:
    return {"what": each.kind.name, "key": _named(each), "rows": each.rows, "then": _then(each)}


def _then(each: Dependents) -> str:
    if each.listed or not each.kind.serves:
        return each.kind.then
    setting = each.kind.setting
    there = f"{setting}_PREVIOUS" if rotation.ring_of(output.kit(), each.kind) else setting
    return f"cannot be read until that key is put back into {there}"


def _named(each: Dependents) -> str:
    """Where the settings have a key: `SECRET_KEY_PREVIOUS[1]` is the first of that list."""
    kit = output.kit()
    ring = rotation.ring_of(kit, each.kind)
    if ring is None or not each.listed:
        return f"a key that no setting has ({each.key_id})"
    return f"{each.kind.setting}_PREVIOUS[{ring.ids.index(each.key_id)}]"
