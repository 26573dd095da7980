"""Text that somebody typed and others will read: what may stand in it, and its one spelling."""

from __future__ import annotations

import unicodedata

LONGEST_NAME = 100  # code points, of a person or of an API key
UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")  # Unicode's control characters, lone surrogates, line and paragraph separators


def is_printable(text: str) -> bool:
    """True if no character of a text steers a screen, breaks a line or cannot be encoded."""
    return not any(unicodedata.category(c) in UNPRINTABLE for c in text)


def composed(text: str) -> str:
    """The one spelling in which a text is stored (NFC)."""
    return unicodedata.normalize("NFC", text)


def named(text: str) -> str | None:
    """A name in its one spelling; None for what is none: empty, longer than a column, not printable. It is measured
    in that spelling, which a few characters make longer.
    """
    name = composed(text.strip(" "))
    return name if 0 < len(name) <= LONGEST_NAME and is_printable(name) else None
