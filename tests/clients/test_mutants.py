"""The verifier, broken on purpose in many ways: each time, something hostile is let in that the tests know of."""

from __future__ import annotations

import importlib
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import latchkey_client
import pytest

from tests.clients import hostile
from tests.clients.stub import Stub

PACKAGE = Path(latchkey_client.__file__).parent
# name: file, then what stands there and what is put in its place
MUTANTS: dict[str, tuple[str, *tuple[tuple[str, str], ...]]] = {
    "any type": ("verifier.py", ('header.get("typ") != TYPE', "False")),
    "any header": ("verifier.py", ("not set(header) <= HEADER", "False")),
    "any length": ("verifier.py", ("len(token) > LONGEST", "False")),
    "no signature": ("verifier.py", ('OPTIONS: Any = {', 'OPTIONS: Any = {"verify_signature": False, ')),
    "any hash": (
        "verifier.py",
        ('if header["alg"] in ring.algorithms else ()', ""),
        ("algorithms=[key.algorithm]", 'algorithms=["HS256", "HS384", "HS512", "EdDSA"]'),
    ),
    "any audience": ("verifier.py", ('OPTIONS: Any = {', 'OPTIONS: Any = {"verify_aud": False, ')),
    "one audience of many": ("verifier.py", ('"strict_aud": True', '"strict_aud": False')),
    "any issuer": ("verifier.py", ("issuer=self._issuer,", "")),
    "never expires": ("verifier.py", ('claims["exp"] <= now - self._leeway', "False")),
    "from the future": ("verifier.py", ('claims["iat"] > now + self._leeway', "False")),
    "before its time": ("verifier.py", ('claims.get("nbf", 0) > now + self._leeway', "False")),
    "no session": ("verifier.py", ('("sub", "sid", "role", "jti")', '("sub", "role", "jti")')),
    "claims of any type": ("verifier.py", ("isinstance(text, str) and text", "text")),
    "empty claims": ("verifier.py", ("isinstance(text, str) and text", "isinstance(text, str)")),
    "times of any type": ("verifier.py", ("type(at) is int", "isinstance(at, int | float)")),
    "any amr": ("verifier.py", ("all(isinstance(word, str) for word in amr)", "True")),
    "any role": ("verifier.py", ("roles and caller.role not in roles", "False")),
    "any sign-in": ("verifier.py", ("max_age is not None and", "False and")),
    "the feed is not asked": ("verifier.py", ("if self.revocations and", "if False and")),
    "a token of the second of the revocation": ("revocations.py", ("issued_at <= revoked_at", "issued_at < revoked_at")),
    "a feed of any age": ("revocations.py", ("age is None or age > self._max_stale", "False")),
    "no feed at the start": ("revocations.py", ("age is None or age > self._max_stale", "age is not None and age > self._max_stale")),
    "redirects are followed": ("fetch.py", ("build_opener(_Here, ", "build_opener(")),
    "any address": ("fetch.py", ('parts.scheme == "https" or', "True or")),
    "keys for anything": ("keys.py", ('entry.get("use", "sig") != "sig"', "False")),
    "keys of any algorithm": ("keys.py", ('entry.get("alg", algorithm) != algorithm', "False")),
    "short RSA keys": ("keys.py", ("material.key_size < SMALLEST_RSA", "False")),
    "secrets from the JWKS": ("keys.py", ('ALGORITHMS = {', 'ALGORITHMS = {"oct None": "HS256", ')),
    "public keys without a kid": ("keys.py", ("if kid is None:\n            return []", "kid = kid or next(iter(self._keys), None)")),
    "a fetch for each token": ("keys.py", ("_age(self._tried_at) >= PAUSE_S", "True")),
    "short secrets": ("keys.py", ("len(secret.encode()) < SHORTEST", "False")),
    "an empty secret": ("keys.py", ("if secret.strip()]", "]"), ("len(secret.encode()) < SHORTEST", "False")),
    "a text as a list": ("keys.py", ("isinstance(secrets, str)", "False"), ("len(secret.encode()) < SHORTEST", "False")),
    "no audience asked for": ("verifier.py", ("not issuer or not audience", "False")),
    "a feed that is left out": ("verifier.py", (' or api_key == ""', "")),
    "any leeway": ("verifier.py", ("0 <= leeway <= 30", "True")),
}  # fmt: skip


@contextmanager
def broken(folder: Path, file: str, *changes: tuple[str, str]) -> Iterator[ModuleType]:
    """A copy of the package with other lines in it, imported in the place of the real one."""
    shutil.copytree(PACKAGE, folder / "latchkey_client", ignore=shutil.ignore_patterns("__pycache__"))
    path = folder / "latchkey_client" / file
    for old, new in changes:
        text = path.read_text()
        assert text.count(old) == 1, (file, old)
        path.write_text(text.replace(old, new))
    real = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == "latchkey_client"}
    sys.path.insert(0, str(folder))
    try:
        yield importlib.import_module("latchkey_client")
    finally:
        sys.path.remove(str(folder))
        for name in [name for name in sys.modules if name.split(".")[0] == "latchkey_client"]:
            del sys.modules[name]
        sys.modules.update(real)


def test_the_real_one_lets_nothing_in(stub: Stub) -> None:
    assert hostile.let_in(latchkey_client, stub) == set()


@pytest.mark.parametrize("name", MUTANTS)
def test_a_broken_one_is_found_out(name: str, stub: Stub, tmp_path: Path) -> None:
    with broken(tmp_path, *MUTANTS[name]) as mutant:
        assert mutant.__file__ != latchkey_client.__file__
        assert hostile.let_in(mutant, stub) != set()
