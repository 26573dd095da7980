"""The machine dialect, `/api/v1/devices` and `/api/v1/otp`: servers with an API key. Answers come in an envelope."""

from __future__ import annotations

import base64
from typing import Any

from typing_extensions import TypedDict

from app import errors
from app.core import devices, trail
from app.core.api_keys import Scope
from app.core.devices import Keyed
from app.core.trail import Filters
from app.crypto import totp
from app.flows import machine
from app.models import Device
from app.web import events, paging
from app.web.endpoint import Surface
from app.web.events import EventReply
from app.web.fields import Body, DeviceId, FreeText, TimedCode, example
from app.web.guards import KEY
from app.web.paging import Page
from app.web.present import instant, maybe
from app.work import Work

machines = Surface("machines", "/api/v1")


class DeviceBody(Body):
    model_config = example(device_id="till-7", user_id="shop 12, Pune")

    device_id: DeviceId
    user_id: FreeText


class DeviceCodeBody(Body):
    model_config = example(device_id="till-7", otp="081804")

    device_id: DeviceId
    otp: TimedCode


class Envelope(TypedDict):
    success: bool
    message: str


class KeyData(TypedDict):
    device_id: str
    derived_key: str
    algorithm: str
    digits: int
    interval: int


class KeyReply(Envelope):
    data: KeyData


class ValidData(TypedDict):
    valid: bool


class ValidReply(Envelope):
    data: ValidData


class DeviceData(TypedDict):
    device_id: str
    user_id: str
    is_active: bool
    usage_count: int
    last_used: str | None
    key_version: int
    locked_until: str | None
    created_at: str
    deactivated_at: str | None


class DeviceReply(Envelope):
    data: DeviceData


class DevicesData(TypedDict):
    items: list[DeviceData]
    next_cursor: str | None


class DevicesReply(Envelope):
    data: DevicesData


class DeviceAuditData(TypedDict):
    items: list[EventReply]
    next_cursor: str | None


class DeviceAuditReply(Envelope):
    data: DeviceAuditData


@machines.add("POST", "/devices/register", status=201, body=DeviceBody, reply=KeyReply, guard=KEY(Scope.DEVICES),
              repeatable=True, refusals=(errors.Conflict, errors.NotFound))  # fmt: skip
def register_device(work: Work, body: DeviceBody) -> Any:
    """Register a device. Its key is shown here and never again: keep it on the device. `user_id` is free text of yours.
    A device that was deactivated can be registered anew, with another key. 404 where `MASTER_SECRET` is not set."""
    return _key(machine.register(work, body.device_id, body.user_id), "Device registered successfully")


@machines.add("POST", "/otp/verify", body=DeviceCodeBody, reply=ValidReply, guard=KEY(Scope.VERIFY))
def verify_device_code(work: Work, body: DeviceCodeBody) -> Any:
    """Check the code that a device shows. Each code is right once. Wrong, used, unknown, locked and deactivated are one
    answer; which it was stands in the device's audit rows."""
    return _data({"valid": machine.verify(work, body.device_id, body.otp)}, "OTP verification completed")


@machines.add("GET", "/devices", query=Page, reply=DevicesReply, guard=KEY(Scope.DEVICES), reads=True)
def list_devices(work: Work, page: Page) -> Any:
    """All devices, newest first."""
    return _data(paging.answer(page, lambda limit, before: devices.page(work, limit, before), _device), "Devices")


@machines.add("GET", "/devices/<device_id>", reply=DeviceReply, guard=KEY(Scope.DEVICES), reads=True,
              refusals=(errors.NotFound,))  # fmt: skip
def show_device(work: Work, device_id: str) -> Any:
    """One device, by your name for it."""
    return _data(_device(_found(work, device_id)), "Device")


@machines.add("GET", "/devices/<device_id>/audit", query=Page, reply=DeviceAuditReply, guard=KEY(Scope.DEVICES),
              reads=True, refusals=(errors.NotFound,))  # fmt: skip
def show_device_audit(work: Work, page: Page, device_id: str) -> Any:
    """What happened to a device, newest first: registrations, codes right and wrong with the reason, rotations."""
    which = Filters(user_id=_found(work, device_id).id)
    rows = paging.answer(page, lambda limit, before: trail.page(work, which, limit, before), events.event)
    return _data(rows, "Audit rows of this device")


@machines.add("POST", "/devices/<device_id>/deactivate", reply=DeviceReply, guard=KEY(Scope.DEVICES),
              refusals=(errors.NotFound,))  # fmt: skip
def deactivate_device(work: Work, device_id: str) -> Any:
    """Switch a device off at once: none of its codes is right any more. Twice is as good as once."""
    return _data(_device(machine.deactivate(work, device_id)), "Device deactivated")


@machines.add("POST", "/devices/<device_id>/reactivate", reply=DeviceReply, guard=KEY(Scope.DEVICES),
              refusals=(errors.NotFound,))  # fmt: skip
def reactivate_device(work: Work, device_id: str) -> Any:
    """Switch a device on again, with the key it has. Twice is as good as once."""
    return _data(_device(machine.reactivate(work, device_id)), "Device reactivated")


@machines.add("POST", "/devices/<device_id>/rotate-key", reply=KeyReply, guard=KEY(Scope.DEVICES), repeatable=True,
              refusals=(errors.NotFound, errors.Conflict))  # fmt: skip
def rotate_device_key(work: Work, device_id: str) -> Any:
    """Give a device another key, shown here and never again. The old one is void at once, and a lock is lifted."""
    return _key(machine.rotate_key(work, device_id), "Device key rotated")


def _found(work: Work, device_id: str) -> Device:
    device = devices.find(work, device_id)
    if device is None:
        raise errors.NotFound()
    return device


def _data(data: Any, message: str) -> dict[str, Any]:
    return {"success": True, "message": message, "data": data}


def _key(keyed: Keyed, message: str) -> dict[str, Any]:
    row = keyed.device
    data: KeyData = {
        "device_id": row.device_id,
        "derived_key": base64.b64encode(keyed.key).decode(),
        "algorithm": totp.ALGORITHM,
        "digits": row.digits,
        "interval": row.interval_s,
    }
    return _data(data, message)


def _device(row: Device) -> DeviceData:
    return {
        "device_id": row.device_id,
        "user_id": row.owner,
        "is_active": row.deactivated_at is None,
        "usage_count": row.usage_count,
        "last_used": maybe(row.last_used_at),
        "key_version": row.key_version,
        "locked_until": maybe(row.locked_until),
        "created_at": instant(row.created_at),
        "deactivated_at": maybe(row.deactivated_at),
    }
