"""What a WSGI server other than gunicorn loads, in each process: the application and its courier."""

from __future__ import annotations

import atexit

from app import create_app

app = create_app(migrates=False)
courier = app.extensions["courier"]
courier.start()
atexit.register(courier.stop)
