"""Revocations for backends that verify tokens by themselves: which sessions' tokens are not to be taken any more."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

from app.core import revocations
from app.core.api_keys import Scope
from app.core.revocations import Ended, Place
from app.web.auth.surface import auth
from app.web.fields import Body
from app.web.guards import KEY
from app.web.present import instant
from app.web.tagged import Tagged
from app.work import Work


def _place(text: str) -> Place:
    try:
        return revocations.place(text)
    except ValueError:
        raise PydanticCustomError("invalid", "This is not the `next` of an earlier answer.") from None


Since = Annotated[
    Place,
    PlainValidator(_place),
    WithJsonSchema(
        {
            "type": "string",
            "maxLength": 80,
            "description": "`next` of the answer before; without it, all that still matters",
        }
    ),
]


class RevocationsQuery(Body):
    since: Since | None = None


class RevocationReply(TypedDict):
    session_id: str
    revoked_at: str


class RevocationsReply(TypedDict):
    items: list[RevocationReply]
    next: str
    more: bool
    token_life: int


@auth.add("GET", "/revocations", query=RevocationsQuery, reply=RevocationsReply, guard=KEY(Scope.INTROSPECT),
          reads=True, tagged=True)  # fmt: skip
def list_revocations(work: Work, query: RevocationsQuery) -> Any:
    """Sessions that have ended while a token of theirs may live: sign-outs, revocations, locks, changed roles,
    passwords and factors, erased accounts. Refuse tokens of each with an `iat` up to its `revoked_at`, which lies two
    minutes after the end. Ask every few seconds with the `next` of the answer before as `since`, and at once where
    there is `more`; an id may come again, and none is left out. Forget an item `token_life` seconds after its
    `revoked_at`."""
    page = revocations.page(work, query.since)
    items = [_shown(each) for each in page.items]
    reply = {"items": items, "next": revocations.told(page.next), "more": page.more}
    return Tagged({**reply, "token_life": work.settings.jwt_access_ttl}, [items, page.more])


def _shown(ended: Ended) -> RevocationReply:
    return {"session_id": str(ended.session_id), "revoked_at": instant(ended.refused_until)}
