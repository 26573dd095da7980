"""Which address is the client's, when proxies stand in front. Each proxy appends the address that it was called from to
X-Forwarded-For; what stands left of that was written by somebody further away, and may be made up (RFC 7239,
section 8.1).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence

from typing_extensions import TypedDict

WITH_PORT = re.compile(r"([0-9.]+):[0-9]{1,5}|\[([0-9A-Fa-f:.]+)\](?::[0-9]{1,5})?")
MOST = 10  # as many proxies as TRUSTED_PROXIES may name


class Choice(TypedDict):
    trusted_proxies: int
    address: str | None


def split(headers: Iterable[str]) -> list[str]:
    """The entries of X-Forwarded-For, or -Proto, in the order in which they were appended; several headers count as one
    list.
    """
    joined = ",".join(headers)
    return joined.split(",") if joined else []


def address(hops: Sequence[str], peer: str, trusted: int) -> str:
    """The client's address: the entry that the outermost of `trusted` proxies appended, or the peer. What cannot be
    read as an address is ignored. Empty if the peer has none either.
    """
    return (_named(hops, trusted) if trusted else None) or read(peer) or ""


def is_clear(schemes: Sequence[str], trusted: int) -> bool:
    """True if each of `trusted` proxies says by X-Forwarded-Proto how it was called, and nobody by https. One https is
    enough, for the ways inside of a platform may be clear, and who makes one up is the only one to lose by it. Fewer
    entries say nothing of the client: a proxy further in has written its own over the outer one's.
    """
    told = [scheme.strip().lower() for scheme in schemes]
    return len(told) >= trusted and not {"https", ""} & set(told)


def choices(hops: Sequence[str], peer: str) -> list[Choice]:
    """What each value of TRUSTED_PROXIES would make of a request, as far as its header goes; None for an entry that is
    no address.
    """
    near: list[Choice] = [{"trusted_proxies": 0, "address": read(peer)}]
    return near + [{"trusted_proxies": n, "address": _named(hops, n)} for n in range(1, min(len(hops), MOST) + 1)]


def read(text: str) -> str | None:
    """An IP address as it is compared and stored, an IPv4 one in IPv6 clothes as IPv4; None for anything else. Some
    proxies append the port too.
    """
    bare = WITH_PORT.fullmatch(text.strip())
    try:
        found = ipaddress.ip_address((bare[1] or bare[2]) if bare else text.strip())
    except ValueError:
        return None
    if isinstance(found, ipaddress.IPv6Address):
        return None if found.scope_id else str(found.ipv4_mapped or found)
    return str(found)


def _named(hops: Sequence[str], trusted: int) -> str | None:
    return read(hops[-trusted]) if len(hops) >= trusted else None
