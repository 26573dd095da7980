"""Hashes of other systems: their own published vectors, and what a hostile row might hold."""

from __future__ import annotations

import time

import argon2
import bcrypt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.security import generate_password_hash

from app.crypto import legacy
from app.crypto.passwords import Hasher

ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
# (name, hash, password): from the tests of Django 4.1, argon2's reference and pyca/bcrypt, from crypt_blowfish's wrapper.c
# (the one of 98 characters), RFC 6070 and Werkzeug's tests (PBKDF2), and RFC 7914 (scrypt).
PUBLISHED = [
    ("argon2", "argon2$argon2i$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$YC9+jJCrQhs5R6db7LlN8Q", b"secret"),
    (
        "argon2",
        "argon2$argon2i$m=8,t=1,p=1$c29tZXNhbHQ$gwQOXSNhxiOxPOA0+PY10P9QFO4NAYysnqRt1GSQLE55m+2GYDt9FEjPMHhP2Cuf0nOEXXMo"
        "cVrsJAtNSsKyfg",
        b"secret",
    ),
    ("argon2", "argon2$argon2id$v=19$m=102400,t=2,p=8$Y041dExhNkljRUUy$TMa6A8fPJhCAUXRhJXCXdw", b"secret"),
    (
        "argon2",
        "argon2$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
        b"password",
    ),
    ("bcrypt", "$2b$04$cVWp4XaNU8a4v1uMRum2SO026BWLIoQMD/TXg5uZV.0P.uO8m3YEm", b"Kk4DQuMMfZL9o"),
    ("bcrypt", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", b"U*U"),
    ("bcrypt", "$2y$05$/OK.fbVrR/bpIqNJ5ianF.Sa7shbm4.OzKpvFnX1pQLmQW96oUlCq", b"\xa3"),
    (
        "bcrypt",
        "$2a$05$abcdefghijklmnopqrstuu5s2v8.iXieOjg/.AySBTTZIIVFJeBui",
        f"{ALPHABET}chars after 72 are ignored".encode(),
    ),
    ("pbkdf2", "pbkdf2_sha256$390000$seasalt$8xBlGd3jVgvJ+92hWPxi5ww0uuAuAnKgC45eudxro7c=", "lètmein".encode()),
    ("pbkdf2", "pbkdf2_sha1$390000$seasalt2$aDapRanzW8aHTz97v2TcfHzWD+I=", "lètmein".encode()),
    ("pbkdf2", "pbkdf2:sha1:4096$salt$4b007901b765489abead49d926f721d065a429c1", b"password"),
    (
        "pbkdf2",
        "pbkdf2:sha256:2$salt$ae4d0c95af6b46d32d0adff928f06dd02a303f8ef3c251dfd6e2d85a95474c43",
        b"password",
    ),
    (
        "scrypt",
        "scrypt:1024:8:16$NaCl$fdbabe1c9d3472007856e7190d01e9fe7c6ad7cbc8237830e77376634b3731622eaf30d92e22a3886ff109279d98"
        "30dac727afb94a83ee6d8360cbdfa2cc0640",
        b"password",
    ),
    (
        "scrypt",
        "scrypt:16384:8:1$SodiumChloride$7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2d5432955613f0fcf62"
        "d49705242a9af9e61e85dc0d651e40dfcf017b45575887",
        b"pleaseletmein",
    ),
]
MADE = [
    *(generate_password_hash("correct horse 7", f"pbkdf2:{digest}:1000") for digest in ("sha1", "sha256", "sha512")),
    generate_password_hash("correct horse 7"),  # scrypt
    generate_password_hash("correct horse 7", salt_length=64),
    bcrypt.hashpw(b"correct horse 7", bcrypt.gensalt(4)).decode(),
    f"argon2{argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash('correct horse 7')}",
]
HASHER = Hasher(memory_kib=8, time_cost=1, slots=1, queue=0)


@pytest.mark.parametrize(("name", "hashed", "password"), PUBLISHED)
def test_published_hashes_match_their_password_and_no_other(name: str, hashed: str, password: bytes) -> None:
    assert legacy.known(hashed)
    assert legacy.name(hashed) == name
    assert legacy.matches(hashed, password)
    assert not legacy.matches(hashed, b"x" + password)
    assert not legacy.matches(hashed, b"")


@pytest.mark.parametrize("hashed", MADE, ids=range(len(MADE)))
def test_hashes_that_the_libraries_make_match(hashed: str) -> None:
    assert legacy.known(hashed)
    assert HASHER.matches(hashed, b"correct horse 7")
    assert not HASHER.matches(hashed, b"wrong horse 7")
    assert HASHER.outdated(hashed)


def test_a_bare_argon2_hash_is_kept_with_django_s_prefix_so_that_ours_stay_ours() -> None:
    ours = HASHER.hash(b"x")
    assert not legacy.known(ours)
    assert not HASHER.outdated(ours)
    kept = legacy.kept(ours)
    assert kept == f"argon2{ours}"
    assert HASHER.matches(kept, b"x")
    assert HASHER.outdated(kept)
    assert legacy.kept(kept) == kept


def test_bcrypt_reads_up_to_72_bytes_and_up_to_a_nul_as_c_does() -> None:
    hashed = bcrypt.hashpw(b"a" * 72, bcrypt.gensalt(4)).decode()
    assert legacy.matches(hashed, b"a" * 72)
    assert legacy.matches(hashed, b"a" * 100)
    assert not legacy.matches(hashed, b"a" * 71)
    assert legacy.matches(bcrypt.hashpw(b"horse", bcrypt.gensalt(4)).decode(), b"horse\x00and more")


DIGEST = "ab" * 64
HOSTILE = [
    "",
    "hunter2",
    "correct horse battery staple",
    "5f4dcc3b5aa765d61d8327deb882cf99",
    "$1$salt$qJH7.N4xYta3aEG/dfqo/0",
    "sha1$seasalt$cff36ea83f5706ce9aa7454e63e431fc726b2dc8",
    "plain$$default",
    "md5$$c21f969b5f03d33d43e04f8f136e7682",
    "crypt$$ab1Hv2Lg7ltQo",
    "bcrypt_sha256$$2b$12$" + "a" * 53,
    "$2x$05$/OK.fbVrR/bpIqNJ5ianF.CE5elHaaO4EbggVDjb8P19RukzXSM3e",
    "$2b$31$cVWp4XaNU8a4v1uMRum2SO026BWLIoQMD/TXg5uZV.0P.uO8m3YEm",
    "$2b$15$cVWp4XaNU8a4v1uMRum2SO026BWLIoQMD/TXg5uZV.0P.uO8m3YEm",
    "$2b$03$cVWp4XaNU8a4v1uMRum2SO026BWLIoQMD/TXg5uZV.0P.uO8m3YEm",
    "$2b$04$cVWp4XaNU8a4v1uMRum2SP026BWLIoQMD/TXg5uZV.0P.uO8m3YEm",  # bits that no bcrypt writes
    "$2b$04$cVWp4XaNU8a4v1uMRum2SO026BWLIoQMD/TXg5uZV.0P.uO8m3YEm\n",
    "pbkdf2:sha256:99999999$salt$" + "ab" * 32,
    "pbkdf2:sha256:0$salt$" + "ab" * 32,
    "pbkdf2:sha256:-1$salt$" + "ab" * 32,
    "pbkdf2:sha256:1000$$" + "ab" * 32,
    "pbkdf2:sha256:1000$salt$" + "ab" * 31,
    "pbkdf2:sha1:1000$salt$" + "ab" * 20 + "a",
    "pbkdf2:md5:1000$salt$" + "ab" * 16,
    "pbkdf2:sha256$salt$" + "ab" * 32,  # Werkzeug always writes the iterations
    "pbkdf2_sha256$99999999$seasalt$8xBlGd3jVgvJ+92hWPxi5ww0uuAuAnKgC45eudxro7c=",
    "pbkdf2_sha256$1$sea\x00salt$8xBlGd3jVgvJ+92hWPxi5ww0uuAuAnKgC45eudxro7c=",
    "pbkdf2_sha256$1$seasalt$8xBlGd3jVgvJ",
    "pbkdf2_sha1$1$seasalt$8xBlGd3jVgvJ+92hWPxi5ww0uuAuAnKgC45eudxro7c=",
    f"scrypt:1048576:8:1$salt${DIGEST}",
    f"scrypt:131072:8:64$salt${DIGEST}",
    f"scrypt:2:1:9999999$salt${DIGEST}",
    f"scrypt:2:9999999:1$salt${DIGEST}",
    f"scrypt:32767:8:1$salt${DIGEST}",
    f"scrypt:1:8:1$salt${DIGEST}",
    f"scrypt:0:8:1$salt${DIGEST}",
    "scrypt:32768:8:1$salt$abcd",
    "$argon2id$v=19$m=4194304,t=1,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
    "$argon2id$v=19$m=65536,t=1000000,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
    "$argon2id$v=19$m=65536,t=2,p=255$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
    "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhb$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
    "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$" + "a" * 300,
    "argon2$$argon2id$",
    "$" * 200,
    "$2b$" * 5000,
    "a" * 10_000_000,
    "\u0661" * 20,
]


@pytest.mark.parametrize("hashed", HOSTILE, ids=lambda text: text[:40])
def test_what_is_no_hash_of_bearable_cost_is_not_known_and_costs_nothing(hashed: str) -> None:
    began = time.process_time()
    assert legacy.kept(hashed) is None
    assert not legacy.known(hashed)
    assert not legacy.matches(hashed, b"x")
    assert time.process_time() - began < 0.5


DEAREST = [
    "$2b$14$cVWp4XaNU8a4v1uMRum2SO026BWLIoQMD/TXg5uZV.0P.uO8m3YEm",
    "pbkdf2:sha512:2000000$salt$" + DIGEST,
    f"scrypt:131072:8:4$salt${DIGEST}",
    f"scrypt:2:8:131072$salt${DIGEST}",
    "argon2$argon2id$v=19$m=131072,t=8,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
]


@pytest.mark.slow
@pytest.mark.parametrize("hashed", DEAREST, ids=lambda text: text[:24])
def test_the_dearest_hash_that_is_known_takes_a_few_seconds_at_most(hashed: str) -> None:
    began = time.thread_time()
    assert legacy.known(hashed)
    assert not legacy.matches(hashed, b"x")
    assert time.thread_time() - began < 6


@given(st.text(max_size=80))
def test_text_is_no_hash(text: str) -> None:
    assert not legacy.matches(text, b"x")


CHEAP = ["$2b$04$cVWp4XaNU8a4v1uMRum2SO026BWLIoQMD/TXg5uZV.0P.uO8m3YEm", PUBLISHED[0][1], PUBLISHED[10][1]]


@given(st.sampled_from(CHEAP), st.data())
def test_a_hash_cut_short_or_with_a_piece_twice_raises_nothing(hashed: str, data: st.DataObject) -> None:
    begin, end = (data.draw(st.integers(0, len(hashed))) for _ in range(2))
    legacy.matches(hashed[:begin] + hashed[end:], b"x")
