"""Django: a middleware that puts `request.caller`, and decorators for views.

`LATCHKEY` in the settings is the Verifier. A guarded view, and a class whose `dispatch` is guarded, is exempt from
Django's CSRF check: who calls is read from the `Authorization` header alone, which no page of another site can send for
somebody. A guard on another method of a class comes after that check, and exempts nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse

from latchkey_client import problems
from latchkey_client.errors import Refused
from latchkey_client.verifier import Verifier

View = Callable[..., Any]


class Middleware:
    """Verifies once a request. A request without a good token goes on with `caller = None`: the views decide."""

    def __init__(self, get_response: Callable[[Any], Any]) -> None:
        self._get_response = get_response
        _verifier()

    def __call__(self, request: Any) -> Any:
        request.caller, request.caller_refused = None, None
        try:
            request.caller = _verifier().admit(request.headers.get("Authorization"))
        except Refused as refused:
            request.caller_refused = refused
        return self._get_response(request)

    def process_exception(self, _: Any, error: Exception) -> Any:
        """Answer refusals that a guard or a view raises, as by `verifier.require`."""
        return answer(error) if isinstance(error, Refused) else None


def user(view: View) -> View:
    """Anybody who is signed in."""
    return _guarded(view, (), None)


def role(*roles: str, max_age: float | None = None) -> Callable[[View], View]:
    """Only callers with one of the roles, who signed in within `max_age` seconds if that is given."""
    if not roles:
        raise ValueError("name the roles that may pass")
    return lambda view: _guarded(view, roles, max_age)


def recent(max_age: float) -> Callable[[View], View]:
    """Anybody who signed in, or stepped up, within `max_age` seconds (RFC 9470)."""
    return lambda view: _guarded(view, (), max_age)


def answer(refused: Refused) -> Any:
    """A refusal as problem+json."""
    headers = problems.headers(refused, _verifier().audience)
    return HttpResponse(problems.body(refused), problems.CONTENT_TYPE, refused.status, headers=headers)


def _verifier() -> Verifier:
    found = getattr(settings, "LATCHKEY", None)
    if not isinstance(found, Verifier):
        raise ImproperlyConfigured("LATCHKEY in the settings is a latchkey_client.Verifier")
    return found


def _let_pass(request: Any, roles: tuple[str, ...], max_age: float | None) -> None:
    """Raises Refused, which the middleware answers: a class of coroutines has nobody who would await an answer here."""
    if not hasattr(request, "caller_refused"):
        raise ImproperlyConfigured("latchkey_client.django.Middleware is missing in MIDDLEWARE")
    if request.caller_refused is not None:
        raise request.caller_refused
    _verifier().require(request.caller, *roles, max_age=max_age)


def _guarded(view: View, roles: tuple[str, ...], max_age: float | None) -> View:
    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        _let_pass(request, roles, max_age)
        return view(request, *args, **kwargs)

    @wraps(view)
    async def guarded_async(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        _let_pass(request, roles, max_age)
        return await view(request, *args, **kwargs)

    chosen: Any = guarded_async if iscoroutinefunction(view) else guarded
    chosen.csrf_exempt = True
    return chosen  # type: ignore[no-any-return] # either of the two
