"""What clients get: plain dicts of named fields, and their types for the document. Never a model as it is."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Annotated, Any, NotRequired

from pydantic import WithJsonSchema
from typing_extensions import TypedDict

from app.core import challenges, policy
from app.core import tokens as bearer
from app.core.sessions import Account
from app.flows.door import SignedIn
from app.flows.signin import Asked
from app.models import ApiKey, Consent, OtpChallenge, Session, User
from app.work import Work


def _one_of(*words: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "enum": [*words]})


ChannelWord = Annotated[str, _one_of("email", "sms", "totp", "passkey", "password")]
MethodWord = Annotated[str, _one_of("email", "sms", "totp", "passkey", "backup_code", "password")]


class Message(TypedDict):
    message: str


class UserReply(TypedDict):
    id: str
    name: str | None
    username: str | None
    email: str | None
    phone: str | None
    role: str
    language: str | None
    mfa: list[str]
    created_at: str
    last_login_at: str | None


class ChallengeReply(TypedDict):
    challenge_id: str
    channel: ChannelWord
    destination: str
    expires_in: int
    resend_in: int


class AskedReply(ChallengeReply):
    message: str


class StepReply(AskedReply):
    status: Annotated[str, _one_of("otp_required")]
    methods: list[MethodWord]


class DeliveryReply(ChallengeReply):
    delivery: Annotated[str, _one_of("queued", "sent", "delivered", "failed")]


class TokensReply(TypedDict):
    message: str
    status: Annotated[str, _one_of("complete")]
    access_token: str
    token_type: str
    expires_in: int
    refresh_token: str
    refresh_expires_in: int
    session_id: str
    user: UserReply
    pending: NotRequired[ChallengeReply]
    device_token: NotRequired[str]


class KnownReply(TokensReply):
    is_new_user: bool


class FactorReply(TypedDict):
    message: str
    status: Annotated[str, _one_of("factor_required")]
    methods: list[MethodWord]
    challenge_id: str
    expires_in: int


class RegistrationReply(TypedDict):
    message: str
    is_new_user: bool
    registration_token: str
    expires_in: int


class ConsentReply(TypedDict):
    id: str
    terms: bool
    privacy: bool
    version: str
    given_at: str
    ip: str
    withdrawn_at: str | None


class ConsentsReply(TypedDict):
    items: list[ConsentReply]
    next_cursor: str | None


class ApiKeyReply(TypedDict):
    id: str
    name: str
    prefix: str
    scopes: list[str]
    created_by: str | None
    created_at: str
    expires_at: str | None
    revoked_at: str | None
    last_used_at: str | None


class SessionReply(TypedDict):
    id: str
    current: bool
    created_at: str
    last_used_at: str
    ip: str
    user_agent: str
    device_info: dict[str, Any] | None
    amr: list[str]


class SessionsReply(TypedDict):
    items: list[SessionReply]
    next_cursor: str | None


def instant(at: datetime) -> str:
    """RFC 3339 in UTC, whole seconds."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def maybe(at: datetime | None) -> str | None:
    return instant(at) if at else None


def user(row: User | Account) -> UserReply:
    return {
        "id": str(row.id),
        "name": row.name,
        "username": row.username,
        "email": row.email,
        "phone": row.phone,
        "role": row.role,
        "language": row.language,
        "mfa": row.mfa.split(),
        "created_at": instant(row.created_at),
        "last_login_at": maybe(row.last_login_at),
    }


def challenge(work: Work, row: OtpChallenge) -> ChallengeReply:
    return {
        "challenge_id": str(row.id),
        "channel": _word(row.channel),
        "destination": row.shown,
        "expires_in": _left(work, row.expires_at),
        "resend_in": challenges.resend_in(work, row),
    }


def asked(work: Work, row: OtpChallenge, message: str) -> AskedReply:
    return {"message": message, **challenge(work, row)}


def step(work: Work, next_step: Asked) -> StepReply:
    shown, methods = challenge(work, next_step.challenge), list(next_step.methods)
    return {"message": asks(next_step.challenge), "status": "otp_required", "methods": methods, **shown}


def asks(row: OtpChallenge) -> str:
    """What somebody is asked for, in words."""
    if challenges.goes_out(row):
        return "Enter the code we sent you."
    own = {policy.TOTP: "Enter the code of your authenticator app.", policy.PASSKEY: "Use your passkey."}
    return own.get(row.channel, "One more step.")


def tokens(work: Work, signed_in: SignedIn, message: str) -> TokensReply:
    reply: TokensReply = {
        "message": message,
        "status": "complete",
        "access_token": signed_in.access_token,
        "token_type": "Bearer",
        "expires_in": bearer.life(work, signed_in.session),
        "refresh_token": signed_in.refresh_token,
        "refresh_expires_in": _left(work, signed_in.refresh_expires_at or work.now),
        "session_id": str(signed_in.session.id),
        "user": user(signed_in.user),
    }
    if signed_in.pending:
        reply["pending"] = challenge(work, signed_in.pending)
    if signed_in.device_token:
        reply["device_token"] = signed_in.device_token
    return reply


def factor(work: Work, next_step: Asked, message: str) -> FactorReply:
    """What remains to be proven after a code by SMS."""
    return {
        "message": message,
        "status": "factor_required",
        "methods": [_word(method) for method in next_step.methods],
        "challenge_id": str(next_step.challenge.id),
        "expires_in": _left(work, next_step.challenge.expires_at),
    }


def _word(method: str) -> str:
    """`pwd` is RFC 8176's word, not a person's."""
    return "password" if method == policy.PASSWORD else method


def _left(work: Work, until: datetime) -> int:
    return max(0, math.ceil((until - work.now).total_seconds()))


def consent(row: Consent) -> ConsentReply:
    return {
        "id": str(row.id),
        "terms": row.terms,
        "privacy": row.privacy,
        "version": row.version,
        "given_at": instant(row.given_at),
        "ip": row.ip,
        "withdrawn_at": maybe(row.withdrawn_at),
    }


def session(work: Work, row: Session) -> SessionReply:
    return {
        "id": str(row.id),
        "current": row.id == work.caller.session_id,
        "created_at": instant(row.created_at),
        "last_used_at": instant(row.last_used_at),
        "ip": row.ip,
        "user_agent": row.user_agent,
        "device_info": row.device_info,
        "amr": bearer.amr(row),
    }


def api_key(row: ApiKey) -> ApiKeyReply:
    """A key of a server, without the key."""
    return {
        "id": str(row.id),
        "name": row.name,
        "prefix": row.prefix,
        "scopes": row.scopes.split(),
        "created_by": str(row.created_by) if row.created_by else None,
        "created_at": instant(row.created_at),
        "expires_at": maybe(row.expires_at),
        "revoked_at": maybe(row.revoked_at),
        "last_used_at": maybe(row.last_used_at),
    }
