"""`python -m app`: the service on waitress, where gunicorn does not run (Windows)."""

from __future__ import annotations

from waitress.server import create_server

from app import start
from app.delivery import dlt
from app.framing import LONGEST_BODY
from app.wsgi import app

LARGEST = 2 * LONGEST_BODY  # with the frames of chunks; of what is longer the service would hear once all has come
MOST_CONNECTIONS = 400  # `select` of Windows takes 512 sockets
IDLE_S = 15  # that a connection may lie between two requests, or with half of one
LOOKS_EVERY_S = 5  # for such

settings = start.load_or_exit()
try:
    server = create_server(
        app,
        host=start.host(settings),
        port=settings.port,
        threads=settings.web_threads,
        max_request_body_size=LARGEST,
        connection_limit=MOST_CONNECTIONS,
        channel_timeout=IDLE_S,
        cleanup_interval=LOOKS_EVERY_S,
        clear_untrusted_proxy_headers=False,  # TRUSTED_PROXIES says which of them count, as it does on gunicorn
    )
except OSError as error:
    told = f"PORT={settings.port} is not to be had: {error.strerror}; set another"
    raise SystemExit(f"Latchkey does not start:\n{told}") from None
start.greet(settings, dlt.remarks(settings))
server.run()
