"""One bounded GET of the service's own addresses."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

TIMEOUT_S = 5
LARGEST = 4 * 1024 * 1024  # 10,000 revocations are about 1 MiB
LOCAL = {"localhost", "127.0.0.1", "::1"}


class Failed(Exception):
    """The service did not answer, or not as it should."""


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    etag: str | None
    body: Any


class _Here(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """Follow nothing: the API key is for the address that was configured."""


_opener = urllib.request.build_opener(_Here)


def checked(url: str, *, plain_http: bool) -> str:
    """A configured address, if keys may come from it: https, or on this machine. Raises ValueError."""
    parts = urlsplit(url)
    if parts.scheme == "https" or (parts.scheme == "http" and (plain_http or parts.hostname in LOCAL)):
        return url
    raise ValueError(f"{url}: use https, or allow a private network by plain_http=True")


def get(url: str, headers: Mapping[str, str]) -> Reply:
    """GET a JSON document; its body where the status is 200. Raises Failed."""
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
