"""Signing in: the password, then the code."""

from __future__ import annotations

from typing import Any

from app import errors
from app.flows import signin
from app.flows.signin import Asked
from app.web import limits, present
from app.web.auth.signup import ANSWERS, AnswerBody
from app.web.auth.surface import auth
from app.web.fields import Channel, DeviceInfo, Identified, Password, Typed, example
from app.web.present import StepReply, TokensReply
from app.work import Work


class LoginBody(Identified):
    model_config = example(identifier="jane@example.com", password="correct horse 7")

    username: Typed | None = None
    password: Password
    channel: Channel | None = None
    device_info: DeviceInfo = None


@auth.add(
    "POST", "/login", body=LoginBody, reply=StepReply | TokensReply, limit=limits.GUESSES,
    refusals=(errors.InvalidCredentials, errors.AccountLocked, errors.Forbidden, errors.Overloaded),
)  # fmt: skip
def start_login(work: Work, body: LoginBody) -> Any:
    """Sign in with an identifier and the password. Answers with the challenge of a code, or with tokens where
    policy asks no more. A sign-up that is not proven yet gets its code again."""
    result = signin.start(work, body.who(work), body.password, channel=body.channel, device_info=body.device_info)
    if isinstance(result, Asked):
        return present.step(work, result, "Enter the code we sent you.")
    return present.tokens(work, result, "You are signed in.")


@auth.add("POST", "/login/verify", body=AnswerBody, reply=TokensReply, limit=limits.GUESSES,
          refusals=(*ANSWERS, errors.InvalidCredentials))  # fmt: skip
def verify_login(work: Work, body: AnswerBody) -> Any:
    """Answer the code of a sign-in."""
    signed_in = signin.verify(work, body.challenge_id, body.otp, body.device_info)
    return present.tokens(work, signed_in, "You are signed in.")
