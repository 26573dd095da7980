"""The family that the views of this folder declare themselves in. Each of them names the permission that it needs."""

from app.web.endpoint import Surface

admin = Surface("admin", "/api/admin")
