"""Where a request ends (RFC 9112), while its bytes come. gunicorn's parser decides it again, by the same bytes."""

from __future__ import annotations

import re

LONGEST_HEAD = 40 * 1024
LONGEST_BODY = 64 * 1024  # a longer one is refused unread
LONGEST_CHUNKED = 2 * LONGEST_BODY  # with the sizes of its chunks, their extensions, and trailers
MOST_CHUNKS = 256  # each costs time here, and the parser copies what is left of the body
SPEAKS_1_1 = re.compile(rb"(?:\r\n)?[^\r\n]* HTTP/1\.[1-9]\r\n")
LENGTH = re.compile(rb"\r\ncontent-length[ \t]*:[ \t]*0*(\d+)[ \t]*\r\n", re.IGNORECASE)
DIGITS = len(str(LONGEST_BODY)) + 1  # of a length, without zeros before it: enough to say that it is too long
CHUNKED = re.compile(rb"\r\ntransfer-encoding[ \t]*:", re.IGNORECASE)
CHUNK = re.compile(rb"([0-9a-f]+)[ \t]*(?:;.*)?\Z", re.IGNORECASE | re.DOTALL)
EXPECTS = re.compile(rb"\r\nexpect[ \t]*:[ \t]*100-continue", re.IGNORECASE)


class Framing:
    """Of one request. However small the pieces are, what was looked at once is not looked at again."""

    def __init__(self) -> None:
        self.body = 0  # where it begins, once the head is there
        self.most: int | None = None  # of a request that is too long: the bytes that are worth reading
        self.expects_go_on = False
        self._length: int | None = None  # none if the body comes in chunks
        self._chunk = 0  # where the next one begins, or the trailers do
        self._chunks = 0
        self._announced = 0
        self._is_last = False
        self._looked = 0  # no end of what is looked for begins before here

    def is_whole(self, data: bytearray) -> bool:
        """True if the request can be answered without waiting for more: all is there, or it is refused as it is.
        `data` is everything that came, and only grows.
        """
        if not self.body:
            self._find_head(data)
        if self.most is not None or not self.body:
            return self.most is not None
        if self._length is not None:
            return self.body + self._length <= len(data)
        if self._has_last_chunk(data):
            return True
        if len(data) - self.body > LONGEST_CHUNKED:
            self.most = self.body
        return self.most is not None

    def _find_head(self, data: bytearray) -> None:
        end = self._find(data, b"\r\n\r\n", 0)
        if (len(data) if end < 0 else end) > LONGEST_HEAD:
            self.most = LONGEST_HEAD
        elif end >= 0:
            self.body = self._chunk = end + 4
            self._read_head(bytes(data[: end + 2]))

    def _read_head(self, head: bytes) -> None:
        self.expects_go_on = bool(SPEAKS_1_1.match(head) and EXPECTS.search(head))
        if CHUNKED.search(head):
            return
        found = LENGTH.search(head)  # none also if it is no number, which the parser refuses
        self._length = int(found[1][:DIGITS]) if found else 0
        if self._length > LONGEST_BODY:
            self.most = self.body

    def _has_last_chunk(self, data: bytearray) -> bool:
        while not self._is_last:
            end = self._find(data, b"\r\n", self._chunk)
            if end < 0:
                return False
            size_line = CHUNK.match(data, self._chunk, end)
            if size_line is None or data[self._chunk - 2 : self._chunk] != b"\r\n":
                return True  # the parser refuses it
            size = int(size_line[1], 16)
            self._chunks += 1
            self._announced += size
            if self._chunks > MOST_CHUNKS or self._announced > LONGEST_BODY:
                self.most = self.body
                return True
            self._is_last = size == 0
            self._chunk = end if self._is_last else end + 2 + size + 2
        return self._find(data, b"\r\n\r\n", self._chunk) >= 0

    def _find(self, data: bytearray, end: bytes, start: int) -> int:
        """Where an end is from `start` on, or -1. Between two finds nothing is looked for again."""
        found = data.find(end, max(start, self._looked - len(end) + 1))
        self._looked = len(data) if found < 0 else found
        return found
