"""A name for the program that made a request, from a fixed list.

What a stranger sends as User-Agent must never stand in official mail: it could be a text with a link.
"""

from __future__ import annotations

PROGRAMS = (  # the first that is found; the order matters, for most pretend to be several
    ("Edg/", "Edge"),
    ("OPR/", "Opera"),
    ("SamsungBrowser/", "Samsung Internet"),
    ("Firefox/", "Firefox"),
    ("FxiOS/", "Firefox"),
    ("CriOS/", "Chrome"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
    ("okhttp/", "an Android app"),
    ("CFNetwork/", "an Apple app"),
    ("Dart/", "a mobile app"),
    ("curl/", "curl"),
    ("python-", "a Python program"),
    ("node", "a Node program"),
)
SYSTEMS = (
    ("Windows", "Windows"),
    ("Android", "Android"),
    ("iPhone", "an iPhone"),
    ("iPad", "an iPad"),
    ("Mac OS X", "a Mac"),
    ("CrOS", "ChromeOS"),
    ("Linux", "Linux"),
)


def name(user_agent: str) -> str:
    """`Firefox on Linux`, `an Android app`, or `an unknown program`."""
    program = next((said for mark, said in PROGRAMS if mark in user_agent), "an unknown program")
    system = next((said for mark, said in SYSTEMS if mark in user_agent), "")
    return f"{program} on {system}" if system else program
