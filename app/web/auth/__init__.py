"""The primary dialect, `/api/auth`: JSON in, tokens out."""

# In the order of the document: a newcomer begins with signing up.
from app.web.auth import signup  # isort: skip
from app.web.auth import login  # isort: skip
from app.web.auth import password  # isort: skip
from app.web.auth import session  # isort: skip
from app.web.auth import audience  # isort: skip
from app.web.auth import account  # isort: skip
from app.web.auth import consents  # isort: skip
from app.web.auth import mfa  # isort: skip
from app.web.auth import passkeys  # isort: skip
from app.web.auth import stepup  # isort: skip
from app.web.auth import introspection  # isort: skip
from app.web.auth import revocations  # isort: skip
from app.web.auth.surface import auth

__all__ = [
    "account",
    "audience",
    "auth",
    "consents",
    "introspection",
    "login",
    "mfa",
    "passkeys",
    "password",
    "revocations",
    "session",
    "signup",
    "stepup",
]
