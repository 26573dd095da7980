"""`flask import-users`: the accounts of another system, from a file."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Set
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import click
from flask.cli import with_appcontext
from sqlalchemy.exc import DBAPIError

from app import work
from app.cli import output
from app.cli.rows import FORMATS, Source, Unreadable
from app.core import imports as core
from app.core.imports import Outcome, Refused, Row
from app.errors import Unavailable
from app.flows import imports
from app.work import Kit

BATCH = 500  # rows in one unit of work
SHOWN = 20  # refusals on the screen; --refused has them all
AGAIN = (
    "People were imported before: say --after FILE, with the file of that run, to pass over whoever stands in it, also "
    "those whose account was deleted or has another address since; or --whole, to make an account of every row that "
    "has none, with the file's password and role, also of those."
)


@dataclass
class Tally:
    """What became of the rows so far."""

    imported: int = 0
    above_user: int = 0
    already_there: int = 0
    passed_over: int = 0
    refused: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    def add(self, outcome: Outcome) -> None:
        self.imported += outcome.imported
        self.above_user += outcome.above_user
        self.already_there += outcome.already_there
        self.passed_over += outcome.passed_over
        self.refused += len(outcome.refused)
        self.reasons.update(each.code for each in outcome.refused)


@click.command("import-users", cls=output.Command)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--format", "chosen", type=click.Choice(["csv", "ndjson"]), help="What FILE is, if not by its name.")
@click.option("--dry-run", is_flag=True, help="Check every row and write nothing.")
@click.option("--refused", type=click.Path(dir_okay=False, path_type=Path), help="Write the refusals here, as NDJSON.")
@click.option(
    "--after",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    multiple=True,
    help="The file of an earlier run: pass over whoever stands in it. May be given several times.",
)
@click.option("--whole", is_flag=True, help="Import all rows in spite of an earlier run, also accounts deleted since.")
@click.option("--ignore-unknown", is_flag=True, help="Leave out columns that are not ours.")
@click.option("--json", "as_json", is_flag=True, help="The summary as one JSON object.")
@click.pass_context
@with_appcontext
def command(
    context: click.Context,
    *,
    file: Path,
    chosen: str | None,
    dry_run: bool,
    refused: Path | None,
    after: tuple[Path, ...],
    whole: bool,
    ignore_unknown: bool,
    as_json: bool,
) -> None:
    """Import accounts from FILE: CSV with a line of column names, or NDJSON.

    Columns: email, phone, username (at least one of them), name, role, password_hash, created_at, language. Addresses
    count as proven. What is there already is left as it is, so after an interruption run the same command again, with
    --whole. For those who came since an earlier run say --after with its file.

    Ends with 0 if nothing was refused, else with 1.
    """
    if not all(each.is_file() for each in (file, *after)):
        raise click.UsageError("FILE must be a file, not a pipe: it is read twice.")
    if refused and refused.exists() and any(refused.samefile(each) for each in (file, *after)):
        raise click.UsageError("--refused would write over FILE.")
    if any(each.samefile(file) for each in after):
        raise click.UsageError("--after is FILE itself. After an interruption say --whole.")
    if after and whole:
        raise click.UsageError("Say --after or --whole, not both.")
    kit = output.kit()
    if not (after or whole) and output.act(core.was_done, reads=True):
        raise click.UsageError(AGAIN)
    if not dry_run:
        output.check_key()
    rows = source(file, chosen, ignore_unknown=ignore_unknown)
    earlier = {mark for each in after for mark in marks(kit, each, chosen)}
    done = run(kit, rows, earlier=earlier, dry_run=dry_run, refused=refused, as_json=as_json)
    context.exit(0 if done else 1)


def source(path: Path, chosen: str | None, *, ignore_unknown: bool) -> Source:
    """The file to read, its columns checked. Ends the command with a usage error for one that cannot be."""
    kind = chosen or FORMATS.get(path.suffix.lower())
    if kind is None:
        raise click.UsageError("What is in the file? Say --format csv or --format ndjson.")
    found = Source(path, kind)
    try:
        found.check(ignore_unknown=ignore_unknown)
    except Unreadable as why:
        raise click.UsageError(str(why)) from None
    return found


def marks(kit: Kit, path: Path, chosen: str | None) -> set[int]:
    """Whoever stands in an earlier file. Ends the command with a usage error for one that names nobody."""
    earlier = source(path, FORMATS.get(path.suffix.lower()) or chosen, ignore_unknown=True)
    region = kit.settings.default_phone_region
    found = {mark for row, _ in earlier.rows() if isinstance(row, Row) for mark in core.marks(row, region)}
    if not found:
        raise click.UsageError(f"--after: nobody stands in {path.name}.")
    return found


def run(kit: Kit, rows: Source, *, earlier: Set[int], dry_run: bool, refused: Path | None, as_json: bool) -> bool:
    """Import a file, tell how far it is on stderr and what became of it on stdout. False if a row was refused.

    `earlier`: whom to pass over. `refused`: a file for the refusals, as NDJSON.
    """
    began, tally = time.monotonic(), Tally()
    with ExitStack() as stack:
        report = stack.enter_context(_opened(refused)) if refused else None
        bar: Any = stack.enter_context(
            click.progressbar(length=rows.path.stat().st_size, label="Importing", file=sys.stderr)
        )
        for outcome, end in outcomes(kit, rows, earlier=earlier, dry_run=dry_run):
            _report(outcome.refused, report, shown=tally.refused)
            tally.add(outcome)
            bar.update(end - bar.pos)
    _sum_up(tally, time.monotonic() - began, dry_run=dry_run, as_json=as_json)
    return not tally.refused


def _opened(refused: Path) -> TextIO:
    try:
        return refused.open("w", encoding="utf-8")
    except OSError as error:
        raise click.FileError(str(refused), error.strerror) from None


def outcomes(kit: Kit, rows: Source, *, earlier: Set[int], dry_run: bool) -> Iterator[tuple[Outcome, int]]:
    """Take the rows, a batch at a time; with each outcome come the bytes read by then."""
    claimed: set[int] = set()
    found = rows.rows()
    while batch := list(islice(found, BATCH)):
        good = [row for row, _ in batch if isinstance(row, Row)]
        story = partial(imports.take, rows=good, claimed=claimed, earlier=earlier, trial=dry_run)
        try:
            outcome = work.run(kit, story, client=output.CLIENT, reads=dry_run)
        except (Unavailable, DBAPIError) as error:
            again = "Run this again, with --whole if without --after: it goes on where it stopped."
            raise click.ClickException(f"{output.away(error)} {again}") from None
        claimed |= outcome.claimed
        outcome.refused += [row for row, _ in batch if isinstance(row, Refused)]
        outcome.refused.sort(key=lambda each: each.line)
        yield outcome, batch[-1][1]


def _report(refused: list[Refused], report: TextIO | None, shown: int) -> None:
    for each in refused:
        if report:
            print(json.dumps(asdict(each)), file=report)
        elif shown < SHOWN:
            click.echo(f"\nline {each.line}: {each.code} {each.field}: {each.message}", err=True)
        elif shown == SHOWN:
            click.echo("\n... --refused FILE writes them all", err=True)
        shown += 1


def _sum_up(tally: Tally, seconds: float, *, dry_run: bool, as_json: bool) -> None:
    rows = tally.imported + tally.already_there + tally.passed_over + tally.refused
    if as_json:
        click.echo(json.dumps({"rows": rows, **vars(tally), "dry_run": dry_run, "seconds": round(seconds, 1)}))
        return
    click.echo(f"{rows} rows in {seconds:.1f} s" + (", nothing written" if dry_run else ""))
    click.echo(f"  {'would be imported' if dry_run else 'imported':18} {tally.imported}")
    click.echo(f"    {'above user':16} {tally.above_user}")
    click.echo(f"  {'already there':18} {tally.already_there}")
    click.echo(f"  {'passed over':18} {tally.passed_over}")
    click.echo(f"  {'refused':18} {tally.refused}")
    for code, count in tally.reasons.most_common():
        click.echo(f"    {code:16} {count}")
