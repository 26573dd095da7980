"""What commands print: tables for people, `--json` for machines; refusals as one line on stderr and exit code 1."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from typing import Any, TypeVar

import click
from flask import current_app
from flask.cli import AppGroup
from sqlalchemy.exc import DBAPIError

from app.core import seals
from app.core.text import LONGEST_NAME, named
from app.db import cause
from app.errors import Refusal, Unavailable
from app.work import Client, Kit, Work, run

T = TypeVar("T")
CLIENT = Client(user_agent="latchkey command line")
AWAY = "The database cannot be reached or is not migrated."
OTHER_KEY = """\
The audit log of this database was sealed with a SECRET_KEY that no setting has.
Set the service's, or put an earlier one into SECRET_KEY_PREVIOUS. Is it lost, and shall the one that is set sign?"""
AS_JSON = click.option("--json", "as_json", is_flag=True, help="JSON instead of a table.")


class Command(click.Command):
    """A command that tells what it did: where it cannot, it ends with code 1 and the reason on stderr. It does nothing
    at all without a stdout, nor with words that are no text: whoever typed them has other words in mind.
    """

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        rest = super().parse_args(context, args)
        for param in self.params:
            given = context.params.get(param.name or "")  # a path is not asked: a file may have any name
            if isinstance(given, str) and any("\ud800" <= letter <= "\udfff" for letter in given):
                raise click.BadParameter("This is no text in UTF-8.", context, param)
        return rest

    def invoke(self, context: click.Context) -> Any:
        if sys.stdout is None:
            raise click.ClickException("There is no standard output to write to.")
        if isinstance(sys.stdout, TextIOWrapper):  # a letter that it cannot write must not end a command halfway
            sys.stdout.reconfigure(errors="backslashreplace")
        try:
            return super().invoke(context)
        except BrokenPipeError:  # whoever reads has seen enough: click ends with code 1, and says nothing
            raise
        except OSError as error:
            _let_go()
            raise click.ClickException(f"Reading or writing failed: {error.strerror or error}.") from None


def _let_go() -> None:
    """Have what a stdout did not take go nowhere: Python would try again at its end, and end with another code."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Group(AppGroup):
    """Commands under one name."""

    command_class = Command


def kit() -> Kit:
    """What every unit of work of this process shares."""
    found: Kit = current_app.extensions["courier"].kit
    return found


def act(story: Callable[[Work], T], *, reads: bool = False) -> T:
    """Do something as the system itself. A refusal ends the command with code 1 and its reason on stderr."""
    if not reads:
        check_key()
    with refusals():
        return run(kit(), story, client=CLIENT, reads=reads)


def check_key() -> None:
    """Ask, if what the command writes down would be signed with another SECRET_KEY than the service's; without a yes it
    ends with code 1.
    """
    with refusals():
        another = run(kit(), seals.is_of_another_key, reads=True)
    if another:
        click.confirm(OTHER_KEY, abort=True, err=True)


@contextmanager
def refusals() -> Iterator[None]:
    """A refusal in this block, and what the database refuses, ends the command with code 1 and its reason on stderr."""
    try:
        yield
    except (Unavailable, DBAPIError) as error:
        raise click.ClickException(away(error)) from None
    except Refusal as refused:
        details = "; ".join(f"{error['field']}: {error['message']}" for error in refused.extra.get("errors", []))
        raise click.ClickException(f"{refused.code}: {details or refused.message}") from None


def away(error: Unavailable | DBAPIError) -> str:
    """What to say of a database that is away, or lacks a table, or its role a right; with the word of its driver."""
    why = cause(error) if isinstance(error, DBAPIError) else error.extra.get("cause")
    return f"{AWAY} It says: {why}."


def as_name(_context: Any, _option: Any, given: str | None) -> str | None:
    """A name as click hands it over, or a usage error."""
    if given is not None and (given := named(given)) is None:
        raise click.BadParameter(f"1 to {LONGEST_NAME} characters, none of them a control character.")
    return given


def show(rows: Iterable[Mapping[str, object]], columns: Sequence[str], *, as_json: bool) -> None:
    """Print rows: some of their columns as a table, or all of them as a JSON list."""
    given = list(rows)
    if as_json:
        _dump(given)
        return
    lines = [[name.upper() for name in columns], *([_cell(row[name]) for name in columns] for row in given)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def show_one(row: Mapping[str, object], *, as_json: bool) -> None:
    """Print one thing: a line for each of its fields, or one JSON object."""
    if as_json:
        _dump(row)
        return
    width = max(map(len, row))
    for name, value in row.items():
        click.echo(f"{name.ljust(width)}  {_cell(value)}".rstrip())


def _dump(given: Any) -> None:
    click.echo(json.dumps(given, indent=1, ensure_ascii=False))


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return " ".join(map(str, value)) if isinstance(value, list) else "-" if value is None else str(value)
