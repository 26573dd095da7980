"""Endpoints are declared, and everything comes from the declaration: route, guard, limit, body, unit of work,
answer and the OpenAPI document. A view gets its Work and returns what the client gets.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any
from uuid import UUID

from flask import Blueprint, Flask, Response, current_app, request
from flask_limiter import Limiter, RateLimitExceeded
from pydantic import BaseModel

from app import errors
from app.core import audit, repeats
from app.core.repeats import Answered
from app.errors import Refusal
from app.web import cookies, limits, problems, streamed, tagged, transport
from app.web.cookies import Baked, Jar
from app.web.fields import Body
from app.web.guards import ANYBODY, Guard
from app.web.streamed import Streamed
from app.web.tagged import Tagged
from app.work import ANONYMOUS, Caller, Kit, Work, run

View = Callable[..., Any]
EDGE_WINDOW_S = 60  # one audit row a minute for the same refusal of the same client at the edge

log = logging.getLogger("latchkey.web")


@dataclass(frozen=True, slots=True)
class Endpoint:
    method: str
    path: str  # as Flask writes it, below the surface's prefix
    view: View
    reply: Any  # the TypedDict of a success
    status: int
    body: type[BaseModel] | None
    query: type[BaseModel] | None
    guard: Guard
    limit: str | None
    reads: bool  # a unit that only reads
    repeatable: bool  # takes an Idempotency-Key
    refusals: tuple[type[Refusal], ...]  # beyond those that body, guard and limit bring
    streams: tuple[str, ...] = ()  # media types of a Streamed answer, which it may give in place of its reply
    tagged: bool = False  # answers Tagged: 304 for a tag that is still right
    about: Jar | None = None  # the cookie that says what is meant, as a body does

    @property
    def name(self) -> str:
        return self.view.__name__

    @property
    def writes(self) -> bool:
        return self.method != "GET"

    @property
    def all_refusals(self) -> list[type[Refusal]]:
        """Every refusal the endpoint can answer with, for the document and the tests."""
        found: list[type[Refusal]] = [*self.refusals, errors.HttpsRequired, errors.Overloaded, errors.Unavailable]
        if self.writes:
            found += [errors.MalformedJson, errors.PayloadTooLarge, errors.UnsupportedMediaType]
        if self.body or self.query:
            found.append(errors.ValidationFailed)
        if "<uuid:" in self.path:
            found.append(errors.NotFound)  # what is no id at all
        if self.guard.scope or self.guard.permission:
            found += [errors.TokenInvalid, errors.Forbidden]
        if self.guard.cookie:
            found.append(errors.TokenRevoked)
        elif self.guard.reads_token and (self.guard.permission or not self.guard.scope):
            found.append(errors.TokenInvalid)
            found += [] if self.guard.leaving else [errors.TokenExpired, errors.TokenRevoked]
        if self.guard.needed:
            found.append(errors.TokenMissing)
        if self.guard.recent:
            found.append(errors.InsufficientUserAuthentication)
        if self.limit:
            found.append(errors.RateLimited)
        if self.repeatable:
            found += [errors.IdempotencyMismatch, errors.ValidationFailed]
        return list(dict.fromkeys(found))


@dataclass(slots=True)
class Surface:
    """A family of endpoints under one prefix; becomes a blueprint of each app."""

    name: str
    prefix: str
    cookies: bool = False  # its sessions are cookies, so its writes are asked where they come from
    endpoints: list[Endpoint] = field(default_factory=list)

    def add(
        self,
        method: str,
        path: str,
        *,
        reply: Any,
        status: int = 200,
        body: type[BaseModel] | None = None,
        query: type[BaseModel] | None = None,
        guard: Guard = ANYBODY,
        limit: str | None = None,
        reads: bool = False,
        repeatable: bool = False,
        refusals: tuple[type[Refusal], ...] = (),
        streams: tuple[str, ...] = (),
        tagged: bool = False,
        about: Jar | None = None,
    ) -> Callable[[View], View]:
        """Declare the decorated view as an endpoint."""

        def declare(view: View) -> View:
            self.endpoints.append(
                Endpoint(
                    method, path, view, reply=reply, status=status, body=body, query=query, guard=guard, limit=limit,
                    reads=reads, repeatable=repeatable, refusals=refusals, streams=streams, tagged=tagged, about=about,
                )
            )  # fmt: skip
            return view

        return declare

    def install(self, app: Flask, kit: Kit, limiter: Limiter, edge: Edge) -> None:
        """Register the endpoints on an app."""
        blueprint = Blueprint(self.name, __name__, url_prefix=self.prefix)
        for endpoint in self.endpoints:
            handler = _handler(endpoint, kit, cookied=self.cookies)
            handler.__qualname__ = f"{self.name}.{endpoint.name}"
            limited = limiter.limit(endpoint.limit)(handler) if endpoint.limit else handler
            answering = refusing(limited, limiter, edge, administers=endpoint.guard.permission is not None)
            blueprint.add_url_rule(endpoint.path, endpoint.name, answering, methods=[endpoint.method])
        app.register_blueprint(blueprint)


def _handler(endpoint: Endpoint, kit: Kit, *, cookied: bool) -> Callable[..., Response]:
    def handle(**path: Any) -> Response:
        if cookied and endpoint.writes:
            cookies.refuse_other_sites(kit.settings)
        claims = endpoint.guard.claims(kit)
        found = _found(endpoint)
        if isinstance(found, Refusal) and endpoint.guard.is_open(claims):
            raise found

        def story(work: Work) -> Any:
            try:
                work.caller = endpoint.guard.admit(work, claims)
                if isinstance(found, Refusal):
                    raise found
                given, key = found
                tell = partial(endpoint.view, work, *given, **path)
                return _once(work, _repeated(work, endpoint, key, given, path), tell) if key else tell()
            except Refusal as refused:
                refused.by = work.caller
                raise

        try:
            client = replace(transport.client(kit.settings), keeps_cookie=cookied)
            answer = run(kit, story, client=client, reads=endpoint.reads)
        except Answered as before:
            answer = Baked(before.answer["reply"], before.answer["cookies"])
        return _reply(kit, answer, endpoint.status)

    return handle


def _found(endpoint: Endpoint) -> tuple[list[BaseModel], str | None] | Refusal:
    """Query, body and Idempotency-Key, or what is wrong with them, which is told to whom the guard admits. Read before
    the unit of work begins: a slow client holds no connection to the database.
    """
    try:
        given: list[BaseModel] = [transport.query(endpoint.query)] if endpoint.query else []
        if endpoint.body:
            given.append(transport.body(endpoint.body))
        elif endpoint.writes and transport.content():
            transport.body(Body)
        return given, transport.idempotency_key() if endpoint.repeatable else None
    except Refusal as wrong:
        return wrong


def _repeated(
    work: Work, endpoint: Endpoint, key: str, given: list[BaseModel], path: dict[str, Any]
) -> repeats.Request:
    caller = str(work.caller.session_id or work.caller.key_id or limits.network(work.client.address))
    told = [cookies.read(work.settings, endpoint.about)] if endpoint.about else []
    body = "\n".join([*(part.model_dump_json() for part in given), *map(str, path.values()), *told])
    return repeats.Request(request.endpoint or "", caller, key, body)


def _once(work: Work, repeated: repeats.Request, tell: Callable[[], Any]) -> Any:
    """Do it unless it was done: asked now, and again under the lock if the unit has to pause before it writes."""
    work.claim, work.claimed = partial(repeats.claim, request=repeated), True
    work.claim(work)
    answer = tell()
    baked = answer if isinstance(answer, Baked) else Baked(answer)
    repeats.keep(work, repeated, {"reply": baked.reply, "cookies": baked.cookies})
    return answer


def _reply(kit: Kit, answer: Any, status: int) -> Response:
    if isinstance(answer, Streamed):
        return streamed.respond(answer, status)
    if isinstance(answer, Tagged):
        return tagged.respond(answer, status)
    reply = answer.reply if isinstance(answer, Baked) else answer
    response = Response(current_app.json.dumps(reply), status, mimetype="application/json")
    if isinstance(answer, Baked):
        cookies.write(kit.settings, response, answer)
    return response


def refusing(
    handler: Callable[..., Response], limiter: Limiter, edge: Edge, *, administers: bool = False
) -> Callable[..., Response]:
    """Turn what is refused into its problem document, and see that each refusal is in the audit log. `administers`:
    the id in its path is whom or what somebody wanted to act on, and may stand there.
    """

    def view(**path: Any) -> Response:
        try:
            transport.refuse_clear(edge.kit.settings)
            return handler(**path)
        except RateLimitExceeded:
            refused: Refusal = errors.RateLimited(retry_after=limits.retry_after(limiter))
        except Refusal as error:
            refused = error
        if not refused.audited and not isinstance(refused, errors.Unavailable):
            edge.note(refused, next(iter(path.values()), None) if administers else None)
        return problems.answer(refused)

    return view


class Edge:
    """Refusals that no flow has recorded: bad bodies, tokens, limits. The first of a kind, client, caller and route in
    a minute gets an audit row, with who it was and about what; the rest only their log line, or a flood would be a
    flood of writes.
    """

    def __init__(self, kit: Kit) -> None:
        self.kit = kit
        self._lock = threading.Lock()
        self._seen: set[tuple[str, ...]] = set()
        self._minute = 0

    def note(self, refused: Refusal, target: UUID | None = None) -> None:
        client, route = transport.client(self.kit.settings), request.endpoint or ""
        facts = {"route": route} | ({"target": str(target)} if target else {})
        by: Caller = refused.by or ANONYMOUS
        kind = (limits.network(client.address), str(by.user_id or by.key_id), route, refused.code)
        try:
            if self._is_new(kind):
                run(self.kit, lambda work: _record(work, refused, facts), caller=by, client=client)
        except errors.Unavailable as away:
            told = {"code": refused.code, "cause": away.extra.get("cause")}
            log.warning("a refusal has no audit row", extra={"fields": told})
        except Exception:
            log.exception("a refusal could not be recorded")

    def _is_new(self, kind: tuple[str, ...]) -> bool:
        minute = int(self.kit.clock().timestamp()) // EDGE_WINDOW_S
        with self._lock:
            if minute != self._minute:
                self._seen, self._minute = set(), minute
            if kind in self._seen:
                return False
            self._seen.add(kind)
            return True


def _record(work: Work, refused: Refusal, facts: dict[str, Any]) -> None:
    audit.record(work, audit.Event.REQUEST_REFUSED, reason=refused.code, **facts)
