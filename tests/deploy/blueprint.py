"""Render's rules for a blueprint, as far as ours uses them (render.com/docs/blueprint-spec, as of November 2026), and what
Render makes of one. Render's own schema has no licence to ship it under; `render blueprints validate` asks the platform.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from typing import Any

import jsonschema

NAME = {"type": "string", "minLength": 1}
REGION = {"enum": ["oregon", "ohio", "virginia", "frankfurt", "singapore"]}
PATH = {"type": "string", "pattern": "^/"}
ALLOW = {
    "type": "array",
    "items": {
        "type": "object", "required": ["source"], "additionalProperties": False,
        "properties": {"source": NAME, "description": NAME},
    },
}  # fmt: skip
KEY = {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$"}
VALUE = {"type": ["string", "number"]}


def _source(**fields: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(fields), "additionalProperties": False, "properties": fields}


FROM_SERVICE = {
    "oneOf": [
        _source(name=NAME, type={"enum": ["web", "pserv", "worker", "keyvalue"]}, property=NAME),
        _source(name=NAME, type={"enum": ["web", "pserv", "worker"]}, envVarKey=KEY),
    ]
}
FROM_DATABASE = _source(name=NAME, property={"enum": ["connectionString", "connectionPoolString", "host", "port"]})
OWN = [_source(key=KEY, value=VALUE), _source(key=KEY, generateValue={"const": True})]
ENV = {
    "oneOf": [
        *OWN,
        _source(key=KEY, sync={"const": False}),
        _source(key=KEY, fromDatabase=FROM_DATABASE),
        _source(key=KEY, fromService=FROM_SERVICE),
        _source(fromGroup=NAME),
    ]
}
WEB = {
    "type": "object",
    "required": ["type", "name", "runtime", "buildCommand", "startCommand"],
    "additionalProperties": False,
    "properties": {
        "type": {"const": "web"}, "name": NAME, "runtime": {"enum": ["python"]}, "region": REGION,
        "plan": {"enum": ["free", "starter", "standard", "pro", "pro plus", "pro max", "pro ultra"]},
        "buildCommand": NAME, "preDeployCommand": NAME, "startCommand": NAME, "healthCheckPath": PATH,
        "maxShutdownDelaySeconds": {"type": "integer", "minimum": 1, "maximum": 300},
        "envVars": {"type": "array", "items": ENV},
    },
}  # fmt: skip
KEYVALUE = {
    "type": "object",
    "required": ["type", "name", "ipAllowList"],
    "additionalProperties": False,
    "properties": {
        "type": {"const": "keyvalue"}, "name": NAME, "region": REGION, "ipAllowList": ALLOW,
        "plan": {"enum": ["free", "starter", "standard", "pro", "pro plus"]},
        "maxmemoryPolicy": {
            "enum": ["allkeys-lru", "volatile-lru", "allkeys-random", "volatile-random", "volatile-ttl", "noeviction"]
        },
    },
}  # fmt: skip
DATABASE = {
    "type": "object",
    "required": ["name"],
    "additionalProperties": False,
    "properties": {
        "name": NAME, "region": REGION, "databaseName": NAME, "user": NAME, "ipAllowList": ALLOW,
        "plan": {"type": "string", "pattern": r"^(free|(basic|pro|accelerated)-\d+(mb|gb))$"},
        "postgresMajorVersion": {"type": "string", "pattern": r"^\d\d$"},
    },
}  # fmt: skip
SCHEMA = {
    "type": "object",
    "required": ["services"],
    "additionalProperties": False,
    "properties": {
        "services": {"type": "array", "items": {"oneOf": [WEB, KEYVALUE]}},
        "databases": {"type": "array", "items": DATABASE},
        "envVarGroups": {
            "type": "array",
            "items": _source(name=NAME, envVars={"type": "array", "items": {"oneOf": OWN}}),
        },
    },
}
PAID_ONLY = ("preDeployCommand", "maxShutdownDelaySeconds")

# What Render itself gives a Python web service on its smallest plans while it runs.
DEFAULTS = {
    "RENDER": "true", "RENDER_EXTERNAL_URL": "https://latchkey.onrender.com", "WEB_CONCURRENCY": "1",
    "RENDER_CPU_COUNT": "0.5", "FORWARDED_ALLOW_IPS": "*",
    "GUNICORN_CMD_ARGS": "--preload --access-logfile - --bind=0.0.0.0:10000",
}  # fmt: skip
AT_RUN_ONLY = ("WEB_CONCURRENCY",)


def problems(document: dict[str, Any]) -> Iterator[str]:
    """What Render would refuse, one line each."""
    for error in jsonschema.Draft202012Validator(SCHEMA).iter_errors(document):
        yield f"{error.json_path}: {error.message[:200]}"
        return
    services, databases = document["services"], document.get("databases", [])
    everything = [*services, *databases, *document.get("envVarGroups", [])]
    if len({part["name"] for part in everything}) != len(everything):
        yield "a name stands twice"
    if len({part.get("region", "oregon") for part in (*services, *databases)}) != 1:
        yield "they are in several regions, which share no private network"
    for service in services:
        yield from (f"{field} is not for the free plan" for field in PAID_ONLY if _free(service) and field in service)
        yield from _dangling(service, document)


def _free(service: dict[str, Any]) -> bool:
    return bool(service.get("plan") == "free")


def _dangling(service: dict[str, Any], document: dict[str, Any]) -> Iterator[str]:
    known = {
        "fromGroup": {group["name"] for group in document.get("envVarGroups", [])},
        "fromDatabase": {database["name"] for database in document.get("databases", [])},
        "fromService": {(other["type"], other["name"]) for other in document["services"]},
    }
    keys = [variable["key"] for variable in service.get("envVars", []) if "key" in variable]
    yield from (f"{key} is set twice" for key in {key for key in keys if keys.count(key) > 1})
    for variable in service.get("envVars", []):
        for field, names in known.items():
            given = variable.get(field)
            name = (given["type"], given["name"]) if field == "fromService" and given else given
            name = name["name"] if isinstance(name, dict) else name
            if name and name not in names:
                yield f"{field} names {name}, which there is not"


def environment(document: dict[str, Any], prompted: dict[str, str], stores: dict[str, str]) -> dict[str, str]:
    """The environment of the running web service: Render's defaults, then what the blueprint says. `prompted`: what
    somebody typed for `sync: false`; `stores`: the connection strings by name.
    """
    [web] = [service for service in document["services"] if service["type"] == "web"]
    groups = {group["name"]: group["envVars"] for group in document.get("envVarGroups", [])}
    found = dict(DEFAULTS)
    for variable in web["envVars"]:
        for one in groups[variable["fromGroup"]] if "fromGroup" in variable else [variable]:
            found[one["key"]] = _value(one, prompted, stores)
    return found


def _value(variable: dict[str, Any], prompted: dict[str, str], stores: dict[str, str]) -> str:
    if variable.get("generateValue"):
        return base64.b64encode(os.urandom(32)).decode()  # "a randomized, base64-encoded, 256-bit value"
    if "sync" in variable:
        return prompted[variable["key"]]
    if source := variable.get("fromService") or variable.get("fromDatabase"):
        return stores[source["name"]] if "property" in source else DEFAULTS[source["envVarKey"]]
    return str(variable["value"])
