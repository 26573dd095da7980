"""Devices: machines whose key is derived, never stored, and whose codes count once each.

The key comes from MASTER_SECRET, the device's own id and a salt that each registration and rotation draws anew. So a
device that is registered again has another key, and a copy of the database opens none.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, bindparam, case, literal, or_, select, update

from app.core.text import composed
from app.crypto import totp
from app.crypto.ids import uuid7
from app.crypto.keys import Purpose
from app.models import Device
from app.work import Work

LONGEST_ID = 128  # code points
LOCK_AFTER = 5  # wrong codes in a row
LOCK = timedelta(minutes=15)
STREAK_CAP = 100  # wrong codes since the last right one: a new key is needed (NIST SP 800-63B-4, section 3.2.2)
SALT_BYTES = 16


class Verdict(StrEnum):
    """What became of a code. All but RIGHT are reasons in the audit log; the caller is told none of them."""

    RIGHT = "right"
    WRONG = "wrong_code"
    REPLAYED = "replayed"  # its step was used, or a later one
    LOCKED = "locked"
    SPENT = "too_many_failures"
    DEACTIVATED = "deactivated"
    KEY_LOST = "master_secret_missing"  # neither MASTER_SECRET nor an earlier one made its key
    UNKNOWN = "unknown_device"


@dataclass(frozen=True, slots=True)
class Keyed:
    """A device and the key it has just got: the one moment in which the key is seen."""

    device: Device
    key: bytes


def is_id(text: str) -> bool:
    """True for what may name a device: up to 128 printable characters, fit to be one step of a path."""
    bounded = 0 < len(text) <= LONGEST_ID and text.strip() == text
    return bounded and text.isprintable() and "/" not in text and text not in (".", "..")


def spelled(device_id: str) -> str:
    """The one spelling under which a device is stored and found (NFC)."""
    return composed(device_id)


def find(work: Work, device_id: str) -> Device | None:
    """The device of this id, whatever its state."""
    name = spelled(device_id)
    return work.db.scalar(select(Device).where(Device.device_id == name)) if is_id(name) else None


def page(work: Work, limit: int, before: UUID | None) -> list[Device]:
    """Devices, newest first, made before a given one."""
    older = [Device.id < before] if before else []
    return list(work.db.scalars(select(Device).where(*older).order_by(Device.id.desc()).limit(limit)))


def can_register(work: Work) -> bool:
    """False without MASTER_SECRET: earlier ones only keep the devices they have."""
    return bool(work.settings.master_secret.get_secret_value())


def register(work: Work, device_id: str, owner: str, found: Device | None) -> Keyed | None:
    """A device with a key of its own. `found`: the one that has the id; None comes back if it is active, while one that
    was deactivated begins anew, with another key.
    """
    if found:
        begins_anew = {"owner": owner, "deactivated_at": None}
        return _renewed(work, found, begins_anew, Device.deactivated_at.is_not(None))
    name = spelled(device_id)
    key, values = _new_key(work, name, 1)
    row = Device(id=uuid7(work.now), device_id=name, owner=owner, usage_count=0, created_at=work.now, **values)
    return Keyed(row, key) if work.insert_once(row) else None


def rotate(work: Work, device: Device) -> Keyed | None:
    """Another key in place of a device's own, with no failures and no used steps. None if somebody else was faster."""
    return _renewed(work, device, {})


def _renewed(work: Work, device: Device, more: dict[str, Any], *only: ColumnElement[bool]) -> Keyed | None:
    key, values = _new_key(work, device.device_id, device.key_version + 1)
    unchanged = (Device.id == device.id, Device.key_version == device.key_version)
    if work.changes(update(Device).where(*unchanged, *only).values(**values, **more)) != 1:
        return None
    work.db.refresh(device)
    return Keyed(device, key)


def _new_key(work: Work, name: str, version: int) -> tuple[bytes, dict[str, Any]]:
    """A fresh key and the columns that stand for it."""
    assert work.kit.masters is not None
    salt, master_id = secrets.token_hex(SALT_BYTES), work.kit.masters.current
    key = work.kit.masters.mac(Purpose.DEVICES, name, salt, str(version), key_id=master_id)
    return key, {
        "salt": salt,
        "key_version": version,
        "master_id": master_id,
        "key_digest": hashlib.sha256(key).hexdigest(),
        "digits": work.settings.otp_digits,
        "interval_s": work.settings.otp_interval,
        "last_step": 0,
        "failures": 0,
        "locked_until": None,
    }


def set_active(work: Work, device: Device, active: bool) -> bool:
    """Switch a device off or on. False if it was so already."""
    other = Device.deactivated_at.is_not(None) if active else Device.deactivated_at.is_(None)
    values = {"deactivated_at": None if active else work.now}
    changed = work.changes(update(Device).where(Device.id == device.id, other).values(**values)) == 1
    work.db.refresh(device)
    return changed


def check(work: Work, device: Device | None, code: str | int) -> Verdict:
    """Settle a code. The write decides, so of many at once with the same code one is right; and it is one read, one
    write and the same arithmetic whatever the verdict. An integer gets its leading zeros back.
    """
    key = _key(work, device) if device else None
    tried, key = (device, key) if device and key else _nobody(work)
    text = str(code).zfill(tried.digits) if isinstance(code, int) else code
    step = totp.match(
        key, text, work.now, digits=tried.digits, interval=tried.interval_s, window=work.settings.otp_window
    )
    if step is None:
        _count_wrong(work, tried)
    elif _use(work, tried, step):
        return Verdict.RIGHT
    return _why_not(work, device, tried, step)


def _key(work: Work, device: Device) -> bytes | None:
    """The key of a device, if a master of this service made it."""
    masters = work.kit.masters
    if masters is None or device.master_id not in masters.ids:
        return None
    key = masters.mac(Purpose.DEVICES, device.device_id, device.salt, str(device.key_version), key_id=device.master_id)
    return key if hmac.compare_digest(hashlib.sha256(key).hexdigest(), device.key_digest) else None


def _nobody(work: Work) -> tuple[Device, bytes]:
    """A device that there is not, so that an unknown one costs what a known one does."""
    digits, interval = work.settings.otp_digits, work.settings.otp_interval
    return Device(id=uuid7(work.now), digits=digits, interval_s=interval, key_version=0), secrets.token_bytes(32)


# When a code of this key is settled at all.
USABLE = (
    Device.id == bindparam("row"),
    Device.key_version == bindparam("version"),
    Device.deactivated_at.is_(None),
    or_(Device.locked_until.is_(None), Device.locked_until <= bindparam("now")),
    Device.failures < STREAK_CAP,
)
USED = (
    update(Device)
    .where(*USABLE, Device.last_step < bindparam("step"))
    .values(last_step=bindparam("step"), last_used_at=bindparam("now"), failures=0, usage_count=Device.usage_count + 1)
)


def _use(work: Work, device: Device, step: int) -> bool:
    """Take a step: it, and all before it, count no more."""
    return work.changes(USED, row=device.id, version=device.key_version, now=work.now, step=step) == 1


def _count_wrong(work: Work, device: Device) -> None:
    failures = Device.failures + 1
    locked = literal(work.now + LOCK, Device.locked_until.type)
    lock = case((failures % LOCK_AFTER == 0, locked), else_=Device.locked_until)
    # In this order: MySQL gives the second the new value of the first.
    raised = update(Device).where(*USABLE).ordered_values((Device.locked_until, lock), (Device.failures, failures))
    work.changes(raised, row=device.id, version=device.key_version, now=work.now)


def _why_not(work: Work, device: Device | None, tried: Device, step: int | None) -> Verdict:
    if device is None:
        return Verdict.UNKNOWN
    if device is not tried:
        return Verdict.KEY_LOST
    if device.deactivated_at:
        return Verdict.DEACTIVATED
    if device.failures >= STREAK_CAP:
        return Verdict.SPENT
    if device.locked_until and device.locked_until > work.now:
        return Verdict.LOCKED
    return Verdict.WRONG if step is None else Verdict.REPLAYED
