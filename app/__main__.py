"""`python -m app`: the service on waitress, where gunicorn does not run (Windows)."""

from __future__ import annotations

from waitress.server import create_server

from app import start
from app.wsgi import app

settings = start.load_or_exit()
server = create_server(
    app,
    host=start.host(settings),
    port=settings.port,
    threads=settings.web_threads,
    clear_untrusted_proxy_headers=False,  # TRUSTED_PROXIES says which of them count, as it does on gunicorn
)
print(start.welcome(settings), flush=True)  # noqa: T201 - for the person who started it
server.run()
