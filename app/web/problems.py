"""Every refusal as RFC 9457 problem+json: one total table from class to status; nothing else leaves as an error."""

from __future__ import annotations

import json
import logging
from typing import Any

from flask import Flask, Response, g
from werkzeug.exceptions import HTTPException

from app import errors
from app.errors import Refusal

STATUS: dict[type[Refusal], int] = {
    errors.MalformedJson: 400,
    errors.UnsupportedMediaType: 415,
    errors.PayloadTooLarge: 413,
    errors.ValidationFailed: 422,
    errors.InvalidCredentials: 401,
    errors.InvalidCode: 400,
    errors.ChallengeClosed: 410,
    errors.AccountLocked: 423,
    errors.RateLimited: 429,
    errors.ResendTooSoon: 429,
    errors.IdempotencyMismatch: 422,
    errors.TokenMissing: 401,
    errors.TokenInvalid: 401,
    errors.TokenExpired: 401,
    errors.TokenRevoked: 401,
    errors.TokenReused: 401,
    errors.InsufficientUserAuthentication: 401,
    errors.Forbidden: 403,
    errors.CrossSiteRequest: 403,
    errors.HttpsRequired: 403,
    errors.NotFound: 404,
    errors.MethodNotAllowed: 405,
    errors.UsernameTaken: 409,
    errors.Conflict: 409,
    errors.LastAdmin: 409,
    errors.Overloaded: 503,
    errors.Unavailable: 503,
}
TITLES = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    409: "Conflict",
    410: "Gone",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    422: "Unprocessable Content",
    423: "Locked",
    429: "Too Many Requests",
    500: "Internal Server Error",
    503: "Service Unavailable",
}
FAULT = "internal_error"
BODY_FIELDS = ("errors", "retry_after", "attempts_left", "max_age")

log = logging.getLogger("latchkey.web")


def answer(refused: Refusal) -> Response:
    """The problem document and headers of a refusal."""
    status = STATUS[type(refused)]
    g.cause = refused.extra.get("cause")
    extra = {k: refused.extra[k] for k in BODY_FIELDS if k in refused.extra}
    response = problem(status, refused.code, refused.message, **extra)
    if "retry_after" in extra:
        response.headers["Retry-After"] = str(extra["retry_after"])
    if status == 401:
        response.headers["WWW-Authenticate"] = _challenge(refused)
    return response


def problem(status: int, code: str, detail: str, **extra: Any) -> Response:
    g.code = code
    body = {
        "type": f"urn:latchkey:problem:{code}",
        "title": TITLES[status],
        "status": status,
        "detail": detail,
        "code": code,
        "request_id": g.get("request_id", ""),
        **extra,
    }
    return Response(json.dumps(body), status, mimetype="application/problem+json")


def _challenge(refused: Refusal) -> str:
    if isinstance(refused, errors.InsufficientUserAuthentication):
        text = "A more recent sign-in is required"
        return f'Bearer error="{refused.code}", error_description="{text}", max_age="{refused.extra["max_age"]}"'
    if isinstance(refused, errors.InvalidCredentials):
        return "Bearer"
    return 'Bearer error="invalid_token"'


def install(app: Flask) -> None:
    """Make every error of the app, Flask's own among them, a problem document."""
    by_status: dict[int, type[Refusal]] = {
        404: errors.NotFound,
        405: errors.MethodNotAllowed,
        413: errors.PayloadTooLarge,
        415: errors.UnsupportedMediaType,
        429: errors.RateLimited,
    }

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> Response:
        status = error.code or 500
        if status >= 500:  # Flask's own, for what was raised while an answer was being completed
            return fault(getattr(error, "original_exception", None) or error)
        if status not in by_status:
            return problem(400, errors.MalformedJson.code, "The request cannot be read.")
        response = answer(by_status[status](**getattr(error, "extra", {})))
        if allow := getattr(error, "valid_methods", None):
            response.headers["Allow"] = ", ".join(sorted(allow))
        return response

    @app.errorhandler(Exception)
    def fault(error: Exception) -> Response:
        log.error("unexpected %s", type(error).__name__, exc_info=error)
        return problem(500, FAULT, "Something went wrong here. The request id helps us to find it.")
