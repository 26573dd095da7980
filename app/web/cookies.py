"""Cookies of the browser dialect, and from where a page may write.

Opaque values, `HttpOnly`, `SameSite=Strict`; in production `Secure` and under the `__Host-` prefix, so that no
sibling host can set them (RFC 6265bis, section 4.1.3.2).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

from flask import Response, request

from app.config import Settings
from app.errors import CrossSiteRequest

DEFAULT_PORTS = {"http": 80, "https": 443}
# What a browser forgets when somebody signs out (W3C Clear Site Data). Not "cookies": that would clear those of every
# other service under the same registrable domain; ours are cleared by name.
FORGOTTEN = '"cache", "storage"'
OWN_PAGES = (None, "same-origin")  # what Sec-Fetch-Site says of them; None: no browser of today


class Jar(StrEnum):
    SESSION = "session"
    CHALLENGE = "challenge"  # between the password and the code
    GRANT = "grant"  # between a recovery code and the new password


@dataclass(frozen=True, slots=True)
class Baked:
    """A reply with cookies to set; an empty value clears one."""

    reply: dict[str, Any]
    cookies: dict[str, str] = field(default_factory=dict)  # by Jar
    leaves: bool = False  # somebody goes, perhaps from a browser that is not theirs alone


def read(settings: Settings, jar: Jar) -> str:
    """What the browser sent; empty if nothing."""
    return request.cookies.get(_name(settings, jar), "")


def write(settings: Settings, response: Response, baked: Baked) -> None:
    ages = {Jar.SESSION: settings.session_max_age, Jar.CHALLENGE: 600, Jar.GRANT: 600}
    for name, value in baked.cookies.items():
        jar = Jar(name)
        response.set_cookie(
            _name(settings, jar),
            value,
            max_age=ages[jar] if value else 0,
            path="/",
            secure=settings.production,
            httponly=True,
            samesite="Strict",
        )
    if baked.leaves:
        response.headers["Clear-Site-Data"] = FORGOTTEN


def _name(settings: Settings, jar: Jar) -> str:
    return f"__Host-{jar}" if settings.production else str(jar)


def refuse_other_sites(settings: Settings) -> None:
    """Raises CrossSiteRequest for a page of another site."""
    if is_foreign(settings):
        raise CrossSiteRequest()


def is_foreign(settings: Settings) -> bool:
    """True unless our own page, one of CORS_ORIGINS, or no browser at all is asking."""
    origin, site = request.headers.get("Origin"), request.headers.get("Sec-Fetch-Site")
    if origin in settings.cors_origins:
        return False
    return site not in OWN_PAGES or (origin is not None and not _is_own(settings, origin))


def _is_own(settings: Settings, origin: str) -> bool:
    """Without PUBLIC_URL by the host alone: behind a proxy the service does not see the scheme of its own address."""
    try:
        asked = _origin(origin)
    except ValueError:
        return False
    if settings.public_url:
        return asked == _origin(settings.public_url)
    return asked[0] in DEFAULT_PORTS and urlsplit(origin).netloc == request.host


def _origin(url: str) -> tuple[str, str | None, int | None]:
    """Scheme, host and port, the default one made plain (RFC 6454, section 4). Raises ValueError."""
    found = urlsplit(url)
    return found.scheme, found.hostname, found.port or DEFAULT_PORTS.get(found.scheme)
