"""Known answers for codes and keys."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from app.crypto import codes, ids
from app.crypto.ids import uuid7
from app.crypto.keys import KeyRing, Purpose, new_token, token_digest
from tests.people import Clock

RFC4226 = ["755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583", "399871", "520489"]
RFC6238 = [  # section B: Unix time, SHA-1, SHA-256, SHA-512 (8 digits, 30 s)
    (59, "94287082", "46119246", "90693936"),
    (1111111109, "07081804", "68084774", "25091201"),
    (1111111111, "14050471", "67062674", "99943326"),
    (1234567890, "89005924", "91819424", "93441116"),
    (2000000000, "69279037", "90698825", "38618901"),
    (20000000000, "65353130", "77737706", "47863826"),
]
SEED = b"12345678901234567890"


@pytest.mark.covers("nist N25")
@pytest.mark.parametrize(("counter", "value"), list(enumerate(RFC4226)))
def test_hotp_rfc_4226_appendix_d(counter: int, value: str) -> None:
    assert codes.hotp(SEED, counter.to_bytes(8), 6, "sha1") == value


@pytest.mark.covers("nist N25")
@pytest.mark.parametrize(("time", "sha1", "sha256", "sha512"), RFC6238)
def test_totp_rfc_6238_appendix_b(time: int, sha1: str, sha256: str, sha512: str) -> None:
    step = (time // 30).to_bytes(8)
    assert codes.hotp(SEED, step, 8, "sha1") == sha1
    assert codes.hotp((SEED * 2)[:32], step, 8, "sha256") == sha256
    assert codes.hotp((SEED * 4)[:64], step, 8, "sha512") == sha512


RING = KeyRing(["a" * 40, "b" * 40])


def test_a_code_can_be_said_again_and_only_with_its_key() -> None:
    factor = codes.new_factor()
    assert codes.derive(RING, RING.current, factor, 6) == codes.derive(RING, RING.current, factor, 6)
    others = {codes.derive(RING, key_id, factor, 9) for key_id in RING.ids}
    assert len(others) == 2
    with pytest.raises(KeyError):
        codes.derive(RING, "00000000", factor, 6)


@pytest.mark.covers("asvs 6.5.3", "asvs 6.5.4", "nist N19")
def test_codes_use_the_whole_range_evenly() -> None:
    drawn = [codes.derive(RING, RING.current, codes.new_factor(), 6) for _ in range(50_000)]
    assert all(len(code) == 6 and code.isdecimal() for code in drawn)
    for place in range(6):
        counted = Counter(code[place] for code in drawn)
        chi_square = sum((counted[str(d)] - 5000) ** 2 / 5000 for d in range(10))
        assert chi_square < 40, (place, counted)  # 9 degrees of freedom: p < 1e-5


@pytest.mark.covers("attack A15", "attack A16")
def test_a_digest_is_bound_to_challenge_purpose_and_subject() -> None:
    challenge, subject = uuid4(), uuid4()
    bound = {"challenge": challenge, "purpose": "signin", "subject": subject}
    digest = codes.digest(RING, RING.current, "123456", **bound)
    assert digest == codes.digest(RING, RING.current, "123456", **bound)
    for changed in ({"challenge": uuid4()}, {"purpose": "recovery"}, {"subject": uuid4()}, {"subject": None}):
        assert codes.digest(RING, RING.current, "123456", **(bound | changed)) != digest
    assert codes.digest(RING, RING.current, "123457", **bound) != digest
    assert codes.digest(RING, RING.ids[1], "123456", **bound) != digest


@pytest.mark.covers("asvs 11.4.4")
def test_each_purpose_has_its_own_key() -> None:
    keys = {RING.key(purpose, key_id) for purpose in Purpose for key_id in RING.ids}
    assert len(keys) == len(Purpose) * 2
    assert all(len(key) == 32 for key in keys)


def test_a_secret_gives_the_same_ids_and_keys_in_every_version() -> None:
    """What is stored names the key that made it: another way to derive either would orphan all of it."""
    ring = KeyRing(["k" * 32])
    assert ring.ids == ["98b9ecca"]
    assert ring.key(Purpose.CODES).hex() == "ea73756e665a9b9e80ca706313d32be2195169120baa414fdfb767559a6dd0fe"


def test_parts_of_a_mac_do_not_run_together() -> None:
    assert RING.mac(Purpose.CODES, "ab", "c") != RING.mac(Purpose.CODES, "a", "bc")
    assert RING.mac(Purpose.CODES, "ab") != RING.mac(Purpose.CODES, "ab", "")


@pytest.mark.covers("asvs 7.2.3", "asvs 11.5.1", "nist N38")
def test_tokens_are_256_random_bits_and_stored_as_digests() -> None:
    tokens = {new_token() for _ in range(10_000)}
    assert len(tokens) == 10_000
    assert {len(token) for token in tokens} == {43}
    assert token_digest("x") == "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"


def test_an_id_tells_when_it_was_made() -> None:
    now = datetime(2026, 11, 21, 10, 0, 0, 123_456, UTC)
    made = ids.uuid7(now)
    assert ids.made_at(made) == now.replace(microsecond=123_000)
    assert ids.earliest(now) <= made < ids.earliest(now + timedelta(milliseconds=1))


def test_ids_are_version_7_and_sort_by_time() -> None:
    clock = Clock()
    ids = [uuid7(clock()) for _ in range(2000)]
    assert ids == sorted(ids)
    assert len(set(ids)) == 2000
    assert {(i.version, i.variant) for i in ids} == {(7, "specified in RFC 4122")}
    same = [uuid7(clock.now) for _ in range(10_000)]
    assert same == sorted(same)
    assert len(set(same)) == 10_000
