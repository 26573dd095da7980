"""A volley: many requests at the same instant, over connections that are open already.

All of each request but its last byte is sent beforehand and lies at the service, which waits for whole requests; then
the last bytes follow one after the other, within milliseconds. Threads at a barrier would be spread more widely.
"""

from __future__ import annotations

import json
import resource
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from http.cookies import SimpleCookie
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from bench.rig import soon
from tests.service import Service

PATIENCE_S = 120  # for one answer: the last waits for all before it
UNHEARD = (408, 503)  # too late, too busy: turned away before anything was decided
TRIES = 10
SPARE_FILES = 256


class Request(NamedTuple):
    path: str
    body: Any
    headers: dict[str, str] = {}


class Answer(NamedTuple):
    status: int  # 0: none came
    body: bytes
    cookie: str = ""  # what a browser would send of it from now on

    @property
    def said(self) -> Any:
        return json.loads(self.body or b"{}")

    @property
    def short(self) -> str:
        """Its status and the code of its refusal."""
        return f"{self.status} {self.said.get('code', '')}".strip()


@dataclass
class Volley:
    answers: list[Answer]  # to each request in turn
    unheard: Counter[str]  # answers of those that were turned away, and sent again
    within: float  # seconds between the first request and the last
    took: float  # seconds from the first request to the last answer
    fewest: int  # connections at the worker that had the fewest, about


class _Shot:
    """A request that is whole but for its last byte."""

    def __init__(self, base: str, asked: Request) -> None:
        data = json.dumps(asked.body).encode()
        self._line, self._last = HTTPConnection(urlsplit(base).netloc, timeout=PATIENCE_S), data[-1:]
        self._line.putrequest("POST", asked.path)
        usual = {"Content-Type": "application/json", "Content-Length": str(len(data))}
        for name, value in {**usual, **asked.headers}.items():
            self._line.putheader(name, value)
        self._line.endheaders(data[:-1])

    def fire(self) -> None:
        with suppress(OSError):  # then no answer comes either
            self._line.send(self._last)

    def answer(self) -> Answer:
        try:
            got = self._line.getresponse()
            return Answer(got.status, got.read(), _kept(got.headers.get_all("Set-Cookie", [])))
        except (OSError, HTTPException) as error:
            return Answer(0, json.dumps({"code": type(error).__name__}).encode())
        finally:
            self._line.close()


def _kept(set_cookies: Sequence[str]) -> str:
    kept = SimpleCookie("; ".join(each.partition(";")[0] for each in set_cookies))
    return "; ".join(f"{name}={morsel.value}" for name, morsel in kept.items() if morsel.value)


def fire(service: Service, path: str, bodies: Sequence[Any], **headers: str) -> Volley:
    """Post all of these to one place at once, as `fire_all` does."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return fire_all(service, [Request(path, body, named) for body in bodies])


def fire_all(service: Service, asked: Sequence[Request]) -> Volley:
    """Post all of these at once. Whoever is turned away unheard comes again, at once with the others like them."""
    volley = _once(service, asked)
    for _ in range(TRIES):
        turned_away = [n for n, answer in enumerate(volley.answers) if answer.status in UNHEARD]
        if not turned_away:
            break
        time.sleep(1)
        again = _once(service, [asked[n] for n in turned_away])
        for n, answer in zip(turned_away, again.answers, strict=True):
            volley.unheard[volley.answers[n].short] += 1
            volley.answers[n] = answer
        volley.took += again.took
    return volley


def _once(service: Service, asked: Sequence[Request]) -> Volley:
    _make_room(len(asked))
    before = _files(service)
    shots = [_Shot(service.base, each) for each in asked]
    with suppress(TimeoutError):  # until the workers have taken them all from the kernel
        soon(lambda: sum(_files(service)) - sum(before) >= len(asked), patience=3)
    at_each = [now - then for now, then in zip(_files(service), before, strict=True)]
    began = time.monotonic()
    for shot in shots:
        shot.fire()
    within = time.monotonic() - began
    answers = [shot.answer() for shot in shots]
    return Volley(answers, Counter(), within, time.monotonic() - began, max(0, min(at_each)))


def _files(service: Service) -> list[int]:
    """How many files each worker has open. The connections are all that grows by hundreds."""
    return [worker.num_fds() for worker in service.workers()]


def _make_room(count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count + SPARE_FILES:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(count + SPARE_FILES, hard), hard))
