"""What the code may use to hash, sign, seal and draw lots, and how it may compare what is secret."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from tests.test_architecture import imports, sources

# Old algorithms, and why: codes by time are HMAC-SHA-1 for the sake of the apps; hashes of other systems until they are replaced.
OLD = {"app.crypto.totp", "app.crypto.legacy"}
JITTER = {"app.work", "app.delivery.courier", "app.web.headers"}  # pauses that differ: nothing there is secret
LIBRARIES = {"argon2", "bcrypt", "cryptography", "jwt", "webauthn"}
OTHERS = {
    "Crypto",
    "Cryptodome",
    "nacl",
    "jose",
    "authlib",
    "passlib",
    "OpenSSL",
    "ecdsa",
    "rsa",
    "pyotp",
    "itsdangerous",
}
SECRET = re.compile(r"(digest|mac|secret|signature|password|otp|code|token)$")
# By ==, and whom it could tell anything.
HARMLESS = {
    "seals.digest(there) == seal.digest": "the operator, who checks stored rows against each other",
    "seal.previous != before.mac": "the same",
    "p.text != code": "nobody: both are in the message that is being written",
}


@pytest.mark.covers("asvs 11.4.1", "asvs 11.4.3", "asvs 11.3.1")
def test_old_algorithms_are_named_in_two_modules_only() -> None:
    old = re.compile(r"^(md5|sha-?1|sha_1|des|3des|rc4|ecb|cbc|pkcs1v15)$", re.IGNORECASE)
    named = {module for module, word in words() if old.match(word)}
    assert named == {"app.crypto.totp"}, "legacy.py has them inside patterns only"
    ciphers = {name for module in sources() for name in imports(module) if ".ciphers" in name}
    assert all("aead" in name for name in ciphers)
    assert ciphers


def words() -> Iterator[tuple[str, str]]:
    """Every name, attribute and short text of the code."""
    for module, tree in sources().items():
        for node in ast.walk(tree):
            word = getattr(node, "id", None) or getattr(node, "attr", None) or getattr(node, "value", None)
            if isinstance(word, str):
                yield module, word


@pytest.mark.covers("asvs 6.5.3")
def test_lots_are_drawn_by_the_operating_system_but_for_pauses() -> None:
    assert {module for module in sources() if "random" in imports(module)} == JITTER
    assert not {module for module in sources() if {"numpy", "uuid1"} & imports(module)}


@pytest.mark.covers("asvs 11.2.1")
def test_cryptography_comes_from_known_libraries_and_stays_in_its_room() -> None:
    used = {name.split(".")[0] for module in sources() for name in imports(module)}
    assert not used & OTHERS
    for module in sources():
        known = {name.split(".")[0] for name in imports(module)} & LIBRARIES
        assert not known or module.startswith("app.crypto."), (module, known)


@pytest.mark.covers("asvs 11.2.4", "attack A72")
def test_what_is_secret_is_compared_in_constant_time() -> None:
    """No == on a digest, code or token in Python; a column in a query is compared by the database, by its index."""
    found = []
    for tree in sources().values():
        for node in ast.walk(tree):
            if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Eq | ast.NotEq):
                sides = [node.left, *node.comparators]
                if any(_is_secret(side) for side in sides) and not any(_is_plain(side) for side in sides):
                    found.append(ast.unparse(node))
    assert sorted(found) == sorted(HARMLESS)
    timed = [module for module, tree in sources().items() if "compare_digest" in ast.unparse(tree)]
    assert len(timed) >= 8


def _is_secret(side: ast.expr) -> bool:
    name = side.attr if isinstance(side, ast.Attribute) else side.id if isinstance(side, ast.Name) else ""
    return bool(SECRET.search(name))


def _is_plain(side: ast.expr) -> bool:
    """A constant, or a column of a table."""
    column = isinstance(side, ast.Attribute) and isinstance(side.value, ast.Name) and side.value.id[:1].isupper()
    return column or isinstance(side, ast.Constant)
