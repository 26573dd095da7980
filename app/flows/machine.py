"""Machines: servers register devices and have their codes checked."""

from __future__ import annotations

import logging

from app.core import audit, devices
from app.core.audit import Event
from app.core.devices import Keyed, Verdict
from app.errors import Conflict, NotFound
from app.models import Device
from app.work import Work

log = logging.getLogger("latchkey.machine")


def register(work: Work, device_id: str, owner: str) -> Keyed:
    """Register a device, or one anew that was deactivated. Raises Conflict if an active one has the id, NotFound
    without MASTER_SECRET.
    """
    _need_master(work, device_id)
    found = devices.find(work, device_id)
    keyed = devices.register(work, device_id, owner, found)
    if keyed is None:
        raise audit.refusal(work, Event.DEVICE_REFUSED, device_id, Conflict(), user_id=found.id if found else None)
    device = keyed.device
    audit.record(work, Event.DEVICE_REGISTERED, device_id, user_id=device.id, version=device.key_version)
    return keyed


def rotate_key(work: Work, device_id: str) -> Keyed:
    """Give a device another key; the old one is void at once. Raises NotFound, also without MASTER_SECRET, and
    Conflict if it is rotated twice at once.
    """
    _need_master(work, device_id)
    device = _known(work, device_id)
    keyed = devices.rotate(work, device)
    if keyed is None:
        raise audit.refusal(work, Event.DEVICE_REFUSED, device.device_id, Conflict(), user_id=device.id)
    audit.record(work, Event.DEVICE_KEY_ROTATED, device.device_id, user_id=device.id, version=device.key_version)
    return keyed


def _need_master(work: Work, device_id: str) -> None:
    if not devices.can_register(work):
        log.error("MASTER_SECRET is not set, so no device can get a key")
        raise audit.refusal(work, Event.DEVICE_REFUSED, _subject(device_id), NotFound())


def _known(work: Work, device_id: str) -> Device:
    device = devices.find(work, device_id)
    if device is None:
        raise audit.refusal(work, Event.DEVICE_REFUSED, _subject(device_id), NotFound())
    return device


def _subject(device_id: str) -> str | None:
    """What the caller said, if it can stand in a row."""
    return device_id if devices.is_id(device_id) else None


def deactivate(work: Work, device_id: str) -> Device:
    """Switch a device off: no code of it is right. Twice is as good as once. Raises NotFound."""
    device = _known(work, device_id)
    if devices.set_active(work, device, False):
        audit.record(work, Event.DEVICE_DEACTIVATED, device.device_id, user_id=device.id)
    return device


def reactivate(work: Work, device_id: str) -> Device:
    """Switch a device on again, with the key it has. Twice is as good as once. Raises NotFound."""
    device = _known(work, device_id)
    if devices.set_active(work, device, True):
        audit.record(work, Event.DEVICE_REACTIVATED, device.device_id, user_id=device.id)
    return device


def verify(work: Work, device_id: str, code: str | int) -> bool:
    """True if this is the device's code now, and was not used. Why it is not stands in the audit log alone."""
    device = devices.find(work, device_id)
    verdict = devices.check(work, device, code)
    about = device.id if device else None
    if verdict is Verdict.RIGHT:
        audit.record(work, Event.DEVICE_VERIFIED, device_id, user_id=about)
        return True
    if verdict is Verdict.KEY_LOST:
        log.error("no MASTER_SECRET of this service made the key of a device; was it changed?")
    audit.record(work, Event.DEVICE_CODE_REFUSED, device_id, user_id=about, reason=verdict.value)
    return False
