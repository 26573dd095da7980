"""Step-up: a fresh `auth_time` for what asks a recent sign-in."""

from __future__ import annotations

from typing import Any

from typing_extensions import TypedDict

from app import errors
from app.core import tokens
from app.flows import stepup
from app.flows.door import SignedIn
from app.web import limits, present
from app.web.auth.signup import ANSWERS
from app.web.auth.surface import auth
from app.web.fields import SOME_ID, Answering, Body, ChallengeId, Wished, example
from app.web.guards import BEARER
from app.web.present import StepReply
from app.work import Work


class StepUpBody(Body):
    model_config = example()

    channel: Wished | None = None


class StepUpAnswerBody(Answering):
    model_config = example(challenge_id=SOME_ID, otp="123456")

    challenge_id: ChallengeId


class FreshReply(TypedDict):
    message: str
    access_token: str
    token_type: str
    expires_in: int
    session_id: str


@auth.add("POST", "/step-up", body=StepUpBody, reply=StepReply, guard=BEARER, limit=limits.SENDS, repeatable=True,
          refusals=(errors.Forbidden,))  # fmt: skip
def start_step_up(work: Work, body: StepUpBody) -> Any:
    """Ask for a proof that it is still you, where `insufficient_user_authentication` was the answer."""
    return present.step(work, stepup.start(work, body.channel))


@auth.add("POST", "/step-up/verify", body=StepUpAnswerBody, reply=FreshReply, guard=BEARER, limit=limits.GUESSES,
          refusals=ANSWERS)  # fmt: skip
def verify_step_up(work: Work, body: StepUpAnswerBody) -> Any:
    """Answer it: a fresh access token of the same session."""
    return _fresh(work, stepup.verify(work, body.challenge_id, body.given(), body.method))


def _fresh(work: Work, signed_in: SignedIn) -> FreshReply:
    return {
        "message": "Thank you. Go on with this token.",
        "access_token": signed_in.access_token,
        "token_type": "Bearer",
        "expires_in": tokens.life(work, signed_in.session),
        "session_id": str(signed_in.session.id),
    }
