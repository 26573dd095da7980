"""Requests whose length can be read in two ways, on the socket: one answer at most, and what hides in a body is no request.

A proxy that reads such a request the other way would give the hidden one to the next client (request smuggling). With
`python -m bench fuzz` there are more, at random.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from urllib.parse import urlsplit

import pytest

from bench.fuzz_people import Line, Told
from bench.fuzz_wire import BODY, HIDDEN, POST
from tests import lanes
from tests.service import Service, running
from tests.web.test_webhooks import PUBLIC, TOKEN

SIZE = len(BODY)
CHUNKED = b"Transfer-Encoding: chunked\r\n"
LAST = b"0\r\n\r\n"
NO_CODINGS = [b"identity", b"xchunked", b"chunked, identity", b"chunked, chunked", b"gzip, chunked", b"\x0bchunked", b"chunked\x0b",
              b"chunked;q=1", b'"chunked"', b"chunk", b"\xa0chunked", b""]  # fmt: skip
NO_NAMES = [b"Transfer-Encoding : chunked", b" Transfer-Encoding: chunked", b"Transfer-Encoding\t: chunked", b"Transfer-Encoding:\n chunked",
            b"X: a\nTransfer-Encoding: chunked", b"X: a\rTransfer-Encoding: chunked", b"Transfer-Encoding\x00: chunked"]  # fmt: skip
NO_LENGTHS = [b"+%d", b"-%d", b"%d, %d", b"0x%x", b"%d.0", b"1_%d", b"%d\x00", b"", b"%d %d", b"\xef\xbc\x95"]
NO_SIZES = [b"-%x", b"+%x", b"0x%x", b" %x", b"zz", b"", b"%x\x00", b"\xff"]


def sized(value: bytes) -> bytes:
    return b"Content-Length: " + value % ((SIZE,) * value.count(b"%")) + b"\r\n"


def probes() -> dict[str, bytes]:
    plain = sized(b"%d")
    found = {
        "length, then chunks": POST + sized(b"4") + CHUNKED + b"\r\n" + LAST + HIDDEN,
        "chunks, then length": POST + CHUNKED + sized(b"5") + b"\r\n" + LAST + HIDDEN,
        "chunks twice": POST + CHUNKED + CHUNKED.lower() + b"\r\n" + LAST + HIDDEN,
        "two lengths": POST + plain + sized(b"0") + b"\r\n" + BODY + HIDDEN,
        "two lengths, the other way": POST + sized(b"0") + plain + b"\r\n" + BODY + HIDDEN,
        "two equal lengths": POST + plain * 2 + b"\r\n" + BODY + HIDDEN,
        "chunks in HTTP/1.0": POST.replace(b"1.1", b"1.0") + CHUNKED + b"\r\n" + LAST + HIDDEN,
        "no line's end after a chunk": POST + CHUNKED + b"\r\n%x\r\n" % SIZE + BODY + LAST + HIDDEN,
        "more than a chunk's size": POST + CHUNKED + b"\r\n%x\r\n" % SIZE + BODY + b"XX\r\n" + LAST + HIDDEN,
        "chunks that end in LF": POST + CHUNKED + b"\r\n%x\n" % SIZE + BODY + b"\n0\n\n" + HIDDEN,
    }
    found |= {
        f"coding {name!r}": POST + b"Transfer-Encoding: %b\r\n" % name + sized(b"4") + b"\r\n" + LAST + HIDDEN
        for name in NO_CODINGS
    }
    found |= {f"name {name!r}": POST + name + b"\r\n" + sized(b"4") + b"\r\n" + LAST + HIDDEN for name in NO_NAMES}
    found |= {f"length {value!r}": POST + sized(value) + b"\r\n" + BODY + HIDDEN for value in NO_LENGTHS}
    found |= {
        f"size {value!r}": POST
        + CHUNKED
        + b"\r\n"
        + value % ((SIZE,) * value.count(b"%"))
        + b"\r\n"
        + BODY
        + b"\r\n"
        + LAST
        + HIDDEN
        for value in NO_SIZES
    }
    return found


PROBES = probes()


@pytest.fixture(scope="module")
def service(worker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with lanes.database("sqlite", f"framing_{worker}") as url:
        lanes.migrate(url)
        given = {"web_concurrency": 1, "docs": "false", "public_url": PUBLIC, "twilio_token": TOKEN}
        with running(url, tmp_path_factory.mktemp("framing"), **given) as started:
            yield started


def answers(service: Service, data: bytes, *, ends: bool = False) -> list[Told]:
    """All that come until the service closes, by itself or once the client `ends`."""
    line, found = Line(urlsplit(service.base).port or 0), []
    try:
        line.send(data)
        if ends:
            line.no_more()
        with suppress(EOFError, ConnectionError):
            while True:
                found.append(line.answer())
    finally:
        line.close()
    return found


@pytest.mark.slow
@pytest.mark.covers("asvs 4.2.1", "attack A54")
@pytest.mark.parametrize("name", PROBES)
def test_a_request_of_two_lengths_is_refused_and_hides_none(service: Service, name: str) -> None:
    found = answers(service, PROBES[name])
    assert [told.status for told in found] in ([400], [501], []), name


NO_CHUNKS = {
    "a trailer that is none": b"0\r\nbad header\r\n\r\n",
    "a trailer that is not allowed": b"0\r\nHost: x\r\n\r\n",
    "an extension without a name": b"1;=\r\na\r\n" + LAST,
    "no size": b"zz\r\n\r\n",
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "application/json"])
@pytest.mark.parametrize("name", NO_CHUNKS)
def test_broken_chunks_from_a_stranger_are_no_fault_of_the_door_for_reports(
    service: Service, name: str, kind: str
) -> None:
    head = f"POST /api/webhooks/twilio HTTP/1.1\r\nHost: bench\r\nContent-Type: {kind}\r\n".encode()
    found = answers(service, head + CHUNKED + b"\r\n" + NO_CHUNKS[name], ends=True)
    assert [told.status for told in found] == [400]
    assert "Traceback" not in service.log.read_text()


@pytest.mark.slow
def test_of_a_plain_request_what_follows_is_one_of_its_own(service: Service) -> None:
    """So that the probes are refused for their framing."""
    for whole in (POST + sized(b"%d") + b"\r\n" + BODY, POST + CHUNKED + b"\r\n%x\r\n" % SIZE + BODY + b"\r\n" + LAST):
        assert [told.status for told in answers(service, whole + HIDDEN, ends=True)] == [401, 200]
