"""A TCP proxy that makes faults: what it does to connections can be changed while it runs."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Literal

Mode = Literal["pass", "delay", "hang", "reset", "refuse", "cut"]
RESET = struct.pack("ii", 1, 0)  # SO_LINGER on and 0 s: closing resets


@dataclass(eq=False)
class Wire:
    """One client's connection and the one to the server behind."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    cuts: bool = False  # the next answer is broken off

    def reset(self) -> None:
        for writer in (self.client, self.server):
            with suppress(OSError):
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            writer.transport.abort()


@dataclass
class Proxy:
    """Modes. `pass`: as if it were not there. `delay`: each piece waits `delay_s` in either direction. `hang`: takes
    connections and bytes, and passes nothing on until the mode changes. `reset`: every connection is reset, new ones
    too. `refuse`: the same, and nobody listens. `cut`: to each `every`th piece that holds `mark`, a few bytes of the
    answer come back, then both ends are reset: the server did what it was asked, and the client cannot know.
    """

    target: tuple[str, int]
    port: int = 0
    mode: Mode = "pass"
    delay_s: float = 0.0
    mark: bytes = b""
    every: int = 1
    marked: int = 0
    cuts: int = 0
    _wires: set[Wire] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._flows = asyncio.Event()
        self._server: asyncio.Server | None = None

    def become(self, mode: Mode, *, delay_s: float = 0.0, mark: bytes = b"", every: int = 1) -> None:
        """Change what is done, to connections that there are too."""
        self._do(self._become(mode, delay_s, mark, every))

    @contextmanager
    def running(self) -> Iterator[Proxy]:
        thread = threading.Thread(target=self._loop.run_forever, name="proxy")
        thread.start()
        try:
            self._do(self._become("pass", 0.0, b"", 1))
            yield self
        finally:
            self._do(self._close())
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join()
            self._loop.close()

    def _do(self, act: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(act, self._loop).result(10)

    async def _become(self, mode: Mode, delay_s: float, mark: bytes, every: int) -> None:
        self.mode, self.delay_s, self.mark, self.every = mode, delay_s, mark, every
        (self._flows.clear if mode == "hang" else self._flows.set)()
        if mode in ("reset", "refuse"):
            self._reset_all()
        if mode == "refuse":
            await self._stop_listening()
        elif self._server is None:
            self._server = await asyncio.start_server(self._meet, "127.0.0.1", self.port, backlog=256)
            self.port = self._server.sockets[0].getsockname()[1]

    async def _stop_listening(self) -> None:
        if self._server:
            self._server.close()
            self._server = None

    async def _close(self) -> None:
        await self._stop_listening()
        self._reset_all()
        mine = asyncio.current_task()
        others = [task for task in asyncio.all_tasks() if task is not mine]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def _reset_all(self) -> None:
        for wire in list(self._wires):
            wire.reset()

    async def _meet(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        try:
            await self._flows.wait()
            behind, server = await asyncio.open_connection(*self.target)
        except (OSError, asyncio.CancelledError):  # there is nobody behind, or this is the end and nothing has flowed
            Wire(client, client).reset()
            return
        wire = Wire(client, server)
        self._wires.add(wire)
        if self.mode == "reset":
            wire.reset()
        try:
            await asyncio.gather(self._pass_on(wire, reader, server), self._pass_on(wire, behind, client))
        finally:
            self._wires.discard(wire)

    async def _pass_on(self, wire: Wire, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while piece := await reader.read(65536):
                if self.mode == "delay":
                    await asyncio.sleep(self.delay_s)
                await self._flows.wait()
                if writer is wire.server:
                    self._look(wire, piece)
                elif wire.cuts:
                    self.cuts += 1
                    writer.write(piece[:3])
                    await writer.drain()
                    wire.reset()
                    return
                writer.write(piece)
                await writer.drain()
        writer.close()

    def _look(self, wire: Wire, piece: bytes) -> None:
        if self.mode == "cut" and self.mark in piece:
            self.marked += 1
            wire.cuts = self.marked % self.every == 0


@contextmanager
def proxy(port: int) -> Iterator[Proxy]:
    """A proxy before a port of this machine; its own is `port`."""
    with Proxy(("127.0.0.1", port)).running() as made:
        yield made
