"""The mobile dialect, `/api/v1/auth`: passwordless by phone; a new number registers once it is proven."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from app import errors
from app.core import identifiers
from app.core.identifiers import Identifier
from app.flows import phone, session
from app.flows.door import SignedIn
from app.flows.phone import Registration
from app.flows.signin import Asked
from app.web import limits, present
from app.web.endpoint import Surface
from app.web.fields import Body, Code, Consent, DeviceInfo, Name, Token, Typed, example
from app.web.guards import BEARER, LEAVING
from app.web.present import AskedReply, FactorReply, KnownReply, Message, RegistrationReply, TokensReply, UserReply
from app.work import Work

mobile = Surface("mobile", "/api/v1/auth")


class NumberBody(Body):
    model_config = example(mobile_number="+919876543210")

    mobile_number: Typed

    def number(self, work: Work) -> Identifier:
        return identifiers.phone(self.mobile_number, work.settings.default_phone_region, "mobile_number")


class CodeBody(NumberBody):
    model_config = example(mobile_number="+919876543210", otp="123456")

    otp: Code
    challenge_id: UUID | None = None
    device_info: DeviceInfo = None


class RegistrationBody(Body):
    model_config = example(registration_token="...", name="Asha", consent={"terms": True, "version": "2026-01"})

    registration_token: Token
    name: Name
    email: Typed | None = None
    consent: Consent
    device_info: DeviceInfo = None


class RefreshTokenBody(Body):
    model_config = example(refresh_token="...")

    refresh_token: Token


@mobile.add("POST", "/send-otp", body=NumberBody, reply=AskedReply, limit=limits.SENDS,
            refusals=(errors.AccountLocked, errors.ChallengeClosed), repeatable=True)  # fmt: skip
def send_otp(work: Work, body: NumberBody) -> Any:
    """Send a code by SMS, at most 3 a minute to one number. While a code is alive it is sent again unchanged."""
    return present.asked(work, phone.send(work, body.number(work)), "A code is on its way.")


@mobile.add(
    "POST", "/verify-otp", body=CodeBody, reply=KnownReply | RegistrationReply | FactorReply, limit=limits.GUESSES,
    refusals=(errors.InvalidCode, errors.ChallengeClosed, errors.AccountLocked, errors.InvalidCredentials,
              errors.Forbidden),
)  # fmt: skip
def verify_otp(work: Work, body: CodeBody) -> Any:
    """Answer the code. A known number is signed in; a new one gets a token to register with; an account that has a
    password asks for it at `/api/auth/login/verify`."""
    result = phone.verify(work, body.number(work), body.otp, body.challenge_id, body.device_info)
    return _result(work, result)


def _result(work: Work, result: SignedIn | Asked | Registration) -> Any:
    if isinstance(result, Asked):
        return present.factor(work, result, "One more step: give what this account asks for.")
    if isinstance(result, SignedIn):
        return {**present.tokens(work, result, "You are signed in."), "is_new_user": False}
    return {
        "message": "Your number is confirmed. Complete your registration.",
        "is_new_user": True,
        "registration_token": result.token,
        "expires_in": result.expires_in,
    }


@mobile.add(
    "POST", "/complete-registration", status=201, body=RegistrationBody, reply=TokensReply, limit=limits.GUESSES,
    refusals=(errors.TokenInvalid, errors.TokenExpired, errors.ChallengeClosed),
)  # fmt: skip
def complete_registration(work: Work, body: RegistrationBody) -> Any:
    """Open the account of a number that was just confirmed. An e-mail address gets a code of its own (`pending`)."""
    email = identifiers.email(body.email) if body.email else None
    agreed = body.consent.model_dump()
    signed_in = phone.register(
        work, body.registration_token, name=body.name, email=email, agreed=agreed, device_info=body.device_info
    )
    return present.tokens(work, signed_in, "Welcome. Your account is ready.")


@mobile.add("POST", "/refresh-token", body=RefreshTokenBody, reply=TokensReply, limit=limits.TOKENS,
            refusals=(errors.TokenInvalid, errors.TokenExpired, errors.TokenRevoked, errors.TokenReused))  # fmt: skip
def refresh_token(work: Work, body: RefreshTokenBody) -> Any:
    """Exchange a refresh token for a fresh pair; the old one is spent."""
    return present.tokens(work, session.refresh(work, body.refresh_token), "Your session goes on.")


@mobile.add("POST", "/logout", reply=Message, guard=LEAVING, limit=limits.TOKENS, refusals=(errors.TokenMissing,))
def log_out(work: Work) -> Any:
    """End this session."""
    session.sign_out(work, None)
    return {"message": "You are signed out."}


@mobile.add("GET", "/me", reply=UserReply, guard=BEARER, reads=True)
def show_me(work: Work) -> Any:
    """Who you are."""
    return present.user(work.caller.account)
