"""Tokens for other backends that have a key of their own, or must not take each other's tokens."""

from __future__ import annotations

from typing import Any

from typing_extensions import TypedDict

from app.flows import session
from app.web import limits, transport
from app.web.auth.surface import auth
from app.web.fields import Audience, Body, example
from app.web.guards import BEARER
from app.work import Work


class AudienceBody(Body):
    model_config = example(audience="clinic")

    audience: Audience


class AudienceReply(TypedDict):
    access_token: str
    token_type: str
    expires_in: int
    audience: str


@auth.add("POST", "/token", body=AudienceBody, reply=AudienceReply, guard=BEARER, limit=limits.TOKENS)
def exchange_token(work: Work, body: AudienceBody) -> Any:
    """A token for a backend that `JWT_AUDIENCES` names, in exchange for yours: it says the same of you and opens that
    backend only. Ask for another one when it has ended."""
    token, life = session.for_audience(work, transport.bearer(), body.audience)
    return {"access_token": token, "token_type": "Bearer", "expires_in": life, "audience": body.audience}
