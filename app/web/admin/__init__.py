"""The administration dialect, `/api/admin`: tokens of somebody whose role may; for writes, of a recent sign-in."""

# In the order of the document.
from app.web.admin import users  # isort: skip
from app.web.admin import people  # isort: skip
from app.web.admin import roles  # isort: skip
from app.web.admin import api_keys  # isort: skip
from app.web.admin import deliveries  # isort: skip
from app.web.admin import timeline  # isort: skip
from app.web.admin import audit_logs  # isort: skip
from app.web.admin import stats  # isort: skip
from app.web.admin import client_address  # isort: skip
from app.web.admin.surface import admin

__all__ = [
    "admin", "api_keys", "audit_logs", "client_address", "deliveries", "people", "roles", "stats", "timeline", "users",
]  # fmt: skip
