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
from app.models import ApiKey
from app.web import paging
from app.web.admin.surface import admin
from app.web.fields import Body, Instant, Name, example
from app.web.guards import MAY
from app.web.paging import Page
from app.web.present import Message, instant, maybe
from app.work import Work


class NewKeyBody(Body):
    model_config = example(name="till server", scopes=["otp:verify"])

    name: Name
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=len(Scope), description="what the key may do")]
    expires_at: Instant | None = None


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


class NewKeyReply(ApiKeyReply):
    key: str


class ApiKeysReply(TypedDict):
    items: list[ApiKeyReply]
    next_cursor: str | None


@admin.add("GET", "/api-keys", query=Page, reply=ApiKeysReply, guard=MAY(Permission.KEYS_READ), reads=True)
def list_keys(work: Work, page: Page) -> Any:
    """Every key, newest first, expired and revoked ones too. `last_used_at` is right to a minute."""
    return paging.answer(page, lambda limit, before: api_keys.page(work, limit, before), _key)


@admin.add("POST", "/api-keys", status=201, body=NewKeyBody, reply=NewKeyReply,
           guard=MAY(Permission.KEYS_WRITE, recent=True), repeatable=True)  # fmt: skip
def create_key(work: Work, body: NewKeyBody) -> Any:
    """Make a key. It is shown here and never again; `prefix` tells keys apart. A key may do what its scopes name, and
    nothing else."""
    row, key = keys.create(work, body.name, body.scopes, body.expires_at)
    return {**_key(row), "key": key}


@admin.add("DELETE", "/api-keys/<uuid:key_id>", reply=Message, guard=MAY(Permission.KEYS_WRITE, recent=True),
           refusals=(errors.NotFound,))  # fmt: skip
def revoke_key(work: Work, key_id: UUID) -> Any:
    """End a key at once, in every process. Again is as good as once."""
    keys.revoke(work, key_id)
    return {"message": "The key is revoked."}


def _key(row: ApiKey) -> ApiKeyReply:
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
