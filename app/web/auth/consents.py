"""What one has agreed to."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from app import errors
from app.core import consent
from app.flows import consents
from app.web import limits, paging, present
from app.web.auth.surface import auth
from app.web.fields import ConsentBody
from app.web.guards import BEARER
from app.web.paging import Page
from app.web.present import ConsentReply, ConsentsReply
from app.work import Work


@auth.add("GET", "/me/consents", query=Page, reply=ConsentsReply, guard=BEARER, reads=True)
def list_consents(work: Work, page: Page) -> Any:
    """What you have agreed to, newest first, with what you took back."""
    user_id = work.caller.account.id
    return paging.answer(
        page, lambda limit, before: consent.page_of_user(work, user_id, limit, before), present.consent
    )


@auth.add("POST", "/me/consents", status=201, body=ConsentBody, reply=ConsentReply, guard=BEARER, limit=limits.TOKENS,
          repeatable=True)  # fmt: skip
def give_consent(work: Work, body: ConsentBody) -> Any:
    """Agree to the terms, to a new version for example."""
    return present.consent(consents.give(work, **body.model_dump()))


@auth.add("DELETE", "/me/consents/<uuid:consent_id>", reply=ConsentReply, guard=BEARER, limit=limits.TOKENS,
          refusals=(errors.NotFound,))  # fmt: skip
def withdraw_consent(work: Work, consent_id: UUID) -> Any:
    """Take a consent back. It stays in your history."""
    return present.consent(consents.withdraw(work, consent_id))
