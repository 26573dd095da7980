"""The API keys of servers."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from pydantic import Field
from typing_extensions import TypedDict

from app import errors
from app.core import api_keys
from app.core.api_keys import Scope
from app.core.roles import Permission
from app.flows import keys
from app.web import paging, present
from app.web.admin.surface import admin
from app.web.fields import Body, Instant, Name, example
from app.web.guards import MAY
from app.web.paging import Page
from app.web.present import ApiKeyReply, Message
from app.work import Work


class NewKeyBody(Body):
    model_config = example(name="till server", scopes=["otp:verify"])

    name: Name
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=len(Scope), description="what the key may do")]
    expires_at: Instant | None = None


class NewKeyReply(ApiKeyReply):
    key: str


class ApiKeysReply(TypedDict):
    items: list[ApiKeyReply]
    next_cursor: str | None


@admin.add("GET", "/api-keys", query=Page, reply=ApiKeysReply, guard=MAY(Permission.KEYS_READ), reads=True)
def list_keys(work: Work, page: Page) -> Any:
    """Every key, newest first, expired and revoked ones too. `last_used_at` is right to a minute."""
    return paging.answer(page, lambda limit, before: api_keys.page(work, limit, before), present.api_key)


@admin.add("POST", "/api-keys", status=201, body=NewKeyBody, reply=NewKeyReply,
           guard=MAY(Permission.KEYS_WRITE, recent=True), repeatable=True)  # fmt: skip
def create_key(work: Work, body: NewKeyBody) -> Any:
    """Make a key. It is shown here and never again; `prefix` tells keys apart. A key may do what its scopes name, and
    nothing else."""
    row, key = keys.create(work, body.name, body.scopes, body.expires_at)
    return {**present.api_key(row), "key": key}


@admin.add("DELETE", "/api-keys/<uuid:key_id>", reply=Message, guard=MAY(Permission.KEYS_WRITE, recent=True),
           refusals=(errors.NotFound,))  # fmt: skip
def revoke_key(work: Work, key_id: UUID) -> Any:
    """End a key at once, in every process. Again is as good as once."""
    keys.revoke(work, key_id)
    return {"message": "The key is revoked."}
