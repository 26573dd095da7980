"""Tables without behaviour. Importing this package registers them all."""

from app.models.api_key import ApiKey
from app.models.audit import AuditLog, AuditSeal
from app.models.consent import Consent
from app.models.device import Device
from app.models.factor import Authenticator, BackupCode, TrustedDevice
from app.models.otp import OtpChallenge
from app.models.outbox import OutboxMessage
from app.models.passkey import Passkey
from app.models.repeat import Repeat
from app.models.session import ErasedSession, RefreshToken, Session
from app.models.signup import Signup, UsernameHold
from app.models.stats import HourlyCount
from app.models.throttle import Throttle
from app.models.user import User

__all__ = [
    "ApiKey",
    "AuditLog",
    "AuditSeal",
    "Authenticator",
    "BackupCode",
    "Consent",
    "Device",
    "ErasedSession",
    "HourlyCount",
    "OtpChallenge",
    "OutboxMessage",
    "Passkey",
    "RefreshToken",
    "Repeat",
    "Session",
    "Signup",
    "Throttle",
    "TrustedDevice",
    "User",
    "UsernameHold",
]
