"""Hostile JSON, parameters and headers to every operation of the document, for `fuzz`."""

from __future__ import annotations

import copy
import gzip
import json
import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode
from uuid import UUID

from bench.fuzz_people import GONE, Cast, Known, Line, NotHttp, Tally, Told, judge
from tests.people import DOCUMENT

JSON = "application/json"
WRITES = ("post", "put", "patch")
OPERATIONS = [
    (method.upper(), path, operation)
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
]
BOMB = gzip.compress(b" " * 10_000_000, 9)
CONFUSABLE = "аdmіn@ехаmрle.com"
# Texts that something on the way may take for more than a text. `\ud800` is a lone surrogate: JSON can write it.
TEXTS = [
    "", " ", "\x00", "a\x00b", "\r\nX: 1", "\x1b[2J", "\u202eevil", "\ud800", "\udfff\ud800", "é", "é", "ﬀ", "ß",
    "İ", "\u200b", "\ufeff", "\ufffe", "\U0010ffff", "👩‍👩‍👧" * 20, "ｊａｎｅ＠ｅｘａｍｐｌｅ．ｃｏｍ", CONFUSABLE, "٣٤٥٦٧٨", "１２３４５６",
    "' OR 1=1--", '"; DROP TABLE users;', "%s%n%x", "{{7*7}}", "${jndi:ldap://x}", "../../etc/passwd", "<script>", "%00",
    "null", "true", "NaN", "-1", "1e999", "0x41", "000000", "a@b", "@", "jane@", "a@" + "b." * 100 + "com", "+", "+91",
    "+" + "9" * 40, "9876543210;ext=1", "jane@[127.0.0.1]", "jane@пример.рф", "2026-11-21T10:00:00Z", "9999-12-31T23:59:59Z",
    "0000-00-00", "01a1fc6a-56ed-7069-9126-f35c15146f3c", "{01a1fc6a-56ed-7069-9126-f35c15146f3c}", "0" * 32, "a" * 255,
    "a" * 256, "a" * 257, "a" * 2049, "a" * 60_000, "ﷺ" * 1000, "e" + "\u0301" * 500, "." , "..", "/", "\\", "eyJhbGciOiJub25lIn0.e30.",
]  # fmt: skip
NUMBERS = [0, -1, 1, 2**31, 2**53, 2**63, 2**64, -(2**63), 10**400, 0.1, -0.0, 1e308, 5e-324]
OTHERS: list[Any] = [None, True, False, [], {}, [[]], [None], {"": ""}, {"$ne": None}, {"a": {"a": {}}}, [1, "a", {}]]


class Written(str):
    """JSON text that json.dumps would not write."""


WRITTEN = [
    Written(text)
    for text in (
        "NaN", "Infinity", "-Infinity", "1e400", "-1e400", "1" + "0" * 5000, "0123", ".5", "1.", "+1", "0x10", "1_000", "'a'", '"\\x41"',
        '"\\u12"', '"\\ud800\\u0041"', '"\t"', '"\x00"', "tru", "undefined", "[1,]", '{"a":1,}', "/* */1", "[" * 5000 + "]" * 5000,
        '{"a":' * 5000 + "1" + "}" * 5000, "[" * 30_000, '{"a":1,"a":2}', '{"a":1,"\\u0061":2}', "1 2", '"a" "b"',
    )
]  # fmt: skip
TYPES = [
    "", "text/plain", "application/xml", "application/x-www-form-urlencoded", "multipart/form-data", "multipart/form-data; boundary=x",
    "application/json; charset=utf-16", "application/json; charset=utf-7", "application/json;;;", "application/json, text/plain",
    "application/merge-patch+json", "application/problem+json", "APPLICATION/JSON", "application/json\t", "json", "/", "a/b" * 100,
    "application/json; charset=" + "x" * 2000, "application/msgpack", "text/json", "\xff/\xff",
]  # fmt: skip
PARAMETERS = [
    "", "%00", "%", "%zz", "%ff", "%ed%a0%80", "%2e%2e%2f", "%2F", "null", "-1", "0", "1e9", "9" * 40, "NaN", "a" * 300, "a" * 3000,
    "01a1fc6a-56ed-7069-9126-f35c15146f3c", "01A1FC6A56ED70699126F35C15146F3C", "%7B%7D", "[]", "'", "%0d%0aX:1", "%E2%80%AE", "+",
    "true", "2026-11-21", "2026-11-21T10:00:00Z", "9999-12-31T23:59:59-23:59", "0001-01-01", "%F0%9F%91%A9", "..;", ";", "user", "email",
]  # fmt: skip
HEADERS = {
    "Idempotency-Key": ["", " ", "a", "a" * 128, "a" * 129, "\xe9", "a\tb", '"'],
    "X-Request-ID": ["", "a" * 64, "a" * 65, "<x>", "\xff"],
    "Authorization": ["", "Bearer", "Bearer ", "Basic YTpi", "Bearer a b", "Bearer \xff", "Bearer " + "a" * 5000, "bearer eyJhbGciOiJub25lIn0.e30."],
    "User-Agent": ["", "\xff", "a" * 5000, "${jndi:ldap://x}"],
    "Accept-Language": ["*", "hi-IN;q=2", "a" * 500, ";q=", "\xff", "en;q=0, *;q=0"],
    "Accept": ["text/html", "*/*;q=0", "a", "application/xml"],
    "X-Forwarded-For": ["", "::", "256.1.1.1", "a, b", "1.1.1.1" + ", 1.1.1.1" * 200, "\xff", "[::1]:80"],
    "Cookie": ["session=", "session=\xff", "session=a; session=b", "challenge=" + "a" * 3000, ";;;=", "grant=\"a"],
    "Origin": ["null", "", "http://", "http://[", "https://evil.example", "http://\xff"],
    "If-None-Match": ["*", '"', 'W/"', '"a", "b"', "\xff"],
    "Content-Length": ["0", "1"],
    "Range": ["bytes=0-1", "bytes=-"],
    "Expect": ["100-continue"],
    "Transfer-Encoding": ["chunked"],
}  # fmt: skip


@dataclass
class Request:
    """One that would be right, until something of it is spoilt."""

    method: str
    path: str
    operation: dict[str, Any]
    query: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    value: Any = None  # what the body says
    refused: bool = False  # no operation with a body may take it
    astray: bool = False  # the path may be nobody's

    @property
    def target(self) -> str:
        return self.path + (f"?{self.query}" if self.query else "")

    def over_the_wire(self) -> bytes:
        given = {"Host": "bench", **self.headers}
        body = self.body
        if "Transfer-Encoding" in given:
            body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"
        elif "Content-Length" not in given and body is not None:
            given["Content-Length"] = str(len(body))
        lines = [f"{self.method} {self.target} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items())]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")


@dataclass
class Attacker:
    """One thread's: its connection, people, dice and what it has learnt."""

    port: int
    cast: Cast
    dice: random.Random
    tally: Tally
    known: Known = field(default_factory=Known)
    line: Line | None = None

    def attack(self, count: int) -> None:
        ways = [
            (method.lower() in WRITES and "requestBody" in operation) * 3 + 1 for method, _, operation in OPERATIONS
        ]
        for method, path, operation in self.dice.choices(OPERATIONS, ways, k=count):
            if self.tally.over:
                break
            request = self._right(method, path, operation)
            role, who = self.cast.headers(operation, path, self._key())
            request.headers |= who
            spoil = self.dice.choice(SPOILERS if request.value is not None else SPOILERS_WITHOUT_BODY)
            spoil(self.dice, request)
            if request.value is not None and request.body is None:
                request.body = dumped(request.value)
            self._ask(request, role, who, spoil.__name__)
        self._leave()

    def _key(self) -> str:
        return "every scope" if self.dice.random() < 0.7 else self.dice.choice(list(self.cast.keys))

    def _right(self, method: str, path: str, operation: dict[str, Any]) -> Request:
        made = Request(method, path, operation)
        queries = {}
        for parameter in operation.get("parameters", []):
            name, place = parameter["name"], parameter["in"]
            value = quote(self._value(name, parameter["schema"]), safe="")
            if place == "path":
                made.path = made.path.replace(f"{{{name}}}", value)
            elif place == "query" and self.dice.random() < 0.3:
                queries[name] = value
        made.query = "&".join(f"{name}={value}" for name, value in queries.items())
        if "requestBody" in operation:
            made.value = self._sample(operation)
            made.headers["Content-Type"] = JSON
        return made

    def _value(self, name: str, schema: dict[str, Any]) -> str:
        if schema.get("format") == "uuid":
            known = self.known.some(name, "id")
            return (
                self.dice.choice(known)
                if known and self.dice.random() < 0.5
                else str(UUID(int=self.dice.getrandbits(128)))
            )
        found = schema.get("enum") or self.known.some(name) or ["10"]
        return str(self.dice.choice(found))

    def _sample(self, operation: dict[str, Any]) -> Any:
        """The document's own example, with what exists in place of what does not."""
        name = operation["requestBody"]["content"][JSON]["schema"]["$ref"].rpartition("/")[2]
        sample = copy.deepcopy(DOCUMENT["components"]["schemas"][name]["examples"][0])
        for key in sample:
            known = self.known.some(key)
            if known and self.dice.random() < 0.5:
                sample[key] = self.dice.choice(known)
            elif key in ("email", "username", "device_id") and self.dice.random() < 0.5:
                sample[key] = f"x{self.dice.getrandbits(40)}" + ("@example.com" if key == "email" else "")
        return sample

    def _ask(self, request: Request, role: str, who: dict[str, str], way: str) -> None:
        data = request.over_the_wire()
        sent = f"{way}: {data[:1500]!r}"
        try:
            told = self._told(request, data)
        except (OSError, EOFError, NotHttp, ValueError) as error:
            self._leave()
            self.tally.count("none")
            self.tally.fault(f"no answer: {type(error).__name__} {error}"[:200], sent)
            return
        accepted = told.status < 300
        self.tally.count(str(told.status), accepted=accepted and request.method != "GET")
        if wrong := judge(request.method, request.target, told, astray=request.astray):
            self.tally.fault(f"{request.method} {request.operation['operationId']}: {wrong}", sent)
        if accepted and request.refused and request.value is not None:
            self.tally.fault(f"{request.method} {request.operation['operationId']}: took what is no body of its", sent)
        if accepted and "json" in told.headers.get("content-type", "") and len(told.body) < 100_000:
            self.known.learn(told.json)
        if told.code in GONE:
            self.cast.renew(role, *who.values())

    def _told(self, request: Request, data: bytes) -> Told:
        """The answer; on another connection if this one had ended, as any client does."""
        fresh = self.line is None
        self.line = self.line or Line(self.port)
        try:
            self.line.send(data)
            told = self.line.answer(bodiless=request.method == "HEAD")
        except (OSError, EOFError):
            self._leave()
            if fresh:
                raise
            return self._told(request, data)
        if not told.kept or request.headers.get("Content-Length"):  # what follows a length that lies is no request
            self._leave()
        return told

    def _leave(self) -> None:
        if self.line:
            self.line.close()
            self.line = None


def dumped(value: Any) -> bytes:
    """As JSON. What stands as Written goes in as it is; a lone surrogate becomes its escape."""
    held: list[str] = []

    def hold(part: Any) -> Any:
        if isinstance(part, Written):
            held.append(part)
            return f"@held{len(held) - 1}@"
        if isinstance(part, dict):
            return {key: hold(each) for key, each in part.items()}
        return part

    text = json.dumps(hold(value))
    for number, part in enumerate(held):
        text = text.replace(f'"@held{number}@"', part)
    return text.encode()


def _any(dice: random.Random) -> Any:
    return dice.choice(dice.choice([TEXTS, TEXTS, NUMBERS, OTHERS, WRITTEN]))


def a_field(dice: random.Random, request: Request) -> None:
    """One field is something else, or all are."""
    names = list(request.value) or ["otp"]
    for name in names if dice.random() < 0.2 else [dice.choice(names)]:
        request.value[name] = _any(dice)


def any_field(dice: random.Random, request: Request) -> None:
    """A field that the example leaves out, of the schema's."""
    name = request.operation["requestBody"]["content"][JSON]["schema"]["$ref"].rpartition("/")[2]
    fields = list(DOCUMENT["components"]["schemas"][name]["properties"])
    request.value[dice.choice(fields)] = _any(dice)


def a_part(dice: random.Random, request: Request) -> None:
    """A field is changed a little: longer, cut, one character another, or once more inside a list or an object."""
    name = dice.choice(list(request.value) or ["otp"])
    text = str(request.value.get(name, ""))
    at = dice.randrange(len(text) + 1)
    mark = dice.choice(TEXTS)[:5]
    request.value[name] = dice.choice(
        [text[:at], text[:at] + mark + text[at:], text.upper(), [text], {name: text}, text * 50]
    )


def left_out(dice: random.Random, request: Request) -> None:
    for name in list(request.value):
        if dice.random() < 0.5:
            del request.value[name]


def more_fields(dice: random.Random, request: Request) -> None:
    odd = [
        "__proto__",
        "constructor",
        "role",
        "is_admin",
        "id",
        "user_id",
        "",
        "\x00",
        "\ud800",
        "a" * 1000,
        "$where",
        "disabled",
    ]
    request.value |= {name: _any(dice) for name in dice.sample(odd, 3)}
    if dice.random() < 0.2:
        request.value |= {f"k{n}": n for n in range(dice.choice([100, 4000]))}


def no_object(dice: random.Random, request: Request) -> None:
    request.body = dice.choice(
        [
            b"[]",
            b"null",
            b'"x"',
            b"1",
            b"true",
            b"[{}]",
            b"{",
            b"}",
            b"{}{}",
            b"{},",
            b"//",
            b"\x00",
            b"\xff\xfe",
            b"{'a':1}",
            b"\n",
            dumped([request.value]),
            dumped(request.value)[:-1],
            dumped(request.value) + b"x",
            dumped(json.dumps(request.value)),
            b"[" * dice.choice([100, 60000]),
            b'{"a":' * dice.choice([100, 12000]),
            b"[" * 20000 + b"]" * 20000,
        ]
    )
    request.refused = True


def twice(_dice: random.Random, request: Request) -> None:
    """Each key stands twice."""
    text = dumped(request.value or {"a": 1}).decode()
    request.body = (text[:-1] + ", " + text[1:]).encode()
    request.refused = True


def other_letters(dice: random.Random, request: Request) -> None:
    """The same in another encoding, with a mark before it, or with bytes that are no UTF-8."""
    text = dumped(request.value)
    codec = dice.choice(["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig", "cp037", "utf-7"])
    spoilt = text[:-1] + dice.choice([b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf5\x80\x80\x80"]) + b"}"
    request.body = spoilt if dice.random() < 0.4 else text.decode().encode(codec)
    request.refused = codec != "utf-7" or request.body is spoilt  # of these characters UTF-7 may leave all as they are


def packed(dice: random.Random, request: Request) -> None:
    """With a Content-Encoding: the body is never unpacked, whatever it would become."""
    text = dumped(request.value)
    kind, request.body = dice.choice(
        [
            ("gzip", gzip.compress(text)),
            ("deflate", zlib.compress(text)),
            ("br", text),
            ("identity", text),
            ("gzip", BOMB),
            ("x", b""),
        ]
    )
    request.headers["Content-Encoding"] = kind
    request.refused = bool(request.body)


def other_type(dice: random.Random, request: Request) -> None:
    text = dumped(request.value)
    form = urlencode({key: str(value) for key, value in request.value.items()}).encode()
    parts = b'--x\r\nContent-Disposition: form-data; name="otp"\r\n\r\n1\r\n--x--\r\n'
    request.headers["Content-Type"] = dice.choice(TYPES)
    request.body = dice.choice([text, form, parts, b"<a/>", b""])


def too_long(dice: random.Random, request: Request) -> None:
    request.value["padding"] = "a" * dice.choice([64 * 1024, 65_400, 200_000])
    request.refused = len(dumped(request.value)) > 64 * 1024


def some_bytes(dice: random.Random, request: Request) -> None:
    """The right body with a few bytes changed."""
    data = bytearray(dumped(request.value))
    for _ in range(dice.randint(1, 4)):
        data[dice.randrange(len(data))] = dice.randrange(256)
    request.body = bytes(data)


def query(dice: random.Random, request: Request) -> None:
    names = [p["name"] for p in request.operation.get("parameters", []) if p["in"] == "query"] or ["limit", "a"]
    pairs = [
        f"{dice.choice([*names, '', '%00', 'a' * 100, '%ff'])}={dice.choice(PARAMETERS)}"
        for _ in range(dice.randint(1, 4))
    ]
    request.query = dice.choice(["&", "&", ";", "&&"]).join(pairs)


def path(dice: random.Random, request: Request) -> None:
    pieces = request.path.split("/")
    pieces[dice.randrange(1, len(pieces))] = dice.choice(PARAMETERS)
    request.path, request.astray = "/".join(pieces), True


def a_header(dice: random.Random, request: Request) -> None:
    name = dice.choice([each for each in HEADERS if each != "Content-Length" or request.value is not None])
    request.headers[name] = dice.choice(HEADERS[name])  # a length without a body is waited for, for 10 s


def nothing(_dice: random.Random, _request: Request) -> None:
    """It is right as it is: so that what is hostile meets a service in which something has happened."""


Spoiler = Callable[[random.Random, Request], None]
SPOILERS: tuple[Spoiler, ...] = (
    a_field, a_field, a_field, any_field, any_field, a_part, a_part, left_out, more_fields, no_object, twice, other_letters, packed,
    other_type, too_long, some_bytes, some_bytes, query, path, a_header, nothing,
)  # fmt: skip
SPOILERS_WITHOUT_BODY: tuple[Spoiler, ...] = (query, query, path, path, a_header, nothing)
