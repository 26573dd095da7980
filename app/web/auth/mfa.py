"""One's own second methods: authenticator apps, backup codes, remembered devices."""

from __future__ import annotations

from typing import Any, NotRequired
from uuid import UUID

import segno
from typing_extensions import TypedDict

from app import errors
from app.core import backup_codes, factors, trusted_devices
from app.crypto import totp
from app.flows import mfa
from app.flows.mfa import Enrolment
from app.models import Authenticator, Passkey, TrustedDevice
from app.web import limits, paging, present
from app.web.auth.surface import auth
from app.web.fields import Body, Code, Name, example
from app.web.guards import BEARER, RECENT
from app.web.paging import Page
from app.web.present import Message
from app.work import Work

UNNAMED = "Authenticator app"


class EnrolBody(Body):
    model_config = example(name="My phone")

    name: Name | None = None


class ConfirmBody(Body):
    model_config = example(otp="123456")

    otp: Code


class FactorItem(TypedDict):
    id: str
    type: str
    name: str
    created_at: str
    last_used_at: str | None


class FactorsReply(TypedDict):
    items: list[FactorItem]
    backup_codes_left: int


class EnrolmentReply(TypedDict):
    factor_id: str
    secret: str
    otpauth_uri: str
    qr_svg: str


class BackupCodesReply(TypedDict):
    backup_codes: list[str]


class ConfirmedReply(Message):
    backup_codes: NotRequired[list[str]]


class TrustedDeviceItem(TypedDict):
    id: str
    user_agent: str
    ip: str
    created_at: str
    last_used_at: str
    expires_at: str


class TrustedDevicesReply(TypedDict):
    items: list[TrustedDeviceItem]
    next_cursor: str | None


@auth.add("GET", "/factors", reply=FactorsReply, guard=BEARER, reads=True)
def list_factors(work: Work) -> Any:
    """Your second methods, and how many backup codes are left."""
    user_id = work.caller.account.id
    items = [_factor(kind, row) for kind, row in factors.of_user(work, user_id)]
    return {"items": items, "backup_codes_left": backup_codes.left(work, user_id)}


def _factor(kind: str, row: Authenticator | Passkey) -> FactorItem:
    return {
        "id": str(row.id),
        "type": kind,
        "name": row.name,
        "created_at": present.instant(row.created_at),
        "last_used_at": present.maybe(row.last_used_at),
    }


@auth.add("POST", "/factors/totp", status=201, body=EnrolBody, reply=EnrolmentReply, guard=RECENT, limit=limits.SENDS,
          repeatable=True, refusals=(errors.Conflict,))  # fmt: skip
def enrol_totp(work: Work, body: EnrolBody) -> Any:
    """Begin an authenticator app: scan the QR code or type the secret. Its first code takes it into use."""
    return _enrolment(work, mfa.start_totp(work, body.name or UNNAMED))


def _enrolment(work: Work, begun: Enrolment) -> EnrolmentReply:
    uri = totp.uri(begun.secret, work.settings.brand_name, begun.account)
    return {
        "factor_id": str(begun.authenticator.id),
        "secret": totp.spelled(begun.secret),
        "otpauth_uri": uri,
        "qr_svg": segno.make(uri, error="m", micro=False).svg_inline(scale=4, border=4, light="#fff"),
    }


@auth.add("POST", "/factors/totp/<uuid:factor_id>/confirm", body=ConfirmBody, reply=ConfirmedReply, guard=RECENT,
          limit=limits.GUESSES, repeatable=True, refusals=(errors.InvalidCode, errors.NotFound))  # fmt: skip
def confirm_totp(work: Work, body: ConfirmBody, factor_id: UUID) -> Any:
    """Take the app into use with its first code. With the first factor come ten backup codes, shown only now. Every
    other session ends."""
    codes = mfa.confirm_totp(work, factor_id, body.otp)
    return {"message": "Your authenticator app is in use.", **({"backup_codes": codes} if codes else {})}


@auth.add("POST", "/factors/backup-codes", status=201, reply=BackupCodesReply, guard=RECENT, limit=limits.SENDS,
          repeatable=True, refusals=(errors.Conflict,))  # fmt: skip
def renew_backup_codes(work: Work) -> Any:
    """Ten new backup codes, shown only now; the old ones are void. Every other session ends."""
    return {"backup_codes": mfa.renew_backup_codes(work)}


@auth.add("DELETE", "/factors/<uuid:factor_id>", reply=Message, guard=RECENT, limit=limits.TOKENS,
          refusals=(errors.NotFound,))  # fmt: skip
def remove_factor(work: Work, factor_id: UUID) -> Any:
    """Take one of your second methods away; with the last one the backup codes. Every other session ends."""
    mfa.remove(work, factor_id)
    return {"message": "It was removed."}


@auth.add("GET", "/trusted-devices", query=Page, reply=TrustedDevicesReply, guard=BEARER, reads=True)
def list_trusted_devices(work: Work, page: Page) -> Any:
    """The devices on which you are not asked for a code, newest first."""
    user_id = work.caller.account.id
    return paging.answer(
        page, lambda limit, before: trusted_devices.page_of_user(work, user_id, limit, before), _device
    )


def _device(row: TrustedDevice) -> TrustedDeviceItem:
    return {
        "id": str(row.id),
        "user_agent": row.user_agent,
        "ip": row.ip,
        "created_at": present.instant(row.created_at),
        "last_used_at": present.instant(row.last_used_at),
        "expires_at": present.instant(row.expires_at),
    }


@auth.add("DELETE", "/trusted-devices/<uuid:device_id>", reply=Message, guard=BEARER, limit=limits.TOKENS,
          refusals=(errors.NotFound,))  # fmt: skip
def forget_trusted_device(work: Work, device_id: UUID) -> Any:
    """Ask for the code again on one of your devices."""
    mfa.forget_device(work, device_id)
    return {"message": "That device will be asked for a code again."}


@auth.add("DELETE", "/trusted-devices", reply=Message, guard=BEARER, limit=limits.TOKENS)
def forget_trusted_devices(work: Work) -> Any:
    """Ask for the code again on every device."""
    count = mfa.forget_devices(work)
    return {"message": f"{count} device{'' if count == 1 else 's'} will be asked for a code again."}
