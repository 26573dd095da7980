"""Passwords: forgotten, reset, changed."""

from __future__ import annotations

from typing import Any

from app import errors
from app.flows import account, recovery
from app.web import limits, present
from app.web.auth.signup import ANSWERS
from app.web.auth.surface import auth
from app.web.fields import SOME_ID, Body, ChallengeId, Channel, Code, Identified, Password, example
from app.web.guards import BEARER
from app.web.present import AskedReply, Message
from app.work import Work


class ForgotBody(Identified):
    model_config = example(identifier="jane@example.com")

    channel: Channel | None = None


class ResetBody(Body):
    model_config = example(challenge_id=SOME_ID, otp="123456", new_password="another horse 8")

    challenge_id: ChallengeId
    otp: Code
    new_password: Password


class ChangeBody(Body):
    model_config = example(current_password="correct horse 7", new_password="another horse 8")

    current_password: Password
    new_password: Password


@auth.add("POST", "/forgot-password", body=ForgotBody, reply=AskedReply, limit=limits.SENDS, repeatable=True)
def forgot_password(work: Work, body: ForgotBody) -> Any:
    """Ask for a recovery code. Always the same answer, whether or not there is an account. By a username it goes to the
    e-mail address, or where `channel` says: a phone alone is reached by `sms`, or by its number."""
    challenge = recovery.start(work, body.who(work), body.channel)
    return present.asked(work, challenge, "If there is an account, a code is on its way.")


@auth.add("POST", "/reset-password", body=ResetBody, reply=Message, limit=limits.GUESSES,
          refusals=(*ANSWERS, errors.Overloaded))  # fmt: skip
def reset_password(work: Work, body: ResetBody) -> Any:
    """Set a new password with a recovery code. Every session of the account ends."""
    recovery.finish(work, body.challenge_id, body.otp, body.new_password)
    return {"message": "Your password was changed. Sign in with it."}


@auth.add("POST", "/change-password", body=ChangeBody, reply=Message, guard=BEARER, limit=limits.GUESSES,
          refusals=(errors.InvalidCredentials, errors.AccountLocked, errors.Overloaded))  # fmt: skip
def change_password(work: Work, body: ChangeBody) -> Any:
    """Change the password with the current one. Every other session ends."""
    account.change_password(work, body.current_password, body.new_password)
    return {"message": "Your password was changed. Other devices were signed out."}
