"""What the code may use to hash, sign, seal and draw lots, and how it may compare what is secret."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from app.config import Settings
from app.crypto.keys import Purpose
from tests.pages import named, table
from tests.test_architecture import imports, sources
from tests.test_docs import ROOT

PAGE = (ROOT / "docs" / "cryptography.md").read_text()
KEYS = (ROOT / "docs" / "keys.md").read_text()

# Old algorithms, and why: codes by time are HMAC-SHA-1 for the sake of the apps; hashes of other systems until they are replaced.
OLD = {"app.crypto.totp", "app.crypto.legacy"}
JITTER = {"app.work", "app.delivery.retrying", "app.web.headers"}  # pauses that differ: nothing there is secret
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
# What hashes, signs, seals or draws lots; and of that, what is only how a key is read or an error called.
SOURCES = {"hashlib", "hmac", "secrets", "random", "ssl", "os", "uuid", "twilio.request_validator"} | LIBRARIES
PLUMBING = re.compile(
    r"^os\.(?!urandom|getrandom)|^uuid\.UUID$|exceptions\.|serialization\.|\.helpers\.(?!cose)|Error$|base64url_decode$"
    r"|to_jwk$|Algorithm$|AlgorithmIdentifier$|(Public|Private)Key$|SSLContext$"
)
NAMED = re.compile(r"(sha|hs|es|rs|ps|md)-?\d+|eddsa", re.IGNORECASE)
SECRET = re.compile(r"(digest|mac|secret|signature|password|otp|code|token)$")
# By ==, and whom it could tell anything.
HARMLESS = {
    "seals.digest(there) == seal.digest": "the operator, who checks stored rows against each other",
    "seal.previous != before.mac": "the same",
    "p.text != code": "nobody: both are in the message that is being written",
}


@pytest.mark.covers("asvs 11.4.1", "asvs 11.4.3", "asvs 11.3.1", "asvs 11.3.5")
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


def uses(module: str, tree: ast.Module) -> set[str]:
    """What a module uses of cryptography: names of the libraries, and inside its room algorithms that are only named."""
    modules: dict[str, str] = {}
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {a.asname or a.name.partition(".")[0]: a.name for a in node.names if _known(a.name)}
        elif isinstance(node, ast.ImportFrom) and node.module and _known(node.module):
            names |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
    found, names = set(), names | modules
    for node in ast.walk(tree):
        said = ast.unparse(node) if isinstance(node, ast.Attribute | ast.Name) else ""
        first, dot, rest = said.partition(".")
        if re.fullmatch(r"[\w.]+", said) and first in names and (rest or first not in modules):
            found.add(names[first] + dot + rest)
        if isinstance(node, ast.Constant) and module.startswith("app.crypto.") and NAMED.fullmatch(str(node.value)):
            found.add(str(node.value))
    return {_short(name) for name in found if not PLUMBING.search(name)}


def _known(name: str) -> bool:
    return name in SOURCES or name.partition(".")[0] in SOURCES


def _short(name: str) -> str:
    """The packages of the long ones say nothing more."""
    return re.sub(r"^(cryptography|webauthn|twilio)\.([a-z_0-9]+\.)*", "", name)


def bold(cell: str) -> set[str]:
    return set(re.findall(r"\*\*(.+?)\*\*", cell))


@pytest.mark.covers("asvs 11.1.2", "asvs 11.1.3")
def test_all_cryptography_of_the_code_is_in_the_inventory_and_no_more() -> None:
    listed: set[tuple[str, str]] = set()
    for _, _, modules, calls in table(PAGE, "Inventory"):
        listed |= {(f"app.{module}", call) for module in named(modules) for call in named(calls)}
    found = {(module, use) for module, tree in sources().items() for use in uses(module, tree)}
    assert found - listed == set(), "not in docs/cryptography.md"
    assert listed - found == set(), "not in the code any more"


@pytest.mark.covers("asvs 11.1.3")
@pytest.mark.parametrize(
    ("line", "use"),
    [
        ("import hashlib as h\nh.blake2b(b'')", "hashlib.blake2b"),
        ("from hashlib import md5\nmd5(b'')", "hashlib.md5"),
        ("from cryptography.hazmat.primitives.ciphers.aead import AESSIV as A\nA(b'')", "AESSIV"),
        ("import os\nos.urandom(8)", "os.urandom"),
        ("from uuid import uuid4\nuuid4()", "uuid.uuid4"),
        ("hmac_by_name = 'sha512'", "sha512"),
    ],
)
def test_a_new_use_is_found_under_whatever_name(line: str, use: str) -> None:
    assert uses("app.crypto.new", ast.parse(line)) == {use}


def test_the_inventory_has_the_parameters_of_the_settings_and_every_purpose() -> None:
    for name, value in re.findall(r"`([A-Z_\d]+)` = (\d+)", PAGE + KEYS):
        assert Settings.model_fields[name.lower()].default == int(value), name
    assert [named(row[0])[0] for row in table(PAGE, "Keys under")] == [p.value for p in Purpose]


@pytest.mark.covers("asvs 11.1.4")
def test_every_algorithm_has_a_way_out() -> None:
    used = set().union(*(bold(row[1]) for row in table(PAGE, "Inventory")))
    assert used == set().union(*(bold(row[0]) for row in table(PAGE, "If one falls")))
    assert len(used) >= 12
    assert all(len(row) == 3 and row[1] and row[2] for row in table(PAGE, "If one falls"))


@pytest.mark.covers("asvs 11.1.1", "asvs 13.1.4")
def test_every_secret_setting_has_a_time_and_a_way_to_be_changed() -> None:
    secret = {name.upper() for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)}
    rows = table(KEYS, "When to change which")
    assert sorted(name for row in rows for name in named(row[0])) == sorted(secret)
    assert all(len(row) == 3 and re.search(r"month|year|misused", row[1]) and row[2] for row in rows)
    anchors = {
        re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in re.findall(r"^## (.+)$", KEYS, re.MULTILINE)
    }
    assert set(re.findall(r"\(#([^)]+)\)", KEYS)) <= anchors


@pytest.mark.covers("asvs 11.1.1")
def test_every_key_that_makes_something_has_its_algorithm_and_who_shares_it() -> None:
    rows = table(KEYS, "# Keys: what")
    assert {name for row in rows for name in named(row[0])} == {
        "JWT_SECRET_KEY", "JWT_PRIVATE_KEY", "JWT_PRIVATE_KEY_FILE", "SECRET_KEY", "MASTER_SECRET", "API_KEY",
    }  # fmt: skip
    assert all(len(row) == 5 and row[4] for row in rows)
