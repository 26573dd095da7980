"""Sessions: refresh, sign out, list, end."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from app import errors
from app.core import sessions
from app.flows import session
from app.web import limits, paging, present
from app.web.auth.surface import auth
from app.web.fields import Body, Flag, Token, example
from app.web.guards import BEARER, LEAVING_BY_EITHER
from app.web.paging import Page
from app.web.present import Message, SessionsReply, TokensReply
from app.work import Work


class RefreshBody(Body):
    model_config = example(refresh_token="...")

    refresh_token: Token


class LogoutBody(Body):
    model_config = example(everywhere=False)

    refresh_token: Token | None = None
    everywhere: Flag = False


@auth.add("POST", "/refresh", body=RefreshBody, reply=TokensReply, limit=limits.TOKENS,
          refusals=(errors.TokenInvalid, errors.TokenExpired, errors.TokenRevoked, errors.TokenReused))  # fmt: skip
def refresh(work: Work, body: RefreshBody) -> Any:
    """Exchange a refresh token for a fresh pair; the old one is spent. The same one again within 10 s gets the
    same refresh token, with another access token; later it is theft, and the session ends."""
    return present.tokens(work, session.refresh(work, body.refresh_token), "Your session goes on.")


@auth.add("POST", "/logout", body=LogoutBody, reply=Message, guard=LEAVING_BY_EITHER, limit=limits.TOKENS,
          refusals=(errors.TokenMissing,))  # fmt: skip
def logout(work: Work, body: LogoutBody) -> Any:
    """End this session, or with `everywhere` all of them. Takes the bearer token or a refresh token."""
    session.sign_out(work, body.refresh_token, everywhere=body.everywhere)
    return {"message": "You are signed out."}


@auth.add("GET", "/sessions", query=Page, reply=SessionsReply, guard=BEARER, reads=True)
def list_sessions(work: Work, page: Page) -> Any:
    """The places where you are signed in, newest first."""
    user_id = work.caller.account.id
    return paging.answer(
        page,
        lambda limit, before: sessions.page_of_user(work, user_id, limit, before),
        lambda row: present.session(work, row),
    )


@auth.add("DELETE", "/sessions/<uuid:session_id>", reply=Message, guard=BEARER, limit=limits.TOKENS,
          refusals=(errors.NotFound,))  # fmt: skip
def end_session(work: Work, session_id: UUID) -> Any:
    """End one of your sessions."""
    session.end(work, session_id)
    return {"message": "That session has ended."}


@auth.add("DELETE", "/sessions", reply=Message, guard=BEARER, limit=limits.TOKENS)
def end_other_sessions(work: Work) -> Any:
    """End all your sessions but this one."""
    ended = session.end_others(work)
    return {"message": f"{ended} other session{'' if ended == 1 else 's'} ended."}
