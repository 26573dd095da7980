"""The OpenAPI 3.1 document, built once from the endpoints' own declarations."""

from __future__ import annotations

import inspect
import re
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import models_json_schema

from app.errors import Refusal
from app.version import VERSION
from app.web import problems
from app.web.endpoint import Endpoint, Surface
from app.web.guards import Guard

REF = "#/components/schemas/{model}"
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
                "properties": {k: {"type": "string"} for k in ("field", "code", "message")},
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
PROBLEM_REPLY = {"content": {"application/problem+json": {"schema": {"$ref": REF.format(model="Problem")}}}}
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
                "503": {
                    "description": "down",
                    "headers": {"Retry-After": {"description": "seconds", "schema": {"type": "integer"}}},
                    **HEALTH_REPLY,
                },
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
                "401": {"description": "`token_missing` or `token_invalid`", **PROBLEM_REPLY},
                "403": {"description": "`forbidden`", **PROBLEM_REPLY},
                "503": {"description": "`unavailable`", **PROBLEM_REPLY},
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


def _webhook(name: str, about: str, codes: dict[str, str], *parameters: dict[str, Any]) -> dict[str, Any]:
    bad = {
        status: {
            "description": f"`{code}`",
            "content": {"application/problem+json": {"schema": {"$ref": REF.format(model="Problem")}}},
        }
        for status, code in {**codes, "413": "payload_too_large", "503": "unavailable"}.items()
    }
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
        "post": _webhook("twilio", "Signed by `X-Twilio-Signature` over `PUBLIC_URL`.", {"403": "forbidden"})
    },
    "/api/webhooks/msg91/{secret}": {
        "post": _webhook("msg91", "Versions 2, 3 and New.", {"404": "not_found"}, SECRET_PATH)
    },
    "/api/webhooks/gupshup/{secret}": {
        "get": _webhook("gupshup_get", "One event, as parameters.", {"404": "not_found"}, SECRET_PATH),
        "post": _webhook("gupshup", "Up to 20 events.", {"404": "not_found"}, SECRET_PATH),
    },
}
ABOUT = """\
Sign people in with a password and a one-time code. Try it here: `POST /api/auth/signup`, read the code where the
service runs, `POST /api/auth/verify-otp`, then put the access token into *Authorize*.

Every error is `application/problem+json` (RFC 9457) with a stable `code`.
"""


def document(surfaces: list[Surface]) -> dict[str, Any]:
    """The whole document, as plain data."""
    paths: dict[str, dict[str, Any]] = {}
    schemas: dict[str, Any] = {"Problem": PROBLEM, "Health": HEALTH}
    for surface in surfaces:
        for endpoint in surface.endpoints:
            path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", surface.prefix + endpoint.path)
            paths.setdefault(path, {})[endpoint.method.lower()] = _operation(surface, endpoint, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Latchkey", "version": VERSION, "description": ABOUT},
        "servers": [{"url": "/"}],
        "tags": [{"name": name} for name in (*(surface.name for surface in surfaces), "operations")],
        "paths": {**paths, **WEBHOOKS, **OPERATIONS},
        "components": {
            "schemas": schemas,
            "securitySchemes": SECURITY,
        },
    }


def _operation(surface: Surface, endpoint: Endpoint, schemas: dict[str, Any]) -> dict[str, Any]:
    doc = inspect.getdoc(endpoint.view) or ""
    operation: dict[str, Any] = {
        "operationId": f"{surface.name}_{endpoint.name}",
        "tags": [surface.name],
        "summary": doc.split(".")[0].split(":")[0].replace("\n", " "),
        "description": doc.replace("\n", " "),
        "responses": _responses(endpoint, schemas),
    }
    parameters = _path_parameters(endpoint) + _query_parameters(endpoint, schemas)
    parameters += [IDEMPOTENCY_KEY] if endpoint.repeatable else []
    if parameters:
        operation["parameters"] = parameters
    if endpoint.body:
        fields = endpoint.body.model_fields.values()
        schema = {"application/json": {"schema": _body(endpoint, schemas)}}
        operation["requestBody"] = {"required": any(f.is_required() for f in fields), "content": schema}
    if endpoint.guard.reads_token:
        operation["security"] = _security(endpoint.guard)
    operation["description"] += _needs(endpoint.guard)
    return operation


def _security(guard: Guard) -> list[dict[str, list[str]]]:
    if guard.cookie:
        return [{"cookie": []}]
    by_token: list[dict[str, list[str]]] = [{"bearer": []}] if guard.permission or not guard.scope else []
    by_key: list[dict[str, list[str]]] = [{"api_key": []}] if guard.scope else []
    nobody: list[dict[str, list[str]]] = [] if guard.needed else [{}]
    return nobody + by_token + by_key


def _needs(guard: Guard) -> str:
    """What the description says of who may."""
    may = f" Needs a role with the permission `{guard.permission}`" if guard.permission else ""
    may += " and a recent sign-in" if guard.permission and guard.recent else ""
    key = f" The key needs the scope `{guard.scope}`." if guard.scope else ""
    if may and guard.scope:
        return f"{may}, or an API key with the scope `{guard.scope}`."
    return f"{may}." if may else key


def _path_parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    found = re.findall(r"<(?:(\w+):)?(\w+)>", endpoint.path)
    uuid, text = {"type": "string", "format": "uuid"}, {"type": "string"}
    return [
        {"name": name, "in": "path", "required": True, "schema": uuid if kind == "uuid" else text}
        for kind, name in found
    ]


def _query_parameters(endpoint: Endpoint, schemas: dict[str, Any]) -> list[dict[str, Any]]:
    if not endpoint.query:
        return []
    schema = endpoint.query.model_json_schema(ref_template=REF)
    schemas.update(schema.pop("$defs", {}))
    return [{"name": name, "in": "query", "schema": s} for name, s in schema["properties"].items()]


def _body(endpoint: Endpoint, schemas: dict[str, Any]) -> dict[str, Any]:
    assert endpoint.body is not None
    _, found = models_json_schema([(endpoint.body, "validation")], ref_template=REF)
    schemas.update(found["$defs"])
    return {"$ref": REF.format(model=endpoint.body.__name__)}


def _responses(endpoint: Endpoint, schemas: dict[str, Any]) -> dict[str, Any]:
    schema = TypeAdapter(endpoint.reply).json_schema(mode="serialization", ref_template=REF)
    schemas.update(schema.pop("$defs", {}))
    if title := schema.get("title"):
        schemas[title] = schema
        schema = {"$ref": REF.format(model=title)}
    text: dict[str, Any] = {"schema": {"type": "string"}}
    content = {"application/json": {"schema": schema}} | dict.fromkeys(endpoint.streams, text)
    good = {"description": "Done", "content": content}
    by_status: dict[int, list[type[Refusal]]] = {}
    for refused in endpoint.all_refusals:
        by_status.setdefault(problems.STATUS[refused], []).append(refused)
    bad = {str(status): _problem(refusals) for status, refusals in sorted(by_status.items())}
    same = {"304": {"description": "as it was, for the tag in `If-None-Match`"}} if endpoint.tagged else {}
    return {str(endpoint.status): good, **same, **bad}


def _problem(refusals: list[type[Refusal]]) -> dict[str, Any]:
    codes = " or ".join(f"`{refused.code}`" for refused in refusals)
    content = {"application/problem+json": {"schema": {"$ref": REF.format(model="Problem")}}}
    return {"description": codes, "content": content}
