"""Broken HTTP on the socket, for `fuzz`: each probe is answered or closed, and what it hides is never taken for a request."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from bench.fuzz_people import Line, NotHttp, Tally, Told

# RFC 9112, section 6.1: 501 is the answer to a transfer coding that the server does not know. 503 is the service's own.
NO_FAULTS = {501, 503}
MOST_HANGING = 40
HIDDEN = b"GET /health/live HTTP/1.1\r\nHost: hidden\r\n\r\n"
GET = b"GET /api/auth/me HTTP/1.1\r\nHost: bench\r\n\r\n"
LIVE = b"GET /health/live HTTP/1.1\r\nHost: bench\r\n\r\n"
BODY = json.dumps({"identifier": "nobody@example.com", "password": "wrong horse 77"}).encode()
POST = b"POST /api/auth/login HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
WHOLE = POST + b"Content-Length: %d\r\n\r\n%s" % (len(BODY), BODY)
CHUNKS = POST + b"Transfer-Encoding: chunked\r\n\r\n"


@dataclass(frozen=True)
class Probe:
    """`most`: answers that it may get. `refused`: whether each answer must be a 4xx, or 501."""

    data: bytes
    most: int = 1
    refused: bool = False


def some_bytes(dice: random.Random, most: int = 200) -> bytes:
    return dice.randbytes(dice.randint(1, most))


def truncated(dice: random.Random) -> Probe:
    whole = dice.choice([GET, LIVE, WHOLE, CHUNKS + b'5\r\n{"a":\r\n'])
    return Probe(whole[: dice.randrange(len(whole))])


def two_framings(dice: random.Random) -> Probe:
    """Content-Length and Transfer-Encoding together, in both orders and many spellings; a request hides in the body."""
    coding = dice.choice(
        [
            b"chunked",
            b"Chunked",
            b" chunked",
            b"\tchunked",
            b"chunked, chunked",
            b"identity",
            b"xchunked",
            b"x, chunked",
            b"chunked\x0b",
            b"chunked;q=1",
            b'"chunked"',
            b"chunked,",
            b"gzip, chunked",
            b"chunked, identity",
            b"\xa0chunked",
        ]
    )
    name = dice.choice([b"Transfer-Encoding", b"transfer-encoding", b"Transfer-Encoding ", b"Transfer_Encoding"])
    length = dice.choice([b"0", b"4", str(len(HIDDEN) + 5).encode()])
    lines = [b"%s: %s\r\n" % (name, coding), b"Content-Length: %s\r\n" % length]
    dice.shuffle(lines)
    known = name.lower() == b"transfer-encoding" or b" " in name
    return Probe(POST + b"".join(lines) + b"\r\n0\r\n\r\n" + HIDDEN, most=1 if known else 4, refused=known)


def lengths(dice: random.Random) -> Probe:
    """Content-Length twice, or as no number that HTTP knows."""
    size = len(BODY)
    odd = [b"+%d", b"-%d", b"%d, %d", b"0x%x", b"%d.0", b"1_%d", b"%d\x00", b"\x00%d", b"\xef\xbc\x95%d", b"", b"%d a"]
    if dice.random() < 0.5:
        other = dice.choice([size, size + 1, 0, 10**30])
        return Probe(
            POST + b"Content-Length: %d\r\nContent-Length: %d\r\n\r\n" % (size, other) + BODY + HIDDEN, 1, True
        )
    shape = dice.choice(odd)
    value = shape % ((size,) * shape.count(b"%"))
    return Probe(POST + b"Content-Length: " + value + b"\r\n\r\n" + BODY + HIDDEN, 1, True)


def chunks(dice: random.Random) -> Probe:
    """Sizes that are none, ends that are missing, trailers and extensions without end."""
    size = b"%x" % len(BODY)
    odd = [b"-" + size, b"+" + size, b"0x" + size, b" " + size, b"zz", b"", b"f" * 40, size + b"\x00", b"1_0", b"\xff"]
    ways = [
        dice.choice(odd) + b"\r\n" + BODY + b"\r\n0\r\n\r\n",
        size + b"\n" + BODY + b"\n0\n\n",
        size + b"\r\n" + BODY + b"0\r\n\r\n",  # no line's end after the data
        size + b"\r\n" + BODY + b"XX\r\n0\r\n\r\n",
        b"%x\r\n" % (len(BODY) + dice.choice([-3, 3])) + BODY + b"\r\n0\r\n\r\n",
    ]
    data = CHUNKS + dice.choice(ways) + HIDDEN
    return Probe(data, most=1, refused=True)


def chunks_that_are_long(dice: random.Random) -> Probe:
    size = b"%x" % len(BODY)
    ways = [
        size + b";" + b"x" * dice.choice([10, 5000, 70_000]) + b"\r\n" + BODY + b"\r\n0\r\n\r\n",
        size + b"\r\n" + BODY + b"\r\n0\r\nX-Trailer: " + some_bytes(dice) + b"\r\n\r\n",
        size + b"\r\n" + BODY + b"\r\n0\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"".join(b"1\r\n \r\n" for _ in range(dice.choice([50, 20_000]))) + b"0\r\n\r\n",
    ]
    return Probe(CHUNKS + dice.choice(ways))


def large(dice: random.Random) -> Probe:
    ways = [
        b"GET /" + b"a" * dice.choice([4000, 5000, 70_000]) + b" HTTP/1.1\r\nHost: bench\r\n\r\n",
        GET[:-2] + b"X: " + b"a" * dice.choice([8000, 9000, 70_000]) + b"\r\n\r\n",
        GET[:-2] + b"".join(b"X-%d: a\r\n" % n for n in range(dice.choice([99, 101, 3000]))) + b"\r\n",
        GET[:-2] + b"a" * dice.choice([8000, 70_000]) + b": 1\r\n\r\n",
        POST + b"Content-Length: %d\r\n\r\n" % 10 ** dice.randint(5, 30) + BODY,
        POST + b"Content-Length: 70000\r\n\r\n" + b" " * 70_000,
    ]
    return Probe(dice.choice(ways))


def control(dice: random.Random) -> Probe:
    """NUL and its like in every place of a request."""
    whole = dice.choice([GET, WHOLE])
    at = dice.randrange(whole.find(b"\r\n\r\n"))
    return Probe(whole[:at] + dice.choice([b"\x00", b"\x0b", b"\x7f", b"\xff", b"\x1b[2J"]) + whole[at:])


def line_ends(dice: random.Random) -> Probe:
    ways = [
        GET.replace(b"\r\n", b"\n"),
        GET.replace(b"\r\n", b"\r"),
        GET.replace(b"\r\n", b"\r\r\n"),
        GET.replace(b"\r\n", b"\n", 1),
        b"\r\n" * dice.randint(1, 5) + GET,
        GET[:-2] + b" folded: 1\r\n\r\n",
        GET[:-2] + b"X: 1\r\n\tfolded\r\n\r\n",
        GET[:-2] + b"X: a\nContent-Length: 5\r\n\r\n" + b"12345",
        GET[:-2] + b"X: a\rContent-Length: 5\r\n\r\n" + b"12345",
    ]
    return Probe(dice.choice(ways), most=2)


def targets(dice: random.Random) -> Probe:
    target = dice.choice(
        [
            b"http://bench/api/auth/me",
            b"https://elsewhere.example/",
            b"http://",
            b"http://[::1",
            b"*",
            b"//",
            b"/../../etc",
            b"bench:443",
            b"/%00",
            b"/%",
            b"/%zz",
            b"/\xff\xfe",
            b"/api/auth/me#x",
            b"/api/auth/me?%",
            b"?",
            b"",
            b"http://a@b:c/",
            b"/" + b"%2e%2e%2f" * 50,
            b"/api/auth/me;x",
            b"file:///etc/passwd",
            b"/" + some_bytes(dice).replace(b"\n", b""),
        ]
    )
    method = dice.choice([b"GET", b"POST", b"CONNECT", b"OPTIONS"])
    return Probe(method + b" " + target + b" HTTP/1.1\r\nHost: bench\r\n\r\n")


def methods(dice: random.Random) -> Probe:
    method = dice.choice(
        [
            b"TRACE",
            b"TRACK",
            b"PROPFIND",
            b"get",
            b"GeT",
            b"",
            b"G\x00T",
            b"GET,POST",
            b"QUERY",
            b"BREW",
            b"PRI",
            b"(",
            b"A" * 500,
            bytes(dice.choices(range(33, 127), k=dice.randint(1, 30))),
        ]
    )
    return Probe(method + dice.choice([b" ", b"  ", b"\t"]) + b"/api/auth/me HTTP/1.1\r\nHost: bench\r\n\r\n")


def versions(dice: random.Random) -> Probe:
    ways = [
        b"GET /health/live\r\n",
        b"GET /health/live\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + some_bytes(dice),
        b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n" + GET,
        *(
            b"GET / %s\r\nHost: bench\r\n\r\n" % each
            for each in (b"HTTP/0.9", b"HTTP/2", b"HTTP/3.0", b"HTTP/1.10", b"XTTP/1.1")
        ),
        *(
            b"GET / %s\r\nHost: bench\r\n\r\n" % each
            for each in (b"HTTP/1.", b"HTTP/11", b"http/1.1", b"HTTP/1.1 x", b"HTTP/-1.1")
        ),
    ]
    return Probe(dice.choice(ways), most=2)


def headers(dice: random.Random) -> Probe:
    odd = [
        b"Host: a\r\nHost: b", b": no name", b"no colon", b"Bad Name: 1", b"X: \xff\xfe", b"Connection: close, keep-alive, \xff",
        b"Expect: 100-continue", b"Expect: 200-ok", b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
        b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: x", b"Range: bytes=0-,-1,5-2", b"TE: trailers, chunked",
        b"X-Forwarded-For: " + b"1.1.1.1, " * 500, b"X-Forwarded-Proto: https", b"SCRIPT_NAME: /x", b"Content_Length: 5",
        b"Authorization: Bearer " + b"a" * 7000, b"Authorization: \x80\x81", b"Cookie: " + b"a=b; " * 1000, b"If-None-Match: \"" + b"a" * 5000,
        b"Accept-Language: " + b"a-" * 2000, b"Accept: */*;q=" + b"9" * 1000, b"Content-Type: \xff/\xff; charset=\xff", b"Host: " + b"a" * 5000,
        b"Host: [::1", b"Host: a b", b"Host:", b"Proxy: http://evil", b"X-Request-ID: " + some_bytes(dice).replace(b"\r", b"").replace(b"\n", b""),
    ]  # fmt: skip
    return Probe(dice.choice([LIVE, GET, WHOLE]).replace(b"Host: bench", dice.choice(odd), 1))


def pipelined(dice: random.Random) -> Probe:
    """Good requests in a row, and after them perhaps a broken one."""
    count = dice.randint(2, 20)
    good = b"".join(dice.choice([LIVE, GET]) for _ in range(count))
    return Probe(
        good + dice.choice([b"", b"\x00", some_bytes(dice), b"GET", b"GET / HTTP/9.9\r\n\r\n"]), most=count + 1
    )


def changed(dice: random.Random) -> Probe:
    """A good request with a few bytes changed, left out or put in."""
    data = bytearray(dice.choice([GET, LIVE, WHOLE, CHUNKS + b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)]))
    for _ in range(dice.randint(1, 6)):
        at, way = dice.randrange(len(data)), dice.randrange(3)
        if way == 0:
            data[at] = dice.randrange(256)
        elif way == 1:
            del data[at]
        else:
            data[at:at] = some_bytes(dice, 4)
    return Probe(bytes(data), most=3)


def noise(dice: random.Random) -> Probe:
    return Probe(some_bytes(dice, 2000), most=20)


KINDS: tuple[Callable[[random.Random], Probe], ...] = (
    truncated, two_framings, lengths, chunks, chunks_that_are_long, large, control, line_ends, targets, methods, versions,
    headers, pipelined, changed, noise,
)  # fmt: skip


Hanging = list[tuple[Probe, Line]]


def attack(port: int, count: int, dice: random.Random, tally: Tally, hanging: Hanging) -> None:
    """So many probes, each on a connection of its own; a good request now and then. A few are left hanging."""
    for number in range(count):
        if tally.over:
            break
        kind = dice.choice(KINDS)
        probe = kind(dice)
        if number % 50 == 0:
            _good(port, tally, dice)
        if len(hanging) < MOST_HANGING and dice.random() < 0.02:
            line = Line(port)
            _send(line, probe.data)
            hanging.append((probe, line))
        else:
            _try(port, kind.__name__, probe, tally)


def settle(hanging: Hanging, tally: Tally) -> None:
    """Those that were left hanging have been let go, or soon are."""
    for probe, line in hanging:
        _settle(line, "left hanging", probe, tally)
    hanging.clear()


def _try(port: int, kind: str, probe: Probe, tally: Tally) -> None:
    line = Line(port)
    if _send(line, probe.data):
        with suppress(OSError):  # closed already: what was answered is read below
            line.no_more()
    _settle(line, kind, probe, tally)


def _send(line: Line, data: bytes) -> bool:
    try:
        line.send(data)
    except OSError:  # it was refused before all was sent
        return False
    return True


def _settle(line: Line, kind: str, probe: Probe, tally: Tally) -> None:
    """Read until the service closes, and judge what came."""
    try:
        found, end = _read(line, kind, probe, tally)
    finally:
        line.close()
    told = " ".join(str(each.status) for each in found[:1]) or end
    tally.count(told if len(found) < 2 else "several")
    wrong = [each.status for each in found if each.status >= 500 and each.status not in NO_FAULTS]
    if wrong:
        tally.fault(f"{kind}: status {wrong[0]}", repr(probe.data))
    if len(found) > probe.most:
        tally.fault(f"{kind}: {len(found)} answers to at most {probe.most}", repr(probe.data))
    if probe.refused and any(each.status < 400 for each in found):
        tally.fault(f"{kind}: taken", repr(probe.data))


def _read(line: Line, kind: str, probe: Probe, tally: Tally) -> tuple[list[Told], str]:
    found: list[Told] = []
    while True:
        try:
            found.append(line.answer())
        except EOFError:
            return found, "closed"
        except TimeoutError:
            tally.fault(f"{kind}: neither answered nor closed", repr(probe.data))
            return found, "silent"
        except OSError:
            return found, "reset"
        except (NotHttp, ValueError) as error:
            tally.fault(f"{kind}: no HTTP came back: {error}", repr(probe.data))
            return found, "no HTTP"


def _good(port: int, tally: Tally, dice: random.Random) -> None:
    """Somebody else's request, under a name of its own: the answer must be to it, and to nothing that was smuggled in."""
    name = f"good-{dice.getrandbits(64):x}"
    line = Line(port)
    try:
        line.send(LIVE[:-2] + f"X-Request-ID: {name}\r\n\r\n".encode())
        told = line.answer()
    except (OSError, EOFError, NotHttp) as error:
        tally.count("good none")
        tally.fault(f"a good request was not answered: {type(error).__name__}", name)
        return
    finally:
        line.close()
    tally.count(f"good {told.status}")
    if told.status != 200 or told.headers.get("x-request-id") != name:
        tally.fault(f"a good request got {told.status}, or another one's answer", f"{name}: {told}")
