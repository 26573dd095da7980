"""The port on which `flask courier` shows its figures and its health: that process answers nothing else."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from socketserver import TCPServer, ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import click
from flask import Flask

from app.config import Settings
from app.start import host

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

# What is shown, and what to hold meanwhile: one at a time asks the database, and leaves the courier its connections.
_asking = threading.Lock()
SHOWN: dict[str, AbstractContextManager[Any]] = {"/metrics": _asking, "/health": _asking, "/health/live": nullcontext()}
PATIENCE_S = 10.0  # from a connection to the end of its answer


class Handler(WSGIRequestHandler):
    def handle(self) -> None:
        """As the parent's, in bounded time, however slowly the other side writes or reads."""
        late = threading.Timer(PATIENCE_S, _cut, [self.connection])
        late.daemon = True
        late.start()
        try:
            super().handle()
        finally:
            late.cancel()

    def log_message(self, *_: Any) -> None:
        """The service writes its own line a request."""


def _cut(connection: socket.socket) -> None:
    with suppress(OSError):  # it has ended by itself
        connection.shutdown(socket.SHUT_RDWR)


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def server_bind(self) -> None:
        """As the parent's, which also asks the name server for the name of this machine, and may wait for it."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = "courier", self.server_address[1]
        self.setup_environ()

    def handle_error(self, *_: Any) -> None:
        """A reader that went away is no news."""


@contextmanager
def serving(app: Flask, settings: Settings) -> Iterator[None]:
    """Serve on METRICS_PORT while the block runs, if it is set. A port that is taken ends the command."""
    if not settings.metrics_port:
        yield
        return

    def shown(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if held := SHOWN.get(environ.get("PATH_INFO", "")):
            with held:
                return app.wsgi_app(environ, start_response)
        start_response("404 Not Found", [("Content-Length", "0")])
        return []

    try:
        server = make_server(host(settings), settings.metrics_port, shown, Server, Handler)
    except OSError as error:
        raise click.ClickException(
            f"METRICS_PORT: cannot listen on {settings.metrics_port} ({error.strerror})"
        ) from None
    thread = threading.Thread(target=server.serve_forever, name="courier-port", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
