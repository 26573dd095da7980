"""CORS: pages of other origins may call only if CORS_ORIGINS lists them, and only then with cookies."""

from __future__ import annotations

from flask import Flask, Response
from flask_cors import CORS

from app.config import Settings

MAX_AGE_S = 600


def install(app: Flask, settings: Settings) -> None:
    """Answer preflights and mark answers for the listed origins; every answer says that it goes by the origin. With
    none listed no header says anything.
    """
    if settings.cors_origins:
        CORS(
            app,
            origins=list(settings.cors_origins),
            supports_credentials=True,
            allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "X-Request-ID"],
            expose_headers=["X-Request-ID", "Retry-After"],
            max_age=MAX_AGE_S,
            always_send=False,
            vary_header=False,  # it would say so only to a listed origin, and only if there are two
        )

        @app.after_request
        def vary(response: Response) -> Response:
            response.vary.add("Origin")
            return response
