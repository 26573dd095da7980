"""People, for administration: find, open, change, lock, delete."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field
from typing_extensions import TypedDict

from app import errors
from app.core import accounts, identifiers, lockout, people
from app.core.api_keys import Scope
from app.core.identifiers import Identifier
from app.core.people import Search, Status
from app.core.roles import Permission
from app.errors import ValidationFailed
from app.flows import administration
from app.flows.administration import NewUser
from app.models import User
from app.web import limits, paging, present
from app.web.admin.surface import admin
from app.web.fields import Body, Channel, Flag, Instant, Name, Password, Typed, Word, example
from app.web.guards import MAY
from app.web.paging import Page
from app.web.present import AskedReply, ChallengeReply, Message, UserReply
from app.work import Work

READ = MAY(Permission.USERS_READ, scope=Scope.USERS)
WRITE = MAY(Permission.USERS_WRITE, recent=True)
LONGEST_LOCK_S = 366 * 86_400
CHANGES = (errors.NotFound, errors.Conflict)


class UsersQuery(Page):
    query: Annotated[
        Typed | None, Field(description="how a name, username, e-mail address or number begins, or an id")
    ] = None
    role: Word | None = None
    status: Status | None = None
    created_after: Instant | None = None
    created_before: Instant | None = None


class NewUserBody(Body):
    model_config = example(email="asha@example.com", name="Asha Rao", role="doctor", invite=True)

    email: Typed | None = None
    phone: Typed | None = None
    username: Typed | None = None
    name: Name | None = None
    role: Word = accounts.DEFAULT_ROLE
    password: Password | None = None
    invite: Flag = False


class UserChangesBody(Body):
    model_config = example(name="Asha Rao-Iyer", disabled=False)

    role: Word | None = None
    name: Name | None = None
    username: Typed | None = None
    disabled: Flag | None = None


class UserRoleBody(Body):
    model_config = example(role="doctor")

    role: Word


class LockBody(Body):
    model_config = example(seconds=3600)

    until: Instant | None = None
    seconds: Annotated[int | None, Field(strict=True, ge=1, le=LONGEST_LOCK_S)] = None


class SendResetBody(Body):
    model_config = example(channel="email")

    channel: Channel | None = None


class PersonReply(UserReply):
    status: str
    has_password: bool
    disabled_at: str | None
    locked_at: str | None
    locked_until: str | None


class OnePersonReply(PersonReply):
    guesses_locked_until: str | None


class PeopleReply(TypedDict):
    items: list[PersonReply]
    next_cursor: str | None


class OpenedReply(OnePersonReply):
    invitation: ChallengeReply | None


class SignedOutReply(Message):
    sessions_ended: int


@admin.add("GET", "/users", query=UsersQuery, reply=PeopleReply, guard=READ, reads=True)
def list_users(work: Work, page: UsersQuery) -> Any:
    """People, newest first. `query` is how a name, a username, an address or a number begins, or a whole id; `locked`
    are those that administration locked."""
    search = Search(page.query, page.role, page.status, page.created_after, page.created_before)
    return paging.answer(
        page, lambda limit, before: people.page(work, search, limit, before), lambda row: person(work, row)
    )


@admin.add("POST", "/users", status=201, body=NewUserBody, reply=OpenedReply, guard=WRITE,
           limit=limits.SENDS, repeatable=True,
           refusals=(errors.UsernameTaken, errors.Conflict, errors.Overloaded))  # fmt: skip
def create_user(work: Work, body: NewUserBody) -> Any:
    """Open an account. Its addresses count as proven by your word. With `invite` the person gets a code with which they
    set a password at `/api/auth/reset-password`, with the `challenge_id` of the answer."""
    user, invitation = administration.create(work, _new(work, body))
    return {**_one(work, user), "invitation": present.challenge(work, invitation) if invitation else None}


@admin.add("GET", "/users/<uuid:user_id>", reply=OnePersonReply, guard=READ, reads=True, refusals=(errors.NotFound,))
def show_user(work: Work, user_id: UUID) -> Any:
    """One person. `guesses_locked_until`: until when too many wrong guesses, whoever made them, keep them out."""
    return _one(work, found(work, user_id))


@admin.add("PATCH", "/users/<uuid:user_id>", body=UserChangesBody, reply=OnePersonReply, guard=WRITE,
           refusals=(*CHANGES, errors.UsernameTaken, errors.LastAdmin))  # fmt: skip
def change_user(work: Work, body: UserChangesBody, user_id: UUID) -> Any:
    """Change role, name, username, or whether the account is disabled. Another role, and being disabled, sign the
    person out everywhere at once."""
    username = identifiers.username(body.username) if body.username else None
    return _one(work, administration.change(work, user_id, {**body.model_dump(), "username": username}))


@admin.add("DELETE", "/users/<uuid:user_id>", reply=Message, guard=WRITE, refusals=(*CHANGES, errors.LastAdmin))
def delete_user(work: Work, user_id: UUID) -> Any:
    """Delete an account with everything that is stored about the person; audit rows stay, without the person."""
    administration.delete(work, user_id)
    return {"message": "The account was deleted."}


@admin.add("PUT", "/users/<uuid:user_id>/role", body=UserRoleBody, reply=OnePersonReply, guard=WRITE,
           refusals=(*CHANGES, errors.LastAdmin))  # fmt: skip
def set_role(work: Work, body: UserRoleBody, user_id: UUID) -> Any:
    """Give somebody another role. Sessions of the old one end at once."""
    return _one(work, administration.change(work, user_id, {"role": body.role}))


@admin.add("POST", "/users/<uuid:user_id>/lock", body=LockBody, reply=OnePersonReply, guard=WRITE,
           refusals=(*CHANGES, errors.LastAdmin))  # fmt: skip
def lock_user(work: Work, body: LockBody, user_id: UUID) -> Any:
    """Keep somebody out: for so many `seconds`, `until` a time, or with neither until it is lifted. Every session ends
    at once; signing in is answered as if there were no such account."""
    return _one(work, administration.lock(work, user_id, _until(work, body)))


@admin.add("POST", "/users/<uuid:user_id>/unlock", reply=OnePersonReply, guard=WRITE, refusals=CHANGES)
def unlock_user(work: Work, user_id: UUID) -> Any:
    """Lift the lock of administration, what wrong guesses have locked, and days of messages that are spent."""
    return _one(work, administration.unlock(work, user_id))


@admin.add("POST", "/users/<uuid:user_id>/revoke-sessions", reply=SignedOutReply, guard=WRITE,
           refusals=(errors.NotFound,))  # fmt: skip
def revoke_user_sessions(work: Work, user_id: UUID) -> Any:
    """Sign somebody out everywhere, at once."""
    ended = administration.revoke_sessions(work, user_id)
    return {"message": "The person is signed out everywhere.", "sessions_ended": ended}


@admin.add("POST", "/users/<uuid:user_id>/reset-mfa", reply=OnePersonReply, guard=WRITE, refusals=(errors.NotFound,))
def reset_user_mfa(work: Work, user_id: UUID) -> Any:
    """Take every authenticator app, passkey and backup code from somebody who lost them, and sign them out everywhere.
    Be sure who asks for it: the next sign-in is proven without them."""
    return _one(work, administration.reset_mfa(work, user_id))


@admin.add("POST", "/users/<uuid:user_id>/send-password-reset", body=SendResetBody, reply=AskedReply, guard=WRITE,
           limit=limits.SENDS, repeatable=True, refusals=CHANGES)  # fmt: skip
def send_password_reset(work: Work, body: SendResetBody, user_id: UUID) -> Any:
    """Send somebody a code with which to set a new password. The old one works until then."""
    challenge = administration.send_reset(work, user_id, body.channel)
    return present.asked(work, challenge, "A code is on its way to the person.")


def found(work: Work, user_id: UUID) -> User:
    """Somebody that a read is about. Raises NotFound."""
    user = accounts.by_id(work, user_id)
    if user is None:
        raise errors.NotFound()
    return user


def person(work: Work, row: User) -> PersonReply:
    """An account as administration sees it."""
    return {
        **present.user(row),
        "status": people.status(row, work.now),
        "has_password": row.password_hash is not None,
        "disabled_at": present.maybe(row.disabled_at),
        "locked_at": present.maybe(row.locked_at),
        "locked_until": present.maybe(row.locked_until),
    }


def _one(work: Work, row: User) -> OnePersonReply:
    return {**person(work, row), "guesses_locked_until": present.maybe(lockout.locked_until(work, row))}


def _new(work: Work, body: NewUserBody) -> NewUser:
    username = identifiers.username(body.username) if body.username else None
    return NewUser(_proven(work, body), username, body.name, body.role, body.password, body.invite)


def _proven(work: Work, body: NewUserBody) -> list[Identifier]:
    email = [identifiers.email(body.email)] if body.email else []
    phone = [identifiers.phone(body.phone, work.settings.default_phone_region)] if body.phone else []
    return email + phone


def _until(work: Work, body: LockBody) -> Any:
    if body.until and (body.seconds or body.until <= work.now):
        raise ValidationFailed.field("until", "invalid", "A time to come, or seconds, not both.")
    return work.now + timedelta(seconds=body.seconds) if body.seconds else body.until
