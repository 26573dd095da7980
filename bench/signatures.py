"""Signatures of tokens: what a key makes of a message, and what is near to that and is none.

Near are those of another algorithm with the same key, other encodings, numbers out of their range, and padding that is
not exact. A verifier that checks too little takes one of them: ECDSA with zeros (CVE-2022-21449), PKCS #1 padding that
is read rather than compared (Bleichenbacher, 2006; RFC 8017, section 8.2.2), an S that is not reduced (RFC 8032,
section 5.1.7), a point of small order.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterator
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import MD5, SHA1, SHA224, SHA256, SHA384, SHA512

N_P256 = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # order of the group (FIPS 186-4, D.1.2.3)
P_P256 = 2**256 - 2**224 + 2**192 + 2**96 - 1
L_25519 = 2**252 + 27742317777372353535851937790883648493  # order of the group (RFC 8032, section 5.1)
# y of each point of small order on edwards25519 (orders 4, 1, 8, 8 and 2), then 0 and 1 once more, not reduced.
SMALL_Y = tuple(bytes.fromhex(text) for text in (
    "00" * 32, "01" + "00" * 31,
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "ec" + "ff" * 30 + "7f", "ed" + "ff" * 30 + "7f", "ee" + "ff" * 30 + "7f",
))  # fmt: skip


def flipped(point: bytes) -> bytes:
    """An encoded point with the other sign of x."""
    return point[:-1] + bytes([point[-1] ^ 0x80])


SMALL = (*SMALL_Y, *(flipped(point) for point in SMALL_Y))  # every encoding of a point of small order
SHA256_OID, SHA512_OID = bytes.fromhex("0609608648016503040201"), bytes.fromhex("0609608648016503040203")
SHA1_OID, NULL = bytes.fromhex("06052b0e03021a"), b"\x05\x00"


def signature(key: Any, message: bytes) -> bytes:
    """As the service signs. `key`: a shared secret, in text or bytes, or a private key, which has one algorithm."""
    if isinstance(key, str | bytes):
        return mac(key, message)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return _ecdsa(key, message, SHA256())
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(message, padding.PKCS1v15(), SHA256())
    made: bytes = key.sign(message)
    return made


def mac(secret: str | bytes, message: bytes, digest: str = "sha256") -> bytes:
    return hmac.digest(secret.encode() if isinstance(secret, str) else secret, message, digest)


def _ecdsa(key: ec.EllipticCurvePrivateKey, message: bytes, digest: Any) -> bytes:
    r, s = decode_dss_signature(key.sign(message, ec.ECDSA(digest)))
    size = (key.curve.key_size + 7) // 8
    return r.to_bytes(size) + s.to_bytes(size)


def twin(key: Any, made: bytes) -> bytes | None:
    """The other signature that ECDSA has for what one signs: (r, n - s). It is as right, and whoever sees the one can
    make it. None for other algorithms, which have one only.
    """
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        return None
    return made[:32] + (N_P256 - int.from_bytes(made[32:])).to_bytes(32)


def relatives(key: Any, message: bytes) -> Iterator[bytes]:
    """Right signatures by the same key, of algorithms that are not its own."""
    if isinstance(key, str | bytes):
        yield from (mac(key, message, digest) for digest in ("sha384", "sha512", "sha1", "sha224", "md5"))
    elif isinstance(key, ec.EllipticCurvePrivateKey):
        yield from (_ecdsa(key, message, digest) for digest in (SHA384(), SHA512(), SHA1(), SHA224()))
        scalar = key.private_numbers().private_value
        for curve in (ec.SECP256K1(), ec.SECP384R1(), ec.SECP521R1()):
            yield _ecdsa(ec.derive_private_key(scalar, curve), message, SHA256())
    elif isinstance(key, rsa.RSAPrivateKey):
        yield from (key.sign(message, padding.PKCS1v15(), each) for each in (SHA384(), SHA512(), SHA1(), MD5()))
        for each in (SHA256(), SHA384(), SHA512()):
            yield key.sign(message, padding.PSS(padding.MGF1(each), each.digest_size), each)
    else:
        yield from (key.sign(hashlib.new(digest, message).digest()) for digest in ("sha512", "sha256"))


def near(key: Any, message: bytes) -> Iterator[bytes]:
    """Bytes that are no signature of this message by this key, though somebody might take them for one."""
    right = signature(key, message)
    yield from _encoded(right)
    if isinstance(key, str | bytes):
        yield from _near_mac(key, message, right)
    elif isinstance(key, ec.EllipticCurvePrivateKey):
        yield from _near_ecdsa(key, right)
    elif isinstance(key, rsa.RSAPrivateKey):
        yield from _near_rsa(key, message, right)
    else:
        yield from _near_ed25519(key, right)


def _encoded(right: bytes) -> Iterator[bytes]:
    """The same bytes, more, fewer, or in another order."""
    size = len(right)
    yield from (right + b"\x00", b"\x00" + right, right + b"\n", right * 2, right[:-1], right[1:], right[: size // 2])
    yield from (right[::-1], right[size // 2 :] + right[: size // 2], bytes(byte ^ 255 for byte in right))
    yield from (right.hex().encode(), base64.b64encode(right), base64.urlsafe_b64encode(right).rstrip(b"="))
    yield from (bytes(n) for n in (1, 31, 32, 33, 48, 63, 64, 65, 96, 114, 132, 256, 384, 512))
    yield from (b"\xff" * size, b"\x00" * (size - 1) + b"\x01", b"\x01" + b"\x00" * (size - 1))
    yield from (right[:at] + bytes([right[at] ^ 1 << at % 8]) + right[at + 1 :] for at in range(0, size, size // 32))


def _near_mac(key: str | bytes, message: bytes, right: bytes) -> Iterator[bytes]:
    head, _, body = message.partition(b".")
    yield from (right[:size] for size in (4, 8, 10, 12, 16, 20, 24, 28))
    yield from (
        mac(key, part) for part in (b"", head, body, head + body, message + b".", b"." + message, message + b".")
    )
    yield mac(key, base64.urlsafe_b64decode(body + b"=" * (-len(body) % 4)))
    yield from (hashlib.sha256(part).digest() for part in (message, message + right, mac(b"", message)))


def _near_ecdsa(key: ec.EllipticCurvePrivateKey, right: bytes) -> Iterator[bytes]:
    r, s = int.from_bytes(right[:32]), int.from_bytes(right[32:])
    n, most, x = N_P256, 2**256 - 1, key.public_key().public_numbers().x
    for one, other in (
        (0, 0), (0, s), (r, 0), (0, 1), (1, 0), (1, 1), (n, n), (n, s), (r, n), (0, n), (n, 0), (n, 1), (n - 1, n - 1),
        (n + 1, 1), (most, most), (P_P256, s), (s, r), (n - r, s), (r, s ^ 1), (r ^ 1, s), (x, x), (x, 1), (r, r),
    ):  # fmt: skip
        yield one.to_bytes(32) + other.to_bytes(32)
        yield encode_dss_signature(one, other)
    der = encode_dss_signature(r, s)
    yield from (der, der + b"\x00", b"\x30\x81" + der[1:], der[2:])
    yield from (encode_dss_signature(*pair) for pair in ((r, n - s), (r + n, s), (r, s + n)))
    yield from (number.to_bytes(33) + s.to_bytes(33) for number in (r, r + n))
    yield r.to_bytes(33) + (s + n).to_bytes(33)
    yield r.to_bytes(48) + s.to_bytes(48)
    yield from (bytes([mark]) + right for mark in (0x1B, 0x1C, 0x04, 0x30))  # with what tells which of two keys it was
    yield r.to_bytes(32, "little") + s.to_bytes(32, "little")


def _near_ed25519(key: Ed25519PrivateKey, right: bytes) -> Iterator[bytes]:
    point, s = right[:32], int.from_bytes(right[32:], "little")
    numbers = [s + n * L_25519 for n in range(1, 16)]
    numbers += [s | 1 << bit for bit in (253, 254, 255)] + [
        L_25519 - s,
        L_25519 - 1,
        L_25519,
        L_25519 + 1,
        0,
        1,
        2**256 - 1,
    ]
    yield from (point + number.to_bytes(32, "little") for number in numbers if number < 2**256 and number != s)
    public = key.public_key().public_bytes_raw()
    for other in (*SMALL, public, flipped(public), flipped(point)):
        yield from (other + number.to_bytes(32, "little") for number in (0, 1, s, L_25519))


def _near_rsa(key: rsa.RSAPrivateKey, message: bytes, right: bytes) -> Iterator[bytes]:
    n, size, s = key.public_key().public_numbers().n, len(right), int.from_bytes(right)
    for number in (0, 1, 2, n - 1, n, n + 1, n - s, s + n, s + 2 * n, s ^ 1, s - 1):
        yield number.to_bytes(size if number < 256**size else size + 1)
    yield from (right[::-1], right.lstrip(b"\x00")[:-1], s.to_bytes(size + 8))
    for block in _blocks(hashlib.sha256(message).digest(), size):
        yield _raised(key, int.from_bytes(block)).to_bytes(size)


def _raised(key: rsa.RSAPrivateKey, number: int) -> int:
    """RSASP1 by the second form of the key (RFC 8017, section 5.2.1)."""
    k = key.private_numbers()
    first, second = pow(number, k.dmp1, k.p), pow(number, k.dmq1, k.q)
    return second + (first - second) * k.iqmp % k.p * k.q


def _blocks(digest: bytes, size: int) -> Iterator[bytes]:
    """Padding of PKCS #1 with one thing wrong about it, signed as it stands (RFC 8017, sections 8.2 and 9.2)."""
    right = _info(SHA256_OID + NULL, digest)
    yield _padded(right, size, kind=0, fill=0)
    yield _padded(right, size, kind=2, fill=0x5A)
    yield _padded(right, size, kind=3)
    yield _padded(right, size, fill=0xFE)
    yield _padded(right, size, end=b"\x01")
    yield _padded(right, size, end=b"\xff")
    for fill in (b"\x00", b"\xff"):  # the hash is where one looks for it, and rubbish beside it
        for run in (0, 1, 7, 8, 32):
            front = b"\x00\x01" + b"\xff" * run + b"\x00" + right
            yield front + fill * (size - len(front))
            rest = size - len(right) - run - 4
            yield b"\x00\x01" + b"\xff" * run + b"\x00" + fill * rest + b"\x00" + right
    named = (
        SHA256_OID,
        SHA1_OID + NULL,
        SHA512_OID + NULL,
        NULL,
        SHA256_OID + b"\x05\x01\x00",
        SHA256_OID + b"\x04\x01x",
    )
    yield from (_padded(_info(algorithm, digest), size) for algorithm in named)
    twice = hashlib.sha256(digest).digest()
    for other in (digest[:-1], digest + b"\x00", b"", twice, digest.hex().encode(), bytes(32)):
        yield _padded(_info(SHA256_OID + NULL, other), size)
    for info in (digest, b"", b"\x30\x81" + right[1:], right + NULL, b"\x31" + right[1:], right[2:]):
        yield _padded(info, size)


def _info(algorithm: bytes, digest: bytes) -> bytes:
    """The DER of a DigestInfo."""
    inner = b"\x30" + bytes([len(algorithm)]) + algorithm + b"\x04" + bytes([len(digest)]) + digest
    return b"\x30" + bytes([len(inner)]) + inner


def _padded(info: bytes, size: int, *, kind: int = 1, fill: int = 0xFF, end: bytes = b"\x00") -> bytes:
    return b"\x00" + bytes([kind]) + bytes([fill]) * (size - len(info) - 3) + end + info
