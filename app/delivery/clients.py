"""A name for the program that made a request, from a fixed list.

What a stranger sends as User-Agent must never stand in official mail: it could be a text with a link.
"""

from __future__ import annotations

APP = "app"  # some app; the templates have the word for it
PROGRAMS = (  # the first that is found; the order matters, for most pretend to be several
    ("Edg/", "Edge"),
    ("EdgA/", "Edge"),
    ("EdgiOS/", "Edge"),
    ("OPR/", "Opera"),
    ("SamsungBrowser/", "Samsung Internet"),
    ("Firefox/", "Firefox"),
    ("FxiOS/", "Firefox"),
    ("CriOS/", "Chrome"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
    ("okhttp/", APP),
    ("CFNetwork/", APP),
    ("Dart/", APP),
    ("curl/", "curl"),
    ("python-", "Python"),
    ("node", "Node.js"),
)
SYSTEMS = (
    ("Windows", "Windows"),
    ("Android", "Android"),
    ("okhttp/", "Android"),
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Mac OS X", "Mac"),
    ("CFNetwork/", "iOS/macOS"),
    ("CrOS", "ChromeOS"),
    ("Linux", "Linux"),
)


def find(user_agent: str) -> tuple[str, str]:
    """Program and system, such as `Firefox` and `Linux`; empty what is not known."""
    return _first(PROGRAMS, user_agent), _first(SYSTEMS, user_agent)


def _first(names: tuple[tuple[str, str], ...], user_agent: str) -> str:
    return next((name for mark, name in names if mark in user_agent), "")
