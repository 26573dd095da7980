"""The family that the views of this folder declare themselves in."""

from app.web.endpoint import Surface

auth = Surface("auth", "/api/auth")
