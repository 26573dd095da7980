"""Signing in: the password, then the code."""

from __future__ import annotations

from typing import Any

from app import errors
from app.flows import signin
from app.flows.door import SignedIn
from app.flows.signin import Asked
from app.web import limits, present
from app.web.auth.signup import ANSWERS
from app.web.auth.surface import auth
from app.web.fields import (
    SOME_ID,
    Answering,
    ChallengeId,
    DeviceInfo,
    Flag,
    Identified,
    Password,
    Token,
    Typed,
    Wished,
    example,
)
from app.web.present import StepReply, TokensReply
from app.work import Work


class LoginBody(Identified):
    model_config = example(identifier="jane@example.com", password="correct horse 7")

    username: Typed | None = None
    password: Password
    channel: Wished | None = None
    device_info: DeviceInfo = None
    device_token: Token | None = None


@auth.add(
    "POST", "/login", body=LoginBody, reply=StepReply | TokensReply, limit=limits.GUESSES,
    refusals=(errors.InvalidCredentials, errors.AccountLocked, errors.Forbidden, errors.Overloaded),
)  # fmt: skip
def start_login(work: Work, body: LoginBody) -> Any:
    """Sign in with an identifier and the password. Answers with the challenge of a code, or with tokens where
    policy asks no more, or the device is remembered (`device_token`). With an authenticator app nothing is sent unless
    `channel` or `/resend-otp` asks for it. A `channel` for which there is no address does not count. A sign-up that is
    not proven yet gets its code again."""
    result = signin.start(
        work, body.who(work), body.password,
        channel=body.channel, device_info=body.device_info, device_token=body.device_token,
    )  # fmt: skip
    return _in_or_on(work, result)


class LoginAnswerBody(Answering):
    model_config = example(challenge_id=SOME_ID, otp="123456")

    challenge_id: ChallengeId
    password: Password | None = None
    remember_device: Flag = False
    device_info: DeviceInfo = None


@auth.add(
    "POST", "/login/verify", body=LoginAnswerBody, reply=TokensReply | StepReply, limit=limits.GUESSES,
    refusals=(*ANSWERS, errors.InvalidCredentials, errors.Forbidden, errors.Overloaded),
)  # fmt: skip
def verify_login(work: Work, body: LoginAnswerBody) -> Any:
    """Answer a sign-in with a code of any of its methods, with the `credential` of a passkey that `/passkeys/options`
    asked for, or with the password where a code by SMS came first (`factor_required`). `remember_device` gives a
    `device_token` that skips the code here for 30 days."""
    return _in_or_on(work, _answered(work, body))


def _in_or_on(work: Work, result: SignedIn | Asked) -> Any:
    if isinstance(result, Asked):
        return present.step(work, result)
    return present.tokens(work, result, "You are signed in.")


def _answered(work: Work, body: LoginAnswerBody) -> SignedIn | Asked:
    if body.password is None:
        return signin.verify(
            work, body.challenge_id, body.given(), body.device_info, method=body.method, remember=body.remember_device
        )
    if body.otp is None and body.credential is None:
        return signin.verify_password(
            work, body.challenge_id, body.password, body.device_info, remember=body.remember_device
        )
    raise errors.ValidationFailed.field("otp", "required", "Give the code, or the password where it is asked for.")
