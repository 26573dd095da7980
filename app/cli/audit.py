"""`flask audit-...`: seal the audit log, verify it, export it, purge it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from typing import Any

import click
from flask.cli import with_appcontext

from app.cli import output
from app.core import inspection, seals
from app.core.cryptoperiods import Cryptoperiods
from app.core.inspection import Finding, Inspection
from app.core.trail import Filters
from app.delivery import upkeep
from app.flows import records
from app.web import audit_export
from app.work import run

SHOWN = 1000  # findings told one by one; all are counted
WITHOUT_END = 2**31
DAY = click.DateTime(["%Y-%m-%d"])


@click.command("audit-seal", cls=output.Command)
@click.option("--adopt", is_flag=True, help="Sign unsigned rows and seal them too: those that an older version wrote.")
@with_appcontext
def seal(*, adopt: bool) -> None:
    """Seal every audit row that is not sealed yet. The service does it by itself every minute."""
    output.check_key()
    with output.refusals():
        rows = upkeep.seal(output.kit(), WITHOUT_END, adopt=adopt)
        head = seals.head(run(output.kit(), seals.newest, reads=True))
    click.echo(f"{rows} rows sealed; the head is {head}")


def _head(_: click.Context, __: click.Parameter, head: str | None) -> str | None:
    """Raises BadParameter for an empty one: a job whose file of heads is not there must not end well."""
    if head is not None and not head.strip():
        raise click.BadParameter("It is empty.")
    return head


def _keys(places: Iterable[int]) -> list[str]:
    """The ids of keys by their places in SECRET_KEY_PREVIOUS. Raises BadParameter for a place where there is none."""
    ids = output.kit().keys.ids
    if any(place >= len(ids) for place in places):
        raise click.BadParameter("SECRET_KEY_PREVIOUS has no key in that place.", param_hint="--returned")
    return [ids[place] for place in places]


RETURNED = click.option(
    "--returned", multiple=True, type=click.IntRange(1), metavar="PLACE",
    help="The place in SECRET_KEY_PREVIOUS, from 1, of a key that was gone back to for good: it may sign at any time.",
)  # fmt: skip


@click.command("audit-verify", cls=output.Command)
@click.option("--head", callback=_head, help="A head that was printed or logged before: the chain must still hold it.")
@RETURNED
@click.option("--json", "as_json", is_flag=True, help="The outcome as one JSON object.")
@click.pass_context
@with_appcontext
def verify(context: click.Context, *, head: str | None, returned: tuple[int, ...], as_json: bool) -> None:
    """Check every audit row and every seal. Ends with 0 if all is as it was written, else with 1.

    Keep the head that it prints in another place: given back with --head, it shows that nothing was cut off since.
    """
    seen, keys = Inspection(), _keys(returned)
    with output.refusals():
        shown = _findings(seen, head, keys, as_json=as_json)
    if as_json:
        click.echo(json.dumps({**asdict(seen), "ok": not seen.findings, "shown": shown}))
    else:
        _sum_up(seen)
    context.exit(1 if seen.findings else 0)


def _findings(seen: Inspection, head: str | None, keys: list[str], *, as_json: bool) -> list[dict[str, Any]]:
    """Tell every finding as it is found; the first of them come back for the JSON."""
    shown: list[dict[str, Any]] = []
    for finding in inspection.inspect(output.kit(), seen, head, *keys):
        if seen.findings <= SHOWN:
            shown.append(_plain(finding)) if as_json else click.echo(_told(finding))
    return shown


def _plain(finding: Finding) -> dict[str, Any]:
    return {**asdict(finding), "row": str(finding.row) if finding.row else None}


def _told(finding: Finding) -> str:
    seal = f"seal {finding.seal}" if finding.seal is not None else ""
    return f"{', '.join(filter(None, (seal, f'row {finding.row}' if finding.row else '')))}: {finding.what}".lstrip(
        ": "
    )


def _sum_up(seen: Inspection) -> None:
    if seen.findings > SHOWN:
        click.echo(f"... and {seen.findings - SHOWN} more")
    click.echo(f"{seen.rows} rows in {seen.seals} seals, {seen.unsealed} of them not sealed yet")
    click.echo(f"{seen.erased} rows of people who were erased")
    click.echo(f"{seen.adopted} rows in {seen.adopted_seals} seals were adopted: signed later, by order")
    if seen.purged_to:
        click.echo(f"rows up to seal {seen.purged_to} were purged, the last on {seen.purged_at}")
    click.echo(f"head {seen.head}")
    click.echo(f"{seen.findings} findings" if seen.findings else "all is as it was written")


@click.command("audit-purge", cls=output.Command)
@click.option("--before", required=True, type=DAY, help="A day (UTC), today at the latest: older rows go.")
@RETURNED
@click.pass_context
@with_appcontext
def purge(context: click.Context, *, before: datetime, returned: tuple[int, ...]) -> None:
    """Delete the sealed audit rows of whole seals that are older than a day.

    What would go is verified first; if anything is wrong with it, nothing is deleted. The owner of the tables runs it.
    """
    kit, bound, seen = output.kit(), before.replace(tzinfo=UTC), Inspection()
    periods = Cryptoperiods(kit.keys.current, *_keys(returned))
    if bound > kit.clock():
        raise click.BadParameter("That day is still to come.", param_hint="--before")
    output.check_key()
    with output.refusals():
        end = run(kit, partial(seals.last_older, before=bound), reads=True)
        found = list(islice(inspection.chain(kit, seen, end, periods), SHOWN))
    if found:
        for finding in found:
            click.echo(_told(finding))
        click.echo("nothing was deleted: see flask audit-verify")
        context.exit(1)
    rows = 0
    with output.refusals():
        while taken := run(kit, partial(records.purge, before=bound, end=end), client=output.CLIENT):
            rows += taken
    click.echo(f"{rows} rows deleted")


@click.command("audit-export", cls=output.Command)
@click.option("--format", "kind", type=click.Choice([*audit_export.MEDIA]), default="ndjson", show_default=True)
@click.option("--from", "since", type=DAY, help="The first day (UTC).")
@click.option("--to", "until", type=DAY, help="The day before which it ends (UTC).")
@with_appcontext
def export(*, kind: str, since: datetime | None, until: datetime | None) -> None:
    """Write the audit log to stdout, oldest rows first. That it was exported is itself recorded."""
    since, until = (each.replace(tzinfo=UTC) if each else None for each in (since, until))
    kit, which = output.kit(), Filters(since=since, until=until)
    output.check_key()
    with output.refusals():
        fixed = run(kit, partial(records.note_export, which=which, kind=kind), client=output.CLIENT)
        for chunk in audit_export.chunks(kit, fixed, kind):
            click.echo(chunk, nl=False)
