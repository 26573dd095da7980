"""Password hashes that other systems made: Argon2, bcrypt, PBKDF2 and scrypt. Checked here, never made.

What is kept is the hash as Django or Werkzeug wrote it; a bare Argon2 one gets Django's prefix `argon2`, so that none
is taken for ours: theirs were made of the password as it was typed, ours of its NFC form.

A row from elsewhere must not cost a sign-in more than a second or two of one core and 128 MiB, so costlier ones are
not known. Until the first sign-in replaces it, a hash that costs more or less than ours takes another time to compare
than nobody's does, and a clock can tell.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable

import argon2
import bcrypt
from argon2.exceptions import InvalidHashError, VerificationError

LONGEST = 240  # characters; the column has 255
MOST_MEMORY = 128 * 2**20  # bytes of one Argon2 or scrypt hash
MOST_PASSES = 8  # of Argon2 over that memory
MOST_SCRYPT = 2**22  # N times r times p
MOST_ITERATIONS = 2_000_000  # of PBKDF2; Django 6.0 makes 1,200,000
NO_MEMORY = "Memory allocation error"  # the words of Argon2 for it (`argon2_error_message`)
LONGEST_BCRYPT = 72  # bytes; what is behind them, bcrypt never saw

_NUMBER, _SALT = r"([1-9][0-9]{0,7})", r"([!-#%-~]{1,64})"  # a salt is any printable ASCII but $
_B64 = r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2,3})?"
_ARGON2 = re.compile(
    rf"argon2(\$argon2(?:id|i|d)(?:\$v=(?:16|19))?\$m={_NUMBER},t={_NUMBER},p=(?:[1-9]|1[0-6])"
    rf"\$(?=[^$]{{11,86}}\$){_B64}\$(?=.{{16,86}}\Z){_B64})"
)
# The last characters of salt and digest hold bits that must be 0. Cost 14 is 16,384 rounds.
_BCRYPT = re.compile(r"(\$2[aby]\$(?:0[4-9]|1[0-4])\$[./A-Za-z0-9]{21}[.Oeu])([./A-Za-z0-9]{30}[.CGKOSWaeimquy26])")
_PBKDF2_WERKZEUG = re.compile(rf"pbkdf2:(sha1|sha256|sha512):{_NUMBER}\${_SALT}\$((?:[0-9a-f]{{2}}){{20,64}})")
_PBKDF2_DJANGO = re.compile(rf"pbkdf2_(sha1|sha256)\${_NUMBER}\${_SALT}\$([A-Za-z0-9+/]{{27,43}}=)")
_SCRYPT = re.compile(rf"scrypt:{_NUMBER}:{_NUMBER}:{_NUMBER}\${_SALT}\$([0-9a-f]{{128}})")

_argon2 = argon2.PasswordHasher()
Check = Callable[[bytes], bool]


def kept(hashed: str) -> str | None:
    """The form in which a hash from another system is stored; None if its kind is not known or it costs too much."""
    stored = f"argon2{hashed}" if hashed.startswith("$argon2") else hashed
    return stored if known(stored) else None


def known(stored: str) -> bool:
    """True for a stored hash that another system made and this module can check."""
    return _read(stored) is not None


def name(stored: str) -> str:
    """Which function made a stored hash: `argon2`, `bcrypt`, `pbkdf2` or `scrypt`. Only for known ones."""
    found = _read(stored)
    assert found is not None
    return found[0]


def matches(stored: str, password: bytes) -> bool:
    """True if these bytes made this hash, compared in constant time. False for a hash that is not known. Raises
    MemoryError.
    """
    found = _read(stored)
    if found is None:
        return False
    try:
        return found[1](password)
    except (ValueError, VerificationError, InvalidHashError) as error:
        return nothing_but_wrong(error)


def nothing_but_wrong(error: Exception) -> bool:
    """False, for what Argon2 says of a password that did not make a hash. Raises MemoryError if it could not tell."""
    if str(error) == NO_MEMORY:
        raise MemoryError from error
    return False


def _read(stored: str) -> tuple[str, Check] | None:
    """Name and check of a hash within bounds."""
    if len(stored) > LONGEST:
        return None
    for which, form, read in _READERS:
        if found := form.fullmatch(stored):
            check = read(*found.groups())
            return (which, check) if check else None
    return None


def _by_argon2(encoded: str, memory: str, time: str) -> Check | None:
    kib, most = int(memory), MOST_MEMORY // 1024
    if kib > most or kib * int(time) > most * MOST_PASSES:
        return None
    return lambda password: _argon2.verify(encoded, password)


def _by_bcrypt(salt: str, digest: str) -> Check:
    """C's bcrypt read up to a NUL or 72 bytes. Of $2a$, $2b$ and $2y$ the mends differ, not the hashes of text."""

    def check(password: bytes) -> bool:
        seen = password.partition(b"\x00")[0][:LONGEST_BCRYPT]
        return hmac.compare_digest(bcrypt.hashpw(seen, salt.encode())[len(salt) :], digest.encode())

    return check


def _by_pbkdf2(algorithm: str, iterations: str, salt: str, digest: bytes) -> Check | None:
    if int(iterations) > MOST_ITERATIONS or len(digest) != hashlib.new(algorithm).digest_size:
        return None
    return lambda password: hmac.compare_digest(
        hashlib.pbkdf2_hmac(algorithm, password, salt.encode(), int(iterations)), digest
    )


def _by_werkzeug(algorithm: str, iterations: str, salt: str, digest: str) -> Check | None:
    return _by_pbkdf2(algorithm, iterations, salt, bytes.fromhex(digest))


def _by_django(algorithm: str, iterations: str, salt: str, digest: str) -> Check | None:
    try:
        return _by_pbkdf2(algorithm, iterations, salt, base64.b64decode(digest, validate=True))
    except binascii.Error:
        return None


def _by_scrypt(n: str, r: str, p: str, salt: str, digest: str) -> Check | None:
    cost, block, lanes = int(n), int(r), int(p)
    memory = 128 * block * max(cost, lanes)
    if cost & (cost - 1) or cost < 2 or memory > MOST_MEMORY or cost * block * lanes > MOST_SCRYPT:
        return None
    room = 128 * block * (cost + lanes + 2) + 2**20  # what OpenSSL counts, and some

    def check(password: bytes) -> bool:
        made = hashlib.scrypt(password, salt=salt.encode(), n=cost, r=block, p=lanes, maxmem=room)
        return hmac.compare_digest(made, bytes.fromhex(digest))

    return check


_READERS: tuple[tuple[str, re.Pattern[str], Callable[..., Check | None]], ...] = (
    ("argon2", _ARGON2, _by_argon2),
    ("bcrypt", _BCRYPT, _by_bcrypt),
    ("pbkdf2", _PBKDF2_WERKZEUG, _by_werkzeug),
    ("pbkdf2", _PBKDF2_DJANGO, _by_django),
    ("scrypt", _SCRYPT, _by_scrypt),
)
