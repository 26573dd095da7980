"""Guards: who may call an endpoint. Each is asked in the unit of work of the request itself."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from app.core import api_keys, roles, sessions
from app.core.api_keys import Scope
from app.core.roles import Permission
from app.crypto.jwt import Claims
from app.errors import Forbidden, InsufficientUserAuthentication, TokenInvalid, TokenMissing, TokenRevoked
from app.web import cookies, transport
from app.web.cookies import Jar
from app.work import ANONYMOUS, UNREADABLE, Caller, Kit, Work


@dataclass(frozen=True, slots=True)
class Guard:
    """`needed`: a bearer token must be there. `recent`: its sign-in must be young. `leaving`: a token of ours is
    enough, for nobody is kept from signing out by its age or by having done so before. `either`: there may be a refresh
    token beside it, so one that cannot be read keeps nobody either.
    """

    name: str
    reads_token: bool = True
    needed: bool = True
    recent: bool = False
    leaving: bool = False
    either: bool = False
    cookie: bool = False  # the session is a browser's cookie
    scope: Scope | None = None  # what an API key must allow; there is no session
    permission: Permission | None = None  # what the caller's role must allow; with a scope, either opens

    def claims(self, kit: Kit) -> Claims | None:
        """What the request's token says, before the database is asked. Raises the token refusals."""
        if self.scope:
            transport.bearer()  # who brings none is refused before anything is read
        if not self.reads_token or self.cookie or (self.scope and not self.permission):
            return None
        try:
            return kit.tokens.read(transport.bearer(), None if self.leaving else kit.clock())
        except TokenMissing:
            if self.needed:
                raise
            return None
        except TokenInvalid:
            if not self.scope and not self.either:
                raise
            return None  # it may be an API key, or not needed

    def is_open(self, claims: Claims | None) -> bool:
        """True if there is nobody to admit, so that the database need not be asked."""
        return claims is None and not self.cookie and not self.scope

    def admit(self, work: Work, claims: Claims | None) -> Caller:
        """The caller, if their session has not ended, or their key may do this. Raises TokenRevoked, Forbidden,
        InsufficientUserAuthentication; TokenMissing, TokenInvalid, Forbidden for a key. The work knows who is refused.
        """
        if self.scope and claims is None:
            return _by_key(work, self.scope, transport.bearer())
        if self.cookie:
            return _by_cookie(work, cookies.read(work.settings, Jar.SESSION))
        if claims is None:
            return UNREADABLE if self.either and transport.has_bearer() else ANONYMOUS
        account = sessions.live_account(work, claims.session_id)
        if self.leaving:
            fresh = account is not None and claims.expires_at > work.now
            return Caller(claims.user_id, claims.session_id, auth_time=claims.auth_time if fresh else None)
        if account is None or account.id != claims.user_id or account.role != claims.role:
            raise TokenRevoked()
        work.caller = Caller(account.id, claims.session_id, claims.auth_time, account)
        if self.permission and self.permission not in roles.permissions(account.role):
            raise Forbidden()
        if self.recent:
            need_recent(work, claims.auth_time)
        work.kit.seen[claims.session_id] = work.now
        return work.caller


def need_recent(work: Work, auth_time: datetime | None) -> None:
    """Raises InsufficientUserAuthentication unless somebody signed in lately (RFC 9470)."""
    oldest = work.now - timedelta(seconds=work.settings.step_up_max_age)
    if auth_time is None or auth_time < oldest:
        raise InsufficientUserAuthentication(max_age=work.settings.step_up_max_age)


def _by_cookie(work: Work, token: str) -> Caller:
    if not token:
        raise TokenMissing()
    found = sessions.by_cookie(work, token)
    if found is None:
        raise TokenRevoked()
    account, session_id, auth_time = found
    work.kit.seen[session_id] = work.now
    return Caller(account.id, session_id, auth_time, account)


def _by_key(work: Work, scope: Scope, key: str) -> Caller:
    known = api_keys.find(work, key)
    if known is None:
        raise TokenInvalid()
    work.caller = Caller(key_id=known.id)
    if scope not in known.scopes:
        raise Forbidden()
    if known.id != api_keys.ENVIRONMENT:
        work.kit.seen_keys[known.id] = work.now
    return work.caller


def KEY(scope: Scope) -> Guard:  # noqa: N802 - stands in declarations beside the guards below
    """An API key that allows something."""
    return Guard(f"API key with {scope}", scope=scope)


def MAY(permission: Permission, *, recent: bool = False, scope: Scope | None = None) -> Guard:  # noqa: N802 - stands in declarations, as KEY does
    """A user whose role has a permission; `recent`: and who signed in lately, as every write of administration asks.
    `scope`: or an API key that allows this.
    """
    return Guard(f"may {permission}", recent=recent, scope=scope, permission=permission)


ANYBODY = Guard("anybody", reads_token=False, needed=False)
LEAVING = Guard("leaving", needed=False, leaving=True)
LEAVING_BY_EITHER = Guard("leaving, by either token", needed=False, leaving=True, either=True)
BEARER = Guard("bearer")
RECENT = Guard("recent sign-in", recent=True)
COOKIE = Guard("cookie", cookie=True)
