"""One's own account."""

from __future__ import annotations

from typing import Any

from typing_extensions import TypedDict

from app import errors
from app.core import identifiers
from app.flows import account
from app.web import export, limits, present, transport
from app.web.auth.surface import auth
from app.web.fields import Body, Language, Name, Typed, example
from app.web.guards import BEARER, RECENT
from app.web.present import AskedReply, Message, UserReply
from app.web.streamed import Streamed
from app.work import Work


class ProfileBody(Body):
    model_config = example(name="Jane Doe")

    name: Name | None = None
    username: Typed | None = None
    language: Language | None = None


class EmailBody(Body):
    model_config = example(email="jane.doe@example.com")

    email: Typed


class PhoneBody(Body):
    model_config = example(phone="+919876543210")

    phone: Typed


class ExportReply(TypedDict):
    user: dict[str, Any]
    signups: list[dict[str, Any]]
    challenges: list[dict[str, Any]]
    sessions: list[dict[str, Any]]
    refresh_tokens: list[dict[str, Any]]
    authenticators: list[dict[str, Any]]
    passkeys: list[dict[str, Any]]
    backup_codes: list[dict[str, Any]]
    trusted_devices: list[dict[str, Any]]
    consents: list[dict[str, Any]]
    messages: list[dict[str, Any]]
    audit: list[dict[str, Any]]


@auth.add("GET", "/me", reply=UserReply, guard=BEARER, reads=True)
def me(work: Work) -> Any:
    """Who you are."""
    return present.user(work.caller.account)


@auth.add("PATCH", "/me", body=ProfileBody, reply=UserReply, guard=BEARER, limit=limits.TOKENS,
          refusals=(errors.UsernameTaken,))  # fmt: skip
def describe(work: Work, body: ProfileBody) -> Any:
    """Change your name, your username or the language of the messages to you."""
    username = identifiers.username(body.username) if body.username else None
    language = transport.known_language(work.settings, body.language)
    return present.user(account.describe(work, body.name, username, language))


@auth.add("DELETE", "/me", reply=Message, guard=RECENT, limit=limits.TOKENS, refusals=(errors.LastAdmin,))
def erase(work: Work) -> Any:
    """Delete your account and everything that is stored about you."""
    account.erase(work)
    return {"message": "Your account was deleted."}


@auth.add("GET", "/me/export", reply=ExportReply, guard=BEARER, limit=limits.SENDS)
def export_me(work: Work) -> Any:
    """All that is stored about you, as a file."""
    return Streamed("application/json", "my-data.json", export.chunks(work.kit, *account.export(work)))


@auth.add("POST", "/change-email", body=EmailBody, reply=AskedReply, guard=RECENT, limit=limits.SENDS, repeatable=True)
def change_email(work: Work, body: EmailBody) -> Any:
    """Ask for the proof of a new e-mail address; answer its code at `/verify-otp`."""
    challenge = account.change_contact(work, identifiers.email(body.email))
    return present.asked(work, challenge, "A code is on its way to the new address.")


@auth.add("POST", "/change-phone", body=PhoneBody, reply=AskedReply, guard=RECENT, limit=limits.SENDS, repeatable=True)
def change_phone(work: Work, body: PhoneBody) -> Any:
    """Ask for the proof of a new phone number; answer its code at `/verify-otp`."""
    address = identifiers.phone(body.phone, work.settings.default_phone_region)
    challenge = account.change_contact(work, address)
    return present.asked(work, challenge, "A code is on its way to the new number.")
