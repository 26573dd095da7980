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
from app.web.openapi_parts import (
    ABOUT,
    HEALTH,
    IDEMPOTENCY_KEY,
    OPERATIONS,
    PROBLEM,
    REF,
    SECURITY,
    WEBHOOKS,
    problem_reply,
)


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
    bad = {str(s): problem_reply(s, *(r.code for r in refusals)) for s, refusals in sorted(by_status.items())}
    same = {"304": {"description": "as it was, for the tag in `If-None-Match`"}} if endpoint.tagged else {}
    return {str(endpoint.status): good, **same, **bad}
