"""Tables without behaviour. Importing this package registers them all."""

from app.models.api_key import ApiKey
from app.models.audit import AuditLog
from app.models.consent import Consent
from app.models.device import Device
from app.models.otp import OtpChallenge
from app.models.outbox import OutboxMessage
from app.models.repeat import Repeat
from app.models.session import RefreshToken, Session
from app.models.signup import Signup, UsernameHold
from app.models.throttle import Throttle
from app.models.user import User

__all__ = [
    "ApiKey",
    "AuditLog",
    "Consent",
    "Device",
    "OtpChallenge",
    "OutboxMessage",
    "RefreshToken",
    "Repeat",
    "Session",
    "Signup",
    "Throttle",
    "User",
    "UsernameHold",
]
