"""A steady load, so many requests a second whatever the answers do, from one thread; and what became of each."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Ask:
    method: str
    path: str
    body: Any = None
    token: str = ""

    def over_the_wire(self, kept: bool) -> bytes:
        body = b"" if self.body is None else json.dumps(self.body).encode()
        lines = [f"{self.method} {self.path} HTTP/1.1", "Host: bench", f"Content-Length: {len(body)}"]
        lines += ["Content-Type: application/json"] if body else []
        lines += [f"Authorization: Bearer {self.token}"] if self.token else []
        lines += [] if kept else ["Connection: close"]
        return "\r\n".join([*lines, "", ""]).encode() + body


@dataclass(frozen=True)
class Told:
    ask: Ask
    began: float
    took: float
    status: int  # 0: no answer
    why: str = ""
    retried: int = 0  # connections that were refused before this one
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass
class Line:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


class Load:
    """`asks`: what is asked next, called once a request. `ports`: asked in turn; a refused connection is tried at the
    next one, as a load balancer does. `kept`: connections are kept and used again, unless their server has closed them.
    """

    def __init__(
        self, asks: Callable[[], Ask], ports: Sequence[int], rate: float, *, kept: bool = False, patience: float = 60.0
    ) -> None:
        self._asks, self._ports, self._rate, self._kept = asks, ports, rate, kept
        self._patience = patience
        self._idle: list[Line] = []
        self._turn = itertools.count()
        self._over = threading.Event()
        self.told: list[Told] = []
        self.on_answer: Callable[[Told], None] = lambda _told: None

    @contextmanager
    def running(self) -> Iterator[Load]:
        """Under load; at the end every request that was sent has been answered or has failed."""
        thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="load")
        thread.start()
        try:
            yield self
        finally:
            self._over.set()
            thread.join()

    async def _run(self) -> None:
        began, sent, tasks = time.monotonic(), 0, set()
        while not self._over.is_set():
            await asyncio.sleep(max(0.0, began + sent / self._rate - time.monotonic()))
            sent += 1
            task = asyncio.create_task(self.one(self._asks()))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.gather(*tasks)
        self.close()

    def close(self) -> None:
        for line in self._idle:
            line.writer.close()

    async def one(self, ask: Ask) -> None:
        """Ask, and keep what became of it."""
        began = time.monotonic()
        told = Told(ask, began, 0.0, 0)
        try:
            async with asyncio.timeout(self._patience):
                told = await self._asked(ask, began)
        except TimeoutError:
            told = Told(ask, began, self._patience, 0, "no answer in time")
        except OSError as error:
            told = Told(ask, began, time.monotonic() - began, 0, type(error).__name__)
        self.told.append(told)
        self.on_answer(told)

    async def _asked(self, ask: Ask, began: float) -> Told:
        line, retried = await self._line()
        closing = True
        try:
            line.writer.write(ask.over_the_wire(self._kept))
            await line.writer.drain()
            head = (await line.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {n.strip().lower(): v.strip() for n, _, v in (row.partition(":") for row in head[1:] if row)}
            body = await line.reader.readexactly(int(headers.get("content-length", "0")))
            closing = not self._kept or headers.get("connection", "").lower() == "close"
        except asyncio.IncompleteReadError as error:
            raise ConnectionResetError("closed without an answer") from error
        finally:
            if closing:
                line.writer.close()
        if not closing:
            self._idle.append(line)
        return Told(ask, began, time.monotonic() - began, int(head[0].split()[1]), "", retried, headers, body)

    async def _line(self) -> tuple[Line, int]:
        while self._idle:
            line = self._idle.pop()
            if not line.reader.at_eof() and not line.writer.is_closing():
                return line, 0
            line.writer.close()
        first = next(self._turn)
        for retried in range(len(self._ports)):
            port = self._ports[(first + retried) % len(self._ports)]
            try:
                return Line(*await asyncio.open_connection("127.0.0.1", port)), retried
            except ConnectionRefusedError:
                if retried + 1 == len(self._ports):
                    raise
        raise AssertionError("unreachable")


def failed(told: Sequence[Told]) -> list[Told]:
    """The requests that got no answer, or one that is the service's fault."""
    return [one for one in told if one.status == 0 or one.status >= 500]


def until(check: Callable[[], Any], patience: float = 60.0) -> None:
    """Wait until something holds. Raises TimeoutError."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        with suppress(OSError):
            if check():
                return
        time.sleep(0.02)
    raise TimeoutError("it has not come")
