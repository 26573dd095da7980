"""A request is whole with its last byte, however it comes, and what is refused is not waited for (`app/framing.py`)."""

from __future__ import annotations

import json
import re

import pytest

from app import framing
from app.framing import LONGEST_BODY, LONGEST_HEAD, MOST_CHUNKS, Framing

HEAD = b"POST /api/auth/refresh HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
BODY = json.dumps({"refresh_token": "one that nobody has ever had, of some length"}).encode()
SIZED = HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
CHUNKS = b"".join(b"%x;note=1\r\n%b\r\n" % (len(part), part) for part in (BODY[:1], b"\r\n\r\n", BODY[1:]))
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKS + b"0\r\nX-Sum: 1\r\n\r\n"


@pytest.mark.parametrize(
    "request_",
    [
        SIZED,
        HEAD + b"content-length: 000000000000000005 \r\n\r\n12345",
        HEAD + b"Content-Length: %b5\r\n\r\n12345" % (b"0" * 5000),
        CHUNKED,
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n000000000000000000005\r\n12345\r\n00\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
def test_a_request_is_whole_with_its_last_byte_and_not_before(request_: bytes) -> None:
    framing, data = Framing(), bytearray()
    for number, byte in enumerate(request_, 1):
        data.append(byte)
        assert framing.is_whole(data) is (number == len(request_)), number
    assert framing.most is None
    assert Framing().is_whole(data)
    assert Framing().is_whole(data + request_)


@pytest.mark.parametrize(
    "request_",
    [
        b"x" * (LONGEST_HEAD + 1),
        HEAD + b"X: a\r\n" * 8000 + b"\r\n",
        HEAD + b"Content-Length: 99999999\r\n\r\n",
        HEAD + b"Content-Length: %d\r\n\r\n" % (LONGEST_BODY + 1),
        HEAD + b"Content-Length: %b\r\n\r\n" % (b"1" * 5000),
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n20000\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n%b\r\n" % (b"f" * 5000),
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\n \r\n" * (MOST_CHUNKS + 1),
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;" + b"x" * LONGEST_BODY * 2,
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: " + b"x" * LONGEST_BODY * 2,
    ],
)
def test_what_is_too_long_is_neither_waited_for_nor_read(request_: bytes) -> None:
    framing = Framing()
    assert framing.is_whole(bytearray(request_))
    assert framing.most in (LONGEST_HEAD, request_.find(b"\r\n\r\n") + 4)


@pytest.mark.parametrize(
    "rest",
    [
        b"Content-Length: %d\r\n\r\n" % LONGEST_BODY + b"x" * LONGEST_BODY,
        b"Transfer-Encoding: chunked\r\n\r\n" + b"8000\r\n%b\r\n" % (b"x" * 0x8000) * 2 + b"0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * (MOST_CHUNKS - 1) + b"0\r\n\r\n",
    ],
)
def test_a_body_may_be_as_long_as_it_may_be(rest: bytes) -> None:
    framing = Framing()
    assert not framing.is_whole(bytearray(HEAD + rest[:-1]))
    assert framing.is_whole(bytearray(HEAD + rest))
    assert framing.most is None


@pytest.mark.parametrize(
    "rest",
    [
        b"Content-Length: many\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nno size\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n-1\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n1_44\r\n",  # Python reads it as a number, HTTP does not
        b"Transfer-Encoding: chunked\r\n\r\n 5\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n5\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n1\r\n{XX0\r\n",
    ],
)
def test_what_will_be_refused_anyway_is_not_waited_for(rest: bytes) -> None:
    framing = Framing()
    assert framing.is_whole(bytearray(HEAD + rest))
    assert framing.most is None


class Watched(bytearray):
    """What came, and how many bytes of it were looked at."""

    looked_at = 0

    def find(self, sub: bytes, start: int = 0) -> int:  # type: ignore[override]  # as much of it as is used
        self.looked_at += max(len(self) - start, 0)
        return super().find(sub, start)


class Counted:
    """An expression, and how often it was asked."""

    def __init__(self, expression: re.Pattern[bytes]) -> None:
        self.expression, self.times = expression, 0

    def search(self, data: bytes) -> re.Match[bytes] | None:
        self.times += 1
        return self.expression.search(data)


@pytest.mark.parametrize(
    "rest",
    [
        b"",
        b"Content-Length: 3000\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n" + b"80\r\n%b\r\n" % (b"x" * 128) * 200,
        b"Transfer-Encoding: chunked\r\n\r\n1;x=" + b"x" * 40_000,
        b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: " + b"x" * 40_000,
    ],
    ids=["head", "body", "chunks", "extension", "trailers"],
)
def test_a_byte_at_a_time_costs_no_more_than_all_at_once(monkeypatch: pytest.MonkeyPatch, rest: bytes) -> None:
    patterns = [Counted(getattr(framing, name)) for name in ("CHUNKED", "LENGTH", "EXPECTS")]
    for name, pattern in zip(("CHUNKED", "LENGTH", "EXPECTS"), patterns, strict=True):
        monkeypatch.setattr(framing, name, pattern)
    follows, data = Framing(), Watched(HEAD + b"a:\r\n" * 9000 + rest)
    assert not follows.is_whole(data)
    before = data.looked_at
    for _ in range(2000):
        data.append(120)
        assert not follows.is_whole(data)
    assert data.looked_at - before <= 2000 * 4
    assert sum(pattern.times for pattern in patterns) <= 3
