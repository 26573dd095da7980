"""Introspection (RFC 7662): for a backend that checks no tokens itself, or has to know of an ended session at once."""

from __future__ import annotations

from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict

from app.core import sessions
from app.core.api_keys import Scope
from app.web.auth.surface import auth
from app.web.fields import Body, Presented, example
from app.web.guards import KEY
from app.work import Work

CLAIMS = ("iss", "aud", "sub", "iat", "exp", "jti", "sid", "role", "amr", "auth_time")


class IntrospectBody(Body):
    model_config = example(token="...")

    token: Presented


class InactiveReply(TypedDict):
    active: Literal[False]


class ActiveReply(TypedDict):
    active: Literal[True]
    token_type: str
    iss: str
    aud: str
    sub: str
    iat: int
    exp: int
    jti: str
    sid: str
    role: str
    amr: list[str]
    auth_time: int
    username: NotRequired[str]


@auth.add("POST", "/introspect", body=IntrospectBody, reply=InactiveReply | ActiveReply, guard=KEY(Scope.INTROSPECT),
          reads=True)  # fmt: skip
def introspect(work: Work, body: IntrospectBody) -> Any:
    """What an access token says, if it opens doors now: sign-outs, disabled accounts and changed roles count at once.
    Anything else is `{"active": false}`, refresh tokens too."""
    found = sessions.introspect(work, body.token)
    if found is None:
        return {"active": False}
    claims, account = found
    return _active(claims, account.username)


def _active(claims: dict[str, Any], username: str | None) -> dict[str, Any]:
    told = {name: claims[name] for name in CLAIMS if name in claims}
    return {"active": True, "token_type": "Bearer", **told, **({"username": username} if username else {})}
