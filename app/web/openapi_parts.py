"""What the document says of what is no endpoint of a surface: problems, health, keys, figures, providers' webhooks."""

from __future__ import annotations

from typing import Any

from app.answers import UNREAD
from app.errors import (
    Forbidden,
    HttpsRequired,
    MalformedJson,
    MethodNotAllowed,
    NotFound,
    PayloadTooLarge,
    RateLimited,
    Refusal,
    Unavailable,
)
from app.web.problems import STATUS

REF = "#/components/schemas/{model}"
FIELD_CODES = {
    "required": "it is missing, or empty",
    "wrong_type": "text, number, list or object: it is another",
    "invalid": "none of the values that it may have",
    "invalid_format": "not of the form that it has",
    "too_short": "below the least length",
    "too_long": "above the greatest",
    "too_complex": "too large or too deep",
    "control_characters": "holds what steers a screen or breaks a line",
    "invalid_email": "no e-mail address",
    "invalid_phone": "no phone number with its country code",
    "no_sms": "a number that gets no SMS",
    "invalid_username": "no username",
    "too_common": "a password among those that are tried first",
    "contains_identifier": "a password that is one's own name or address",
    "no_address": "there is no address for this channel",
    "unchanged": "one's own address already",
    "taken": "another account has it",
    "past": "a time that has passed",
    "unwanted": "not together with another field",
    "unknown_role": "none of `ROLES`",
    "unknown_language": "there are no messages in it",
    "unknown_audience": "none of `JWT_AUDIENCES`",
}
FIELD_CODES_TABLE = "\n".join(f"- `{code}`: {meaning}" for code, meaning in FIELD_CODES.items())
UNREAD_CODES = ", ".join(f"{status} `{code}`" for status, (_, code, _) in UNREAD.items())
PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "code", "request_id"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string", "description": "stable, machine readable"},
        "request_id": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["field", "code", "message"],
                "properties": {
                    "field": {"type": "string"},
                    "code": {"enum": [*FIELD_CODES], "description": "stable; the top of this document lists them"},
                    "message": {"type": "string", "description": "for people"},
                },
            },
        },
        "retry_after": {"type": "integer", "description": "seconds"},
        "attempts_left": {"type": "integer"},
        "max_age": {"type": "integer", "description": "seconds"},
    },
}
HEALTH = {
    "type": "object",
    "required": ["status"],
    "properties": {
        "status": {"enum": ["ok", "degraded", "down"]},
        "version": {"type": "string"},
        "checks": {"type": "object", "additionalProperties": {"type": "string"}},
        "retry_after": {"type": "integer", "description": "seconds, where it is down"},
    },
}
WAITS = {"headers": {"Retry-After": {"description": "seconds", "schema": {"type": "integer"}}}}


def problem_reply(status: int, *codes: str) -> dict[str, Any]:
    """An answer that is a problem with one of these codes."""
    content = {"application/problem+json": {"schema": {"$ref": REF.format(model="Problem")}}}
    waits = WAITS if status in (423, 429, 503) else {}
    return {"description": " or ".join(f"`{code}`" for code in codes), **waits, "content": content}


KEY_SET = {
    "type": "object",
    "required": ["keys"],
    "properties": {
        "keys": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["kid", "kty", "use", "alg"],
                "additionalProperties": {"type": "string"},
            },
        }
    },
}
HEALTH_REPLY = {"content": {"application/json": {"schema": {"$ref": REF.format(model="Health")}}}}
IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "A repeat within 24 h gets the first answer and sends nothing.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 128},
}
SECURITY = {
    "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
    "api_key": {"type": "http", "scheme": "bearer", "description": "`API_KEY`, or a key that an admin made"},
    "cookie": {"type": "apiKey", "in": "cookie", "name": "session", "description": "`__Host-session` in production"},
}
OPERATIONS = {
    "/health": {
        "get": {
            "operationId": "health",
            "tags": ["operations"],
            "summary": "Whether the service and what it needs are well",
            "description": "`degraded` when Redis or the courier is not; 503 `down` when the database is away.",
            "responses": {
                "200": {"description": "ok or degraded", **HEALTH_REPLY},
                "503": {"description": "down", **WAITS, **HEALTH_REPLY},
            },
        }
    },
    "/health/live": {
        "get": {
            "operationId": "live",
            "tags": ["operations"],
            "summary": "Whether the process answers",
            "description": "Asks nothing of the database, Redis or the courier.",
            "responses": {"200": {"description": "it does", **HEALTH_REPLY}},
        }
    },
    "/.well-known/jwks.json": {
        "get": {
            "operationId": "jwks",
            "tags": ["operations"],
            "summary": "The public keys of access tokens",
            "description": "A JWK Set (RFC 7517): the key that signs first, then those that still verify. Keep it for "
            "`max-age` seconds, and ask again with `If-None-Match`. With `HS256` it is empty.",
            "responses": {
                "200": {"description": "the keys", "content": {"application/json": {"schema": KEY_SET}}},
                "304": {"description": "as it was"},
                "403": problem_reply(403, "https_required"),
                "503": problem_reply(503, "overloaded"),
            },
        }
    },
    "/metrics": {
        "get": {
            "operationId": "metrics",
            "tags": ["operations"],
            "summary": "Figures for Prometheus",
            "description": "For an API key with the scope `metrics:read`, or for anybody where `METRICS_PUBLIC=true`.",
            "security": [{}, {"api_key": []}],
            "responses": {
                "200": {"description": "the figures", "content": {"text/plain": {"schema": {"type": "string"}}}},
                "401": problem_reply(401, "token_missing", "token_invalid"),
                "403": problem_reply(403, "forbidden", "https_required"),
                "503": problem_reply(503, "overloaded", "unavailable"),
            },
        }
    },
}
SECRET_PATH = {
    "name": "secret",
    "in": "path",
    "required": True,
    "description": "`WEBHOOK_SECRET`",
    "schema": {"type": "string"},
}


def _webhook(name: str, about: str, proof: type[Refusal], *parameters: dict[str, Any]) -> dict[str, Any]:
    refusals = (MalformedJson, HttpsRequired, proof, PayloadTooLarge, RateLimited, Unavailable)
    by_status: dict[int, list[str]] = {}
    for refused in refusals:
        by_status.setdefault(STATUS[refused], []).append(refused.code)
    bad = {str(status): problem_reply(status, *codes) for status, codes in by_status.items()}
    return {
        "operationId": f"webhook_{name}",
        "tags": ["operations"],
        "summary": "A provider's delivery reports",
        "description": about,
        "parameters": list(parameters),
        "responses": {"204": {"description": "taken"}, **bad},
    }


WEBHOOKS = {
    "/api/webhooks/twilio": {
        "post": _webhook("twilio", "Signed by `X-Twilio-Signature` over `PUBLIC_URL`.", Forbidden)
    },
    "/api/webhooks/msg91/{secret}": {"post": _webhook("msg91", "Versions 2, 3 and New.", NotFound, SECRET_PATH)},
    "/api/webhooks/gupshup/{secret}": {
        "get": _webhook("gupshup_get", "One event, as parameters.", NotFound, SECRET_PATH),
        "post": _webhook("gupshup", "Up to 20 events.", NotFound, SECRET_PATH),
    },
}
ABOUT = f"""\
Sign people in with a password and a one-time code. Try it here: `POST /api/auth/signup`, read the code where the
service runs, `POST /api/auth/verify-otp`, then put the access token into *Authorize*.

Every error is `application/problem+json` (RFC 9457) with a stable `code`. Those of an operation stand with it. Any
request may be answered 503 `overloaded` or `unavailable` (come again after `Retry-After` seconds), and what no
operation gets to see: 405 `{MethodNotAllowed.code}` and {UNREAD_CODES}.

A 422 `validation_failed` names the fields in `errors`, each with a `code`:

{FIELD_CODES_TABLE}
"""
