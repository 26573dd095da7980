"""`flask create-admin` and `flask users`: the first admin, and people from the command line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

import click
from flask.cli import with_appcontext

from app.cli import output
from app.cli.output import AS_JSON
from app.core import accounts, credentials, identifiers, lockout, locks, people, roles
from app.core.identifiers import Identifier, Kind
from app.core.people import Search, Status
from app.errors import NotFound, ValidationFailed
from app.flows import administration
from app.flows.administration import NewUser
from app.models import User
from app.web import present
from app.work import Kit, Work, in_batches, run

COLUMNS = ("id", "role", "status", "email", "phone", "username", "name", "created_at")
WHO = click.argument("who")

users = output.Group(
    "users", help="Find people, lock, unlock and sign them out, take lost factors from them, give them another role."
)


@click.command("create-admin", cls=output.Command)
@click.option("--email", prompt="E-mail", help="The address with which the admin signs in.")
@click.option("--name", callback=output.as_name, help="For people to read.")
@click.option("--password", help="Asked for if it is not given here, where others may read it.")
@AS_JSON
@with_appcontext
def create_admin(*, email: str, name: str | None, password: str | None, as_json: bool) -> None:
    """Make an admin: a new account, or one that is there already and keeps its password.

    A new one needs a password. Its address counts as proven, so nothing is sent. An existing account gets the role
    `admin` and is signed out everywhere; one that is locked or disabled is refused, for it could not sign in.
    """
    address = output.act(lambda _: identifiers.email(email), reads=True)
    known = output.act(lambda work: accounts.by_identifier(work, address), reads=True)
    if known is None and password is None:
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    row = output.act(lambda work: _described(work, _made_admin(work, address, name, password)))
    if known and (name or password):
        click.echo("The account was there: its name and password stay as they are.", err=True)
    output.show_one(row, as_json=as_json)


def _made_admin(work: Work, address: Identifier, name: str | None, password: str | None) -> User:
    known = accounts.by_identifier(work, address)
    if known:
        if not locks.may_enter(known, work.now):
            raise click.ClickException(f"{known.email} {_kept_out(known)}; then make an admin of them.")
        return administration.change(work, known.id, {"role": roles.ADMIN})
    new = NewUser([address], name=name, role=roles.ADMIN, password=password)
    return administration.create(work, new)[0]


def _kept_out(user: User) -> str:
    if user.disabled_at is None:
        return f"is locked and could not sign in. First run: flask users unlock {user.email}"
    enable = f'PATCH /api/admin/users/{user.id} with {{"disabled": false}}'
    return f"is disabled and could not sign in. First have another admin send {enable}"


@users.command("list")
@click.argument("query", required=False)
@click.option("--role", help="Only who has this role.")
@click.option("--status", type=click.Choice([status.value for status in Status]), help="Only who is in this state.")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="At most so many.")
@AS_JSON
def list_users(*, query: str | None, role: str | None, status: str | None, limit: int, as_json: bool) -> None:
    """People, newest first. QUERY is how a name, an address or a username begins."""
    search = Search(query, role, Status(status) if status else None)
    rows = output.act(
        lambda work: [_described(work, user) for user in people.page(work, search, limit, None)], reads=True
    )
    output.show(rows, COLUMNS, as_json=as_json)


@users.command("show")
@WHO
@AS_JSON
def show(*, who: str, as_json: bool) -> None:
    """One person. WHO is an id, an e-mail address, a phone number or a username."""
    output.show_one(output.act(lambda work: _described(work, _found(work, who)), reads=True), as_json=as_json)


@users.command("lock")
@WHO
@click.option("--hours", type=click.IntRange(1, 8784), help="For so long; without, until it is lifted.")
@AS_JSON
def lock(*, who: str, hours: int | None, as_json: bool) -> None:
    """Keep somebody out and end every session of theirs at once."""

    def story(work: Work) -> dict[str, Any]:
        until = work.now + timedelta(hours=hours) if hours else None
        return _described(work, administration.lock(work, _found(work, who).id, until))

    output.show_one(output.act(story), as_json=as_json)


@users.command("unlock")
@WHO
@AS_JSON
def unlock(*, who: str, as_json: bool) -> None:
    """Lift the lock of administration and what wrong guesses have locked, and give a day of messages back."""
    row = output.act(lambda work: _described(work, administration.unlock(work, _found(work, who).id)))
    output.show_one(row, as_json=as_json)


@users.command("sign-out")
@click.argument("who", required=False)
@click.option("--everyone", "of_all", is_flag=True, help="All who have any of these, in place of WHO.")
@AS_JSON
def sign_out(*, who: str | None, of_all: bool, as_json: bool) -> None:
    """End every session of somebody, with what was begun for them and every remembered device.

    With --everyone after a backup was restored, or a copy of the database or a key got out; it goes on beside the
    service, and can be stopped and begun again.
    """
    if bool(who) == of_all:
        raise click.UsageError("Name somebody, or say --everyone.")
    if who:
        ended = [output.act(lambda work: administration.revoke_sessions(work, _found(work, who).id))]
    else:
        output.check_key()
        with output.refusals():
            ended = list(_everyone_signed_out(output.kit()))
    output.show_one({"people": len(ended), "sessions_ended": sum(ended)}, as_json=as_json)


def _everyone_signed_out(kit: Kit) -> Iterator[int]:
    """For each person how many sessions ended. A unit of work each, so what was done stays done if it is stopped."""
    for batch in in_batches(kit, credentials.with_something_begun):
        for user_id in batch:
            with suppress(NotFound):  # erased before their turn
                yield run(kit, partial(administration.revoke_sessions, user_id=user_id), client=output.CLIENT)


@users.command("reset-mfa")
@WHO
@AS_JSON
def reset_mfa(*, who: str, as_json: bool) -> None:
    """Take every authenticator app, passkey and backup code from somebody who lost them."""
    row = output.act(lambda work: _described(work, administration.reset_mfa(work, _found(work, who).id)))
    output.show_one(row, as_json=as_json)


@users.command("set-role")
@WHO
@click.argument("role")
@AS_JSON
def set_role(*, who: str, role: str, as_json: bool) -> None:
    """Give somebody another role; whoever is signed in with the old one is signed out."""
    row = output.act(lambda work: _described(work, administration.change(work, _found(work, who).id, {"role": role})))
    output.show_one(row, as_json=as_json)


def _found(work: Work, who: str) -> User:
    """Somebody by id or identifier. Ends the command if that is nobody."""
    user = accounts.by_id(work, UUID(who)) if _is_id(who) else accounts.by_identifier(work, _identifier(work, who))
    if user is None:
        raise click.ClickException(f"{NotFound.code}: nobody has the id, address, number or username {who!r}")
    return user


def _is_id(who: str) -> bool:
    """True for an id as it is printed. 32 digits without dashes may be a username, and somebody else's."""
    try:
        return str(UUID(who)) == who.lower()
    except ValueError:
        return False


def _identifier(work: Work, who: str) -> Identifier:
    try:
        return identifiers.parse(who, work.settings.default_phone_region)
    except ValidationFailed:
        return Identifier(Kind.USERNAME, who)  # which nobody has


def _described(work: Work, user: User) -> dict[str, Any]:
    locked = {"locked_until": user.locked_until, "guesses_locked_until": lockout.locked_until(work, user)}
    status = people.status(user, work.now).value
    return {**present.user(user), "status": status, **{name: present.maybe(at) for name, at in locked.items()}}
