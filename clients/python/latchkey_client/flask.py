"""Flask: decorators under the route's own, or a whole blueprint's `before_request`."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from flask import Flask, Response, current_app, g, request

from latchkey_client import problems
from latchkey_client.caller import Caller
from latchkey_client.errors import Refused
from latchkey_client.verifier import Verifier

P = ParamSpec("P")
R = TypeVar("R")
Decorator = Callable[[Callable[P, R]], Callable[P, R | Response]]


class Auth:
    def __init__(self, verifier: Verifier) -> None:
        self.verifier = verifier

    @property
    def caller(self) -> Caller:
        """Who sent this request. Only where a guard let them in."""
        found: Caller = g.latchkey_caller
        return found

    def user(self, view: Callable[P, R]) -> Callable[P, R | Response]:
        """Anybody who is signed in."""
        return self._guarded(view, self.check())

    def role(self, *roles: str, max_age: float | None = None) -> Decorator[P, R]:
        """Only callers with one of the roles, who signed in within `max_age` seconds if that is given."""
        if not roles:
            raise ValueError("name the roles that may pass")
        return lambda view: self._guarded(view, self.check(*roles, max_age=max_age))

    def recent(self, max_age: float) -> Decorator[P, R]:
        """Anybody who signed in, or stepped up, within `max_age` seconds (RFC 9470)."""
        return lambda view: self._guarded(view, self.check(max_age=max_age))

    def check(self, *roles: str, max_age: float | None = None) -> Callable[[], Response | None]:
        """A guard for `before_request`: the refusal, or None for who may pass. A browser's preflight, which carries no
        token (Fetch, section 3.2.2), passes where Flask answers it by itself and no view runs.
        """

        def refusal() -> Response | None:
            if request.method == "OPTIONS" and getattr(request.url_rule, "provide_automatic_options", False):
                return None
            try:
                header = request.headers.get("Authorization")
                g.latchkey_caller = self.verifier.admit(header, *roles, max_age=max_age)
            except Refused as refused:
                return self._answer(refused)
            return None

        return refusal

    def install(self, app: Flask) -> None:
        """Answer refusals that a view raises, as by `verifier.require`, in the same form."""
        app.register_error_handler(Refused, self._answer)

    def _guarded(self, view: Callable[P, R], check: Callable[[], Response | None]) -> Callable[P, R | Response]:
        @wraps(view)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R | Response:
            refusal = check()
            if refusal is not None:
                return refusal
            answer: R = current_app.ensure_sync(view)(*args, **kwargs)
            return answer

        return guarded

    def _answer(self, refused: Refused) -> Response:
        headers = problems.headers(refused, self.verifier.audience)
        return Response(problems.body(refused), refused.status, headers, mimetype=problems.CONTENT_TYPE)
