"""Passkeys: binding them, and signing in with one alone. Browsers make and read the objects (Web Authentication)."""

from __future__ import annotations

from typing import Any, NotRequired
from uuid import UUID

from typing_extensions import TypedDict

from app import errors
from app.core.passkeys import Ceremony
from app.flows import mfa, passkey
from app.web import limits, present
from app.web.auth.surface import auth
from app.web.fields import SOME_ID, Body, ChallengeId, Credential, DeviceInfo, Name, example
from app.web.guards import BEARER, RECENT
from app.web.present import Message, TokensReply
from app.work import Work

UNNAMED = "Passkey"
SOME_CREDENTIAL = {"id": "...", "rawId": "...", "type": "public-key", "response": {}}


class NewPasskeyBody(Body):
    model_config = example(name="My phone")

    name: Name | None = None


class MadePasskeyBody(Body):
    model_config = example(credential=SOME_CREDENTIAL, name="My phone")

    credential: Credential
    name: Name | None = None


class FactorNameBody(Body):
    model_config = example(name="My old phone")

    name: Name


class PasskeyOptionsBody(Body):
    model_config = example()

    challenge_id: ChallengeId | None = None


class PasskeyLoginBody(Body):
    model_config = example(challenge_id=SOME_ID, credential=SOME_CREDENTIAL)

    challenge_id: ChallengeId
    credential: Credential
    device_info: DeviceInfo = None


class CeremonyReply(TypedDict):
    challenge_id: str
    expires_in: int
    options: dict[str, Any]


class BoundReply(Message):
    factor_id: str
    backup_codes: NotRequired[list[str]]


@auth.add("POST", "/factors/passkeys", status=201, body=NewPasskeyBody, reply=CeremonyReply, guard=RECENT,
          limit=limits.SENDS, repeatable=True, refusals=(errors.NotFound, errors.Conflict))  # fmt: skip
def start_passkey(work: Work, body: NewPasskeyBody) -> Any:
    """Begin a passkey. `options` is for `PublicKeyCredential.parseCreationOptionsFromJSON` and then
    `navigator.credentials.create`; what that gives, `toJSON()`, is the `credential` of the confirmation."""
    return _ceremony(work, mfa.start_passkey(work, body.name or UNNAMED))


@auth.add("POST", "/factors/passkeys/<uuid:challenge_id>/confirm", body=MadePasskeyBody, reply=BoundReply, guard=BEARER,
          limit=limits.GUESSES, repeatable=True,
          refusals=(errors.NotFound, errors.ChallengeClosed, errors.InvalidCode, errors.Conflict))  # fmt: skip
def confirm_passkey(work: Work, body: MadePasskeyBody, challenge_id: UUID) -> Any:
    """Take the passkey into use. With the first factor come ten backup codes, shown only now. Every other session
    ends."""
    bound, codes = mfa.confirm_passkey(work, challenge_id, body.credential, body.name)
    reply = {"message": "Your passkey is in use.", "factor_id": str(bound.id)}
    return {**reply, "backup_codes": codes} if codes else reply


@auth.add("PATCH", "/factors/<uuid:factor_id>", body=FactorNameBody, reply=Message, guard=BEARER,
          limit=limits.TOKENS, refusals=(errors.NotFound,))  # fmt: skip
def rename_factor(work: Work, body: FactorNameBody, factor_id: UUID) -> Any:
    """Give one of your second methods another name."""
    mfa.rename(work, factor_id, body.name)
    return {"message": "It has a new name."}


@auth.add("POST", "/passkeys/options", body=PasskeyOptionsBody, reply=CeremonyReply, limit=limits.GUESSES,
          refusals=(errors.NotFound, errors.ChallengeClosed))  # fmt: skip
def ask_passkey(work: Work, body: PasskeyOptionsBody) -> Any:
    """What a page needs to have a passkey used: `options` is for `PublicKeyCredential.parseRequestOptionsFromJSON` and
    then `navigator.credentials.get`. With the `challenge_id` of a sign-in or step-up whose methods name `passkey`, the
    answer goes there; without, to `/passkeys/login`."""
    return _ceremony(work, passkey.ask(work, body.challenge_id))


@auth.add("POST", "/passkeys/login", body=PasskeyLoginBody, reply=TokensReply, limit=limits.GUESSES,
          refusals=(errors.NotFound, errors.ChallengeClosed, errors.InvalidCredentials))  # fmt: skip
def login_by_passkey(work: Work, body: PasskeyLoginBody) -> Any:
    """Sign in with a passkey and nothing else. Unknown, wrong, removed and disabled are one answer."""
    signed_in = passkey.sign_in(work, body.challenge_id, body.credential, body.device_info)
    return present.tokens(work, signed_in, "You are signed in.")


def _ceremony(work: Work, asked: Ceremony) -> CeremonyReply:
    shown = present.challenge(work, asked.challenge)
    return {"challenge_id": shown["challenge_id"], "expires_in": shown["expires_in"], "options": asked.options}
