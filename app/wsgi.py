"""What a WSGI server loads, in each worker after the fork: the application and its courier."""

from __future__ import annotations

import atexit

from app import create_app

app = create_app()
courier = app.extensions["courier"]
courier.start()
atexit.register(courier.stop)
