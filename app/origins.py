"""Origins as browsers write them: scheme, host in lower case, and a port only where it is not the usual one."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from app.delivery_config import names_a_host

ORIGIN = re.compile(r"https?://[a-z0-9.-]+(:[1-9][0-9]{0,4})?")
USUAL_PORTS = {"https": ":443", "http": ":80"}


def is_origin(text: str) -> bool:
    """True for an origin, with a port that is one, if any; the usual one may be named."""
    return bool(ORIGIN.fullmatch(text) and names_a_host(text))


def is_secure(origin: str) -> bool:
    """True for an origin whose pages a browser lets use passkeys."""
    return origin.startswith("https://") or urlsplit(origin).hostname == "localhost"


def is_covered(origin: str, domain: str) -> bool:
    """True if a page of this origin may use the passkeys of a domain: its host is the domain or lies below it."""
    return bool(domain) and f".{urlsplit(origin).hostname}".endswith(f".{domain}")


def origin_of(url: str) -> str:
    """The origin of an address as browsers write it: lower case, no path, no usual port."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.lower().removesuffix(USUAL_PORTS.get(parts.scheme, ''))}"
