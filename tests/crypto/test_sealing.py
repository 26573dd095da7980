"""Sealed values: only their own ring, purpose and place open them."""

from __future__ import annotations

import base64

import pytest

from app.crypto.keys import KeyRing, Purpose
from app.crypto.sealing import seal, unseal

OLD, NEW = "o" * 20 + "0987654321zyxwvutsrq", "k" * 20 + "1234567890abcdefghij"
RING = KeyRing([OLD])


@pytest.mark.parametrize("plain", [b"", b"x", b"\x00" * 32, "\U0001f511 k\u00e9y".encode(), b"x" * 100_000])
def test_what_was_sealed_opens(plain: bytes) -> None:
    sealed = seal(RING, Purpose.ANSWERS, plain, "row")
    assert unseal(RING, Purpose.ANSWERS, sealed, "row") == plain
    assert plain.decode()[:20] not in sealed or len(plain) < 2


def test_two_seals_of_the_same_differ() -> None:
    assert len({seal(RING, Purpose.ANSWERS, b"same") for _ in range(100)}) == 100


@pytest.mark.covers("asvs 11.3.3")
def test_it_opens_in_its_own_place_only() -> None:
    sealed = seal(RING, Purpose.ANSWERS, b"secret", "ab", "c")
    for bound in [("a", "bc"), ("ab",), ("ab", "c", ""), ("c", "ab"), ()]:
        with pytest.raises(ValueError, match="broken"):
            unseal(RING, Purpose.ANSWERS, sealed, *bound)
    with pytest.raises(ValueError, match="broken"):
        unseal(RING, Purpose.CODES, sealed, "ab", "c")


@pytest.mark.covers("asvs 11.2.5")
def test_every_changed_byte_breaks_the_seal() -> None:
    key_id, _, body = seal(RING, Purpose.ANSWERS, b"secret").partition(".")
    data = base64.urlsafe_b64decode(body)
    for place in range(len(data)):
        changed = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        with pytest.raises(ValueError, match="broken"):
            unseal(RING, Purpose.ANSWERS, f"{key_id}.{base64.urlsafe_b64encode(changed).decode()}")


@pytest.mark.covers("asvs 11.2.2")
def test_an_earlier_key_of_the_ring_still_opens_and_one_that_left_does_not() -> None:
    sealed = seal(RING, Purpose.ANSWERS, b"secret")
    assert unseal(KeyRing([NEW, OLD]), Purpose.ANSWERS, sealed) == b"secret"
    with pytest.raises(KeyError):
        unseal(KeyRing([NEW]), Purpose.ANSWERS, sealed)
