"""One bounded GET of the service's own addresses."""

from __future__ import annotations

import http.client
import io
import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

TIMEOUT_S = 5  # to connect, and then for the whole answer, however slowly it comes
LARGEST = 4 * 1024 * 1024  # 10,000 revocations are about 1 MiB
LOCAL = {"localhost", "127.0.0.1", "::1"}


class Failed(Exception):
    """The service did not answer, or not as it should."""


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    etag: str | None
    body: Any


class _InTime(io.RawIOBase):
    """What comes on a connection until a deadline. A timeout of the socket alone begins anew with each byte."""

    def __init__(self, connection: socket.socket, source: io.RawIOBase) -> None:
        self._connection, self._source = connection, source
        self._deadline = time.monotonic() + TIMEOUT_S

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer takes too long")
        self._connection.settimeout(left)
        return self._source.readinto(buffer)

    def close(self) -> None:
        self._source.close()
        super().close()


class _Answer(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_InTime(sock, self.fp.detach()))


class _Http(http.client.HTTPConnection):
    response_class = _Answer


class _Https(http.client.HTTPSConnection):
    response_class = _Answer


class _OverHttp(urllib.request.HTTPHandler):
    def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_Http, request)


class _OverHttps(urllib.request.HTTPSHandler):
    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_Https, request, context=self._context)  # type: ignore[attr-defined]  # as the parent's


class _Here(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """Follow nothing: the API key is for the address that was configured."""


_opener = urllib.request.build_opener(_Here, _OverHttp, _OverHttps)


def checked(url: str, *, plain_http: bool) -> str:
    """A configured address, if keys may come from it: https, or on this machine. Raises ValueError."""
    parts = urlsplit(url)
    if parts.scheme == "https" or (parts.scheme == "http" and (plain_http or parts.hostname in LOCAL)):
        return url
    raise ValueError(f"{url}: use https, or allow a private network by plain_http=True")


def get(url: str, headers: Mapping[str, str]) -> Reply:
    """GET a JSON document; its body where the status is 200. Raises Failed, also if it has not all come in time."""
    request = urllib.request.Request(url, headers={"Accept": "application/json", **headers})  # noqa: S310 - `checked` allows http and https only
    try:
        with _opener.open(request, timeout=TIMEOUT_S) as answer:
            text = answer.read(LARGEST + 1)
            if len(text) > LARGEST:
                raise Failed(f"{url} answered more than {LARGEST} bytes")
            return Reply(answer.status, answer.headers.get("ETag"), json.loads(text))
    except urllib.error.HTTPError as refused:
        with refused:
            return Reply(refused.code, None, None)
    except (OSError, http.client.HTTPException, ValueError, RecursionError) as error:
        raise Failed(f"{url}: {type(error).__name__}") from error
