"""FastAPI: the caller as a dependency. `Depends(auth.user)`, `Depends(auth.role("doctor", "admin"))`."""

from collections.abc import Awaitable, Callable
from typing import Annotated, NoReturn

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from latchkey_client import problems
from latchkey_client.caller import Caller
from latchkey_client.errors import Refused
from latchkey_client.verifier import Verifier

# For the document and its Authorize button; the header itself is read by the verifier.
BEARER = HTTPBearer(bearerFormat="JWT", auto_error=False)
Dependency = Callable[..., Awaitable[Caller]]


def _uncalled() -> NoReturn:
    """What FastAPI asks where it is given `auth.recent` itself: it would have the client say `max_age`."""
    raise TypeError("call it: Depends(auth.recent(600)), Depends(auth.role('doctor'))")


Said = Depends(_uncalled)  # by the program, never by a request


class Problem(HTTPException):
    """A refusal. Without `install` it is answered in FastAPI's own form, with the same status and headers."""

    def __init__(self, refused: Refused, headers: dict[str, str]) -> None:
        super().__init__(refused.status, refused.message, headers)
        self.refused = refused


class Auth:
    def __init__(self, verifier: Verifier) -> None:
        self.verifier = verifier

    def user(
        self, request: Request, _: Annotated[HTTPAuthorizationCredentials | None, Depends(BEARER)] = None
    ) -> Caller:
        """Anybody who is signed in. In a thread of the pool, because keys or revocations may have to be fetched."""
        try:
            return self.verifier.admit(request.headers.get("Authorization"))
        except Refused as refused:
            raise self._problem(refused) from None

    def role(self, *roles: Annotated[str, Said], max_age: Annotated[float | None, Said] = None) -> Dependency:
        """Only callers with one of the roles, who signed in within `max_age` seconds if that is given."""
        if not roles:
            raise ValueError("name the roles that may pass")
        return self._dependency(roles, max_age)

    def recent(self, max_age: Annotated[float, Said]) -> Dependency:
        """Anybody who signed in, or stepped up, within `max_age` seconds (RFC 9470)."""
        return self._dependency((), max_age)

    def _dependency(self, roles: tuple[str, ...], max_age: float | None) -> Dependency:
        async def let_pass(caller: Annotated[Caller, Depends(self.user)]) -> Caller:
            try:
                self.verifier.require(caller, *roles, max_age=max_age)
            except Refused as refused:
                raise self._problem(refused) from None
            return caller

        return let_pass

    def install(self, app: FastAPI) -> None:
        """Answer refusals as problem+json."""

        def answer(_: Request, error: Exception) -> Response:
            refused = error.refused if isinstance(error, Problem) else error
            assert isinstance(refused, Refused)
            headers = problems.headers(refused, self.verifier.audience)
            return Response(problems.body(refused), refused.status, headers, problems.CONTENT_TYPE)

        app.add_exception_handler(Problem, answer)
        app.add_exception_handler(Refused, answer)

    def _problem(self, refused: Refused) -> Problem:
        return Problem(refused, problems.headers(refused, self.verifier.audience))
