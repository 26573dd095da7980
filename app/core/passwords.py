"""Passwords: which are accepted, and how they are compared. NIST SP 800-63B-4, section 3.1.1.2."""

from __future__ import annotations

import gzip
import re
import unicodedata
from collections.abc import Iterable
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from uuid import UUID

from sqlalchemy import bindparam, update

from app.crypto import legacy
from app.errors import Overloaded, Unavailable, ValidationFailed
from app.models import User
from app.work import Kit, Work, run

LONGEST = 256  # code points
LIST = Path(__file__).with_name("common_passwords.txt.gz")  # from zxcvbn (MIT): the commonest of 8 and more
PRODUCT = "latchkey"
DIGITS = re.compile(r"\d{1,4}$")


def accept(work: Work, password: str, about: Iterable[str | None], field: str = "password") -> None:
    """Raise ValidationFailed unless this may be somebody's password.

    `about`: what is known of the person (addresses, names). Values are compared whole, those of the person
    and of the product also with up to four digits behind; a long phrase that contains one passes. The shortest is
    measured as it is hashed, the longest as whichever keyboard may send it.
    """
    spelled = unicodedata.normalize("NFC", password)
    if len(spelled) < work.settings.password_min_length:
        raise _refused(field, "too_short", f"Use at least {work.settings.password_min_length} characters.")
    if len(unicodedata.normalize("NFD", password)) > LONGEST:
        raise _refused(field, "too_long", f"Use at most {LONGEST} characters.")
    whole = spelled.casefold()
    bare = DIGITS.sub("", whole)
    if whole in common() or bare in _context(work):
        raise _refused(field, "too_common", "This password is among those that are tried first. Choose another.")
    if not {whole, bare}.isdisjoint(form for part in about if part for form in _names(part)):
        raise _refused(field, "contains_identifier", "Do not use your own name or address as the password.")


def known_of(user: User) -> tuple[str | None, ...]:
    """What a user's password must not be."""
    return user.email, user.phone, user.username, user.name


def _refused(field: str, code: str, message: str) -> ValidationFailed:
    return ValidationFailed.field(field, code, message)


def _context(work: Work) -> set[str]:
    return {PRODUCT, *work.settings.roles, work.settings.brand_name.casefold().replace(" ", "")}


def _names(part: str) -> set[str]:
    part = unicodedata.normalize("NFC", part).casefold()
    spelled = {part, part.partition("@")[0], part.lstrip("+"), part.replace(" ", ""), *part.split()}
    return spelled | {DIGITS.sub("", form) for form in spelled} - {""}


@cache
def common() -> frozenset[str]:
    """The shipped list, lower case. Raises FileNotFoundError or ValueError if it is missing or empty."""
    words = frozenset(gzip.decompress(LIST.read_bytes()).decode().split())
    if len(words) < 3000:
        raise ValueError("the list of common passwords is too short")
    return words


def bytes_of(password: str) -> bytes:
    """What is hashed: the whole password in NFC, nothing trimmed, folded or cut."""
    return unicodedata.normalize("NFC", password).encode()


def hashed(work: Work, password: str) -> str:
    """Hash with no connection held. Raises Overloaded."""
    work.pause()
    return work.kit.hasher.hash(bytes_of(password))


def matches(work: Work, stored: str | None, password: str) -> bool:
    """Compare with no connection held; for nobody (None) the same work is done. Raises Overloaded.

    The answer is not a verdict yet: `lockout` settles it.
    """
    work.pause()
    if len(password) > LONGEST:
        return False
    return any(work.kit.hasher.matches(stored, spelled) for spelled in _spellings(stored, password))


def _spellings(stored: str | None, password: str) -> list[bytes]:
    """What a hash may have been made of: ours of the NFC form; another system's of whatever that keyboard sent, so of
    what is typed now, composed or taken apart. For a password in ASCII that is one and the same.
    """
    if not legacy.known(stored or ""):  # nobody's is looked at like anybody's
        return [bytes_of(password)]
    forms = (password, unicodedata.normalize("NFC", password), unicodedata.normalize("NFD", password))
    return [form.encode() for form in dict.fromkeys(forms)]


RENEWED = (
    update(User)
    .where(User.id == bindparam("who"), User.password_hash == bindparam("old"))
    .values(password_hash=bindparam("new"))
)


def renew(work: Work, user: User, password: str) -> None:
    """Put a hash of today's cost in place of an older one of a password that was right, once this unit is committed: in
    its time a right password would show where the verdict hides it. If it cannot be done now, the next sign-in does.
    """
    if user.password_hash and work.kit.hasher.outdated(user.password_hash):
        work.afterwards.append(partial(_renew, work.kit, user.id, user.password_hash, bytes_of(password)))


def _renew(kit: Kit, who: UUID, old: str, password: bytes) -> None:
    with suppress(Overloaded, Unavailable):
        values = {"who": who, "old": old, "new": kit.hasher.hash(password)}
        run(kit, lambda work: work.changes(RENEWED, **values))
